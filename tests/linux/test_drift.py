"""What somebody changes on a host by hand is found, told in words, and mended by one pass.

Each case is a line an administrator could type, with the native tool, and the words that the plan must have for it.
What has to do with different things is done at once, as by somebody who tries whatever may help at night.
That the host is as before is judged without our own probe: `ip`, `nft` and `systemctl` say the same as they did.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import zip_longest

import pytest

from .world import World, page

LOOK = r"""
for room in '' $(ls /run/netns); do
    in=${room:+-n $room}
    echo "== $room"
    ip $in -br addr show scope global | sed 's/@[^ ]*//; s/UNKNOWN/UP/; s/ \+/ /g' | sort
    [ -z "$room" ] || ip $in -br link show | sed 's/@[^ ]*//; s/UNKNOWN/UP/; s/ \+/ /g' | sort
    ip $in -d -o link show | sed 's/^[0-9]*: //; s/@[^ ]*//' |
        awk '{ print $1; for (i = 2; i < NF; i++) if ($i ~ /^(master|isolated)$/) print $1, $i, $(i + 1) }' |
        sort
    ip $in -6 route show table main | grep -v 'proto kernel' | sort
    ip $in -4 route show table main | grep -v 'proto kernel' | sort
    ip $in -6 neigh show proxy | sort
done
nft -s list ruleset
find /etc/reconciler /etc/systemd/system /etc/sysctl.d /etc/modules-load.d /var/lib/reconciler -mindepth 1 \
    \( -path '*/data' -o -path '*/config' -o -name 'inventory*' -o -name incoming -o -name transactions \
    -o -name refused -o -name '*.seal' -o -name '*.stamp' -o -name '.#root.lck' \) -prune \
    -o -printf '%p %y %m %U:%G %l\n' | sort
find /etc/reconciler /etc/systemd/system -type f -exec sha256sum {} + | sort
sysctl net.ipv6.conf.all.forwarding net.ipv6.conf.eth0.proxy_ndp
for unit in $(cd /etc/systemd/system && ls -d reconciler-jail-*.service); do
    systemctl show "$unit" -p ActiveState -p MemoryMax -p TasksMax -p CPUQuotaPerSecUSec -p UnitFileState -p DropInPaths
done
machinectl list --no-legend | awk '{ print $1 }' | sort
"""


@dataclass(frozen=True)
class Case:
    """`jail`: whose variables the script has, and whose page answers afterwards."""

    what: str
    hand: str
    words: str
    jail: str = "acme--www"
    host: str = "a"


def www(what: str, hand: str, words: str) -> Case:
    return Case(what, hand, words)


def blog(what: str, hand: str, words: str) -> Case:
    return Case(what, hand, words, "uirig--blog", "b")


NETWORK = [
    www("an address is removed", "ip -n $JAIL addr del $ADDRESS dev eth0", "interface of acme--www: .*addresses"),
    www("an address is added", "ip -n $JAIL addr add 2001:db8:bad::1/64 dev eth0", "addresses .*2001:db8:bad::1/64"),
    www("an IPv4 address is added", "ip -n $JAIL addr add 192.0.2.1/24 dev eth0", "addresses .*192.0.2.1/24"),
    www("an interface is deleted", "ip link del $NIC", "network interface of acme--www"),
    www("an interface is taken down outside", "ip link set $NIC down", "up no"),
    www("an interface is taken down inside", "ip -n $JAIL link set eth0 down", "up no"),
    www("an interface leaves the switch", "ip link set $NIC nomaster", "switch none → jails0"),
    www("a port is isolated no longer", "bridge link set dev $NIC isolated off", "isolated no → yes"),
    www("a MAC address is changed", "ip -n $JAIL link set eth0 address 02:00:00:00:00:01", "mac 02:00:00:00:00:01"),
    www("a namespace is deleted", "ip netns del $JAIL", "network cut off"),
    www("a default route is replaced", "ip -n $JAIL -6 route replace default via fe80::2 dev eth0", "routes .*fe80::2"),
    www("a default route is deleted", "ip -n $JAIL -6 route del default", "routes missing → default fe80::1"),
    www("a route is added", "ip -n $JAIL -6 route add 2001:db8:bad::/48 dev eth0", "routes 2001:db8:bad::/48"),
    www("a blackhole is added", "ip -n $JAIL -6 route add blackhole 2001:db8:bad::/48", "routes .*2001:db8:bad::/48"),
    www("a host route is deleted", "ip -6 route del $ADDRESS dev jails0", "host routes missing"),
    www("a host route goes elsewhere", "ip -6 route replace $ADDRESS dev eth0", "host routes missing"),
    www("nobody answers for a jail", "ip -6 neigh del proxy ${ADDRESS%/*} dev eth0", "announced missing"),
    www("nobody answers for any jail", "sysctl -qw net.ipv6.conf.eth0.proxy_ndp=0", "answers for jails no → yes"),
    www("a switch is deleted", "ip link del jails0", "switch jails0: up missing"),
    www("a switch is taken down", "ip link set jails0 down", "switch jails0: up no → yes"),
    www("a gateway's address is removed", "ip addr del fe80::1/64 dev jails0", "switch jails0: addresses"),
    www("a gateway's IPv4 address is removed", "ip addr del 169.254.1.1/32 dev jails0", "switch jails0: addresses"),
    www("a switch gets an address", "ip addr add 2001:db8:bad::1/64 dev jails0", "switch jails0: addresses .*bad"),
    www("a switch snoops", "ip link set jails0 type bridge mcast_snooping 1", "switch jails0: snooping yes → no"),
    www("a cable is pulled out", "ip -n acme--shop link del db0", "cable from acme--shop to acme--db"),
    www("a cable is switched off", "ip -n acme--db link set shop0 down", "cable from acme--shop to acme--db: .*down"),
    www("a cable's address is changed", "ip -n acme--db addr add 10.77.0.9/30 dev shop0", "cable .*10.77.0.9"),
    www("a jail's loopback is down", "ip -n $JAIL link set lo down", "network interface of acme--www: up no"),
    blog("an uplink leaves the switch", "ip link set eth1 nomaster", "switch lan0: uplink none → eth1"),
    blog("an uplink is taken down", "ip link set eth1 down", "switch lan0: uplink"),
    blog("a bridged switch is deleted", "ip link del lan0", "switch lan0: up missing"),
    blog("a bridged jail loses its address", "ip -n $JAIL addr flush dev eth0 scope global", "addresses missing"),
]

RULES = [
    www("all rules are flushed", "nft flush ruleset", "firewall rules"),
    www("a table is deleted", "nft delete table inet reconciler", "firewall rules"),
    www("the bridge table is deleted", "nft delete table bridge reconciler", "firewall rules"),
    www("a table is emptied", "nft flush table inet reconciler", "firewall rules: kernel"),
    www("a rule is added", "nft insert rule inet reconciler forward accept", "firewall rules: kernel changed by hand"),
    www("a chain is flushed", "nft flush chain inet reconciler input", "firewall rules: kernel changed by hand"),
    www(
        "a rule is deleted",
        "nft delete rule inet reconciler jails handle "
        "$(nft -a list chain inet reconciler jails | sed -n 's/.*drop # handle //p' | tail -1)",
        "firewall rules: kernel changed by hand",
    ),
    www("a set is added", "nft 'add set inet reconciler x { type ipv6_addr; elements = { ::1 } }'", "firewall rules"),
    www("the rules do not load at boot", "systemctl disable --quiet reconciler-firewall", "wants/reconciler-firewall"),
    www("the rules' unit is edited", "echo '# x' >>/etc/systemd/system/reconciler-firewall.service", "firewall rules"),
    www("the rules' file is edited", "echo '# x' >>/etc/reconciler/firewall.nft", "firewall.nft differs"),
]

UNITS = [
    www("a jail is stopped", "systemctl stop $UNIT", "jail acme--www: runs"),
    www("a jail is disabled", "systemctl disable --quiet $UNIT", "multi-user.target.wants/.* is missing"),
    www("a jail is terminated", "machinectl terminate $JAIL; while machinectl show $JAIL; do sleep 0.1; done", ""),
    www("a jail is killed", "machinectl kill -s KILL $JAIL; sleep 0.3", ""),
    www("a jail may use more memory", "systemctl set-property $UNIT MemoryMax=1G", "memory 1024Mi → 256Mi"),
    www("a jail may use more for now", "systemctl set-property --runtime $UNIT TasksMax=9", "processes 9 → 128"),
    www("a jail may use all processors", "systemctl set-property $UNIT CPUQuota=", "cpu infinity → 100%"),
    www(
        "a unit gets a drop-in",
        "cd /etc/systemd/system; mkdir $UNIT.d; printf '[Service]\\nTasksMax=9\\n' >$UNIT.d/override.conf;"
        "systemctl daemon-reload",
        "jail acme--www: .*override.conf",
    ),
    www("a unit is edited", "sed -i s/MemoryMax=.*/MemoryMax=1G/ /etc/systemd/system/$UNIT", "acme--www: .* differs"),
    www(
        "a unit is edited and runs so",
        "sed -i 's/RECONCILER_RUNS=/&x/' /etc/systemd/system/$UNIT; systemctl daemon-reload; systemctl restart $UNIT",
        "jail acme--www: .*runs x",
    ),
    www("a unit is removed", "rm /etc/systemd/system/$UNIT", "jail acme--www"),
    www("a unit is forgotten", "rm /etc/systemd/system/$UNIT; systemctl daemon-reload", "jail acme--www"),
    www("a unit is gone altogether", "systemctl disable -q --now $UNIT; rm /etc/systemd/system/$UNIT", "acme--www"),
    www("the network does not come at boot", "systemctl disable -q reconciler-network", "wants/reconciler-network"),
]

FUNCTIONS = "/etc/reconciler/network/functions.sh"
FILES = [
    www("a file is edited", f"echo >>{FUNCTIONS}", f"file {FUNCTIONS}: .* differs"),
    www("a file is removed", f"rm {FUNCTIONS}", f"file {FUNCTIONS}"),
    www("a file gets another mode", f"chmod 666 {FUNCTIONS}", f"{FUNCTIONS} is 0666 0:0, not 0644 0:0"),
    www("a file gets another owner", f"chown 1000:4 {FUNCTIONS}", f"{FUNCTIONS} is 0644 1000:4, not 0644 0:0"),
    www("a file becomes a directory", f"rm {FUNCTIONS}; mkdir {FUNCTIONS}", f"file {FUNCTIONS}"),
    www("a file becomes a link", f"mv {FUNCTIONS} /run/f; ln -s /run/f {FUNCTIONS}", f"file {FUNCTIONS}"),
    www("a file becomes a link to a directory", f"ln -sfn /root {FUNCTIONS}", f"file {FUNCTIONS}"),
    www("a file becomes a link to nothing", f"ln -sfn /nothing {FUNCTIONS}", f"file {FUNCTIONS}"),
    www("a file becomes a pipe", f"rm {FUNCTIONS}; mkfifo {FUNCTIONS}", f"file {FUNCTIONS}"),
    www("a whole folder is removed", "rm -r /etc/reconciler/network", f"file {FUNCTIONS}"),
    www("a link points elsewhere", "ln -sfn /root $WANTS", "jail acme--www: .*wants"),
    www("a link becomes a file", "rm $WANTS; echo x >$WANTS", "jail acme--www: .*wants"),
    www("a link becomes a directory", "rm $WANTS; mkdir $WANTS", "jail acme--www: .*wants"),
    www("a root's file is edited", "echo 2001:db8::1 bad >>$HOME/root/etc/hosts", "root of acme--www: .*hosts differs"),
    www("a root is removed", "rm -r $HOME/root", "root of acme--www"),
    www("a start script is edited", "echo exit >>$HOME/root/etc/start", "root of acme--www: .*etc/start differs"),
    www("a home can be read by all", "chmod 755 $HOME", "data of acme--www: .* is directory 0755"),
    www("a home has lost its mark", "rm $HOME/owner", "data of acme--www: .*owner is missing"),
    www("the sysctl file is edited", "echo >/etc/sysctl.d/99-reconciler.conf", "file /etc/sysctl.d/99-reconciler.conf"),
    www("a sysctl is changed", "sysctl -qw net.ipv6.conf.all.forwarding=0", "all.forwarding: value 0 → 1"),
    www("a release's file is edited", "echo x >>$RELEASE/index.html", "files of archive .*acme-www"),
    www("a release's file is removed", "rm $RELEASE/about/index.html", "files of archive .*acme-www"),
    www("a file is added to a release", "echo x >$RELEASE/added", "files of archive .*acme-www"),
    www("a release's file is given away", "chown 1000 $RELEASE/index.html", "files of archive .*acme-www"),
    www("a release's seal is lost", "rm $RELEASE.seal", "files of archive .*acme-www"),
    www("a release is removed", "rm -r $RELEASE", "create files of archive .*acme-www"),
    www("an application is removed", "rm -r $APPLICATION", "create files of archive .*nginx"),
    www("a data directory is removed", "rm -r $HOME/data/data", "data of acme--www"),
    www("the configuration is removed", "rm -r $HOME/config", "data of acme--www"),
]
SECRETS = [
    Case("a secret is edited", "echo x >$HOME/secrets/db-password", "secret db-password of acme--db", "acme--db"),
    Case("a secret is removed", "rm $HOME/secrets/db-password", "secret db-password of acme--db", "acme--db"),
    Case("a secret can be read by all", "chmod 444 $HOME/secrets/db-password", "secret .* is 0444", "acme--db"),
    Case("a secret's folder is removed", "rm -r $HOME/secrets", "secret db-password of acme--db", "acme--db"),
]
TOGETHER = [tuple(filter(None, cases)) for cases in zip_longest(NETWORK, RULES, FILES, SECRETS)]
ROUNDS = [*TOGETHER, *((case,) for case in UNITS)]


def variables(world: World, case: Case) -> str:
    """What the script of a case calls the jail's things."""
    spec = world.spec(case.host)
    jail = next(jail for jail in spec.jails if jail.id == case.jail)
    unit = f"reconciler-jail-{jail.id}.service"
    values = {
        "JAIL": jail.id,
        "NIC": jail.nic.host_side,
        "ADDRESS": jail.nic.addresses[0],
        "UNIT": unit,
        "WANTS": f"/etc/systemd/system/multi-user.target.wants/{unit}",
        "HOME": f"{spec.storage}/jails/{jail.id}",
        "APPLICATION": f"{spec.storage}/trees/{jail.application.digest}",
        "RELEASE": f"{spec.storage}/trees/{jail.release.digest}" if jail.release else "",
    }
    return "".join(f"{name}={value}\n" for name, value in values.items())


def answers(world: World) -> None:
    """Every page of the sample that everybody may see; the shop's comes over the cable from its database."""
    assert "ACME" in page(world.address("a", "acme--www"))
    assert "running" in page(world.address("a", "kiln--www"))
    assert "visits" in page(world.address("a", "acme--shop"), 8080)
    assert "blog is running" in page(world.address("b", "uirig--blog"), 80)


@pytest.fixture(scope="module")
def pristine(everything: World) -> dict[str, str]:
    """What the hosts look like before anybody did anything."""
    return {name: host.run(LOOK).stdout for name, host in everything.hosts.items()}


@pytest.mark.parametrize("cases", ROUNDS, ids=lambda cases: ", ".join(case.what for case in cases))
def test_what_is_changed_by_hand_is_found_and_mended(
    world: World, pristine: dict[str, str], cases: tuple[Case, ...]
) -> None:
    for case in cases:
        world[case.host].run(variables(world, case) + case.hand)
    hosts = {case.host for case in cases}
    reports = {host: world.reconcile(host) for host in hosts}
    assert all(report.ready for report in reports.values()), reports
    for case in cases:
        done = "\n".join(change.words for change in reports[case.host].done)
        assert re.search(case.words, done), (case.what, done)
    answers(world)
    assert {host: world[host].run(LOOK).stdout for host in hosts} == {host: pristine[host] for host in hosts}
