"""Our pf.conf, asked packet by packet: `tests/cases/pf/`, a file a host, with the lines that say who reaches whom.

The one who answers is pf as `pf.py` has it, itself held to what a real pfctl printed: `tests/cases/pf-recorded/`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fake.specs import RICH, jail, nic, rule, spec
from reconciler.model import (
    HostSpec,
    Jail,
    Outside,
    Part,
    Rate,
    Redirect,
    Rule,
    Ssh,
    Switch,
    Translation,
    Wall,
)
from reconciler.platforms.freebsd.firewall import ruleset
from reconciler.platforms.freebsd.permissions import limited

from . import pf, pf_town
from .pf import Firewall, Packet, Ruleset, SyntaxFault, parse, statements

CASES = Path(__file__).parents[2] / "cases"
HOSTS = sorted((CASES / "pf").iterdir())


def labels(ruleset: bytes) -> frozenset[str]:
    """Each is one permission; what is in the old ruleset and not in the new has states to be killed."""
    return frozenset(re.findall(r'^[^#\n]* label "([^"\n]*)"$', ruleset.decode(), re.MULTILINE))


def tables(ruleset: bytes) -> tuple[str, ...]:
    return tuple(re.findall(r"^table <(\w+)> const ", ruleset.decode(), re.MULTILINE))


def parsed(host: HostSpec) -> Ruleset:
    return parse(ruleset(host).decode())


def asked() -> list[tuple[str, HostSpec, Ruleset, pf_town.Question]]:
    found = []
    for path in HOSTS:
        given, _, then = path.read_text().partition("\n\n")
        host = pf_town.spec(given.splitlines())
        rules = parsed(host)
        lines = [line for line in then.splitlines() if line and not line.startswith("#")]
        found += [(path.stem, host, rules, pf_town.question(host, line)) for line in lines]
    return found


QUESTIONS = asked()


@pytest.mark.parametrize(
    ("host", "rules", "question"), [q[1:] for q in QUESTIONS], ids=[f"{q[0]}: {q[3].line}" for q in QUESTIONS]
)
def test_who_reaches_whom(host: HostSpec, rules: Ruleset, question: pf_town.Question) -> None:
    assert pf_town.stop(host, rules, question) == question.stop


# ── the evaluator, held to what pfctl printed ────────────────────────────────────────────────────────────────

RECORDED = CASES / "pf-recorded"
ADDRESSES = {"xnic": "192.0.2.155/24", "inic": "192.168.56.110/24"}


def recorded(name: str) -> Ruleset:
    return parse((RECORDED / name).read_text(), ADDRESSES)


@pytest.mark.parametrize("name", ["article", "host"])
def test_a_written_ruleset_means_what_pfctl_printed_of_it(name: str) -> None:
    written, printed = recorded(f"{name}.conf"), recorded(f"{name}.printed")
    assert sorted(written.rules, key=repr) == sorted(printed.rules, key=repr)
    assert written.tables.keys() == printed.tables.keys()
    assert (written.scrubs, written.skipped) == (printed.scrubs, printed.skipped)
    assert written.translations == printed.translations


PEERS = {"blocklist": ["203.0.113.0/24"], "xpeers": ["198.51.100.7"], "payments": ["198.51.100.80/28"]}
ARTICLE = {
    "a visitor reaches nginx": ("in xnic tcp 198.51.100.1 10.0.2.20 443", True),
    "and on its way out": ("out xbridge tcp 198.51.100.1 10.0.2.20 443", True),
    "but not the application": ("out xbridge tcp 198.51.100.1 10.0.2.30 443", False),
    "nor ssh": ("in xnic tcp 198.51.100.1 10.0.2.20 22", False),
    "which is for peers": ("in xnic tcp 198.51.100.7 10.0.2.20 22", True),
    "blocked people reach nothing": ("in xnic tcp 203.0.113.9 10.0.2.20 443", False),
    "nobody comes with the server's own address": ("in xnic tcp 192.0.2.155 10.0.2.20 443", False),
    "nor with one of its network from elsewhere": ("in inic tcp 192.0.2.7 10.0.2.20 443", False),
    "the application pays": ("in xbridge tcp 10.0.2.30 198.51.100.81 443", True),
    "nobody else": ("in xbridge tcp 198.51.100.81 10.0.2.40 443", False),
    "it resolves names": ("in xbridge udp 10.0.2.30 1.1.1.1 53", True),
    "where it was told": ("in xbridge udp 10.0.2.30 9.9.9.9 53", False),
}


def test_the_articles_visitors_come_to_nginx_by_the_servers_address_and_at_most_100_in_10_seconds() -> None:
    firewall = Firewall(recorded("article.printed"), {"xnic": ["192.0.2.155"]}, PEERS)
    for number in range(101):
        packet = Packet("tcp", "198.51.100.1", "192.0.2.155", 443, 50000 + number)
        inside = firewall.passed("in", "xnic", packet)
        assert inside
        assert (inside.destination, inside.port) == ("10.0.2.20", 443)
        assert firewall.passed("out", "xnic", inside.answer) == packet.answer
        assert firewall.passes("in", "xnic", replace(packet, flags="A")) == (number < 100)
    assert not firewall.passes("in", "xnic", replace(packet, source_port=9))
    assert not firewall.states


@pytest.mark.parametrize(("line", "passes"), ARTICLE.values(), ids=ARTICLE)
def test_the_articles_ruleset_does_what_the_article_says(line: str, passes: bool) -> None:
    direction, interface, protocol, source, destination, port = line.split()
    firewall = Firewall(recorded("article.printed"), tables=PEERS)
    assert firewall.passes(direction, interface, Packet(protocol, source, destination, int(port), 50000)) == passes


@pytest.mark.parametrize(
    "text",
    [
        "pass in on vtnet0 proto tcp to any port 22\nblok all\n",
        "pass in on $nosuch proto tcp to any port 22\n",
        "pass in all\nnat on vtnet0 from 10.0.0.0/8 to any -> (vtnet0)\n",
        "pass in proto tcp to any port nosuchservice\n",
        "pass all",
        # by the grammar of 13.2 (parse.y); what 14 and 15 have more is refused as well
        "nat on a inet from 10.0.0.0/8 to any\n",
        "nat out on a inet from 10.0.0.0/8 to any -> (a)\n",
        "nat quick on a inet from 10.0.0.0/8 to any -> (a)\n",
        "nat on a inet from 10.0.0.0/8 to any -> (a) tag x\n",
        "nat on a inet from 10.0.0.0/8 to any -> (a:1)\n",
        "nat on a inet from 10.0.0.0/8 to any -> (a0123456789012345)\n",
        "nat on a inet6 from any to any -> 192.0.2.1\n",
        "rdr on a inet from any to any port 80 -> 10.0.0.1\n",
        "rdr on a inet from any to any -> 10.0.0.1 port 80\n",
        "rdr on a inet proto tcp from any to any port 80 -> 10.0.0.1 keep state\n",
        "match out on a inet from 10.0.0.0/8 to any nat-to (a)\n",
        "pass in on a inet proto tcp from any to any port 80 rdr-to 10.0.0.1\n",
        "pass in all tagged\n",
        "pass in from any to urpf-failed\n",
        "pass in all keep state (if-bound, if-bound)\n",
        "pass in all keep state ()\n",
        "pass in all keep state (overload <t>)\n",
        "pass in all keep state (max-src-conn-rate 0/10)\n",
        "pass in all keep state (max-src-conn-rate 9/10, overload <t> global)\n",
    ],
)
def test_what_pfctl_refused_is_refused(text: str) -> None:
    with pytest.raises(SyntaxFault):
        parse(text)


def test_the_last_match_decides_unless_one_is_quick_and_without_any_everything_passes() -> None:
    packet = Packet("udp", "2001:db8::1", "2001:db8::2", 53, 5000)
    assert Firewall(parse("block out all\n")).passes("in", "x", packet)
    assert Firewall(parse("block all\npass in all\n")).passes("in", "x", packet)
    assert not Firewall(parse("block quick all\npass in all\n")).passes("in", "x", packet)


def test_a_state_lets_the_same_way_and_its_answers_pass_and_a_bound_one_only_where_it_was_made() -> None:
    packet = Packet("udp", "2001:db8::1", "2001:db8::2", 53, 5000)
    floating, bound = (Firewall(parse(f"block all\npass in on a keep state{how}\n")) for how in ("", " (if-bound)"))
    for firewall in (floating, bound):
        assert firewall.passes("in", "a", packet)
        assert firewall.passes("out", "a", packet.answer)
        # a forwarded packet needs a rule on its way out as well
        assert not firewall.passes("out", "a", packet)
    assert floating.passes("in", "b", packet)
    assert not bound.passes("in", "b", packet)


ROUTER = """\
nat on "em0" inet from { 10.0.2.0/24, 10.0.3.0/24 } to any tag translated -> ("em0:0")
rdr on "em0" inet proto tcp from any to ("em0") port 2220 tag translated -> 10.0.2.20 port 22
block all
pass quick inet all tagged translated keep state (if-bound)
"""
ROUTERS = {"em0": ("2001:db8::1", "192.0.2.1", "192.0.2.2"), "em1": ("10.0.2.1",)}


def test_what_leaves_has_the_interfaces_first_address_and_answers_find_back() -> None:
    firewall = Firewall(parse(ROUTER), ROUTERS)
    packet = Packet("tcp", "10.0.3.7", "198.51.100.1", 443, 50000)
    outside = firewall.passed("out", "em0", packet)
    assert outside
    assert (outside.source, outside.destination, outside.port) == ("192.0.2.1", "198.51.100.1", 443)
    assert outside.source_port > 50000
    assert firewall.passed("in", "em0", outside.answer) == packet.answer
    assert not firewall.passes("in", "em1", outside.answer)
    assert not firewall.passes("out", "em0", replace(packet, source="10.0.4.7"))


def test_two_that_leave_by_one_address_are_told_apart() -> None:
    firewall = Firewall(parse(ROUTER), ROUTERS)
    packets = [Packet("udp", f"10.0.2.{number}", "198.51.100.1", 53, 5000) for number in (2, 3)]
    outside = [firewall.passed("out", "em0", packet) for packet in packets]
    assert [firewall.passed("in", "em0", packet.answer) for packet in outside if packet] == [p.answer for p in packets]


def test_without_an_address_a_packet_has_its_tag_and_leaves_as_it_is() -> None:
    packet = Packet("tcp", "10.0.3.7", "198.51.100.1", 443, 50000)
    outside = Firewall(parse(ROUTER), {"em0": ["2001:db8::1"]}).passed("out", "em0", packet)
    assert outside == replace(packet, tag="translated")


@pytest.mark.parametrize("address", ["192.0.2.1", "192.0.2.2"])
def test_a_redirected_packet_is_judged_as_what_it_becomes_and_answered_by_whom_was_asked(address: str) -> None:
    firewall = Firewall(parse(ROUTER), ROUTERS)
    packet = Packet("tcp", "198.51.100.1", address, 2220, 50000)
    inside = firewall.passed("in", "em0", packet)
    assert inside
    assert (inside.destination, inside.port) == ("10.0.2.20", 22)
    assert firewall.passed("out", "em0", inside.answer) == packet.answer
    assert not firewall.passes("in", "em1", packet)


RATED = """\
table <bad>
block all
block in quick from <bad>
pass in proto tcp from any to any port 80 keep state (max-src-conn-rate 3/10, overload <bad> {flush})
pass in proto tcp from any to any port 81
"""


def connect(firewall: Firewall, port: int, source_port: int) -> bool:
    """Whether all three packets passed."""
    packet = Packet("tcp", "198.51.100.1", "192.0.2.1", port, source_port)
    if not firewall.passes("in", "em0", packet) or not firewall.passes("out", "em0", packet.answer):
        return False
    return firewall.passes("in", "em0", replace(packet, flags="A"))


@pytest.mark.parametrize(("flush", "left"), [("", [80, 80, 80, 81]), ("flush", [81]), ("flush global", [])])
def test_who_connects_too_often_comes_into_the_table_and_loses_connections(flush: str, left: list[int]) -> None:
    firewall = Firewall(parse(RATED.format(flush=flush)))
    assert connect(firewall, 81, 999)
    assert [connect(firewall, 80, number) for number in range(5)] == [True, True, True, False, False]
    assert sorted(state.before.port for state in firewall.states) == left
    assert not connect(firewall, 81, 1000)
    firewall.now = 200
    firewall.expire("bad", 200)
    assert not connect(firewall, 80, 1001)
    firewall.expire("bad", 199)
    assert connect(firewall, 80, 1002)


def test_a_count_fades_with_time_and_ends_with_its_seconds() -> None:
    firewall = Firewall(parse(RATED.format(flush="")))
    assert all(connect(firewall, 80, number) for number in range(3))
    firewall.now = 5
    assert connect(firewall, 80, 3)
    assert not connect(firewall, 80, 4)
    patient = Firewall(parse(RATED.format(flush="")))
    for number in range(40):
        patient.now = number * 10
        assert connect(patient, 80, number)


# ── what others ask of the text ──────────────────────────────────────────────────────────────────────────────

ALONE = (Switch("sw0", True), jail("acme--www"))
FOUR = nic("acme--www", 3)


def firewall_text(*rules: Rule) -> bytes:
    return ruleset(spec(*ALONE[1:], *rules, switches=ALONE[:1]))


def test_it_ends_with_a_newline_and_does_not_depend_on_the_order_of_parts() -> None:
    text = ruleset(RICH)
    assert text.endswith(b"\n")
    assert ruleset(replace(RICH, parts=tuple(reversed(RICH.parts)))) == text


def test_no_option_but_three_and_nothing_that_is_worked_out_when_it_is_loaded() -> None:
    found = parsed(RICH)
    assert found.skipped == {"lo0"}
    assert found.settings == {"block-policy": "drop", "src-nodes": "100000"}
    names = {w for s in statements(ruleset(RICH).decode()) for i, w in enumerate(s) if i and s[i - 1] == "("}
    # the uplink's addresses in parentheses are looked up for each packet (pf.conf(5), PARAMETERS)
    assert names - {"eth0", "eth0:0"} == {"self", "if-bound", "sloppy"}


def test_the_first_rule_blocks_everything_and_logs_nothing() -> None:
    first = parsed(RICH).rules[0]
    assert (first.action, first.direction, first.interface, first.quick) == ("block", "", "", False)
    assert b" log" not in ruleset(RICH)


def test_each_permission_has_a_label_of_its_own_with_the_jails_id() -> None:
    found = [
        r.label for r in parse(firewall_text(rule("acme--www", "in", 80), rule("acme--www", "in", 81)).decode()).rules
    ]
    given_ = [label for label in found if label]
    assert len(given_) == len(set(given_)) == 2
    assert all(re.fullmatch(r"acme--www [0-9a-f]{12}", label) for label in given_)


def test_every_state_of_a_jail_is_made_by_a_rule_with_a_label_and_bound_to_its_gate() -> None:
    for path in HOSTS:
        host = pf_town.spec(path.read_text().partition("\n\n")[0].splitlines())
        gates = {j.nic.switch for j in host.jails} | {j.nic.host_side for j in host.jails}
        for found in parsed(host).rules:
            if found.state and found.interface in gates:
                assert found.bound
                assert found.label or found.sender.special == "(self)"


def test_another_rate_breaks_no_connection_and_one_of_a_port_keeps_whom_it_has_cut_off() -> None:
    one, other, none = (
        replace(rule("acme--www", "in", 80), rate=rate) for rate in (Rate(9, 10, 60), Rate(8, 10, 90), None)
    )
    assert labels(firewall_text(one)) == labels(firewall_text(other)) == labels(firewall_text(none))
    assert limited(spec(one)).keys() == limited(spec(other)).keys()
    assert not limited(spec(none))


def test_whom_no_rate_counts_is_let_in_only_where_everybody_is_who_may_come() -> None:
    uncounted = Outside("em0", uncounted=("198.51.100.0/24", "203.0.113.0/24"))
    some = replace(rule("acme--www", "in", 80, ["198.51.100.7/32", "2001:db8:10::/48"]), rate=Rate(9, 10, 60))
    text = ruleset(spec(jail("acme--www", nic=replace(FOUR, addresses=("192.0.2.1/32",))), some, uncounted)).decode()
    let_in = [found for found in parse(text).rules if found.label]
    assert [(str(found.sender.network), bool(found.rate)) for found in let_in] == [
        ("198.51.100.7/32", False),
        ("198.51.100.7/32", True),
    ]


def test_a_permission_that_is_taken_back_is_the_label_that_is_gone() -> None:
    office, home = "2001:db8:10::/48", "2001:db8:20::/48"
    before = firewall_text(rule("acme--www", "in", 80, [office, home]), rule("acme--www", "in", 81))
    after = firewall_text(rule("acme--www", "in", 80, [office]), rule("acme--www", "in", 81))
    assert labels(after) < labels(before)
    assert len(labels(before) - labels(after)) == 1


def test_what_people_call_a_rule_is_no_part_of_it() -> None:
    one = rule("acme--www", "in", 80)
    assert firewall_text(one) == firewall_text(replace(one, label="another word"))


def test_killing_the_label_ends_the_connection_and_the_new_rules_do_not_let_it_go_on() -> None:
    before, after = firewall_text(rule("acme--www", "in", 80)), firewall_text()
    firewall = Firewall(parse(before.decode()))
    packet = Packet("tcp", "2001:db8:ffff::1", "2001:db8:0:1::3", 80, 50000)
    assert firewall.passes("out", "sw0", packet)
    assert firewall.passes("in", "sw0", packet.answer)
    firewall.ruleset = parse(after.decode())
    assert firewall.passes("out", "sw0", replace(packet, flags="A"))
    for label in labels(before) - labels(after):
        firewall.kill(label)
    assert not firewall.passes("out", "sw0", replace(packet, flags="A"))
    assert not firewall.passes("in", "sw0", packet.answer)


def test_many_peers_are_a_table_named_after_what_is_in_it() -> None:
    many = [f"2001:db8:{number:x}::/48" for number in range(16, 26, 2)]
    before, same = (
        firewall_text(rule("acme--www", "in", 80, many)),
        firewall_text(rule("acme--www", "in", 80, many[::-1])),
    )
    assert before == same
    (name,) = [n for n in tables(before) if parse(before.decode()).tables[n] == many]
    assert re.fullmatch(r"t_[0-9a-f]{16}", name)
    assert name not in tables(firewall_text(rule("acme--www", "in", 80, many[1:])))
    assert tables(before) == tuple(parse(before.decode()).tables)


def test_few_peers_stay_in_their_rule() -> None:
    assert tables(firewall_text(rule("acme--www", "in", 80))) == tables(
        firewall_text(rule("acme--www", "in", 80, ["2001:db8:10::/48", "192.0.2.0/24"]))
    )


def test_the_port_of_ssh_is_the_hosts() -> None:
    host = replace(RICH, ssh=Ssh("2001:db8::a", 2222, ""))
    assert Firewall(parsed(host)).passes("in", "igb0", Packet("tcp", "2001:db8::1", "2001:db8::a", 2222, 9, flags="A"))


def test_the_host_reaches_itself_also_in_the_moment_when_options_are_forgotten() -> None:
    found = parsed(RICH)
    found.skipped.clear()
    assert Firewall(found).passes("in", "lo0", Packet("tcp", "::1", "::1", 5432, 50000))


@pytest.mark.parametrize("walled", ["in", "out"])
def test_only_connections_from_before_the_rules_are_tracked_carelessly(walled: str) -> None:
    open_ = "out" if walled == "in" else "in"
    firewall = Firewall(parsed(spec(Wall(walled))))  # type: ignore[arg-type]
    packet = Packet("tcp", "2001:db8::1", "2001:db8::2", 443, 50000)
    assert firewall.passes(open_, "igb0", packet)
    assert firewall.passes(open_, "igb0", replace(packet, source_port=50001, flags="A"))
    assert [state.rule.sloppy for state in firewall.states] == [False, True]


# ── hostile words ────────────────────────────────────────────────────────────────────────────────────────────

NASTY = [
    '"',
    "'",
    "\n",
    "\\",
    "\\\n",
    "$if",
    "$(id)",
    "`id`",
    "}",
    "{",
    ";",
    "#",
    "<t>",
    "(self)",
    "%",
    " ",
    "\x00",
    "é",
]
hostile = st.lists(st.sampled_from([*NASTY, "pass all", "a"]), max_size=12).map("".join)


PRIVATE = "10.0.2.20/32"


def door(id: str, interface: str) -> Iterator[Part]:
    """All that an uplink can have."""
    yield Outside(interface, ("203.0.113.0/24", "2001:db8:bad::/48"), ("198.51.100.0/24",), strict=True)
    yield Translation(interface, ("10.0.2.0/24", "10.0.8.0/24"))
    yield Redirect(interface, "tcp", 8443, id, "10.0.2.20", 443)


def town(id: str, interface: str, switch: str, words: str) -> HostSpec:
    wiring = nic("acme--www", 3, host_side=interface, switch=switch)
    rules = [Rule(id, way, ("2001:db8:9::/48",), "tcp", (80,), words) for way in ("in", "out")]  # type: ignore[arg-type]
    whole = jail("acme--www", 0, nic=replace(wiring, addresses=(*wiring.addresses, PRIVATE), private=PRIVATE))
    named = replace(whole, id=id, customer=words, name=words)
    rules.append(Rule(id, "in", (), "tcp", (443,), words, Rate(100, 10, 180)))
    host = spec(
        named,
        *rules,
        *door(id, f"x{interface}"),
        Rule("", "in", (), "udp", (53,), words),
        Wall("in"),
        switches=(Switch(switch, True, words),),
    )
    return replace(host, name=words, location=words, storage=words)


def shape(host: HostSpec) -> list[object]:
    """The rules without what names may change: interfaces, labels, and tables that are named after a jail."""
    read = parsed(host)
    kept = [nameless(found) for found in read.rules]
    return [
        *kept,
        *(
            replace(each, rule=nameless(each.rule), to=unnamed(each.to), taking_turns=False)
            for each in read.translations
        ),
    ]


def nameless(found: pf.Rule) -> pf.Rule:
    rate = found.rate and replace(found.rate, table="")
    ends = {"sender": unnamed(found.sender), "receiver": unnamed(found.receiver)}
    return replace(found, interface=str(bool(found.interface)), label=str(bool(found.label)), rate=rate, **ends)


def unnamed(where: pf.Where) -> pf.Where:
    own = where.special.startswith("(") and where.special != "(self)"
    table = "r" if where.table.startswith("r_") else where.table
    return replace(
        where, special="(:0)" if own and ":0" in where.special else "()" if own else where.special, table=table
    )


@settings(max_examples=80, deadline=None)
@given(hostile.filter(bool), hostile, hostile, hostile)
def test_no_word_changes_what_the_rules_are(id: str, interface: str, switch: str, words: str) -> None:
    found = town(id, f"p{interface}", f"s{switch}", words)
    assert shape(found) == shape(town("acme--www", "www0", "sw0", "web"))
    assert all(len(label) <= 63 for label in labels(ruleset(found)))


@pytest.mark.parametrize("name", ["any", "all", "in", "quick", "port", "log", "self"])
def test_an_interface_may_be_called_as_a_keyword(name: str) -> None:
    assert shape(town("acme--www", name, "sw0", "")) == shape(town("acme--www", "www0", "sw0", ""))


@given(hostile.filter(bool))
def test_an_address_that_is_none_is_an_error_and_not_a_rule(words: str) -> None:
    for address in (f"{words}z", f"fe80::1%{words}", f"2001:db8::1{words}z"):
        with pytest.raises(ValueError):
            ruleset(spec(jail("acme--www", nic=nic("acme--www", 3, addresses=(address,)))))
        with pytest.raises(ValueError):
            firewall_text(rule("acme--www", "in", 80, [f"{address}/128"]))
        for part in (
            Outside("em0", (address,)),
            Translation("em0", (address,)),
            Redirect("em0", "tcp", 80, "acme--www", address, 80),
            jail("acme--www", nic=nic("acme--www", 3, private=address)),
        ):
            with pytest.raises(ValueError):
                ruleset(spec(part))


@given(st.permutations(range(len(RICH.parts))))
@settings(max_examples=20)
def test_the_order_of_parts_is_never_seen(order: list[int]) -> None:
    assert ruleset(replace(RICH, parts=tuple(RICH.parts[i] for i in order))) == ruleset(RICH)


@pytest.mark.parametrize("id", ["x" * 30 + "--" + "y" * 30])
def test_the_longest_id_makes_labels_that_pf_takes(id: str) -> None:
    whole: Jail = replace(jail("acme--www"), id=id)
    assert {len(label) for label in labels(ruleset(spec(whole, rule(id))))} == {63}


def test_the_host_may_speak_to_itself_by_any_loopback_and_nobody_else_as_the_host() -> None:
    firewall = Firewall(parsed(spec(jail("acme--www"))), {"em0": ["2001:db8::a"], "lo1": ["2001:db8::b"]})
    packet = Packet("tcp", "2001:db8::a", "2001:db8::b", 5432, 50000)
    passed = [firewall.passes("in", nic, packet) for nic in ("lo0", "lo1", "em0", "tap0")]
    assert passed == [True, True, False, False]


def test_forged_visitors_of_a_rated_port_do_not_keep_the_others_out() -> None:
    assert any(isinstance(part, Rule) and part.rate for part in RICH.parts)
    assert int(parsed(RICH).settings["src-nodes"]) >= 100_000
    assert "src-nodes" not in parsed(spec(jail("acme--www"))).settings
