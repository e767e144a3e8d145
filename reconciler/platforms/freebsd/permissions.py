"""Who may what: Rules as lines of pf.conf, those of a jail made for the gate where they are asked.

In: a jail, a gate, and the Policy. Out: lines, each one rule of the kernel with a state and a label of its own: what is
taken back is found by it. Whom a rate has cut off is in tables that the kernel fills. Source: pf.conf(5). Must not know
where the gates are, nor what else passes there.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Literal

from reconciler.model import HostSpec, Jail, Outside, Rule, Wall
from reconciler.platforms.addresses import collapsed, common
from reconciler.platforms.files import digest
from reconciler.platforms.freebsd.pf import Groups, addresses, among, families, shown
from reconciler.values import dataclass

INLINE = 4
"""Peers of one rule that stay in it: the kernel has a rule for each, and each can be taken back by itself."""


@dataclass(frozen=True, slots=True)
class Policy:
    """What is asked while rules are written: who may what, and which lists became tables."""

    rules: Mapping[tuple[str, str], Sequence[Rule]]
    walls: frozenset[str]
    groups: Groups
    uncounted: tuple[str, ...] = ()


def asked(spec: HostSpec) -> Policy:
    walls = frozenset(part.direction for part in spec.parts if isinstance(part, Wall))
    uncounted = tuple(prefix for part in spec.parts if isinstance(part, Outside) for prefix in part.uncounted)
    return Policy(by_place(spec), walls, Groups(), uncounted)


def by_place(spec: HostSpec) -> dict[tuple[str, str], list[Rule]]:
    found: dict[tuple[str, str], list[Rule]] = {}
    for part in spec.parts:
        if isinstance(part, Rule):
            found.setdefault((part.subject, part.direction), []).append(part)
    return found


def permissions(jail: Jail, way: Literal["in", "out"], gate: str, policy: Policy) -> Iterator[str]:
    """One line is one rule of the kernel, with a label of its own. `in` at the gate is what the jail sends."""
    rules = policy.rules.get((jail.id, "out" if way == "in" else "in"), ())
    uncounted = [replace(rule, peers=common(rule.peers, policy.uncounted)) for rule in rules if rule.rate]
    start = f"pass {way} quick on {gate}"
    free = {line: "" for rule in uncounted if rule.peers for line in lines(jail, way, start, rule, policy)}
    asked = {line: rating(rule) for rule in rules for line in lines(jail, way, start, rule, policy)}
    for line, more in (*sorted(free.items()), *sorted(asked.items())):
        yield f"{line} (if-bound{more}) label {label(jail.id, f'{line} (if-bound)')}"


def lines(jail: Jail, way: Literal["in", "out"], start: str, rule: Rule, policy: Policy) -> Iterator[str]:
    for family, peer in peers(rule, policy.groups):
        for own, address in ((o, a) for o, listed in families(addresses(jail)) for a in listed):
            if family in ("", own):
                ends = (address, peer) if way == "in" else (peer, address)
                yield from matched(rule, f"{start} {own}", *ends)


def peers(rule: Rule, groups: Groups) -> Iterator[tuple[str, str]]:
    """(family, whom), one for each rule of the kernel; nobody in particular is of no family."""
    if not rule.peers:
        yield "", "any"
    for family, listed in families(collapsed(tuple(rule.peers)) if rule.peers else ()):
        yield from ((family, peer) for peer in (listed if len(listed) <= INLINE else [groups(listed)]))


def matched(rule: Rule, start: str, sender: str, receiver: str) -> Iterator[str]:
    """TCP begins with a SYN: a packet in the middle of nothing makes no state."""
    state = {"tcp": "flags S/SA keep state", "udp": "keep state"}[rule.protocol]
    for to in [f" port {number:d}" for number in rule.ports] or [""]:
        yield f"{start.rstrip()} proto {rule.protocol} from {sender} to {receiver}{to} {state}"


def label(id: str, line: str) -> str:
    """63 characters at most; the digest is of all that the rule lets pass, so what is taken back has another one."""
    return f'"{shown(id)} {digest(f"{id} {line}".encode())[:12]}"'


def rating(rule: Rule) -> str:
    """What the label knows nothing of: another rate breaks no connection."""
    if not rule.rate:
        return ""
    return f", max-src-conn-rate {rule.rate.connections:d}/{rule.rate.seconds:d}, overload <{over(rule)}> flush"


def cut_off(jail: Jail, gate: str, policy: Policy) -> Iterator[str]:
    for rule in policy.rules.get((jail.id, "in"), ()):
        if rule.rate:
            for family, own in families(addresses(jail)):
                yield f"block drop out quick on {gate} {family} from <{over(rule)}> to {among(own)}"


def over(rule: Rule) -> str:
    return f"r_{digest(f'{rule.subject} {rule.ports}'.encode())[:16]}"


def limited(spec: HostSpec) -> dict[str, int]:
    """Table of sources that a rate has cut off → seconds until they may come again. The kernel fills them."""
    rules = [part for part in spec.parts if isinstance(part, Rule)]
    return {over(rule): rule.rate.block for rule in rules if rule.rate}
