"""Who reaches whom: what is published is served, what is not is kept back, and the cable is there for its two jails.

Nothing is called blocked before it is shown that the application listens there, and that the way is open otherwise.
"""

from __future__ import annotations

import pytest

from .company import DB, DB_JAIL, DB_LINK, WEB, WEB_JAIL, WEB_LINK, Company
from .host import Host
from .traffic import HAND, opens, page, pings

HERE, VISITOR = "", HAND
STARTS = pytest.mark.parametrize("start", [HERE, VISITOR], ids=["from the host", "from outside"])


@pytest.mark.parametrize("address", [WEB, DB], ids=["web", "db"])
@STARTS
def test_both_jails_answer_a_ping(host: Host, town: Company, start: str, address: str) -> None:
    done = pings(host, address, start)
    assert done.code == 0, str(done)


@STARTS
def test_the_page_of_a_published_port_is_served(host: Host, town: Company, start: str) -> None:
    done = page(host, WEB, 8080, start)
    assert done.code == 0 and "HTTP/1.0 200 OK" in done.out, str(done)
    assert "the page of the blueprint\njail web, port 8080, text first" in done.out, str(done)


@pytest.mark.parametrize(
    ("jail", "address"), [(WEB_JAIL, DB_LINK), (DB_JAIL, WEB_LINK)], ids=["web to db", "db to web"]
)
def test_the_cable_carries_a_ping(host: Host, town: Company, jail: str, address: str) -> None:
    ping_from_inside(host, jail, address)


@pytest.mark.parametrize(("jail", "address"), [(WEB_JAIL, DB), (DB_JAIL, WEB)], ids=["web to db", "db to web"])
def test_the_switch_carries_a_ping(host: Host, town: Company, jail: str, address: str) -> None:
    ping_from_inside(host, jail, address)


def ping_from_inside(host: Host, jail: str, address: str) -> None:
    done = pings(host, address, jail)
    if "not permitted" in done.err + done.out and done.code:
        pytest.skip("jails have no raw sockets here, so nothing inside can ping: the tests of TCP tell the same way")
    assert done.code == 0, str(done)


def test_web_reaches_the_port_that_db_publishes_for_it(host: Host, town: Company) -> None:
    done = page(host, DB, 5432, WEB_JAIL)
    assert done.code == 0 and "jail db, port 5432" in done.out, str(done)


def test_nobody_else_reaches_that_port(host: Host, town: Company) -> None:
    done = opens(host, DB, 5432, VISITOR)
    assert done.code == 1, f"db's port 5432 is open to everybody: {done}"
    # it listened all the time
    assert page(host, "::1", 5432, DB_JAIL).code == 0
    assert page(host, DB, 5432, WEB_JAIL).code == 0


@pytest.mark.parametrize("start", [VISITOR, DB_JAIL], ids=["from outside", "from db"])
def test_a_port_that_is_not_published_is_closed_although_somebody_listens(
    host: Host, town: Company, start: str
) -> None:
    assert page(host, "::1", 8081, WEB_JAIL).code == 0
    done = opens(host, WEB, 8081, start)
    assert done.code == 1, str(done)
    assert page(host, WEB, 8080, VISITOR).code == 0


def test_a_jail_reaches_nothing_that_it_did_not_ask_for(host: Host, town: Company) -> None:
    """The visitor listens: the host can reach it, a jail cannot."""
    host.run(
        f"jexec {HAND} sh -c 'while :; do echo hello | timeout 600 nc -6 -N -l 7777 || break; done' >/dev/null 2>&1 &"
    )
    try:
        assert page(host, "fd52:6563:6f6e:fffe::2", 7777).code == 0
        done = opens(host, "fd52:6563:6f6e:fffe::2", 7777, WEB_JAIL)
        assert done.code == 1, str(done)
    finally:
        host.run(f"jexec {HAND} pkill -f 'nc -6 -N -l 7777'; :", check=False)


def test_a_jail_does_not_reach_the_hosts_own_sshd(host: Host, town: Company) -> None:
    listening = host.out("sockstat -6l -P tcp | awk '/sshd/ { sub(/.*:/, \"\", $6); print $6; exit }'")
    if not listening:
        pytest.skip("the host's sshd does not listen on IPv6")
    for address in ("fd52:6563:6f6e:ffff::1", "fd52:6563:6f6e:fffe::1"):
        assert opens(host, address, int(listening)).code == 0
        done = opens(host, address, int(listening), WEB_JAIL)
        assert done.code == 1, str(done)


def test_the_cable_is_open_for_every_port_between_the_two(host: Host, town: Company) -> None:
    """The application listens on IPv6 alone, so somebody else answers here."""
    listener = f"jexec {DB_JAIL} sh -c 'echo by the cable | timeout 300 nc -4 -N -l 9999' >/dev/null 2>&1 &"
    host.run(listener)
    done = page(host, DB_LINK, 9999, WEB_JAIL)
    assert done.code == 0 and "by the cable" in done.out, str(done)
