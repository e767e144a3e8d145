"""A pretended FreeBSD host with a pool: what a jail's dataset goes through, and which snapshots are kept."""

from __future__ import annotations

import re
from datetime import date
from pathlib import Path

import pytest

from bsd.host import Host, why_not
from reconciler.platforms.steps import APPLY

from .test_flow import disrupted, told
from .village import FREEBSD, Village

pytestmark = pytest.mark.skipif(why_not() is not None, reason=why_not() or "")

JAIL = "customers/acme/jails/db.yaml"
DATASET = "zroot/reconciler/jails/acme--db"
DATA = "/var/lib/reconciler/jails/acme--db/data/data/x"
SHOWN = f"zfs list -Hpo mounted,quota,reservation,setuid,reconciler:owner {DATASET}"
SNAPSHOTS = f"zfs list -H -o name -t snapshot -d 1 {DATASET}"


@pytest.fixture
def village(tmp_path: Path) -> Village:
    """With one jail: a pass over a pretended host takes seconds."""
    village = Village(tmp_path / "village", pool=True)
    village.edit("hosts/a.yaml", "  switches:", "  zfs: zroot/reconciler\n  switches:")
    (village.documents / "customers/acme/jails/www.yaml").unlink()
    village.edit(JAIL, "      from: [www]\n", "")
    village.edit(JAIL, "spec:\n", "spec:\n  limits: {disk: 10Gi, diskReserved: 1Gi}\n")
    return village


def test_the_life_of_a_dataset(village: Village) -> None:
    village.converge()
    assert village.type(SHOWN) == f"yes\t{10 << 30}\t{1 << 30}\toff\tacme--db\n"
    jid = village.type(f"echo precious >{DATA}; jls -j acme__db jid")

    village.type(f"zfs set setuid=on {DATASET}")
    village.edit(JAIL, "disk: 10Gi, diskReserved: 1Gi", "disk: 512Mi, diskReserved: 100Mi")
    words = told(village.converge())
    assert "quota 10Gi → 512Mi; reservation 1Gi → 100Mi" in words and "setuid on → off" in words
    assert village.type(SHOWN) == f"yes\t{512 << 20}\t{100 << 20}\toff\tacme--db\n"
    assert village.type(f"jls -j acme__db jid; {SNAPSHOTS}") == jid

    village.edit(JAIL, "spec:\n", "spec:\n  restart: 1\n")
    assert "status" in village.apply_killed(at=2).unreachable
    taken = village.type(SNAPSHOTS)
    assert taken.startswith(f"{DATASET}@reconciler-") and taken.count("\n") == 1
    assert disrupted(village.converge()) == {"restart of jail acme--db, snapshot first"}
    assert village.type(SNAPSHOTS) == taken

    document = (village.documents / JAIL).read_text()
    (village.documents / JAIL).unlink()
    assert f"leave dataset {DATASET} as it is" in told(village.converge())
    assert village.type(f"{SHOWN}; cat {DATA}") == f"yes\t{512 << 20}\t{100 << 20}\toff\tacme--db\nprecious\n"

    (village.documents / JAIL).write_text(document)
    assert "bring back data of acme--db" in told(village.converge())
    assert village.type(f"jexec acme__db cat /data/x; {SNAPSHOTS}") == f"precious\n{taken}"

    (village.documents / JAIL).unlink()
    (kept,) = village.converge().retained
    village.today, village.approved = date(2099, 1, 1), frozenset({kept.purge})
    assert told(village.converge()).startswith("delete the data of acme--db, kept until 2026-12-05")
    assert (
        village.type("zfs list -H -t all -r -o name zroot/reconciler") == "zroot/reconciler\nzroot/reconciler/jails\n"
    )
    assert village.type("ls /var/lib/reconciler/jails /var/log/reconciler | grep acme || echo nothing") == "nothing\n"
    assert not village.look().retained


def test_without_its_pool_a_host_is_refused_before_anything_is_done(village: Village) -> None:
    village.edit("hosts/a.yaml", "zroot/", "tank/")
    assert "cannot open 'tank'" in village.apply().refusal
    assert village.type("ls /etc/reconciler") == ""


# ── the functions of a step alone ────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def host(tmp_path: Path) -> Host:
    one = Host(tmp_path / "host", pool=True)
    one.run("zfs create -o mountpoint=/home zroot/home")
    return one


def called(host: Host, script: str) -> str:
    done = host.run(f"{FREEBSD.PRELUDE}\n{APPLY}\nset -e\n{script}")
    return done.stdout.decode() + done.stderr.decode()


def names(host: Host) -> list[str]:
    listed = host.run("zfs list -H -d 1 -t snapshot -s createtxg -o name zroot/home").stdout.decode()
    return [name.partition("@")[2] for name in listed.split()]


def test_the_newest_three_of_our_snapshots_are_kept_and_all_of_others(host: Host) -> None:
    """One has our name alone, one our mark alone."""
    called(host, "zfs snapshot zroot/home@reconciler-9; zfs snapshot -o reconciler:change=8 zroot/home@theirs")
    called(host, "for change in 1 2 3 4 5; do snapshot zroot/home $change; snapshot zroot/home $change; done")
    assert names(host) == ["reconciler-9", "theirs", "reconciler-3", "reconciler-4", "reconciler-5"]


def test_the_same_change_long_after_has_a_snapshot_of_its_own_time(host: Host) -> None:
    called(host, "for change in 1 2 1; do snapshot zroot/home $change; done")
    assert names(host) == ["reconciler-2", "reconciler-1"]


def test_somebody_elses_snapshot_of_that_name_stops_the_change(host: Host) -> None:
    said = called(host, "zfs snapshot zroot/home@reconciler-1; snapshot zroot/home 1; echo restarted")
    assert said == "cannot create snapshot 'zroot/home@reconciler-1': dataset already exists\n"


def test_a_dataset_is_mounted_over_nothing(host: Host) -> None:
    host.run("zfs unmount zroot/home; echo mine >/home/file")
    said = called(host, "mount_dataset zroot/home /home; echo mounted")
    assert said == "files lie in /home, where a dataset would hide them: move them away\n"
    assert host.read("/home/file") == "mine\n"


HOME = "/pool/jails/acme--x"
OURS = f"""
zfs create -o mountpoint={HOME} -o reconciler:owner=acme--x zroot/x
zfs create -o mountpoint=/pool/other -o reconciler:owner=acme--y zroot/y
mkdir {HOME}/data
echo acme--x >{HOME}/owner
echo 2026-11-20 >{HOME}/retained
echo precious | tee {HOME}/data/x >/pool/other/x
snapshot zroot/x 1
"""
PURGE = f"purge {HOME} acme--x 2026-11-20"


def test_a_dataset_goes_with_our_snapshots_and_nothing_else_goes(host: Host) -> None:
    said = called(host, f"{OURS}{PURGE}; {PURGE}; ls /pool/jails; cat /pool/other/x; zfs list -H -t all -o name")
    assert said.split() == ["precious", "zroot", "zroot/home", "zroot/y"]


STAYS = {
    "zfs snapshot zroot/x@mine": "zroot/x@mine is not ours",
    "zfs snapshot zroot/x@reconciler-9": "zroot/x@reconciler-9 is not ours",
    "zfs create -u zroot/x/more": "zroot/x/more is not ours",
    "zfs set mountpoint=/elsewhere zroot/x": "its place is not /pool/jails/acme--x",
    "zfs unmount zroot/x": "dataset zroot/x is not mounted",
    "zfs set reconciler:owner=acme--y zroot/x": "is in use: /pool/jails/acme--x is mounted",
    "zfs inherit reconciler:owner zroot/x": "is in use: /pool/jails/acme--x is mounted",
    f"mkdir -p /there; mount -t nullfs {HOME}/data /there": "is in use: /there is mounted",
    f"echo acme--y >{HOME}/owner": "does not say acme--x",
    f"echo 2026-12-24 >{HOME}/retained": "does not say 2026-11-20",
    f"rm {HOME}/retained": "does not say 2026-11-20",
}
"""What somebody has done, and why the data stays."""


def test_a_dataset_that_is_not_as_it_was_approved_of_stays_with_all_that_it_has(host: Host) -> None:
    """Each is tried on a dataset of its own: zroot/x0, of the jail acme--x0."""
    called(host, "zfs create -o mountpoint=/pool/other -o reconciler:owner=acme--y zroot/y")
    for number, (done, words) in enumerate(STAYS.items()):

        def numbered(text: str, number: int = number) -> str:
            return re.sub(r"(acme--x|zroot/x)", rf"\g<1>{number}", text)

        made = "".join(line for line in OURS.splitlines(keepends=True) if "zroot/y" not in line)
        said = called(host, numbered(f"{made}{done}; {PURGE}; echo deleted"))
        assert numbered(words) in said.strip().splitlines()[-1], said
        left = host.run(numbered("zfs list -H -t all -r -o name zroot/x")).stdout.decode().split()
        assert {numbered("zroot/x"), numbered("zroot/x@reconciler-1")} <= set(left)


def test_plain_data_goes_whatever_a_jail_has_planted_in_it(host: Host) -> None:
    planted = f"""
mkdir -p {HOME}/data/data /pool/jails/acme--xy /pool/storage
echo acme--x >{HOME}/owner; echo 2026-11-20 >{HOME}/retained
ln -s /pool/jails/acme--xy {HOME}/data/data/out; ln -s / {HOME}/data/data/top; ln -s nowhere {HOME}/data/data/up
echo x >"{HOME}/data/data/$(printf 'a\\nb')"; echo x >"{HOME}/data/data/-rf *"; mkfifo {HOME}/data/data/pipe
echo precious >/pool/jails/acme--xy/x; ln /pool/jails/acme--xy/x {HOME}/data/data/hard
"""
    assert (
        called(host, f"{planted}{PURGE}; find /pool/jails")
        == "/pool/jails\n/pool/jails/acme--xy\n/pool/jails/acme--xy/x\n"
    )


def test_what_was_half_deleted_is_gone_before_a_jail_of_that_name_has_a_place_again(host: Host) -> None:
    called(host, f"mkdir -p {HOME}.purging/data; echo half >{HOME}.purging/data/x; mkdir -p {HOME}; unretain {HOME}")
    assert host.run("ls /pool/jails").stdout == b"acme--x\n"


@pytest.mark.parametrize("home", ["/pool/jails/acme--y", "/pool/acme--x", "/", ""])
def test_only_the_place_of_its_own_jail_is_ever_deleted(host: Host, home: str) -> None:
    host.run(f"mkdir -p /pool/jails/acme--y /pool/acme--x; touch {home}/x")
    assert called(host, f"purge '{home}' acme--x 2026-11-20; echo deleted").endswith(
        "is not where the data of acme--x lies\n"
    )
