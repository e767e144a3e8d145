"""A disk that is full, from some write of an apply on or for one write alone: what found no room is told, nothing that
was there is lost, and when there is room again the next pass finishes. Then one that is read-only, and a host on which
it was another time.

In: a host whose /etc, /tmp and /var/lib/reconciler are one small file system. The apply is changed on its way, as in
test_kill.py: `step` counts, and takes all room away. RECONCILER_KILLS=all (`make faults`) does so after every step and
command, else after a few.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from reconciler.model import Report

from .test_kill import ALL, BETWEEN, CHANGE, REMOVAL, Scene, counted, happening, has_release, small, steps, swept
from .world import World

DISK = """
mkdir -p /disk && mount -t tmpfs -o mode=755,size=64m none /disk
for place in /etc /tmp /var/lib/reconciler; do
    mkdir -p /disk$place && cp -a $place/. /disk$place && mount --bind /disk$place $place
done
chmod 1777 /tmp
"""
FULL = (
    "for try in $(seq 20); do ! mount -o remount,size=$(($(df -k --output=used /disk | tail -n 1)))k,"
    "nr_inodes=$(($(df --output=iused /disk | tail -n 1))) /disk 2>/dev/null || break; done"
)
"""Neither a block nor an inode is left; jails go on writing meanwhile."""
ROOM = "mount -o remount,size=64m,nr_inodes=100k /disk"
WORDS = ("No space left on device", ": I/O error")
"""The system's, and those of sh for it."""
PRECIOUS = "/var/lib/reconciler/jails/acme--db/data/data/precious"


def emptied(world: World) -> None:
    swept(world)
    world["a"].run(DISK)


CREATION: Scene = (emptied, small, has_release)


@pytest.fixture(scope="module")
def cramped(lasting: Callable[[str], World]) -> World:
    world = lasting("a")
    world["a"].run(DISK)
    world.wire("a").patience = 5
    return world


def told(report: Report) -> str:
    return "\n".join((report.refusal, report.unreachable, *(failure.reason for failure in report.failures)))


def fill(world: World, scene: Scene, at: int, events: dict[int, str]) -> str:
    """What went wrong, or ""."""
    ready, wanted, true = scene
    try:
        ready(world)
        world["a"].run(f"! cd {PRECIOUS.rpartition('/')[0]} 2>/dev/null || echo much >{PRECIOUS}")
        wanted(world)
        with happening(world, events, BETWEEN):
            report = world.reconcile("a")
        assert report.ready or any(words in told(report) for words in WORDS), report
        world["a"].run(ROOM)
        report = world.reconcile("a")
        assert report.ready, report
        assert scene is CREATION or world["a"].run(f"cat {PRECIOUS}").stdout == "much\n"
        true(world)
    except Exception as error:
        world["a"].run(ROOM)
        return f"full at {at}: {type(error).__name__} {error}"
    return ""


SCENES = {"creation": CREATION, "change": CHANGE, "removal": REMOVAL}


@pytest.mark.parametrize("once", [False, True] if ALL else [True], ids=lambda once: "once" if once else "from then on")
@pytest.mark.parametrize("name", SCENES if ALL else ["change"])
def test_a_disk_that_is_full_is_told_and_when_there_is_room_the_next_pass_finishes(
    cramped: World, name: str, once: bool
) -> None:
    if ALL:
        counted(cramped, SCENES[name], BETWEEN)
    points = range(1, steps(cramped) + 1) if ALL else (70,)
    events = {at: {at: FULL, at + 1: ROOM} if once else {at: FULL} for at in points}
    assert [words for at in points if (words := fill(cramped, SCENES[name], at, events[at]))] == []


PLACES = "/etc /tmp /var/lib/reconciler"


@pytest.mark.parametrize("places", ["/etc /var/lib/reconciler", *([PLACES] if ALL else [])])
def test_a_disk_that_is_read_only_is_told_and_mended_by_the_next_pass_when_it_is_not(
    cramped: World, places: str
) -> None:
    host = cramped["a"]
    CHANGE[0](cramped)
    cramped.edit("policies/edge.yaml", lambda spec: spec["in"].pop())
    host.run(f"for place in {places}; do mount --bind $place $place; mount -o remount,bind,ro $place; done")
    try:
        report = cramped.reconcile("a")
        assert "Read-only file system" in told(report), report
        assert not report.done
        assert host.run("machinectl list --no-legend").stdout.count("acme--") == 2
    finally:
        host.run(f"for place in {places}; do umount -l $place; done")
    report = cramped.reconcile("a")
    assert report.ready and report.done, report


OURS = "/etc/reconciler /etc/systemd/system /var/lib/reconciler -path '*/trees/*' -prune -o -print0"


def test_a_host_on_which_it_was_another_time_needs_nothing_and_takes_what_is_new(cramped: World) -> None:
    """Its clock was far ahead, and was set right: all that we made then, and what systemd read, is of the future. A
    tree's own times are those of its archive, whatever the host's clock says."""
    CHANGE[0](cramped)
    for day in ("2037-12-31", "1970-01-02"):
        cramped["a"].run(f"find {OURS} | xargs -0 touch -h -d {day}; systemctl daemon-reload")
        assert not cramped.words("a")
        cramped.edit("customers/acme/jails/shop.yaml", restart=int(day[:4]), limits={"memory": f"{day[2:4]}Mi"})
        report = cramped.reconcile("a")
        assert report.ready and report.done, report
        assert not cramped.words("a")
