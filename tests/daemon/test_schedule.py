"""What the daemon decides without hosts: whom a commit wakes, how long it waits, which reports still count."""

from __future__ import annotations

import asyncio
import json
import logging
import subprocess
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import pytest

from fake import specs
from reconciler.config import Config, DaemonConfig, SourceConfig, WebConfig
from reconciler.daemon import ASK_AGAIN, LATEST, SECOND_LOOK, SOONEST, Daemon, forever, git_folder
from reconciler.health import Answer, questions
from reconciler.lease import Lease
from reconciler.logs import JsonLines
from reconciler.model import Change, Check, Fleet, Guard, Health, HostSpec, Report, Revision, Ssh
from reconciler.revision import Settled

A, B = (HostSpec(name, "linux", "cam", Ssh("::1", 22, "key"), "/srv", ()) for name in "ab")
OTHER_A = replace(A, location="lon")
BOTH = Fleet({"a": A, "b": B})


@pytest.fixture
def config(tmp_path: Path) -> Config:
    subprocess.run(["git", "init", "-q", "--bare", tmp_path / "config.git"], check=True)
    source = SourceConfig(url=str(tmp_path / "config.git"))
    return Config(source=source, daemon=DaemonConfig(cache=str(tmp_path / "cache"), drift=100), web=WebConfig(""))


class Idle(Daemon):
    """Looks at no host: tells only who would be."""

    async def keep(self, name: str) -> None:
        await asyncio.Event().wait()


def woken(config: Config, *fleets: Fleet | None) -> list[list[str]]:
    """For each fleet after the first, the hosts that are woken when it takes the place of the one before."""

    async def run() -> list[list[str]]:
        daemon, found = Idle(config), []
        for number, fleet in enumerate(fleets):
            for wake in daemon.wakes.values():
                wake.clear()
            daemon.take(Settled(str(number), Revision({"": str(number)}), fleet))
            found.append([name for name in sorted(daemon.keepers) if daemon.wakes[name].is_set()])
        for task in daemon.keepers.values():
            task.cancel()
        return found[1:]

    return asyncio.run(run())


# ── whom a commit wakes ──────────────────────────────────────────────────────────────────────────────────────


def test_a_commit_wakes_the_hosts_it_is_about(config: Config) -> None:
    assert woken(config, BOTH, BOTH) == [[]]
    assert woken(config, BOTH, Fleet({"a": OTHER_A, "b": B})) == [["a"]]
    assert woken(config, BOTH, replace(BOTH, guard=Guard(50))) == [["a", "b"]]
    assert woken(config, BOTH, replace(BOTH, frozen=frozenset({"acme"}))) == [["a", "b"]]
    assert woken(config, BOTH, replace(BOTH, approvals={"h0123456789abcde": "2026-12-01"})) == [["a", "b"]]
    assert woken(config, BOTH, replace(BOTH, vanishing=frozenset({"acme--www"}))) == [["a", "b"]]


def test_suspending_a_jail_wakes_its_host_alone(config: Config) -> None:
    here = replace(BOTH, hosts={"a": replace(A, parts=(specs.jail("acme--www"),)), "b": B})
    assert woken(config, here, replace(here, suspended={"acme--www": "customers/acme/jails/www.yaml"})) == [["a"]]


def test_without_a_good_commit_hosts_are_left_as_they_are(config: Config) -> None:
    assert woken(config, BOTH, None, BOTH) == [[], ["a", "b"]]


def test_a_host_that_left_is_let_go(config: Config) -> None:
    async def run() -> None:
        daemon = Idle(config)
        daemon.take(Settled("0", Revision({"": "0"}), BOTH))
        daemon.reports = {"a": (A, Report("a", "")), "b": (B, Report("b", ""))}
        for name in "ab":
            daemon.tell(Report(name, ""), "0")
        keeper = daemon.keepers["b"]
        kept, left = daemon.station.remote(A), daemon.station.remote(B)
        daemon.take(Settled("1", Revision({"": "1"}), Fleet({"a": A})))
        await asyncio.sleep(0)
        assert keeper.cancelled() or keeper.cancelling()
        assert daemon.reports.keys() == daemon.keepers.keys() == {"a"}
        assert daemon.metrics.registry.get_sample_value("reconciler_host_ready", {"host": "a"}) == 1
        assert daemon.metrics.registry.get_sample_value("reconciler_host_ready", {"host": "b"}) is None
        daemon.pool.shutdown()
        assert daemon.station.remote(A) is kept
        assert daemon.station.remote(B) is not left
        daemon.keepers["a"].cancel()

    asyncio.run(run())


def test_reports_count_while_they_are_about_what_is_wanted(config: Config) -> None:
    daemon = Idle(config)
    report = Report("a", "")
    daemon.reports = {"a": (A, report)}
    assert daemon.current(BOTH) == {"a": report}
    assert daemon.current(Fleet({"a": OTHER_A})) == {}
    assert daemon.current(None) == {}


# ── how long it waits ────────────────────────────────────────────────────────────────────────────────────────


def test_a_host_that_fails_is_tried_less_and_less(config: Config) -> None:
    daemon, report = Idle(config), Report("a", "", unreachable="timed out")
    waits = [daemon.patience(report, failures) for failures in range(1, 15)]
    assert SOONEST * 0.7 <= waits[0] <= SOONEST * 1.3
    assert all(later > earlier for earlier, later in zip(waits[:7:2], waits[2:9:2], strict=True))
    assert LATEST * 0.7 <= waits[-1] <= LATEST * 1.3
    assert len({daemon.patience(report, 3) for _ in range(10)}) > 1


def test_a_host_that_is_well_is_looked_at_for_drift(config: Config) -> None:
    daemon = Idle(config)
    assert 90 <= daemon.patience(Report("a", ""), 0) <= 110
    changed = Report("a", "", done=(Change("create", "jail/1 x", "x", "create jail x"),))
    assert daemon.patience(changed, 0) == SECOND_LOOK
    assert daemon.patience(Report("a", "", degraded=(("x", "ends at once"),)), 0) == SECOND_LOOK


# ── between passes ───────────────────────────────────────────────────────────────────────────────────────────

CHECKED = replace(A, parts=(replace(specs.jail("acme--www"), health=Health((Check("tcp", 80),))),))
UNWELL = (("acme--www", "tcp :80 does not answer"),)


def between(config: Config, told: Report, found: Report, due: bool = False, most: int = 3) -> tuple[Daemon, int]:
    """What came of the time between two passes, and how often jails were asked; so often, something wakes the host."""

    async def run() -> tuple[Daemon, int]:
        daemon, asked, loop = Idle(config), 0, asyncio.get_running_loop()
        daemon.kept = Fleet({"a": CHECKED})
        daemon.reports["a"], daemon.wakes["a"] = (CHECKED, told), asyncio.Event()

        def examine(fleet: Fleet, host: str, report: Report) -> Report:
            nonlocal asked
            asked += 1
            if asked == most:
                loop.call_soon_threadsafe(daemon.wakes["a"].set)
            return found

        daemon.station.examine = examine  # type: ignore[method-assign]
        daemon.station.restarts = lambda fleet, host: due  # type: ignore[method-assign]
        daemon.next_round = lambda name: 0.01  # type: ignore[method-assign]
        if not most:
            daemon.wakes["a"].set()
        await daemon.between("a", 60)
        return daemon, asked

    return asyncio.run(run())


def test_jails_are_asked_between_passes_and_what_they_say_is_told(config: Config) -> None:
    done = Report("a", "", done=(Change("create", "jail/1 x", "x", "create jail x"),))
    daemon, asked = between(config, done, replace(done, ailing=UNWELL))
    assert asked == 3
    assert daemon.reports["a"][1].unwell == dict(UNWELL)
    assert daemon.reports["a"][1].done == done.done
    assert daemon.news.is_set()
    assert daemon.metrics.registry.get_sample_value("reconciler_jails_unwell", {"host": "a"}) == 1
    quiet, _ = between(config, Report("a", ""), Report("a", ""))
    assert not quiet.news.is_set()


def test_a_jail_that_is_to_be_restarted_is_a_reason_for_a_pass_unless_the_host_cannot_have_one(config: Config) -> None:
    assert between(config, Report("a", ""), Report("a", ""), due=True)[1] == 1
    assert between(config, Report("a", ""), Report("a", "", hold="since today"), due=True)[1] == 3


def test_what_wakes_a_host_ends_the_asking(config: Config) -> None:
    assert between(config, Report("a", ""), Report("a", ""), most=0)[1] == 0


def test_jails_that_are_well_are_asked_once_a_period_and_others_soon(config: Config) -> None:
    daemon = Idle(config)
    assert 50 < daemon.next_round("a") < 70
    watch = daemon.station.watch("a")
    watch.saw(CHECKED.jails, Report("a", ""), 0)
    watch.heard([Answer(question, "fails", "why") for question in questions(CHECKED.jails)], 0)
    assert daemon.next_round("a") == ASK_AGAIN


def test_a_mistake_of_ours_in_a_pass_is_told_and_survived(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    async def run() -> Report:
        daemon = Idle(config)
        daemon.kept = BOTH
        monkeypatch.setattr(daemon.station, "run", lambda *_: {}["nothing"])
        await daemon.pass_once("a")
        assert daemon.news.is_set()
        return daemon.reports["a"][1]

    assert asyncio.run(run()).unreachable == "the reconciler itself failed: KeyError"


def test_a_step_that_fails_is_done_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("reconciler.daemon.SOONEST", 0.001)
    count = 0

    async def step() -> None:
        nonlocal count
        count += 1
        if count < 3:
            raise ValueError
        raise asyncio.CancelledError

    async def run(once: Callable[[], Awaitable[None]]) -> None:
        with pytest.raises(asyncio.CancelledError):
            await forever(once)

    asyncio.run(run(step))
    assert count == 3


# ── whose turn it is ─────────────────────────────────────────────────────────────────────────────────────────


class Borrowed(Lease):
    """Ours, waited for, and lost, as the test says."""

    def __init__(self) -> None:
        self.held, self.lost, self.why = False, False, "waiting"

    def look(self) -> None:
        pass


def test_nothing_begins_before_the_lease_is_ours_and_it_ends_when_that_is_lost(config: Config) -> None:
    async def run() -> None:
        daemon, lease, begun = Idle(replace(config, daemon=replace(config.daemon, lease=0.001))), Borrowed(), []
        daemon.lease = lease

        async def step() -> None:
            begun.append(lease.held)
            await asyncio.Event().wait()

        tasks = [asyncio.create_task(daemon.when_ours(step)), asyncio.create_task(forever(daemon.hold))]
        await asyncio.sleep(0.01)
        assert (begun, daemon.unready()) == ([], "waiting")
        lease.held, lease.why = True, ""
        await asyncio.wait_for(daemon.begun.wait(), 10)
        await asyncio.sleep(0)
        assert begun == [True]
        assert daemon.metrics.registry.get_sample_value("reconciler_lease_held") == 1
        lease.held, lease.lost = False, True
        await asyncio.wait_for(daemon.stopping.wait(), 10)
        assert daemon.metrics.registry.get_sample_value("reconciler_lease_held") == 0
        for task in tasks:
            task.cancel()

    asyncio.run(run())


def test_who_lost_the_lease_publishes_nothing_more(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    async def run(lost: bool) -> int:
        daemon, published = Idle(config), 0

        async def publish() -> bool:
            nonlocal published
            published += 1
            return True

        monkeypatch.setattr(daemon, "publish_once", publish)
        monkeypatch.setattr(daemon, "lost", lambda: lost)
        await daemon.end([])
        return published

    assert [asyncio.run(run(lost)) for lost in (True, False)] == [0, 1]


# ── where a repository lies, what a log says ─────────────────────────────────────────────────────────────────


def test_only_repositories_on_this_machine_are_watched(tmp_path: Path) -> None:
    subprocess.run(["git", "init", "-q", tmp_path / "clone"], check=True)
    subprocess.run(["git", "init", "-q", "--bare", tmp_path / "bare.git"], check=True)
    assert git_folder(str(tmp_path / "clone")) == (tmp_path / "clone/.git").resolve()
    assert git_folder(f"file://{tmp_path}/bare.git") == (tmp_path / "bare.git").resolve()
    for elsewhere in ("https://git.example/x.git", "ssh://git.example/x", "git@git.example:x", str(tmp_path / "none")):
        assert git_folder(elsewhere) is None


def test_a_log_line_is_one_json_object() -> None:
    record = logging.makeLogRecord(
        {"levelname": "INFO", "msg": 'a "b"\n%s', "args": ("c",), "host": "a", "change": "é"}
    )
    line = JsonLines().format(record)
    assert "\n" not in line
    read = json.loads(line)
    assert (read["message"], read["level"], read["host"], read["change"]) == ('a "b"\nc', "info", "a", "é")
    try:
        raise ValueError("why")
    except ValueError as error:
        record.exc_info = (ValueError, error, error.__traceback__)
    assert "ValueError: why" in json.loads(JsonLines().format(record))["traceback"]
