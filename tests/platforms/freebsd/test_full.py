"""A disk that is full, from some step of an apply on: it is told, and when there is room again the next pass finishes.

In: a pretended host whose /etc and /var are one small file system. RECONCILER_KILLS=all (`make faults`) fills it after
every step of a first apply and of a change, else after the first of the change. /tmp has room: scripts arrive there.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from bsd.host import why_not
from reconciler.model import Report
from reconciler.platforms import PLATFORMS

from .village import Village

pytestmark = [
    pytest.mark.skipif(why_not() is not None, reason=why_not() or ""),
    pytest.mark.skipif(os.environ.get("RECONCILER_LAB") != "1", reason="mounts: run tests/lab/enter.sh"),
]

ALL = os.environ.get("RECONCILER_KILLS") == "all"
USED = "$(($(%sdf -k --output=used /etc | tail -n 1)))k,nr_inodes=$(($(%sdf --output=iused /etc | tail -n 1)))"
FULL = f"/.machine/bin/mount -o remount,size={USED} /etc".replace("%s", "/.machine/bin/")
"""Neither a block nor an inode is left."""
ROOM = "size=64m,nr_inodes=100k"
HOME = "/var/lib/reconciler/jails/acme--www"
PRECIOUS = f"{HOME}/data/data/precious"


@contextmanager
def cramped(village: Village) -> Iterator[Village]:
    """/etc and /var on a file system of their own."""
    disk, root = village.folder / "disk", village.host.root
    disk.mkdir()
    places = {disk / name: root / name for name in ("etc", "var")}
    subprocess.run(["mount", "-t", "tmpfs", "-o", ROOM, "none", disk], check=True)
    try:
        for small, place in places.items():
            shutil.copytree(place, small, symlinks=True)
            subprocess.run(["mount", "--bind", small, place], check=True)
        yield village
    finally:
        for place in (*places.values(), disk):
            subprocess.run(["umount", "-l", place], check=False)


def room(village: Village) -> None:
    subprocess.run(["mount", "-o", f"remount,{ROOM}", village.folder / "disk"], check=True)


def told(report: Report) -> str:
    return "\n".join((report.refusal, report.unreachable, *(failure.reason for failure in report.failures)))


def change(village: Village) -> None:
    """Files, rules, limits, and with RECONCILER_KILLS=all a start."""
    village.edit("customers/acme/jails/www.yaml", "    - port: 443\n", "")
    more = "restart: 1\n  limits" if ALL else "limits"
    village.edit("customers/acme/jails/www.yaml", "spec:\n", f"spec:\n  {more}: {{memory: 512Mi}}\n")


def fill(village: Village, at: int) -> None:
    report = village.apply_killed(at, FULL)
    assert report.ready or "No space left on device" in told(report), (at, report)
    if ALL:
        again = village.apply()
        assert again.ready or "No space left on device" in told(again), (at, again)
    room(village)
    village.converge()
    left = village.type("find /etc /var/lib/reconciler -name '*.new~' -o -name '*.candidate' -o -path '*/incoming/*'")
    assert not left, at


def test_a_change_on_a_disk_that_is_full_is_told_and_the_next_pass_finishes(standing: Village, tmp_path: Path) -> None:
    last = 1
    if ALL:
        counted = standing.copied(tmp_path / "counted")
        change(counted)
        assert counted.apply_killed(0).ready
        last = counted.steps
    for at in range(1, last + 1):
        with cramped(standing.copied(tmp_path / f"at{at}")) as village:
            village.host.write(PRECIOUS, "much\n")
            change(village)
            fill(village, at)
            assert village.host.read(PRECIOUS) == "much\n"


@pytest.mark.skipif(not ALL, reason="`make faults`")
def test_a_first_apply_on_a_disk_that_is_full_is_told_and_the_next_pass_finishes(
    standing: Village, tmp_path: Path
) -> None:
    for at in range(1, standing.steps + 1):
        fresh = Village(tmp_path / str(at))
        fresh.host.loosen()
        with cramped(fresh) as village:
            fill(village, at)


def test_what_differs_is_seen_where_no_file_can_be_made(standing: Village) -> None:
    """Without room for a list of its own a look once took everything for as it should be."""
    probe = f"mktemp() {{ return 1; }}\n{PLATFORMS['freebsd'].PRELUDE}\n"
    known = standing.type("sha256 -q /etc/hosts").strip()
    asked = f"differing <<'END'\n{known}  /etc/hosts\n{'0' * 64}  /etc/rc.conf\n{'0' * 64}  /etc/none\nEND\n"
    shown = standing.type(probe + asked).splitlines()
    assert [line.split("\t")[:2] for line in shown] == [["bad", "/etc/rc.conf"]]
