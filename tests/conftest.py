"""Fixtures that several rooms use."""

from dcmtk import findscu
from dicom_server import bound, quiet_dicom_libraries
from hypothesis import settings
from postgresql import postgresql_server, postgresql_url

__all__ = ["bound", "findscu", "postgresql_server", "postgresql_url", "quiet_dicom_libraries"]


def pytest_configure() -> None:
    # An example that waits for a busy processor is no failure.
    settings.register_profile("pylantir", deadline=None)
    settings.load_profile("pylantir")
