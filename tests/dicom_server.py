"""A worklist server on loopback, and pynetdicom as its scanner: what the tests of the DICOM side share."""

from __future__ import annotations

import selectors
import socket
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import pytest
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian
from pynetdicom import AE, _config
from pynetdicom.association import Association
from pynetdicom.sop_class import ModalityWorklistInformationFind, Verification

from pylantir.dicom.client import leave_answers_to_requests
from pylantir.dicom.find.answers import Find, QueryService
from pylantir.dicom.find.encode_responses import Row
from pylantir.dicom.mpps.service import MppsPorts, MppsService
from pylantir.dicom.net.acceptor import DicomServer
from pylantir.dicom.net.bridge import configure_client
from pylantir.dicom.net.services import Services
from pylantir.query import WorklistQuery
from pylantir.settings import DicomSettings


@pytest.fixture(scope="module")
def quiet_dicom_libraries() -> Iterator[None]:
    before = (_config.LOG_HANDLER_LEVEL, _config.LOG_REQUEST_IDENTIFIERS, _config.LOG_RESPONSE_IDENTIFIERS)
    configure_client()
    yield
    _config.LOG_HANDLER_LEVEL, _config.LOG_REQUEST_IDENTIFIERS, _config.LOG_RESPONSE_IDENTIFIERS = before


Items = Callable[[WorklistQuery], Iterable[Mapping[str, object]]]


def in_batches_of_one(items: Items) -> Find:
    """Serve whole items, as tests have them, to a server that asks for some of their fields."""

    def find(wanted: WorklistQuery, fields: Sequence[str]) -> Iterator[Sequence[Row]]:
        matching = items(wanted)
        try:
            for item in matching:
                yield [tuple(item.get(name) for name in fields)]
        finally:
            close = getattr(matching, "close", None)
            if close is not None:
                close()

    return find


class Served:
    """A server with the loop that its process would have, on a socket that outlives it."""

    def __init__(self, bound: socket.socket, items: Items, mpps: MppsPorts | None = None, **settings: Any) -> None:
        self.port = int(bound.getsockname()[1])
        configured = DicomSettings(**settings)
        query = QueryService(configured, in_batches_of_one(items)).answer
        services = Services(query=query, report=MppsService(mpps).answer if mpps else None)
        self.server = DicomServer(bound.dup(), configured, services)
        self.wake_ups = 0
        self._wake, self._waker = socket.socketpair()
        self._loop = threading.Thread(target=self._run)
        self._loop.start()

    def _run(self) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(self.server, selectors.EVENT_READ)
            selector.register(self._wake, selectors.EVENT_READ)
            while self._wake not in {key.fileobj for key, _ in selector.select(self.server.pause_s())}:
                self.wake_ups += 1
                self.server.accept_pending()

    def leave_loop(self) -> None:
        self._waker.close()
        self._loop.join()

    def stop(self, grace_s: float = 0) -> None:
        self.leave_loop()
        self._wake.close()
        self.server.stop(grace_s)


@pytest.fixture
def bound() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0), backlog=1024) as listener:
        yield listener


@contextmanager
def serving(bound: socket.socket, items: Items, **settings: Any) -> Iterator[Served]:
    served = Served(bound, items, **settings)
    try:
        yield served
    finally:
        served.stop()


@contextmanager
def association(served: Served, *, calling: str = "MR1", syntax: str = ExplicitVRLittleEndian) -> Iterator[Association]:
    entity = AE(ae_title=calling)
    entity.add_requested_context(Verification, syntax)
    entity.add_requested_context(ModalityWorklistInformationFind, syntax)
    opened = entity.associate("127.0.0.1", served.port)
    if opened.is_established:
        leave_answers_to_requests(opened)
    try:
        yield opened
    finally:
        if opened.is_established:
            opened.release()


def query(step: dict[str, object] | None = None, **keys: object) -> Dataset:
    whole = Dataset()
    for keyword, value in {"PatientID": None, **keys}.items():
        setattr(whole, keyword, value)
    item = Dataset()
    for keyword, value in (step or {"Modality": None}).items():
        setattr(item, keyword, value)
    whole.ScheduledProcedureStepSequence = [item]
    return whole


def ask(opened: Association, identifier: Dataset) -> tuple[list[Dataset], list[Dataset]]:
    """All identifiers and all statuses of one query."""
    answers = list(opened.send_c_find(identifier, ModalityWorklistInformationFind))
    return [answer for _, answer in answers if answer is not None], [status for status, _ in answers]
