"""What ifconfig(8) and netstat(1) print → interfaces and routes: recorded outputs, and one of a wider netstat."""

from __future__ import annotations

from pathlib import Path

from reconciler.platforms.freebsd.network import Route, interfaces, routes


def lines(name: str) -> list[str]:
    return (Path(__file__).parent / "recorded" / name).read_text().splitlines()


def test_a_bridge_its_addresses_and_its_members_are_read() -> None:
    found = interfaces(lines("ifconfig-a-bridge-and-a-port.txt"))
    assert found["xbridge"].addresses == ("10.99.0.1/24", "fd00:99::1/64")
    assert found["xbridge"].members == {"epair0a": frozenset({"LEARNING", "DISCOVER", "AUTOEDGE", "AUTOPTP"})}
    assert (found["epair0a"].mac, found["epair0a"].up, found["epair0a"].ours) == ("02:be:8a:f4:37:0a", True, False)


def test_routes_are_read_by_the_heading() -> None:
    assert list(routes(lines("netstat-rn-of-a-jail.txt")))[1:] == [
        Route("default", "fd00:99::1", "epair0b"),
        Route("fd00:99::2", "link#2", "lo0"),
    ]


def test_routes_of_a_wider_table_are_read_as_well() -> None:
    assert list(routes(lines("invented-netstat-rnW.txt"))) == [
        Route("default", "fe80::1%eeezathyb42", "eeezathyb42"),
        Route("2001:db8:ca00:1:aaaa:bbbb:cccc:dddd", "link#5", "xbridge"),
    ]
