"""Lists of thousands in both firewalls: each is there once, whoever names it, and rules are soon made of it."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address, ip_network

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fake.specs import SWITCHES, jail
from reconciler.differences import DIFF, file_diff
from reconciler.model import File, HostSpec, Jail, Outside, Rate, Rule, Ssh, Wall
from reconciler.platforms.addresses import common, inside
from reconciler.platforms.freebsd.firewall import ruleset as pf
from reconciler.platforms.linux.firewall import ruleset as nft

from .freebsd.pf import Firewall, Packet, parse

LONG = tuple(f"2001:db8:{number:x}::/48" for number in range(1, 20_000, 2))
SHORT_PREFIXES = st.builds(
    lambda number, length: str(ip_network((number, length), strict=False)),
    st.integers(0, 255).map(lambda n: n << 24),
    st.integers(1, 8),
) | st.builds(
    lambda number, length: str(ip_network((number, length), strict=False)),
    st.integers(0, 255).map(lambda n: (0x2001 << 112) + (n << 88)),
    st.integers(32, 40),
)
LISTED = st.lists(SHORT_PREFIXES, max_size=8).map(tuple)


def host(*more: Rule | Outside | Wall) -> HostSpec:
    jails = [jail(f"acme--j{n}", n + 1) for n in range(30)]
    rules = [rule for each in jails for rule in asked(each)]
    parts = (SWITCHES[0], *jails, Outside("eth0", blocked=LONG), *rules, *more)
    return HostSpec("h", "linux", "cam", Ssh("2001:db8::1", 22, "k"), "/var/lib/reconciler", parts)


def asked(each: Jail) -> list[Rule]:
    published = Rule(each.id, "in", LONG[:5_000], "tcp", (443,), "publishes", Rate(100, 10, 180))
    return [published, Rule(each.id, "out", LONG, "tcp", (443,), "reaches")]


@pytest.mark.parametrize("ruleset", [pf, nft])
def test_a_long_list_is_in_the_rules_once(ruleset: object) -> None:
    text = ruleset(host()).decode()  # type: ignore[operator]
    assert text.count(LONG[-1]) == 1
    assert text.count(LONG[0]) == 2  # in the whole of it and in its half


def test_who_is_on_a_long_list_is_blocked() -> None:
    rules = parse(pf(replace(host(), platform="freebsd")).decode())
    firewall = Firewall(rules, {"eth0": ["2001:db8:0:ffff::1"]})
    for sender, passes in ((LONG[7].replace("/48", "1"), False), ("2001:db8:2::1", True)):
        packet = Packet("tcp", sender, "2001:db8:0:ffff::1", 443, 50000)
        assert bool(firewall.passed("in", "eth0", packet)) == passes


@given(LISTED, LISTED)
@settings(max_examples=40, deadline=None)
def test_what_two_lists_have_in_common(some: tuple[str, ...], others: tuple[str, ...]) -> None:
    found = common(some, others)
    for number in range(0, 256, 9):
        for address in (str(ip_address(number << 24)), str(ip_address((0x2001 << 112) + (number << 88)))):
            expected = (not some or among(address, some)) and among(address, others)
            assert inside(address, found) == among(address, found) == expected


def among(address: str, prefixes: tuple[str, ...]) -> bool:
    return any(ip_address(address) in ip_network(prefix) for prefix in prefixes)


def test_a_diff_of_thousands_of_lines_is_cut() -> None:
    lines = list(file_diff(File("/etc/pf.conf", "\n".join(LONG).encode()), "\n".join(LONG[::2])))
    assert lines[:DIFF] == [f"+{line}\n" for line in LONG[1::2][:DIFF]]
    assert lines[DIFF:] == [f"… and {len(LONG[1::2]) - DIFF} lines more\n"]
