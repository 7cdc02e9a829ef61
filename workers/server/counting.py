"""Wraps services so that their answers are counted for `/metrics`.

Lives in the server process; called from association threads.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from pylantir.dicom.net.commands import Ending
from pylantir.dicom.net.services import FindExchange, ReportRequest, Services
from pylantir.ipc.tally import Tally


def counting(
    query: Callable[[FindExchange], None],
    report: Callable[[ReportRequest], Ending],
    tally: Tally,
    ring: Callable[[], None],
) -> Services:
    """Wrap services so that answered reports are counted; `LastQueries` counts the queries.

    Args:
        query: Answers queries.
        report: Answers reports.
        tally: Takes the counts.
        ring: Wakes the main loop, which tells the supervisor.
    """

    def answer_query(exchange: FindExchange) -> None:
        query(exchange)
        ring()

    def answer_report(request: ReportRequest) -> Ending:
        began, title = time.monotonic(), tally.known(request.caller)
        ending = report(request)
        tally.count("pylantir_mpps", title, str(request.operation), f"{ending.status:04X}")
        tally.note("pylantir_mpps_duration_seconds", time.monotonic() - began, title)
        ring()
        return ending

    return Services(query=answer_query, report=answer_report)
