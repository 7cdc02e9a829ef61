"""A data source: its type, and what its configuration says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from pylantir.printing import inline_secrets

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

EMPTY_VALUES = ("", "NULL", "null", "NaN", "nan", "N/A", "#N/A")
"""The words that mean "no value" unless a source's `empty_values` says otherwise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OperationWindow:
    """When a source may be asked: inclusive minutes after local midnight; end < start crosses midnight."""

    start_minute: int = 0
    end_minute: int = 24 * 60 - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class PluginType:
    """A source type that exists, and where its class is; found without running the plugin's code.

    Attributes:
        type_name: What `type` in a source's configuration says.
        module: Importable module (built-in and entry-point plugins), or None for a file.
        path: Absolute path of a dropped-in `.py` file, or None.
        class_name: The plugin class, or None: the only subclass of DataSourcePlugin that the file defines.
        targets: Worklist fields beyond the common ones that the plugin's `field_mapping` may name.
        builtin: Comes with Pylantir.
        digest: Digest of the file's content; a different digest means a different plugin.
    """

    type_name: str
    module: str | None = None
    path: str | None = None
    class_name: str | None = None
    targets: tuple[str, ...] = ()
    builtin: bool = False
    digest: str = ""

    @property
    def is_broken(self) -> bool:
        """Whether the file cannot be used, for a syntax error for instance: the source fails until it is corrected."""
        return self.path is not None and not self.digest

    @property
    def origin(self) -> str:
        """Say where the type comes from, for messages."""
        return self.path or f"{self.module}:{self.class_name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class PluginProblem:
    """A plugin file or entry point that offers no usable type, and why."""

    path: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Catalogue:
    """The source types that exist, by `type_name`, and the plugins that were found but cannot be used."""

    types: Mapping[str, PluginType]
    problems: tuple[PluginProblem, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceSettings:
    """One data source: the keys of the configuration reference with their units.

    Attributes:
        config: The plugin's own keys, as written in the file; one may be a secret, so they are not shown.
        secret_env: Environment variables that this source reads (every `*_env` key of `config`).
        env_values: Their values, from the environment or a `.env` file, for this source's worker alone.
        field_mapping: In all its forms, as written in the file.
        empty_values: Words that mean "no value".
        unusable_values: `omit` or `reject`: how to treat an unusable value outside the strict fields.
        where: Column -> the texts of which a record must have one, or {"not": [...]}.
        patient_id_prefix: Put before each of its patient IDs.
        issuer_of_patient_id: The issuer of its patient IDs, for records that do not name it.
    """

    name: str
    plugin: PluginType
    enabled: bool = True
    sync_interval_s: float = 60.0
    window: OperationWindow = OperationWindow()
    timezone: str | None = None
    config: Mapping[str, object] = field(default_factory=dict, repr=False)
    secret_env: tuple[str, ...] = ()
    env_values: Mapping[str, str] = field(default_factory=dict, repr=False)
    field_mapping: Mapping[str, Any] = field(default_factory=dict)
    defaults: Mapping[str, str] = field(default_factory=dict)
    priority: float = 0.0
    missing_entries: str = "cancel"
    fetch_timeout_s: float = 300.0
    max_memory_mb: int | None = None
    max_restarts: int | None = None
    date_formats: tuple[str, ...] = ()
    time_formats: tuple[str, ...] = ()
    empty_values: tuple[str, ...] = EMPTY_VALUES
    unusable_values: str = "omit"
    where: Mapping[str, Any] = field(default_factory=dict)
    patient_id_prefix: str = ""
    issuer_of_patient_id: str = ""

    @property
    def secrets(self) -> tuple[str, ...]:
        """The values that no output may show: those of its variables, and secrets in `config` itself."""
        return (*self.env_values.values(), *inline_secrets(self.config))
