"""What is not ours is never touched: by a first apply, a change, a removal, or a conflict over a name."""

from __future__ import annotations

import itertools
import shlex
from collections.abc import Callable
from datetime import date
from pathlib import Path

import pytest

from reconciler.platforms import PLATFORMS
from reconciler.platforms.steps import APPLY

from .test_kill import BETWEEN, COUNTER, KILLED, bare, changed, small
from .world import World

FOREIGN = """
mkdir -p /srv/users /etc/reconciler.d /var/lib/machines/theirs/usr/lib /etc/systemd/system/multi-user.target.wants
echo theirs >/etc/theirs.conf; echo theirs >/srv/users/data; echo theirs >/root/notes
echo 'net.ipv6.conf.default.hop_limit = 65' >/etc/sysctl.d/50-theirs.conf; sysctl -qp /etc/sysctl.d/50-theirs.conf
unit='[Service]\\nExecStart=/bin/sleep infinity\\n[Install]\\nWantedBy=multi-user.target\\n'
printf "$unit" >/etc/systemd/system/theirs.service
systemctl enable -q --now theirs.service
ip link add theirs0 type bridge; ip addr add 2001:db8:7777::1/64 dev theirs0 nodad; ip link set theirs0 up
ip netns add theirs; ip link add theirs1 type veth peer name eth0 netns theirs; ip link set theirs1 master theirs0 up
ip -6 route add 2001:db8:7778::/48 dev theirs0; ip -6 neigh add proxy 2001:db8:7777::9 dev eth0
nft add table inet theirs; nft 'add chain inet theirs input { type filter hook input priority 5; }'
nft add rule inet theirs input tcp dport 9 drop comment theirs; nft add table bridge theirs
cd /var/lib/machines/theirs; mkdir -p dev etc proc run sys tmp var; ln -sfn usr/bin bin; ln -sfn usr/lib lib
ln -sfn usr/lib64 lib64; touch etc/os-release
systemd-run --quiet --unit=theirs-machine -p Delegate=yes systemd-nspawn --quiet --keep-unit --machine=theirs \
    --directory=/var/lib/machines/theirs --bind-ro=/usr --as-pid2 --resolv-conf=off --timezone=off --link-journal=no \
    /bin/sleep infinity
for i in $(seq 100); do machinectl show theirs >/dev/null 2>&1 && break; sleep 0.1; done
"""
LOOK = r"""
sha256sum /etc/theirs.conf /srv/users/data /root/notes /etc/sysctl.d/50-theirs.conf /etc/systemd/system/theirs.service
sysctl net.ipv6.conf.default.hop_limit
systemctl show theirs theirs-machine -p ActiveState -p MainPID -p UnitFileState -p NRestarts
ip -o addr show dev theirs0 | sed 's/^[0-9]*: //; s/ tentative//'; ip -6 route show dev theirs0
ip -6 neigh show proxy dev eth0 | grep 7777
ip -n theirs -br link; ip netns pids theirs; ip -br link show theirs1 | awk '{ print $1, $3 }'
nft list table inet theirs; nft list table bridge theirs
machinectl show theirs -p Leader -p State
"""


@pytest.fixture(scope="module")
def shared(lasting: Callable[[str], World]) -> World:
    """A host of an administrator's, on which we come and go."""
    world = lasting("a")
    world["a"].run(FOREIGN)
    return world


def test_what_is_not_ours_survives_a_first_apply_a_change_and_the_removal_of_everything(shared: World) -> None:
    host = shared["a"]
    before = host.run(LOOK).stdout
    for wanted in (small, changed, bare):
        wanted(shared)
        report = shared.reconcile("a")
        assert report.ready, report
        assert host.run(LOOK).stdout == before
    assert "running" in before


def test_data_of_a_removed_jail_is_kept(shared: World) -> None:
    small(shared)
    assert shared.reconcile("a").ready
    precious = "/var/lib/reconciler/jails/acme--shop/data/data/precious"
    shared["a"].run(f"echo much >{precious}")
    bare(shared)
    assert shared.reconcile("a").ready
    assert shared["a"].run(f"cat {precious}").stdout == "much\n"
    small(shared)
    assert shared.reconcile("a").ready
    assert shared["a"].run(f"cat {precious}").stdout == "much\n"


HOMES = "/var/lib/reconciler/jails"
PLANTED = f"""
cd {HOMES}/acme--shop/data/data; ln -s / top; ln -s {HOMES}/acme--db neighbour; ln -s nowhere up; mkfifo pipe
echo x >"$(printf 'a\\nb')"; echo x >'-rf *'; mkdir -p deep/deeper; chmod 0 deep; echo x >{HOMES}/acme--shop/config/x
"""
THERE = f"find /srv {HOMES} -printf '%p %i\\0' | sort -z | tr '\\n\\0' '?\\n'"
IN_USE = {
    f"mount --bind /srv {HOMES}/acme--shop/data/data/deep": f"umount {HOMES}/acme--shop/data/data/deep",
    f"mount --bind {HOMES}/acme--shop/data /mnt": "umount /mnt",
    f"unshare -m sh -c 'mount --bind {HOMES}/acme--shop/config /mnt; echo >/run/bound; exec sleep 99' & "
    "echo $! >/run/binds; while [ ! -e /run/bound ]; do sleep 0.1; done": "kill $(cat /run/binds)",
    f"echo 2026-12-24 >{HOMES}/acme--shop/retained": f"echo 2026-02-14 >{HOMES}/acme--shop/retained",
}
"""What makes it data that is not what was approved of, and how that ends."""


def test_approved_data_is_deleted_whatever_lies_in_it_and_nothing_else_is(shared: World) -> None:
    small(shared)
    assert shared.reconcile("a").ready
    host = shared["a"]
    host.run(
        f"mkdir -p /srv/users; echo theirs >/srv/users/data; echo kept >{HOMES}/acme--db/data/data/kept; {PLANTED}"
    )
    bare(shared)
    kept = {one.jail: one for one in shared.reconcile("a").retained}
    assert {one.until for one in kept.values()} == {"2026-02-14"}
    late = {"today": date(2026, 2, 15), "approved": frozenset({kept["acme--shop"].purge})}
    before = host.run(THERE).stdout
    for use, end in IN_USE.items():
        host.run(f"{{ {use}; }} >/dev/null 2>&1")
        (failure,) = shared.reconcile("a", **late).failures
        assert failure.owner == "acme--shop"
        assert "is in use" in failure.reason or "does not say 2026-02-14" in failure.reason
        host.run(end)
        assert host.run(THERE).stdout == before
    report = shared.reconcile("a", **late)
    assert report.ready, report
    assert [one.jail for one in report.retained] == ["acme--db"]
    gone = [line for line in before.splitlines() if f"{HOMES}/acme--shop" in line]
    assert len(gone) > 10
    left = host.run(THERE).stdout.splitlines()
    assert left == [line for line in before.splitlines() if line not in gone]
    assert not shared.reconcile("a", **late).done


def test_data_that_was_being_deleted_when_the_host_went_down_is_gone_and_comes_back_to_no_jail(shared: World) -> None:
    """Killed between any two commands: what has the jail's name is whole, or is not there."""
    host, home = shared["a"], f"{HOMES}/acme--x"
    functions = "\n".join([PLATFORMS["linux"].PRELUDE, APPLY, BETWEEN, "set -e"])
    make = f"mkdir -p {home}/data; echo acme--x >{home}/owner; echo 2026-02-14 >{home}/retained; echo 1 >{home}/data/x"
    for at in itertools.count(1):
        host.run(f"rm -rf {home}*; {make}; echo 0 >/run/steps")
        counter = COUNTER.replace("EVENTS", f"{at}) {KILLED} ;;")
        script = f"{functions}\n{counter}\npurge {home} acme--x 2026-02-14"
        if not host.run(f"setsid sh -c {shlex.quote(script)}", check=False).returncode:
            break
        assert host.run(f"ls {home} 2>/dev/null || :").stdout.split() in ([], ["data", "owner", "retained"])
        again = "mkdir -p {0}; unretain {0}; ls {0}" if at % 2 else "purge {0} acme--x 2026-02-14; ls -d {0}* || :"
        found = host.run(f"{functions}\n{again.format(home)} 2>/dev/null").stdout.split()
        assert found == [], at
        assert host.run(f"ls -d {home}.* 2>/dev/null || :").stdout == ""
    assert at > 2
    host.run(f"rm -rf {home}*")


SHOP_HOME, SHOP = f"{HOMES}/acme--shop", "customers/acme/jails/shop.yaml"
SHARING = "truncate -s 256M /srv/fs; mkfs.btrfs -q /srv/fs; mount -o loop /srv/fs /var/lib/reconciler"


@pytest.mark.skipif("btrfs" not in Path("/proc/filesystems").read_text(), reason="a kernel without btrfs")
def test_where_storage_can_a_jails_data_is_copied_before_something_else_runs_on_it(
    spare: Callable[[str], World],
) -> None:
    world = spare("a")
    host = world["a"]
    host.run(f"for n in $(seq 0 31); do [ -e /dev/loop$n ] || mknod /dev/loop$n b 7 $n; done; {SHARING}")
    bare(world)
    world.jail("acme", "shop", blueprint="nginx", host="a")
    world.converge("a")
    host.run(f"cd {SHOP_HOME}; head -c 20000000 /dev/urandom >data/data/large; ln -s /etc/shadow data/data/link; sync")
    host.run(f"cd {SHOP_HOME}; for n in 1 2 3; do mkdir -p snapshots/$n; touch -d 2020-01-0$n snapshots/$n; done")
    used = "sync; df --output=used -k /var/lib/reconciler | tail -n 1"
    before = int(host.run(used).stdout)
    world.edit(SHOP, limits={"memory": "200Mi"})
    assert not [change.disrupts for change in world.converge("a")["a"].done if change.disrupts]
    world.edit(SHOP, restart=1)
    disrupted = [change.disrupts for change in world.converge("a")["a"].done if change.disrupts]
    assert disrupted == ["restart of jail acme--shop, snapshot first"]
    taken, *others = host.run(f"ls -t {SHOP_HOME}/snapshots").stdout.split()
    assert others == ["3", "2"]
    assert int(host.run(used).stdout) - before < 5000
    same = f"cd {SHOP_HOME}; cmp data/data/large snapshots/{taken}/data/data/large; readlink snapshots/*/data/data/link"
    assert host.run(f"{same}; stat -c %a:%u snapshots/{taken}").stdout == "/etc/shadow\n700:0\n"
    # as README.md says
    back = f"mv data data.now; cp -a --reflink=auto snapshots/{taken}/data data"
    unit = "reconciler-jail-acme--shop"
    host.run(
        f"cd {SHOP_HOME}; rm data/data/large; systemctl stop {unit}; {back}; systemctl start {unit}; rm -r data.now"
    )
    assert not world.words("a")
    host.run(same)
    # no copy can be had
    functions = "\n".join([PLATFORMS["linux"].PRELUDE, APPLY, "set -e; cp() { echo no room; return 1; }"])
    failed = host.run(f"{functions}\nsnapshot {unit} {SHOP_HOME} another 2>&1", check=False)
    assert failed.stdout == "no room\nno snapshot, and the jail runs as before\n"
    assert host.run(f"systemctl is-active {unit}; ls -t {SHOP_HOME}/snapshots").stdout.split() == [
        "active",
        taken,
        *others,
    ]
    # killed while it was copied: the jail stands still
    host.run(f"systemctl stop reconciler-jail-acme--shop; mkdir {SHOP_HOME}/snapshots/half.new")
    assert "snapshot" not in str([change.disrupts for change in world.converge("a")["a"].done])
    assert host.run(f"ls -t {SHOP_HOME}/snapshots").stdout.split() == ["half", taken, "3"]


RULES, SETTINGS = "/etc/reconciler/firewall.nft", "/etc/sysctl.d/99-reconciler.conf"
HOSTS_OWN = (
    # key, how somebody made it, how to look at it
    ("switch/1 jails0", "ip link add jails0 type bridge", "ip addr show jails0"),
    ("ruleset/1 nftables", "nft add table inet reconciler; nft add chain inet reconciler x", "nft list ruleset"),
    ("file/1 /etc/sysctl.d/99-reconciler.conf", f"echo '# x' >{SETTINGS}", f"cat {SETTINGS}"),
    ("ruleset/1 nftables", f"nft flush ruleset; mkdir -p /etc/reconciler; echo x >{RULES}", f"cat {RULES}"),
)


def test_something_of_the_host_under_our_name_is_a_conflict_and_nothing_is_done(
    spare: Callable[[str], World],
) -> None:
    world = spare("a")
    host, keys = world["a"], set()
    small(world)
    for key, make, look in HOSTS_OWN:
        host.run(make)
        keys.add(key)
        before = host.run(look).stdout
        report = world.reconcile("a")
        assert not report.done
        assert {c.key for c in report.conflicts} == keys
        assert {c.owner for c in report.conflicts} == {""}
        assert all("--adopt" in c.reason for c in report.conflicts)
        assert host.run(look).stdout == before
    assert "acme" not in host.run("ip netns; ls /etc/systemd/system").stdout
    report = world.reconcile("a", adopt=True)
    assert report.ready, report


DATA = "/var/lib/reconciler/jails/acme--shop/data/data"
UNIT, ROOM = "/etc/systemd/system/reconciler-jail-acme--shop.service", "/etc/reconciler/network/20-acme--shop"
JAILS_OWN = {
    "jail/1 acme--shop": (f"echo '# theirs' >{UNIT}", f"cat {UNIT}"),
    "data/1 acme--shop": (f"mkdir -p {DATA}; echo theirs >{DATA}/x", f"cat {DATA}/x"),
    "port/1 acme--shop": (f"mkdir -p /etc/reconciler/network; echo '# x' >{ROOM}", f"cat {ROOM}"),
}


def test_something_of_a_jail_under_our_name_is_its_conflict_and_the_others_go_on(
    spare: Callable[[str], World],
) -> None:
    world = spare("a")
    host, looks = world["a"], "; ".join(look for _, look in JAILS_OWN.values())
    for make, _ in JAILS_OWN.values():
        host.run(make)
    small(world)
    before = host.run(looks).stdout
    report = world.reconcile("a")
    assert {c.key for c in report.conflicts} == set(JAILS_OWN)
    assert {c.owner for c in report.conflicts} == {"acme--shop"}
    assert host.run(looks).stdout == before
    assert "acme--db" in host.run("machinectl list --no-legend").stdout
    assert "acme--shop" not in host.run("machinectl list --no-legend; ip netns").stdout
    assert {owned.owner for owned in world.observe("a").inventory} == {"", "acme--db"}
    report = world.reconcile("a", adopt=True)
    assert report.ready, report


def test_a_lost_inventory_is_a_conflict_that_adopting_mends_without_touching_anything(world: World) -> None:
    host = world["a"]
    files = "find /var/lib/reconciler/jails/*/data -type f -printf '%p %T@\\n'"
    running = f"systemctl show 'reconciler-jail-*' -p MainPID; {files}"
    before = host.run(running).stdout
    host.run("rm /var/lib/reconciler/inventory")
    report = world.reconcile("a")
    assert not report.done
    assert report.conflicts
    assert all("--adopt" in conflict.reason for conflict in report.conflicts)
    assert host.run(running).stdout == before
    report = world.reconcile("a", adopt=True)
    assert report.ready, report
    assert {o.key for o in world.observe("a").inventory} == {r.key for r in world.manifest("a").resources}
    assert host.run(running).stdout == before
    world.converge("a")


def test_a_file_that_somebody_put_beside_ours_survives(world: World) -> None:
    host = world["a"]
    theirs = "/etc/reconciler/network/README /etc/reconciler/n /var/lib/reconciler/n /var/lib/reconciler/jails/n"
    host.run(f"for file in {theirs}; do echo theirs >$file; done")
    world.remove("customers/kiln/jails/www.yaml", "customers/kiln/sites/www.yaml")
    world.converge("a")
    host.run(f"cat {theirs}; rm {theirs}")
