"""punkt's websites in `sample-repo-freebsd/`: Nextclouds with one IPv6 address each and no IPv4, on a host with ZFS.

Asked are the documents, and what a FreeBSD host is made of by them: its manifest, and its pf packet by packet.
"""

from __future__ import annotations

import re
from ipaddress import IPv6Interface, IPv6Network, ip_interface

import pytest
import ryaml
from platforms.freebsd.pf import Firewall, Packet, parse

from reconciler.model import Jail, Redirect, Translation
from reconciler.platforms.freebsd.firewall import ruleset

from .test_uirig import ROOT, host, manifest

SAMPLE = ROOT / "sample-repo-freebsd"
NET = IPv6Network("2001:db8:7100:2::/64")
IPV4 = re.compile(r"(?<![\d.])\d{1,3}(\.\d{1,3}){3}(?![\d.])")
SPEAKS_OF_IPV4 = {"ipv4", "privateIpv4", "hostPort", "nat", "links", "interfaces"}
VISITOR, ELSEWHERE, RESOLVER = "2001:db8:1::1", "2001:db8:1::2", "2001:db8:ffff:53::53"
SERVER = {"xnic": ["2001:db8:7f00::af"], "webs": ["fe80::1"]}
SITES = ("punkt--nextcloud-choir", "punkt--nextcloud-family", "punkt--nextcloud-office")
PUBLISHED = (80, 443)


def jails() -> dict[str, Jail]:
    return {jail.id: jail for jail in host("c").jails}


def address(id: str) -> str:
    return jails()[id].nic.addresses[0].partition("/")[0]


def keys(value: object) -> set[str]:
    if isinstance(value, dict):
        return set(value).union(*map(keys, value.values()))
    return set().union(*map(keys, value)) if isinstance(value, list) else set()


# ── the documents ────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("path", ["customers/punkt", "blueprints/nextcloud.yaml", "hosts/c.yaml", "policies/six.yaml"])
def test_no_document_has_ipv4_in_it(path: str) -> None:
    place = SAMPLE / path
    found = sorted(place.rglob("*.yaml")) if place.is_dir() else [place]
    assert found
    for document in found:
        text = document.read_text()
        assert not IPV4.search(text), document
        assert not keys(ryaml.loads(text)) & SPEAKS_OF_IPV4, document


def test_every_website_has_a_file_a_jail_and_a_site() -> None:
    written = {f"punkt--{path.stem}" for path in (SAMPLE / "customers/punkt/jails").glob("*.yaml")}
    assert set(jails()) == written == set(SITES)
    specs = [ryaml.loads(path.read_text())["spec"] for path in (SAMPLE / "customers/punkt/sites").glob("*.yaml")]
    names = {f"punkt--{spec['backends'][0]['jail']}": spec["names"] for spec in specs}
    assert names.keys() == written
    assert all(dict(jail.environment)["TRUSTED_DOMAIN"] in names[id] for id, jail in jails().items())


# ── what is made of them ─────────────────────────────────────────────────────────────────────────────────────


def test_every_website_has_one_address_of_its_own_out_of_the_customers_64() -> None:
    found = [jail.nic.addresses for jail in jails().values()]
    assert all(len(addresses) == 1 and not jail.more for addresses, jail in zip(found, jails().values(), strict=True))
    alone = [ip_interface(addresses[0]) for addresses in found]
    assert all(isinstance(one, IPv6Interface) and one.network.prefixlen == 128 and one.ip in NET for one in alone)
    assert len(set(alone)) == len(SITES)


def test_nothing_is_translated() -> None:
    assert not [part for part in host("c").parts if isinstance(part, Translation | Redirect)]
    rules = parse(ruleset(host("c")).decode())
    assert not rules.translations
    assert not [rule for rule in rules.rules if rule.tagged]


def test_no_port_has_ipv4() -> None:
    ports = [dict(r.state) for r in manifest("c").resources if r.type in ("port/1", "plug/1", "cable/1")]
    assert len(ports) == len(SITES)
    for port in ports:
        assert not [value for value in port.values() if IPV4.search(value)]
    written = [f.content for r in manifest("c").resources if r.owner for f in r.files if isinstance(f.content, bytes)]
    found = {match[0] for text in written for match in IPV4.finditer(text.decode())}
    # the jail itself, and its host as it would be for a jail with IPv4: both stand in the script, for every jail
    assert found <= {"127.0.0.1", "169.254.1.1"}


def test_every_website_has_a_dataset_with_a_quota() -> None:
    found = {r.owner: dict(r.state) for r in manifest("c").resources if r.type == "dataset/1" and r.owner}
    quotas = {id: state["quota"] for id, state in found.items()}
    assert quotas == dict(zip(SITES, ("40Gi", "20Gi", "100Gi"), strict=True))
    assert found["punkt--nextcloud-office"]["reservation"] == "40Gi"


def test_every_website_is_held_to_all_that_rctl_counts() -> None:
    for jail in jails().values():
        limits = jail.limits
        assert limits.memory and limits.processes and limits.cpu and limits.open_files


# ── who reaches whom ─────────────────────────────────────────────────────────────────────────────────────────


def comes_in(packet: Packet) -> bool:
    """From the uplink to a jail, and its answer back."""
    firewall = Firewall(parse(ruleset(host("c")).decode()), SERVER)
    there = firewall.passed("in", "xnic", packet)
    there = there and firewall.passed("out", "webs", there)
    if not there or there.destination != packet.destination:
        return False
    back = firewall.passed("in", "webs", there.answer)
    return bool(back and firewall.passed("out", "xnic", back))


def goes_out(id: str, receiver: str, protocol: str, port: int) -> bool:
    firewall = Firewall(parse(ruleset(host("c")).decode()), SERVER)
    packet: Packet | None = Packet(protocol, address(id), receiver, port, 50000)
    for direction, name in (("in", jails()[id].nic.host_side), ("in", "webs"), ("out", "xnic")):
        packet = packet and firewall.passed(direction, name, packet)
    return bool(packet)


@pytest.mark.parametrize("id", SITES)
def test_everybody_reaches_what_a_website_publishes_and_nothing_else(id: str) -> None:
    asked = [("tcp", port) for port in (22, 25, 80, 443, 3306, 8080, 9000)] + [("udp", port) for port in (53, 80, 443)]
    reached = [each for each in asked if comes_in(Packet(each[0], VISITOR, address(id), each[1], 50000))]
    assert reached == [("tcp", port) for port in PUBLISHED]


@pytest.mark.parametrize("id", SITES)
def test_whom_the_policy_blocks_reaches_no_website(id: str) -> None:
    assert not comes_in(Packet("tcp", "2001:db8:ffff:bad::1", address(id), 443, 50000))


def test_a_website_reaches_resolvers_and_what_it_says() -> None:
    for id in SITES:
        assert goes_out(id, RESOLVER, "udp", 53)
        assert goes_out(id, ELSEWHERE, "tcp", 443) == (id == "punkt--nextcloud-office")
        assert not goes_out(id, ELSEWHERE, "tcp", 25)
        assert not goes_out(id, ELSEWHERE, "udp", 123)


def test_websites_reach_each_others_pages_as_visitors_do() -> None:
    firewall = Firewall(parse(ruleset(host("c")).decode()), SERVER)

    def reaches(sender: str, receiver: str, port: int) -> bool:
        packet: Packet | None = Packet("tcp", address(sender), address(receiver), port, 50000)
        for direction, name in (("in", jails()[sender].nic.host_side), ("in", "webs"), ("out", "webs")):
            packet = packet and firewall.passed(direction, name, packet)
        return bool(packet)

    office, choir = "punkt--nextcloud-office", "punkt--nextcloud-choir"
    assert reaches(office, choir, 443)
    assert not reaches(office, choir, 80)
    assert not reaches(choir, office, 443)
