"""The writer's part of the configuration; a separate module, so that the supervisor need not import SQLAlchemy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from pylantir.settings import AccessSettings, RetentionSettings
from pylantir.store.hosts.decision import HostSource


@dataclass(frozen=True, slots=True, kw_only=True)
class WriterSettings:
    """The settings that the supervisor passes to the writer.

    Attributes:
        db_url: SQLAlchemy URL of the database.
        host: This host's name among those that share the database.
        lease_s: A host without a sign of life for so long counts as dead.
        sources: What this host's configuration says of each source.
        match_on: Fields by which records of two sources are recognised as one step.
        max_minutes: Longest difference of start times under that rule.
        max_minutes_touched: The same for an exam that a scanner has reported on.
        keep_missing: Sources whose missing records are kept.
        seldom: Sources that are fetched less often than every `removal.SELDOM_S` seconds.
        zones: Source -> the zone of its wall clock, where its configuration names one.
        retention: How long history is kept.
        mpps_strict: Whether a scanner's report must be complete.
        access: Whether answers that show patients are recorded, and who gets audit messages.
        ae_title: Our AE title, for audit messages.
        key: This run's key for the producers' tokens.
    """

    db_url: str = field(repr=False)
    db_echo: bool
    host: str
    lease_s: float = 5.0
    sources: tuple[HostSource, ...]
    match_on: tuple[str, ...]
    max_minutes: float | None
    max_minutes_touched: float | None
    keep_missing: frozenset[str]
    seldom: frozenset[str] = frozenset()
    zones: Mapping[str, str] = field(default_factory=dict)
    mpps_strict: bool = False
    retention: RetentionSettings
    access: AccessSettings
    ae_title: str
    key: bytes = field(repr=False)
