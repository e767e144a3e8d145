"""What would cut a host off is taken back by the host itself, whatever becomes of whoever sent it.

The documents say it: a block list in which the reconciler is. Nothing checks that: by which address a host sees us is
not known here.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from reconciler.model import Report
from reconciler.platforms.ground import LONGEST
from reconciler.reconcile import endpoints
from reconciler.remote import RemoteFailure

from .test_drift import LOOK
from .test_kill import bare
from .world import World

ROUNDS = 20 if os.environ.get("RECONCILER_KILLS") == "all" else 1
SOON, LATE = 5.0, 300.0
"""Seconds of patience, where the host is to take back by itself, and where it is not to."""
HOW_LONG = "stat -c '%.Y %.Z' /var/lib/reconciler/refused"
"""It was written when all that it takes to go back lay ready, and was moved there when the files were back."""
NEIGHBOURS, NOBODY = "2001:db8:ffff::/48", "2001:db8:bad::/48"
"""Where we are, and where nobody is."""


@pytest.fixture(scope="module")
def standing(lasting: Callable[[str], World]) -> World:
    return lasting("a")


@pytest.fixture
def lonely(standing: World) -> World:
    """A host as it should be."""
    standing.restore()
    assert standing.reconcile("a").ready
    standing["a"].run("rm -f /var/lib/reconciler/refused")
    standing.wire("a").patience = SOON
    return standing


def block(world: World, prefix: str) -> None:
    world.edit("hosts/b.yaml", policy=None)  # which has no way out of its own
    world.edit("policies/edge.yaml", lambda spec: spec["tables"].update(unwanted=[prefix]), block=["unwanted"])


def look(world: World) -> str:
    return world["a"].run(LOOK).stdout


def told(report: Report) -> str:
    return "\n".join([*(failure.reason for failure in report.failures), report.unreachable])


def left(world: World) -> str:
    return (
        world["a"].run("ls /var/lib/reconciler/transactions 2>/dev/null; ls -d /etc/reconciler/before.* || true").stdout
    )


def test_what_cuts_us_off_is_taken_back_in_time_and_not_tried_again(lonely: World) -> None:
    before, inventory = look(lonely), lonely["a"].run("sed 1d /var/lib/reconciler/inventory").stdout
    took = []
    for _ in range(ROUNDS):
        block(lonely, NEIGHBOURS)
        report = lonely.reconcile("a")
        assert "taken back" in told(report), report
        assert look(lonely) == before
        assert lonely["a"].run("sed 1d /var/lib/reconciler/inventory").stdout == inventory
        assert not left(lonely)
        again = lonely.reconcile("a", reviewed=False)
        assert again.refusal.startswith("this network and firewall have cut the host off before")
        lonely.restore()
        assert lonely.reconcile("a").ready
        armed, back = map(float, lonely["a"].run(f"{HOW_LONG}; rm /var/lib/reconciler/refused").stdout.split())
        took.append(round(back - armed, 1))
    print(f"taken back {len(took)} of {ROUNDS} times, after {min(took)} to {max(took)} s with {SOON} s of patience")
    assert min(took) >= SOON and max(took) < LONGEST * SOON + 5  # what a busy machine needs for going back


def test_who_is_there_to_confirm_is_heard_and_nothing_is_taken_back(lonely: World) -> None:
    block(lonely, NOBODY)
    report = lonely.reconcile("a")
    assert report.ready, report
    before = look(lonely)
    assert NOBODY in before
    time.sleep(SOON + 1)
    assert look(lonely) == before
    assert not left(lonely)


def test_it_is_taken_back_when_sshd_is_restarted_and_all_sessions_end(lonely: World) -> None:
    before = look(lonely)
    with cut_off(lonely):
        lonely["a"].run("pkill -HUP sshd; systemctl restart ssh; pkill -f '[s]shd: (root|reconciler)' || true")
    assert look(lonely) == before


def test_a_disk_that_is_full_by_then_hinders_nothing(spare: Callable[[str], World]) -> None:
    world = spare("a")
    bare(world)
    world["a"].run("mount -t tmpfs -o size=96m,mode=700 none /var/lib/reconciler")
    assert world.reconcile("a").ready
    world.wire("a").patience = SOON
    before = look(world)
    with cut_off(world):
        world["a"].run("cat /dev/zero >/var/lib/reconciler/filled 2>/dev/null || ! echo x >/var/lib/reconciler/more")
    world["a"].run("rm -f /var/lib/reconciler/filled /var/lib/reconciler/more")
    assert look(world) == before
    assert world["a"].run("cat /var/lib/reconciler/refused").stdout
    world.restore()
    bare(world)
    assert world.reconcile("a").ready


def test_a_host_that_restarts_before_anybody_confirmed_comes_back_as_it_was(lonely: World) -> None:
    before = look(lonely)
    lonely.wire("a").patience = LATE
    block(lonely, NEIGHBOURS)
    pass_over = threading.Thread(target=attempt, args=(lonely,), daemon=True)
    pass_over.start()
    wait_for(
        lonely, f"ls -d /var/lib/reconciler/transactions/*.armed && nft list ruleset | grep -q 'saddr {NEIGHBOURS} '"
    )
    lonely["a"].restart()
    for _ in range(60):  # its jails come up beside
        if look(lonely) == before:
            break
        time.sleep(0.5)
    assert look(lonely) == before
    assert not left(lonely)
    lonely.restore()
    assert lonely.reconcile("a").ready


def test_a_jail_that_no_longer_answers_takes_the_rules_back_at_once(lonely: World) -> None:
    """As if the new rules let nobody in: here nobody who asks from outside is, so the answers are made up."""
    lonely.wire("a").patience = LATE
    before = look(lonely)
    block(lonely, NOBODY)
    published = frozenset(endpoints(lonely.spec("a"), ()))
    answers = iter([published])
    report = lonely.reconcile("a", answering=lambda those: next(answers, frozenset()))
    assert told(report).startswith("network and firewall were taken back: jails that answered before")
    assert look(lonely) == before


@contextmanager
def cut_off(world: World) -> Iterator[None]:
    """Within, somebody waits to take back what cuts us off; afterwards it is taken back."""
    block(world, NEIGHBOURS)
    pass_over = threading.Thread(target=attempt, args=(world,))
    pass_over.start()
    wait_for(world, "ls -d /var/lib/reconciler/transactions/*.armed")
    yield
    wait_for(world, "! ls -d /var/lib/reconciler/transactions/*.*")
    pass_over.join(120)
    assert not pass_over.is_alive()


def attempt(world: World) -> None:
    try:
        world.reconcile("a")
    except RemoteFailure:
        return


def wait_for(world: World, command: str) -> None:
    for _ in range(150):
        if world["a"].run(command, check=False).returncode == 0:
            return
        time.sleep(0.1)
    raise AssertionError(f"never: {command}")
