"""Leases on real bare repositories, with clocks that are set by hand: who works, who waits, and what that leaves."""

from __future__ import annotations

import shutil
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from reconciler.config import Config, DaemonConfig, SourceConfig
from reconciler.lease import TICKS, Lease, LeaseFailure, claimed, holder, printable
from reconciler.repo import GitFailure, Said, SharedRef

REF = "refs/leases/main"
REFUSE = (
    "#!/bin/sh\nwhile read old new ref; do case $ref in refs/heads/*) ;; *) echo heads only >&2; exit 1 ;; esac; done\n"
)
HOLD = """
import sys, time
from pathlib import Path
from reconciler.config import read
from reconciler.lease import claimed
with claimed(read(Path(sys.argv[1]), {})) as lease:
    lease.look()
    print(lease.held, flush=True)
    time.sleep(60)
"""


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def remote(tmp_path: Path) -> Path:
    # --shared also forbids rewinding branches
    subprocess.run(["git", "init", "-q", "--bare", "--shared", tmp_path / "config.git"], check=True)
    return tmp_path / "config.git"


@pytest.fixture
def config(tmp_path: Path, remote: Path) -> Config:
    return Config(source=SourceConfig(url=str(remote)), daemon=DaemonConfig(cache=str(tmp_path / "cache")))


def shared(remote: Path) -> SharedRef:
    return SharedRef(f"file://{remote}", REF, remote.parent / "exchange")


def leased(remote: Path, name: str, clock: Clock) -> Lease:
    return Lease(shared(remote), name, 300, clock)


def held(lease: Lease) -> bool:
    lease.look()
    return lease.held


def words(remote: Path) -> str:
    command = ["git", "-C", remote, "for-each-ref", "--format=%(subject)", REF]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def objects(remote: Path) -> int:
    return sum(1 for _ in remote.glob("objects/??/*"))


def refusing(remote: Path) -> Path:
    hook = remote / "hooks/pre-receive"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text(REFUSE)
    hook.chmod(0o755)
    return hook


# ── who has it ───────────────────────────────────────────────────────────────────────────────────────────────


def test_a_free_lease_is_taken_and_renewed(remote: Path, clock: Clock) -> None:
    lease = leased(remote, "a", clock)
    assert lease.why
    assert held(lease)
    assert words(remote) == "held by a, tick 0"
    assert held(lease)
    assert words(remote) == "held by a, tick 1"
    assert not lease.why


def test_who_waits_says_for_whom_and_takes_over_when_it_stood_still_for_the_whole_time(
    remote: Path, clock: Clock
) -> None:
    first, second = leased(remote, "a", clock), leased(remote, "b", clock)
    assert held(first)
    for _ in range(5):  # renewed every third
        assert not held(second)
        clock.now += 99
        assert not held(second)
        assert held(first)
    assert second.why == "waiting: the lease is held by a, until it has not renewed it for 300 s"
    assert not held(second)
    for passed in (100, 100, 99):
        clock.now += passed
        assert not held(second)
    clock.now += 1
    assert held(second)
    assert words(remote) == "held by b, tick 0"
    assert not second.lost


def test_who_lost_it_says_to_whom_and_does_not_ask_again(remote: Path, clock: Clock) -> None:
    first, second = leased(remote, "a", clock), leased(remote, "b", clock)
    assert held(first)
    assert not held(second)
    clock.now += 300
    assert held(second)
    assert not held(first)
    assert first.lost
    assert first.why.startswith("b took the lease")
    clock.now += 1000
    assert not held(first)
    first.give_up()
    assert words(remote) == "held by b, tick 0"


def test_who_did_not_look_for_a_while_begins_to_watch_anew(remote: Path, clock: Clock) -> None:
    """The same words can come round again meanwhile."""
    first, second = leased(remote, "a", clock), leased(remote, "b", clock)
    assert held(first)
    assert not held(second)
    for _ in range(TICKS):
        clock.now += 100
        assert held(first)
    assert words(remote) == "held by a, tick 0"
    assert not held(second)
    clock.now += 300
    assert held(second)


def test_of_two_who_take_it_at_once_exactly_one_has_it(remote: Path, clock: Clock) -> None:
    for name in "abc":
        leases = [leased(remote, f"{name}{n}", clock) for n in range(2)]
        line = threading.Barrier(2)

        def take(lease: Lease, line: threading.Barrier = line) -> None:
            line.wait()
            lease.look()

        threads = [threading.Thread(target=take, args=(lease,)) for lease in leases]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        (winner,) = (lease for lease in leases if lease.held)
        (loser,) = (lease for lease in leases if not lease.held)
        assert not held(loser)
        assert f"held by {winner.name}," in loser.why
        assert held(winner)
        winner.give_up()


def test_given_up_it_is_free_at_once(remote: Path, clock: Clock) -> None:
    first, second = leased(remote, "a", clock), leased(remote, "b", clock)
    assert held(first)
    assert not held(second)
    second.give_up()
    assert words(remote) == "held by a, tick 0"
    first.give_up()
    assert words(remote) == ""
    assert not held(first)
    assert not first.lost
    assert held(leased(remote, "c", clock))


def test_taken_away_by_hand_it_is_taken_again(remote: Path, clock: Clock) -> None:
    lease = leased(remote, "a", clock)
    assert held(lease)
    subprocess.run(["git", "-C", remote, "update-ref", "-d", REF], check=True)
    assert held(lease)
    assert words(remote)


def test_given_up_by_another_while_we_ask_it_is_taken_by_the_next_look(remote: Path, clock: Clock) -> None:
    first, second = leased(remote, "a", clock), leased(remote, "b", clock)
    assert held(first)
    assert not held(second)
    clock.now += 300
    swap = second._ref.swap

    def slow(before: Said | None, words: str) -> Said | None:
        first.give_up()
        return swap(before, words)

    second._ref.swap = slow  # type: ignore[method-assign]
    assert not held(second)
    assert held(second)


def test_many_renewals_leave_sixteen_objects(remote: Path, clock: Clock) -> None:
    lease = leased(remote, "a", clock)
    for _ in range(40):
        assert held(lease)
    assert objects(remote) == 16


def test_what_somebody_else_puts_there_is_read_whatever_it_is(remote: Path, clock: Clock) -> None:
    blob = subprocess.run(
        ["git", "-C", remote, "hash-object", "-w", "--stdin"], input=b"x", capture_output=True, check=True
    ).stdout
    subprocess.run(["git", "-C", remote, "update-ref", REF, blob.strip()], check=True)
    waiting = leased(remote, "a", clock)
    assert not held(waiting)
    assert "held by somebody without a name" in waiting.why
    clock.now += 300
    assert held(waiting)
    assert holder("held by \x1b[31ma\udcff b, tick 3") == "[31ma b"
    assert holder("hands off\x07") == "hands off"
    assert len(printable("x" * 1000)) == 200


# ── a remote that does not do it ─────────────────────────────────────────────────────────────────────────────


def test_a_remote_that_is_away_takes_nothing_from_who_has_it_and_gives_nobody_else(remote: Path, clock: Clock) -> None:
    first, second, elsewhere = leased(remote, "a", clock), leased(remote, "b", clock), remote.with_suffix(".away")
    assert held(first)
    assert not held(second)
    remote.rename(elsewhere)
    clock.now += 300
    assert held(first)
    assert "cannot reach" in first.why
    assert not held(second)
    assert "cannot reach" in second.why
    elsewhere.rename(remote)
    assert held(first)
    assert not first.why
    assert not held(second)


def test_an_answer_that_was_lost_is_found_at_the_next_look(remote: Path, clock: Clock) -> None:
    lease = leased(remote, "a", clock)
    swap = lease._ref.swap

    def mute(before: Said | None, words: str) -> Said | None:
        swap(before, words)
        raise GitFailure("no answer")

    lease._ref.swap = mute  # type: ignore[method-assign]
    assert not held(lease)
    lease._ref.swap = swap  # type: ignore[method-assign]
    assert held(lease)
    assert words(remote) == "held by a, tick 1"


def test_a_remote_that_takes_no_such_ref_is_told_with_what_to_do(remote: Path, clock: Clock) -> None:
    lease, hook = leased(remote, "a", clock), refusing(remote)
    assert not held(lease)
    assert f"does not let us write {REF}: [remote rejected] (pre-receive hook declined)" in lease.why
    assert "Let our key create, replace and delete it; or set daemon.lease to 0" in lease.why
    hook.unlink()
    assert held(lease)
    refusing(remote)
    assert held(lease)
    assert "does not let us write" in lease.why


# ── who we are ───────────────────────────────────────────────────────────────────────────────────────────────


def test_who_was_killed_goes_on_at_once_and_nobody_else_has_its_cache(config: Config, tmp_path: Path) -> None:
    path = tmp_path / "reconciler.toml"
    path.write_text(f'[source]\nurl = "{config.source.url}"\n[daemon]\ncache = "{config.daemon.cache}"\n')
    with subprocess.Popen([sys.executable, "-c", HOLD, path], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout and process.stdout.readline() == "True\n"
            with pytest.raises(LeaseFailure, match=f"another `reconciler run` works in {config.daemon.cache}"):
                claimed(config).__enter__()
        finally:
            process.kill()
    with claimed(config) as lease:
        assert lease and held(lease)
        assert words(Path(config.source.url)) == f"held by {lease.name}, tick 1"
        assert config.daemon.cache in lease.name


def test_another_cache_is_somebody_else_even_under_the_same_name(config: Config) -> None:
    with claimed(config) as first:
        assert first and held(first)
    shutil.rmtree(config.daemon.cache)
    with claimed(config) as second:
        assert second and not held(second)
        assert second.name.partition(" ")[0] == first.name.partition(" ")[0]


def test_two_instances_share_a_cache_and_each_has_its_own_lease(config: Config) -> None:
    other = replace(config, status=replace(config.status, instance="other"))
    with claimed(config) as ours, claimed(other) as theirs:
        assert ours and held(ours)
        assert theirs and held(theirs)


def test_without_a_lease_nobody_is_asked(config: Config) -> None:
    with claimed(replace(config, daemon=replace(config.daemon, lease=0))) as lease:
        assert lease is None


def test_a_name_is_one_line_whatever_the_folder_is_called(config: Config, tmp_path: Path) -> None:
    strange = tmp_path / ("two\nlines " + "x" * 150)
    with claimed(replace(config, daemon=replace(config.daemon, cache=str(strange)))) as lease:
        assert lease and held(lease)
        assert held(lease)
        assert holder(words(Path(config.source.url))) == lease.name
