"""What somebody changes on the host by hand is found, told in words, and mended by one pass.

Each case is what an administrator could type. That the host is as before is judged without our own probe: a whole look
with the native tools says the same as it did. A script that exits with 3 found nothing of its kind on this host.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import pytest

from .company import (
    DB_JAIL,
    GATEWAY,
    HOME,
    SWITCH,
    WEB_JAIL,
    WEB_LINK,
    WEB_MOVED,
    WEB_NIC,
    Company,
    words,
)
from .host import Host
from .look import difference
from .traffic import page

VARIABLES = f"""
JAIL={WEB_JAIL} NIC={WEB_NIC} SWITCH={SWITCH} ADDRESS={WEB_MOVED} HOME={HOME}/lab--web ETC=/etc/reconciler
ROOT=$(jls -j $JAIL path)
RULESET=$(jls -j $JAIL devfs_ruleset)
INSIDE=$(jexec $JAIL ifconfig | awk -v a=$ADDRESS '/^[a-z]/ {{ sub(/:.*/, "", $1); nic = $1 }} $2 == a {{ print nic }}')
"""
RULED = "[ $RULESET -gt 5 ] || exit 3"
WEB, SWITCHED, FIREWALL = "lab--web", f"switch {SWITCH}|lab--web", "firewall|pf"


@dataclass(frozen=True)
class Case:
    """`words`: what the plan must have, as a regular expression."""

    what: str
    hand: str
    words: str = WEB
    racct: bool = False


NETWORK = [
    Case("the jail's interface is destroyed", "ifconfig $NIC destroy"),
    Case("the jail's interface is taken from the switch", "ifconfig $SWITCH deletem $NIC"),
    Case("the jail's interface is taken down outside", "ifconfig $NIC down"),
    Case("the jail's interface is taken down inside", "jexec $JAIL ifconfig $INSIDE down"),
    Case("the jail's address is removed", "jexec $JAIL ifconfig $INSIDE inet6 $ADDRESS -alias"),
    Case("the jail gets one more address", "jexec $JAIL ifconfig $INSIDE inet6 2001:db8:bad::1/64"),
    Case("the jail's default route is deleted", "jexec $JAIL route -n delete -inet6 default"),
    Case("the jail's loopback is down", "jexec $JAIL ifconfig lo0 down"),
    Case("the host's route to the jail is deleted", "route -n delete -inet6 $ADDRESS || exit 3"),
    Case("the switch is taken down", "ifconfig $SWITCH down", SWITCHED),
    Case("the switch is destroyed", "ifconfig $SWITCH destroy", SWITCHED),
    Case("the switch loses an address of the host", f"ifconfig $SWITCH inet6 {GATEWAY} -alias", SWITCHED),
    Case("the switch gets an address", "ifconfig $SWITCH inet6 2001:db8:bad::1/64", SWITCHED),
    Case("the switch loses the gateway", "ifconfig $SWITCH inet6 fe80::1%$SWITCH -alias || exit 3", SWITCHED),
    Case("packets are no longer forwarded", "sysctl net.inet6.ip6.forwarding=0", "forwarding"),
    Case("the cable is taken down", "jexec $JAIL ifconfig web_db down", "cable|lab--web"),
    Case("the cable's address is removed", f"jexec $JAIL ifconfig web_db inet {WEB_LINK} -alias", "cable|lab--web"),
    Case("the cable is destroyed", "jexec $JAIL ifconfig web_db destroy || exit 3", "cable|lab--"),
]
RULES = [
    Case("the rules are flushed", "pfctl -F rules", FIREWALL),
    Case("everything of pf is flushed", "pfctl -F all", FIREWALL),
    Case("the firewall is turned off", "pfctl -d", FIREWALL),
    Case("other rules are loaded", "echo 'pass all' | pfctl -f -", FIREWALL),
    Case("the rules' file is edited", "echo '# x' >>$ETC/pf.conf", FIREWALL),
    Case("the rules' file is removed", "rm $ETC/pf.conf", FIREWALL),
]
JAILS = [
    Case("the jail is removed", "jail -r $JAIL"),
    Case("all its processes are killed", "jexec $JAIL kill -9 -1; sleep 5"),
    Case("its limits are taken away", "rctl -r jail:$JAIL", racct=True),
    Case("a limit is raised", "rctl -r jail:$JAIL:maxproc; rctl -a jail:$JAIL:maxproc:deny=999", racct=True),
    Case("its application is unmounted", "umount -f $ROOT/app"),
    Case("its data is unmounted", "umount -f $ROOT/data"),
    Case("the host's programs are unmounted", "umount -f $ROOT/usr/bin || umount -f $ROOT/usr || exit 3"),
    Case("its devices are unmounted", "umount -f $ROOT/dev"),
    Case("another rule is in its devfs ruleset", f"{RULED}; devfs rule -s $RULESET add path pf unhide", "devfs"),
    Case("its devfs ruleset is emptied", f"{RULED}; devfs rule -s $RULESET delset", "devfs"),
]
FILES = [
    Case("the jail's file is edited", "echo '# x' >>$ETC/jails/$JAIL.conf"),
    Case("the jail's file is removed", "rm $ETC/jails/$JAIL.conf"),
    Case("a network file is edited", "set -- $ETC/network/*; [ -f $1 ] || exit 3; echo '# x' >>$1", "network|differs"),
    Case("the network's files are removed", "rm -r $ETC/network", "."),
    Case("the boot hook is edited", "echo '# x' >>/usr/local/etc/rc.d/reconciler", "rc.d/reconciler|boot"),
    Case("the boot hook is removed", "rm /usr/local/etc/rc.d/reconciler", "rc.d/reconciler|boot"),
    Case("the boot hook is no longer run", "chmod 444 /usr/local/etc/rc.d/reconciler", "rc.d/reconciler|boot"),
    Case("a file of ours can be written by all", "chmod 666 $ETC/pf.conf", FIREWALL),
    Case(
        "the application's files are edited",
        "set -- /var/lib/reconciler/trees/*/serve; [ -f $1 ] || exit 3; chflags noschg $1; echo '# x' >>$1",
        "page.tar|archive|lab--web",
    ),
    Case("its home can be read by all", "chmod 755 $HOME", "data of lab--web"),
    Case("its home has lost its mark", "rm $HOME/owner", "data of lab--web"),
]


def test_before_anybody_types_anything_there_is_nothing_to_do(town: Company, settled: dict[str, str]) -> None:
    assert WEB_MOVED in settled[f"inside {WEB_JAIL}"], settled
    town.nothing_to_do()


@pytest.mark.parametrize("case", [*NETWORK, *RULES, *JAILS, *FILES], ids=lambda case: case.what)
def test_a_change_by_hand_is_found_told_and_mended(
    host: Host, town: Company, settled: dict[str, str], racct: bool, case: Case
) -> None:
    if case.racct and not racct:
        pytest.skip("kern.racct.enable is 0 on this host: there are no limits")
    done = host.run(VARIABLES + case.hand, check=False)
    if done.code == 3:
        pytest.skip("there is nothing of this kind on this host")
    planned = town.plan(refused=None)
    told = words(planned)
    assert re.search(case.words, told), f"{case.what}, and the plan says: {told or 'nothing to do'}"
    town.carry_out(planned)
    answers(host)
    assert difference(settled, host.look()) == ""


def answers(host: Host) -> None:
    """By the switch and the firewall, and from jail to jail."""
    done = page(host, WEB_MOVED, 8080)
    assert done.code == 0 and "a page of our own" in done.out, str(done)
    done = page(host, f"{GATEWAY.partition('ffff')[0]}1::db", 5432, WEB_JAIL)
    assert done.code == 0 and "jail db" in done.out, str(done)


def test_the_other_jail_was_not_disturbed_by_what_was_done_to_one(host: Host, town: Company) -> None:
    """Its data at least: some of the cases above are the whole switch's."""
    assert host.run(f"jexec {DB_JAIL} cat /data/starts").out
    assert host.out(f"cat {HOME}/lab--web/data/data/kept") == "kept"
    town.nothing_to_do()
