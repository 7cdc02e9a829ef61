"""Many sources on several hosts of one PostgreSQL server, all of them real: time, memory, connections, a host's end.

Each source is a CSV file that several hosts have configured; one of them fetches it. Each host is a supervisor with all
its processes. The server has the settings of a small real one.

    python benchmarks/many_hosts.py [--hosts 4] [--sources 200] [--copies 2] [--rows 100] [--interval 60]
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from observing import family, timed

# isort: split
import psutil
import psycopg
from installation import Installation, csv_source
from postgresql import run_server, search_path

PATIENCE_S = 3600.0
_SETTINGS = (
    "-c fsync=on -c synchronous_commit=on -c full_page_writes=on -c shared_buffers=512MB -c max_wal_size=4GB "
    "-c max_connections=300"
)
_CONNECTIONS = """
SELECT split_part(application_name, ' ', 3), count(*) FROM pg_stat_activity
WHERE application_name LIKE 'pylantir %' GROUP BY 1 ORDER BY 1"""
_CYCLES = """
SELECT count(*) FILTER (WHERE error IS NOT NULL),
    percentile_disc(ARRAY[0.5, 1]) WITHIN GROUP (ORDER BY finished_at::timestamptz - started_at::timestamptz)
FROM sync_runs WHERE {which}"""


def ask(connection: psycopg.Connection[Any], query: str, *values: object) -> list[tuple[Any, ...]]:
    """Return the rows of a query."""
    return connection.execute(query, values or None).fetchall()  # type: ignore[arg-type]


def describe_cycles(connection: psycopg.Connection[Any], which: str) -> str:
    """Say how long cycles took."""
    ((failed, times),) = ask(connection, _CYCLES.format(which=which))
    median, longest = (one.total_seconds() for one in times)
    return f"median {median:.2f} s, longest {longest:.1f} s, {failed} failed"


def measure(hosts: list[Installation], connection: psycopg.Connection[Any], sources: int, rows: int) -> None:
    """Start all hosts, wait until everything is synced twice, look at them, and kill one."""
    items, load = sources * rows, os.getloadavg()[0]
    began = time.monotonic()
    for host in hosts:
        host.start(until=None)
    count = "SELECT count(DISTINCT data_source) FROM sync_runs WHERE error IS NULL AND finished_at IS NOT NULL"
    timed(lambda: has_tables(connection) and ask(connection, count) == [(sources,)], PATIENCE_S, 1)
    print(f"{len(hosts)} hosts, {sources} sources of {rows} rows, load before {load:.1f}: "
          f"all synced after {time.monotonic() - began:.1f} s", flush=True)  # fmt: skip
    assert ask(connection, "SELECT count(*) FROM worklist_items") == [(items,)]
    for host in hosts:
        timed(lambda host=host: host.status().get("health") == "healthy", PATIENCE_S, 1)
    print(f"all healthy after {time.monotonic() - began:.1f} s", flush=True)
    print(f"first cycles: {describe_cycles(connection, 'inserted > 0')}", flush=True)
    unchanged = "SELECT count(DISTINCT data_source) FROM sync_runs WHERE unchanged > 0 AND error IS NULL"
    timed(lambda: ask(connection, unchanged) == [(sources,)], PATIENCE_S, 1)
    print(f"cycles without news: {describe_cycles(connection, 'unchanged > 0')}", flush=True)
    processes = [one for host in hosts for one in family(host)]
    resident = sum(one.memory_full_info().pss for one in processes) / 2**20
    own = [family(host)[0].memory_full_info().pss / 2**20 for host in hosts]
    print(f"{len(processes)} processes hold {resident:.0f} MB in all, a supervisor {statistics.median(own):.0f} MB; "
          f"connections: {', '.join(f'{name} {number}' for name, number in ask(connection, _CONNECTIONS))}; "
          f"free memory {psutil.virtual_memory().available / 2**30:.1f} GB", flush=True)  # fmt: skip
    measure_end(hosts, connection)


def measure_end(hosts: list[Installation], connection: psycopg.Connection[Any]) -> None:
    """Kill the host that fetches most sources, and wait until the others have fetched these."""
    if ask(connection, "SELECT 1 FROM cluster_sources GROUP BY data_source HAVING count(*) = 1"):
        return
    fetched = "SELECT host, array_agg(data_source) FROM source_leases GROUP BY host ORDER BY count(*) DESC LIMIT 1"
    ((name, sources),) = ask(connection, fetched)
    (gone,) = (host.supervisor for host in hosts if host.folder.name == name)
    assert gone
    gone.kill()
    began = time.monotonic()
    ((then,),) = ask(connection, "SELECT to_char(now() AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US')")
    taken = "SELECT count(*) FROM source_leases WHERE host = %s"
    timed(lambda: ask(connection, taken, name) == [(0,)], PATIENCE_S, 0.01)
    leases_s = time.monotonic() - began
    again = (
        "SELECT count(DISTINCT data_source) FROM sync_runs "
        "WHERE data_source = ANY(%s) AND finished_at > %s AND error IS NULL"
    )
    timed(lambda: ask(connection, again, sources, then) == [(len(sources),)], PATIENCE_S, 0.1)
    print(f"{name} killed: its {len(sources)} leases are taken after {leases_s:.2f} s, all these sources are fetched "
          f"after {time.monotonic() - began:.1f} s", flush=True)  # fmt: skip


def has_tables(connection: psycopg.Connection[Any]) -> bool:
    """Whether the tables exist."""
    return ask(connection, "SELECT to_regclass('sync_runs') IS NOT NULL") == [(True,)]


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hosts", type=int, default=4)
    parser.add_argument("--sources", type=int, default=200)
    parser.add_argument("--copies", type=int, default=2, help="how many hosts have each source configured")
    parser.add_argument("--rows", type=int, default=100)
    parser.add_argument("--interval", type=int, default=60)
    options = parser.parse_args()
    with ExitStack() as end:
        folder = Path(end.enter_context(tempfile.TemporaryDirectory()))
        server = end.enter_context(run_server(search_path(), options=_SETTINGS))
        with psycopg.connect(host=server, user="pylantir", dbname="postgres", autocommit=True) as connection:
            connection.execute("CREATE DATABASE worklist TEMPLATE template0 LOCALE_PROVIDER icu ICU_LOCALE 'en-US'")
        hosts = []
        for number in range(options.hosts):
            (folder / f"host{number}").mkdir()
            host = Installation(folder / f"host{number}")
            host.environment.pop("PYTHONDONTWRITEBYTECODE", None)
            end.callback(host.close)
            names = [
                f"site{site:03d}"
                for site in range(options.sources)
                if (number - site) % options.hosts < options.copies
            ]  # fmt: skip
            host.configure(
                *(csv_source(name, f"../{name}.csv", sync_interval=options.interval) for name in names), db_path=None,
                db_url=f"postgresql+psycopg://pylantir@/worklist?host={server}", cluster={"host": f"host{number}"},
            )  # fmt: skip
            hosts.append(host)
        for site in range(options.sources):
            name = f"site{site:03d}"
            hosts[0].write_csv(f"../{name}.csv", [f"{name}-{row}" for row in range(options.rows)])
        where = f"host={server} user=pylantir dbname=worklist"
        measure(hosts, end.enter_context(psycopg.connect(where, autocommit=True)), options.sources, options.rows)


if __name__ == "__main__":
    main()
