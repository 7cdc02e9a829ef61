"""Two hosts on one PostgreSQL: whoever is killed, frozen or stopped, and however often the database crashes, nothing that
was acknowledged is lost, and everything that the sources give is there once. `make hosts` runs it.

The server has `synchronous_commit = off`: in a crash it loses the last commits, but for those of scanners' reports. It
has a replica, which has what is committed durably; in the middle of the campaign the server dies for good, and the replica
is promoted.
"""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

import psycopg
import pytest
from frozen_relay import Relay
from installation import Installation, csv_source, wait_until
from kill_campaign import ENTRIES, SLOWEST_REPLACEMENT_S, Campaign, Scanner
from postgresql import crash_server, promote_server, restart_server, run_server, search_path
from sqlalchemy.exc import SQLAlchemyError

KILLS = int(os.environ.get("KILLS", "50"))
SEED = int(os.environ.get("SEED", "0")) or random.SystemRandom().randrange(1, 10**6)
ACTIONS = {
    "writer": 8,
    "mwl-scp": 2,
    "supervisor": 4,
    "freeze": 5,
    "stop": 3,
    "restart database": 2,
    "crash database": 3,
}
"""What is done how often, in proportion; "stop" is in order."""
LEASE_S = 2
LONGEST_FREEZE_S = 2.0 * LEASE_S


class CampaignOfHosts(Campaign):
    """Disturbs two installations with the same sources, and their database."""

    def __init__(self, folder: Path, server: str, replica: str, seed: int) -> None:
        self._server = server
        self._replica = replica
        self._ways: list[Relay] = []
        self.hosts = []
        for name in ("north", "south"):
            (folder / name).mkdir()
            self.hosts.append(Installation(folder / name))
        self.installation = self.hosts[0]
        self.kills: Counter[str] = Counter()
        self.slowest_s = 0.0
        self._chance = random.Random(seed)
        self._content = {name: {f"{name}{number:05d}" for number in range(ENTRIES)} for name in ("a", "b")}
        self._next_number = ENTRIES
        self._scanners = [Scanner(host.port, f"{seed % 10_000}0{n}0") for n, host in enumerate(self.hosts)]
        self._scanner = Scanner(0, "")

    def run(self, kills: int) -> None:
        """Set everything up, disturb so many times, and wait until the sources are in the database."""
        self._ways = [Relay(f"{server}/.s.PGSQL.5432") for server in (self._server, self._replica)]
        where = "&".join(f"host=127.0.0.1:{way.port}" for way in self._ways)
        url = f"postgresql+psycopg://pylantir@/worklist?{where}&target_session_attrs=read-write"
        for host in self.hosts:
            host.db_url = url
            host.configure(
                *(
                    csv_source(name, f"../{name}.csv", config={"file_path": f"../{name}.csv", "watch_for_changes": True})
                    for name in self._content
                ),
                db_path=None, db_url=url, cluster={"host": host.folder.name, "lease_s": LEASE_S},
            )  # fmt: skip
        for name in self._content:
            self._write(name)
        for host in self.hosts:
            host.start()
        reporting = [threading.Thread(target=scanner.run) for scanner in self._scanners]
        for thread in reporting:
            thread.start()
        try:
            for number in range(kills):
                if number == kills // 2:
                    self._fail_over()
                self._change_a_source()
                time.sleep(self._chance.choice((0.0, 0.1, 0.6, 4.0)) * self._chance.random())
                self._disturb()
            for host in self.hosts:
                host.wait_for_health("healthy", SLOWEST_REPLACEMENT_S)
            self._wait_for_table()
        finally:
            for scanner in self._scanners:
                scanner.is_over = True
            for thread in reporting:
                thread.join(60)
        self._scanner.created = [uid for scanner in self._scanners for uid in scanner.created]
        self._scanner.completed = [uid for scanner in self._scanners for uid in scanner.completed]

    def close(self) -> None:
        for host in self.hosts:
            host.close()
        for way in self._ways:
            way.close()

    def _fail_over(self) -> None:
        crash_server(self._server, search_path())
        promote_server(self._replica, search_path())
        self._server = self._replica
        self.kills["fail over"] += 1

    def _write(self, name: str) -> None:
        self.hosts[0].write_csv(f"../{name}.csv", sorted(self._content[name]))

    def _disturb(self) -> None:
        action = self._chance.choices(list(ACTIONS), list(ACTIONS.values()))[0]
        self.installation = self._chance.choice(self.hosts)
        length_s = self._chance.random() * LONGEST_FREEZE_S
        self.kills[action] += 1
        if action.endswith("database"):
            restart_server(self._server, search_path(), "immediate" if action.startswith("crash") else "fast")
        elif action == "supervisor":
            self._kill_supervisor()
        elif action == "stop":
            assert self.installation.terminate() == 0
            time.sleep(length_s / 4)
            self.installation.start(until=None)
            wait_until(self.installation.status, "the new instance answers")
        elif action == "freeze":
            self._freeze(length_s)
        else:
            self._hit(action, "kill", 0)

    def _freeze(self, length_s: float) -> None:
        """Stop every process of a host for a while, the supervisor included, as a suspended machine."""
        pids = list(self.installation.live_processes())
        for number in (signal.SIGSTOP, signal.SIGCONT):
            for pid in pids:
                with suppress(ProcessLookupError):
                    os.kill(pid, number)
            if number == signal.SIGSTOP:
                time.sleep(length_s)

    def _wait_for_table(self) -> None:
        expected = sorted(self._expected())
        planned = (
            "select patient_id from worklist_items where performed_procedure_step_status = 'SCHEDULED' "
            "and patient_id not like 'walk-in%%' order by 1"
        )

        def is_there() -> bool:
            with suppress(SQLAlchemyError):
                return [patient for (patient,) in self.installation.rows(planned)] == expected
            return False

        wait_until(is_there, lambda: f"the table equals the sources: {self.judge()}", SLOWEST_REPLACEMENT_S)


@pytest.mark.timeout(KILLS * 15 + 200)
def test_a_campaign_against_two_hosts_and_their_database(tmp_path: Path) -> None:
    print(f"seed {SEED}: SEED={SEED} KILLS={KILLS} make hosts")
    path = search_path()
    with run_server(path) as server, run_server(path, replica_of=server) as replica:
        with psycopg.connect(host=server, user="pylantir", dbname="postgres", autocommit=True) as connection:
            connection.execute("create database worklist")
            connection.execute("alter system set synchronous_standby_names = '*'")
            connection.execute("select pg_reload_conf()")
        campaign = CampaignOfHosts(tmp_path, server, replica, SEED)
        try:
            campaign.run(KILLS)
            for host in campaign.hosts:
                assert host.terminate() == 0
            print(campaign.report())
            assert campaign.judge() == []
        finally:
            campaign.close()
