"""The checked configuration as plain frozen values; a process gets nothing else from the check.

Nothing here reads a file or the environment: `pylantir.config` makes these values, processes read them.
"""

from pylantir.settings.installation import (
    AccessSettings,
    ClusterSettings,
    DatabaseSettings,
    DeduplicationSettings,
    LogSettings,
    RetentionSettings,
    Settings,
    SyslogServer,
)
from pylantir.settings.serving import (
    CHARACTER_SETS,
    SERVED_STATUSES,
    DicomSettings,
    HttpSettings,
    MppsSettings,
    ScannerProfile,
    ServingSettings,
    TlsSettings,
)
from pylantir.settings.source import EMPTY_VALUES, Catalogue, OperationWindow, PluginProblem, PluginType, SourceSettings

__all__ = [
    "CHARACTER_SETS",
    "EMPTY_VALUES",
    "SERVED_STATUSES",
    "AccessSettings",
    "Catalogue",
    "ClusterSettings",
    "DatabaseSettings",
    "DeduplicationSettings",
    "DicomSettings",
    "HttpSettings",
    "LogSettings",
    "MppsSettings",
    "OperationWindow",
    "PluginProblem",
    "PluginType",
    "RetentionSettings",
    "ScannerProfile",
    "ServingSettings",
    "Settings",
    "SourceSettings",
    "SyslogServer",
    "TlsSettings",
]
