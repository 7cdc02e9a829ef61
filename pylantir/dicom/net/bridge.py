"""The bridge to pynetdicom: all that the server side has of that library, and why it is so little.

Lives in every process that speaks DICOM. The commands ask other servers through pynetdicom's public interface. The
server itself does not use its association, ACSE, DIMSE and upper layer classes: those give each association two threads
that look around every millisecond, believe the length that a peer announces, end an association silently when a request
is not quite as the standard wants it, and can be changed only through their private names. The server's own state
machine is one module (`association`): one thread for each association, and each state of PS3.8 9.2 is a place in its
code.

So no private name of pynetdicom is used, and this is the only module of `dicom.net` that knows the library. What is
left are its settings (`_config` is pynetdicom's public settings module), which the commands need, and the
implementation identity under which scanners have known this server. The server's process does not load the library:
that would be a tenth of its start.
"""

from __future__ import annotations

import logging
import warnings

import pydicom.config

IMPLEMENTATION_CLASS = "1.2.826.0.1.3680043.9.3811.3.0.4"
IMPLEMENTATION_VERSION = "PYNETDICOM_304"
"""pynetdicom's own, as it was when the server was built on it: scanners may have been configured by it."""


def configure_dicom_libraries() -> None:
    """Keep patient data out of the logs, for this whole process.

    pydicom warns of odd values by quoting them. To be called once by the process body.
    """
    # These libraries quote a stranger's bytes when they log a failure; Pylantir logs it in its own words.
    logging.getLogger("pynetdicom").setLevel(logging.CRITICAL)
    logging.getLogger("pydicom").setLevel(logging.CRITICAL)
    warnings.filterwarnings("ignore", module=r"pydicom\.")
    pydicom.config.settings.reading_validation_mode = pydicom.config.IGNORE
    pydicom.config.settings.writing_validation_mode = pydicom.config.IGNORE


def configure_client() -> None:
    """Do the same in a command that asks other servers through pynetdicom, which logs identifiers at INFO."""
    from pynetdicom import _config

    configure_dicom_libraries()
    _config.LOG_HANDLER_LEVEL = "none"
    _config.LOG_REQUEST_IDENTIFIERS = False
    _config.LOG_RESPONSE_IDENTIFIERS = False
