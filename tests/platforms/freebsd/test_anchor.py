"""Our rules in an anchor of the administrator's: whom they judge, and what happens to whose on a pretended host."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest

from bsd.host import why_not
from reconciler.model import HostSpec, Report
from reconciler.platforms.freebsd import firewall

from . import pf_town
from .pf import Ruleset, SyntaxFault, parse
from .test_firewall import QUESTIONS, RICH
from .village import Village

pretended = pytest.mark.skipif(why_not() is not None, reason=why_not() or "")

# ── whom they judge ──────────────────────────────────────────────────────────────────────────────────────────

ADMINISTRATORS = {
    "lets everything pass": ("pass all no state\n", ""),
    "blocks everything": ("block drop all\n", ""),
    "lets what comes to it pass": ("", "pass quick all no state\n"),
    "blocks what comes to it": ("", "block drop quick all\n"),
}
"""What stands before the anchor and behind it. All in it is quick, so it is the same as if it stood there itself."""


@cache
def within(host: HostSpec, before: str, after: str) -> Ruleset:
    first, _, rules = firewall.anchored(host).decode().rpartition("\n\n")
    return parse(f"set skip on lo0\n{first}\n{before}{rules}{after}")


@pytest.mark.parametrize(("before", "after"), ADMINISTRATORS.values(), ids=ADMINISTRATORS)
def test_whatever_the_administrator_says_jails_are_reached_and_reach_as_in_a_ruleset_of_our_own(
    before: str, after: str
) -> None:
    for _, host, _, question in QUESTIONS:
        if {question.sender, question.receiver} & {jail.id for jail in host.jails}:
            assert pf_town.stop(host, within(host, before, after), question) == question.stop, question.line


@pytest.mark.parametrize("after", ["pass quick all\n", "block drop quick all\n"])
def test_the_host_itself_is_the_administrators_where_no_policy_speaks_of_it(after: str) -> None:
    host = pf_town.spec(["switch sw0 routed", "jail acme--www port www0 on sw0 at 2001:db8:1::1"])
    for line in ("elsewhere -> host tcp 22: passes", "host -> elsewhere udp 53: passes"):
        stopped = pf_town.stop(host, within(host, "", after), pf_town.question(host, line))
        assert bool(stopped) == after.startswith("block"), line


def test_every_rule_is_quick_and_nothing_is_there_that_an_anchor_cannot_have() -> None:
    for host in {*(question[1] for question in QUESTIONS), RICH}:
        found = parse(firewall.anchored(host).decode())
        assert all(rule.quick for rule in found.rules)
        assert not found.skipped and not found.settings and not found.scrubs
    with pytest.raises(SyntaxFault):
        parse("anchor is not known here\n")


# ── whose is what ────────────────────────────────────────────────────────────────────────────────────────────

THEIRS = """\
set skip on lo0
table <friends> persist { 192.0.2.7 }
scrub in all fragment reassemble
nat-anchor "reconciler"
rdr-anchor "reconciler"
anchor "reconciler"
pass quick from <friends>
block in all
pass in proto tcp to port 22
pass out all
"""
LOOK = "pfctl -s nat; pfctl -s rules; pfctl -s Tables; pfctl -t friends -T show"
OURS = "pfctl -a reconciler -s rules"


def hosting(folder: Path, rules: str = THEIRS) -> Village:
    """A host whose administrator has a firewall, and a Host document that says so."""
    village = Village(folder)
    village.host.write("/etc/pf.conf", rules)
    village.type("kldload pf; pfctl -q -f /etc/pf.conf; pfctl -q -e")
    anchored(village)
    return village


def anchored(village: Village) -> None:
    village.edit("hosts/a.yaml", "  location: cam\n", "  location: cam\n  firewall: anchor\n")


def told(report: Report) -> str:
    return "; ".join(change.words for change in report.done)


def refused(report: Report) -> str:
    assert not report.ready
    return " ".join([report.refusal, report.unreachable, *(f.reason for f in (*report.failures, *report.conflicts))])


@pytest.fixture(scope="module")
def settled(tmp_path_factory: pytest.TempPathFactory) -> Village:
    village = hosting(tmp_path_factory.mktemp("anchored") / "village")
    village.converge()
    assert village.look().ready
    return village


@pytest.fixture
def village(settled: Village, tmp_path: Path) -> Village:
    return settled.copied(tmp_path / "village")


@pretended
def test_jails_run_behind_the_anchor_and_the_administrators_rules_are_as_they_were(settled: Village) -> None:
    assert settled.type("jls -q name") == "acme__db\nacme__www\n"
    assert "acme--www" in settled.type(OURS)
    assert "acme--www" not in settled.type(LOOK)
    assert settled.host.read("/etc/pf.conf") == THEIRS
    assert not settled.host.path("/etc/reconciler/pf.conf").exists()


LACKING = {
    "a line is missing": (
        'nat-anchor "reconciler"\nanchor "reconciler"\n',
        'add `rdr-anchor "reconciler"` to /etc/pf.conf',
    ),
    "nothing names us": (
        "pass all\n",
        'add `nat-anchor "reconciler"`, `rdr-anchor "reconciler"`, `anchor "reconciler"` to',
    ),
    "another anchor": (THEIRS.replace('\nanchor "', '\nanchor "x/'), 'add `anchor "reconciler"` to /etc/pf.conf'),
    "packets pass it by": (
        THEIRS.replace('anchor "reconciler"\npass quick', "pass quick") + 'anchor "reconciler"\n',
        "what this rule lets pass: `pass quick from <friends>`",
    ),
}


@pretended
@pytest.mark.parametrize(("rules", "words"), LACKING.values(), ids=LACKING)
def test_a_ruleset_that_does_not_come_to_our_anchor_is_told_and_nothing_is_changed(
    tmp_path: Path, rules: str, words: str
) -> None:
    village = hosting(tmp_path / "village", rules)
    assert words in refused(village.apply())
    assert not village.host.path("/etc/reconciler/pf.anchor").exists()
    assert village.type("ifconfig -g bridge; jls -q name") == ""


@pretended
def test_what_becomes_of_the_anchor_by_hand_is_found_and_mended_and_the_rest_stays(village: Village) -> None:
    before = village.type(LOOK)
    for hand, words in (
        ("echo 'pass all' | pfctl -a reconciler -f -", "kernel changed by hand"),
        ("pfctl -a reconciler -F rules", "kernel missing"),
    ):
        village.type(hand)
        assert words in told(village.converge())
    assert village.type(LOOK) == before


@pretended
def test_the_administrators_reload_and_restart_leave_our_rules_alone(village: Village) -> None:
    village.type("pfctl -f /etc/pf.conf")
    assert village.look().ready
    village.type("pfctl -d; pfctl -F all; pfctl -f /etc/pf.conf; pfctl -e")  # rc.d/pf, pf_stop and pf_start
    assert village.look().ready


@pretended
def test_rules_that_are_no_longer_in_force_do_not_pretend_to_be(village: Village) -> None:
    village.type("echo 'pass all' | pfctl -f -")
    assert "no jail is walled" in refused(village.apply())
    village.type("pfctl -f /etc/pf.conf; pfctl -d")
    assert "pf is not enabled" in refused(village.apply())
    village.type("pfctl -e")
    assert village.look().ready


@pretended
def test_at_boot_the_anchor_is_loaded_behind_the_administrators_rules_and_without_them_no_jail_starts(
    village: Village,
) -> None:
    up = "/bin/sh /etc/reconciler/up.sh"
    village.host.reboot()
    village.type("rm -f /var/lib/reconciler/*.stamp")
    assert b"not in force" in village.host.run(f"{up} network").stdout
    village.host.run(f"{up} jails")
    assert village.type("jls -q name") == ""
    village.type("pfctl -f /etc/pf.conf; pfctl -e")  # rc.d/pf, with pf_enable
    village.type(f"{up} network && {up} jails")
    assert village.look().ready


@pretended
def test_a_permission_that_is_taken_back_takes_its_states_with_it(village: Village) -> None:
    village.edit("customers/acme/jails/www.yaml", "    - port: 443\n", "")
    village.converge()
    with village.host.changing() as state:
        assert ["label", "acme--www"] in [[kind, label.split()[0]] for kind, label in state["pf"]["killed"]]


@pretended
def test_a_ruleset_of_our_own_gives_way_to_the_administrators_without_a_moment_between(
    standing: Village, tmp_path: Path
) -> None:
    village = standing.copied(tmp_path / "village")
    village.host.write("/etc/pf.conf", THEIRS)
    anchored(village)
    assert "our rules are loaded, and not in force" in refused(village.apply())
    assert "acme--www" in village.type("pfctl -s rules") and "acme--www" in village.type(OURS)
    assert "not in force" in " ".join(change.words for change in village.look().pending)
    village.type("pfctl -f /etc/pf.conf; pfctl -s Tables")  # the second lets those go that nobody names any more
    before = village.type(LOOK)
    village.converge()
    assert village.type(LOOK) == before and "acme--www" in village.type(OURS)
    assert village.type("pfctl -s info").startswith("Status: Enabled")
    assert not village.host.path("/etc/reconciler/pf.conf").exists()


@pretended
def test_a_host_in_between_comes_up_with_the_rules_it_had(standing: Village, tmp_path: Path) -> None:
    village = standing.copied(tmp_path / "village")
    anchored(village)
    village.apply()
    village.host.reboot()
    village.type("/bin/sh /etc/reconciler/up.sh network && /bin/sh /etc/reconciler/up.sh jails")
    assert "acme--www" in village.type("pfctl -s rules")
    assert village.type("jls -q name") == "acme__db\nacme__www\n"


@pretended
def test_the_administrators_ruleset_is_replaced_only_by_who_adopts_it(village: Village) -> None:
    village.edit("hosts/a.yaml", "  firewall: anchor\n", "")
    before = village.type(LOOK)
    assert "somebody else made it" in refused(village.apply())
    assert village.type(LOOK) == before
    assert village.apply(adopt=True).ready
    assert "acme--www" in village.type("pfctl -s rules")
    assert village.type("pfctl -s Anchors") == ""
    assert village.host.read("/etc/pf.conf") == THEIRS
    assert not village.host.path("/etc/reconciler/pf.anchor").exists()
