"""Who reaches whom in `sample-repo-freebsd/`: a matrix written by hand from the article, `tests/cases/uirig/reach.txt`.

Asked are the article's own pf.conf and ours, made from the documents: by one pf, packet by packet, at every interface
on the way and back. Where ours differs the matrix says so. `tests/linux/test_uirig.py` asks the same of Linux hosts
with real connections.
"""

from __future__ import annotations

from functools import cache

import pytest
from platforms.freebsd.pf import Firewall, Packet, parse

from reconciler.platforms.freebsd.firewall import ruleset

from . import rig
from .rig import ARTICLE, Question, questions
from .test_uirig import host

SERVER = {"xnic": ["192.0.2.155"], "xbridge": ["10.0.2.1"], "ibridge": ["192.168.56.110"]}
LISTS = {
    "blocklist": ["203.0.113.0/24"],
    "martians": ["10.0.0.0/8", "127.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"],
    "payments": ["198.51.100.80/28"],
    "email": ["66.111.4.0/24"],
    "xpeers": ["198.51.100.7"],
    "ipg_j": ["192.168.56.40"],
    "inode_j": ["192.168.56.30"],
    "pgpeer": ["192.168.56.41"],
    "nodepeer": ["192.168.56.31"],
}
ADDRESSES = {"xnic": "192.0.2.155/24", "inic": "192.168.56.110/24"}


@cache
def article() -> str:
    return (ARTICLE.parent / "pf-recorded" / "article.conf").read_text()


def theirs() -> Firewall:
    return Firewall(parse(article(), ADDRESSES), SERVER, LISTS)


def ours() -> Firewall:
    return Firewall(parse(ruleset(host("a")).decode()), SERVER)


def way(asked: Question, bridges: bool) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    """(hops before it is known where it goes, hops after); `bridges`: as the article's sysctls have it.

    The article asks at bridges and not where a jail speaks to its host; ours asks at ports (firewall.SYSCTLS).
    """
    sender, receiver = asked.sender, asked.receiver
    if sender in rig.JAILS and receiver in rig.PEERS:
        return [(rig.SEGMENT[sender], "in")], [("ibridge" if bridges else "inic", "out")]
    if sender in rig.PEERS:
        return [("inic", "in")], [("ibridge" if bridges else rig.SEGMENT.get(receiver, "ibridge"), "out")]
    if sender in rig.JAILS:
        port = [] if bridges else [(rig.PORTS[sender], "in")]
        onward = [] if receiver == "server" else [("xbridge" if receiver in rig.JAILS else "xnic", "out")]
        return [*port, ("xbridge", "in")], onward
    if sender == "server":
        return [], [("inic" if bridges else "ibridge" if receiver == "clock" else "xnic", "out")]
    return [("xnic", "in")], []


def outcome(firewall: Firewall, asked: Question, bridges: bool) -> str:
    """Where it arrives, and is answered from; `stops`."""
    packet: Packet | None = Packet(asked.protocol, *rig.addresses(asked), asked.port, 50000)
    before, after = way(asked, bridges)
    passed = list[tuple[str, str]]()
    for hop in before:
        packet = packet and firewall.passed(hop[1], hop[0], packet)
        passed.append(hop)
    if packet and not after and packet.destination in rig.INSIDE:
        after = [("xbridge", "out")]
    for hop in after:
        packet = packet and firewall.passed(hop[1], hop[0], packet)
        passed.append(hop)
    if packet is None:
        return "stops"
    arrived = rig.who(packet.destination)
    answer: Packet | None = packet.answer
    # what the host sends to a jail is seen at the switch, and not at the port
    back = [hop for hop in reversed(passed) if hop[0] not in rig.PORTS.values()]
    for name, direction in back:
        answer = answer and firewall.passed({"in": "out", "out": "in"}[direction], name, answer)
    return arrived if answer else "stops, coming back"


QUESTIONS = questions()


@pytest.mark.parametrize("asked", QUESTIONS, ids=[q.line for q in QUESTIONS])
def test_the_matrix_is_what_the_article_says(asked: Question) -> None:
    assert outcome(theirs(), asked, bridges=True) == asked.theirs


@pytest.mark.parametrize("asked", QUESTIONS, ids=[q.line for q in QUESTIONS])
def test_our_rules_say_the_same(asked: Question) -> None:
    assert outcome(ours(), asked, bridges=False) == asked.ours
