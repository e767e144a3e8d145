"""A pretended FreeBSD host with a pool: what a jail's dataset goes through, and which snapshots are kept."""

from __future__ import annotations

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
