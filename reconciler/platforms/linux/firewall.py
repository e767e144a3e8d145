"""The typed rules → one nftables file: default deny for jails, and for the host where a policy says so.

In: a host's switches, jails and Rules. Out: the text of `firewall.nft`, which replaces our two tables in one
transaction and touches nobody else's. Packets are judged by address, not by interface: ports are held to their own
addresses by the bridge table, so an address is as good as a name, and bridged frames (br_netfilter) need no second
ruleset. Sources: nft(8); RFC 4890 for the ICMPv6 that must pass. Must not know units or files of jails.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from ipaddress import IPv4Address, IPv4Network

from reconciler.model import HostSpec, Jail, Outside, Redirect, Rule, Switch, Translation, Wall
from reconciler.platforms.addresses import LINK_LOCAL, collapsed, link_local, link_locals
from reconciler.platforms.files import digest
from reconciler.platforms.linux.bridge import bridge_table
from reconciler.platforms.linux.nft import FAMILIES, INLINE, addresses, chain, families, list_name, quoted, text, whom
from reconciler.platforms.linux.paths import UNITS
from reconciler.values import dataclass

SPOOFED = "meta l4proto { tcp, udp } ip6 saddr != fe80::/10 fib saddr type local fib daddr type local drop"
"""Nobody comes from outside as the host. By IPv4 the kernel sees to that (fib_frontend.c, fib_validate_source), by IPv6
nobody does. Neighbours defend an address in its own name (RFC 4861, 7.2.4), what the host says to a group comes back by
the interface it went out, and a router of the segment may be called fe80::1 as our bridges are. Jails need no such
line: to them the host's address is anybody's, and what it says itself is never forwarded.
"""
UNIT_NAME = "reconciler-firewall.service"


def unit(path: str) -> bytes:
    """Loads the rules before any interface is up, and after Debian's own service, which begins with a flush."""
    return f"""# Written by the reconciler; changes are overwritten.
[Unit]
Description=The reconciler's firewall
DefaultDependencies=no
Wants=network-pre.target
Before=network-pre.target shutdown.target
Conflicts=shutdown.target
After=nftables.service local-fs.target
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/usr/sbin/nft -f {path}
ExecReload=/usr/sbin/nft -f {path}
[Install]
WantedBy=sysinit.target
""".encode()


UNIT_PATH = f"{UNITS}/{UNIT_NAME}"
HEAD = """\
# Written by the reconciler; changes are overwritten.
table inet reconciler {}
delete table inet reconciler
table bridge reconciler {}
delete table bridge reconciler
"""
# What IPv6 dies without (RFC 4890): errors 1-4 and echo. Neighbour discovery crosses a host only on bridged segments.
ICMP = """\
    ct state established,related accept
    ct state invalid drop
    icmpv6 type { destination-unreachable, packet-too-big, time-exceeded, parameter-problem } accept
    icmpv6 type { echo-request, echo-reply } accept
    icmp type { destination-unreachable, time-exceeded, parameter-problem, echo-request, echo-reply } accept"""
NEIGHBOURS = "icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert, nd-router-solicit, nd-router-advert }"
LISTENERS = "icmpv6 type { mld-listener-query, mld-listener-report, mld-listener-done, mld2-listener-report }"

Rules = Mapping[tuple[str, str], Sequence[Rule]]
"""By subject and direction."""


@dataclass(frozen=True, slots=True)
class Layout:
    """Where a host's jails are: on switches, by their names."""

    switches: Sequence[str]
    routed: Sequence[str]
    jails: list[Jail]
    segments: Mapping[str, list[Jail]]
    """Switch → the jails that have a further interface on it. Their customers choose the addresses there: elsewhere
    the same ones are anybody's."""


def ruleset(spec: HostSpec) -> bytes:
    layout = laid_out(spec)
    stations = [each for jail in layout.jails for each in jail.stations]
    return ("\n".join([HEAD, *inet_table(spec, layout), *bridge_table(stations)]) + "\n").encode()


def laid_out(spec: HostSpec) -> Layout:
    switches = [part for part in spec.parts if isinstance(part, Switch)]
    jails = sorted(spec.jails, key=lambda jail: jail.id)
    segments: dict[str, list[Jail]] = {}
    for each in (each for jail in jails for each in jail.stations[1:]):
        segments.setdefault(each.nic.switch, []).append(each)
    routed = [switch.name for switch in switches if switch.routed]
    return Layout([switch.name for switch in switches], routed, jails, dict(sorted(segments.items())))


def inet_table(spec: HostSpec, layout: Layout) -> Iterator[str]:
    """A jail's packets pass its `out` chain, then the receiver's `in` chain; what nothing accepts is dropped."""
    rules = by_place(spec)
    rated = [part for part in spec.parts if isinstance(part, Rule) and part.rate]
    walls = {part.direction for part in spec.parts if isinstance(part, Wall)}
    uncounted = next((part.uncounted for part in outsides(spec)), ())
    yield "table inet reconciler {"
    yield from lists(spec)
    yield from counted(rated)
    yield from outside_chain(spec)
    yield from translations(spec)
    yield from input_chain(layout, rules, "in" in walls)
    if "out" in walls:
        yield from output_chain(rules, spec.ssh.port)
    yield from forward_chain(layout.switches)
    yield from jails_chain(spec, layout, bool(rated))
    for jail in layout.jails:
        yield from jail_chains(jail, rules, uncounted)
    yield "}"


def by_place(spec: HostSpec) -> Rules:
    found: dict[tuple[str, str], list[Rule]] = {}
    for part in spec.parts:
        if isinstance(part, Rule):
            found.setdefault((part.subject, part.direction), []).append(part)
    return found


def lists(spec: HostSpec) -> Iterator[str]:
    """What many rules may name is there once: a set of its own, for each of them would hold all of it."""
    named = [prefixes for part in outsides(spec) for prefixes in (part.blocked, part.uncounted)]
    named += [part.peers for part in spec.parts if isinstance(part, Rule)]
    long = (found for prefixes in dict.fromkeys(named) for found in families(collapsed(prefixes)))
    for name, (family, entries) in {list_name(x): (f, x) for f, x in long if len(x) > INLINE}.items():
        yield f"  set {name} {{"
        # none lies in another, so that nothing has to be merged; a line each shows in a diff which came and went
        yield f"    type {FAMILIES[family]}; flags interval; elements = {{"
        yield from (f"      {entry}," for entry in entries)
        yield "    }"
        yield "  }"


# ── the uplink ───────────────────────────────────────────────────────────────────────────────────────────────


def outside_chain(spec: HostSpec) -> Iterator[str]:
    """What is dropped at the door, whoever it is for. Neighbour discovery has sources without a way back."""
    at_home = {jail.nic.switch for jail in spec.jails}
    bridged = [p.name for p in spec.parts if isinstance(p, Switch) and not p.routed and p.name in at_home]
    for part in outsides(spec):
        if not part.blocked and not part.strict:
            continue
        yield "  chain outside {"
        yield "    type filter hook prerouting priority filter; policy accept;"
        if link_locals(part.blocked):
            # a host that does not hear its router is cut off
            for heard in (NEIGHBOURS, LISTENERS):
                yield f"    iifname {{ {quoted([part.nic, *bridged])} }} ip6 saddr {LINK_LOCAL} {heard} accept"
        for family, peers in whom(part.blocked):
            # the jails of a bridged switch have a door of their own; a segment of private addresses is no door
            yield f"    iifname {{ {quoted([part.nic, *bridged])} }} {family} saddr {peers} drop"
        if part.strict:
            door = f'    iifname "{part.nic}"'
            yield f"{door} {NEIGHBOURS} accept"
            yield f"{door} meta l4proto {{ tcp, udp, icmp, icmpv6 }} fib saddr . iif oif missing drop"
        yield "  }"


def outsides(spec: HostSpec) -> list[Outside]:
    return [part for part in spec.parts if isinstance(part, Outside)]


def translations(spec: HostSpec) -> Iterator[str]:
    """Names and numbers of packets change outside of all rules: those judge a jail by its own address."""
    leaving = [part for part in spec.parts if isinstance(part, Translation)]
    arriving = sorted((part for part in spec.parts if isinstance(part, Redirect)), key=lambda part: part.host_port)
    if leaving:
        yield "  chain leaving {"
        yield "    type nat hook postrouting priority srcnat; policy accept;"
        yield from (f'    oifname "{p.nic}" ip saddr {{ {", ".join(p.networks)} }} masquerade' for p in leaving)
        yield "  }"
    if arriving:
        yield "  chain arriving {"
        yield "    type nat hook prerouting priority dstnat; policy accept;"
        for part in arriving:
            match = (
                f'iifname "{part.nic}" meta nfproto ipv4 fib daddr type local {part.protocol} dport {part.host_port}'
            )
            yield f"    {match} dnat ip to {part.address}:{part.port} comment {text(part.jail)}"
        yield "  }"


# ── jails ────────────────────────────────────────────────────────────────────────────────────────────────────


def forward_chain(switches: Iterable[str]) -> Iterator[str]:
    names = quoted(switches)
    yield "  chain forward {"
    yield "    type filter hook forward priority filter; policy accept;"
    yield f"    iifname {{ {names} }} jump jails"
    yield f"    oifname {{ {names} }} jump jails"
    yield "  }"


def jails_chain(spec: HostSpec, layout: Layout, rated: bool) -> Iterator[str]:
    """Each packet from or to a jail: is it where it can be, then may it go."""
    yield "  chain jails {"
    if rated:
        # before all else: also what is established is cut off
        yield from (f"    {f} saddr . {f} daddr @limited_{f} drop" for f in FAMILIES)
    yield from misplaced(spec, layout)
    yield ICMP
    if len(layout.routed) < len(layout.switches):
        yield f"    {NEIGHBOURS} accept"
        yield f"    {LISTENERS} accept"
    yield from judged(layout)
    yield from returned(layout)
    yield "    drop"
    yield "  }"


def misplaced(spec: HostSpec, layout: Layout) -> Iterator[str]:
    """Addresses of jails where no packet can have them."""
    # the host routes to them, so their addresses come from nowhere else
    routed = [jail for jail in layout.jails if jail.nic.switch in layout.routed]
    yield from sources(routed, f"iifname != {{ {quoted(layout.routed)} }}", "drop")
    yield from privacy(spec, layout)
    for segment, guests in layout.segments.items():
        yield from sources(guests, f'iifname "{segment}" oifname != "{segment}"', "drop")


def privacy(spec: HostSpec, layout: Layout) -> Iterator[str]:
    """A private address is nothing outside of its host: it comes in only by a Redirect, and leaves only translated."""
    private = [jail.nic.private.partition("/")[0] for jail in layout.jails if jail.nic.private]
    if private:
        match = f"iifname != {{ {quoted(layout.routed)} }} ip daddr {{ {', '.join(private)} }}"
        yield f"    {match} ct direction original ct status & dnat == 0 drop"
    by_gate: dict[str, list[str]] = {}
    for address in private:
        by_gate.setdefault(gate(spec, address), []).append(address)
    for nic, behind in sorted(by_gate.items()):
        names = quoted([*layout.routed, *([nic] if nic else [])])
        yield f"    oifname != {{ {names} }} ip saddr {{ {', '.join(behind)} }} ct direction original drop"


def gate(spec: HostSpec, address: str) -> str:
    """The interface where the address is translated, or ""."""
    leaving = (part for part in spec.parts if isinstance(part, Translation))
    return next((p.nic for p in leaving if any(IPv4Address(address) in IPv4Network(n) for n in p.networks)), "")


def judged(layout: Layout) -> Iterator[str]:
    """The sender's chain, then the receiver's."""
    for field, direction, way in (("saddr", "out", "iifname"), ("daddr", "in", "oifname")):
        yield from dispatch("", field, direction, layout.jails)
        for segment, guests in layout.segments.items():
            yield from dispatch(f'{way} "{segment}" ', field, direction, guests)


def dispatch(where: str, field: str, direction: str, jails: list[Jail]) -> Iterator[str]:
    """By a map: one look-up, however many jails there are."""
    targets = {address: f"jump {chain(direction, jail)}" for jail in jails for address in addresses(jail)}
    for family, listed in families(targets):
        entries = ", ".join(f"{address} : {targets[address]}" for address in listed)
        yield f"    {where}{family} {field} vmap {{ {entries} }}"


def returned(layout: Layout) -> Iterator[str]:
    """Whose packet came back from its `out` chain may leave, and goes to nobody here."""
    yield from sources(layout.jails, "", "accept")
    for segment, guests in layout.segments.items():
        yield from sources(guests, f'iifname "{segment}"', "accept")


def sources(jails: list[Jail], match: str, verdict: str, *, with_link_local: bool = False) -> Iterator[str]:
    """One line a family for all packets from these jails' addresses."""
    own = [address for jail in jails for address in addresses(jail)]
    own += [link_local(jail.nic.mac) for jail in jails if with_link_local]
    for family, listed in families(own):
        yield "    " + " ".join(filter(None, (match, family, "saddr", f"{{ {', '.join(listed)} }}", verdict)))


# ── the host ─────────────────────────────────────────────────────────────────────────────────────────────────


def input_chain(layout: Layout, rules: Rules, walled: bool) -> Iterator[str]:
    """Jails reach nothing on their host but its ICMPv6; others what the policy says, or everything without one."""
    ports = quoted(nic.host_side for jail in layout.jails for nic in (jail.nic, *jail.more))
    yield "  chain input {"
    yield "    type filter hook input priority filter; policy accept;"
    yield '    iifname "lo" accept'
    yield f"    {SPOOFED}"
    if layout.jails:
        # frames to 01:80:c2:00:00:0X are taken from a port past its bridge and its rules (kernel, br_handle_frame)
        yield f"    iifname {{ {ports} }} drop"
    yield ICMP
    yield f"    {NEIGHBOURS} accept"
    yield from kept_out(layout)
    for rule in rules.get(("", "in"), ()):
        yield from rule_lines(rule, "saddr", "accept")
    if walled:
        yield f"    {LISTENERS} accept"
        yield "    drop"
    yield "  }"


def kept_out(layout: Layout) -> Iterator[str]:
    """What jails send to the host itself."""
    if layout.routed:
        yield f"    iifname {{ {quoted(layout.routed)} }} drop"
    # a bridged switch may be the host's own way to the segment as well: only the jails on it are kept out
    bridged = [jail for jail in layout.jails if jail.nic.switch not in layout.routed]
    yield from sources(bridged, "", "drop", with_link_local=True)
    for segment, guests in layout.segments.items():
        yield from sources(guests, f'iifname "{segment}"', "drop", with_link_local=True)


def output_chain(rules: Rules, ssh: int) -> Iterator[str]:
    yield "  chain output {"
    yield "    type filter hook output priority filter; policy accept;"
    yield '    oifname "lo" accept'
    # also for connections that are older than connection tracking: the one that brings the first rules is such a one
    yield f"    tcp sport {ssh} accept"
    yield ICMP
    yield "    meta l4proto icmpv6 accept"
    for rule in rules.get(("", "out"), ()):
        yield from rule_lines(rule, "daddr", "accept")
    yield "    drop"
    yield "  }"


# ── rules ────────────────────────────────────────────────────────────────────────────────────────────────────


def jail_chains(jail: Jail, rules: Rules, uncounted: tuple[str, ...]) -> Iterator[str]:
    for direction, field, verdict in (("out", "daddr", "return"), ("in", "saddr", "accept")):
        yield f"  chain {chain(direction, jail)} {{"
        for rule in sorted(rules.get((jail.id, direction), ()), key=repr):
            yield from rule_lines(rule, field, verdict, uncounted)
        yield "    drop"
        yield "  }"


def rule_lines(rule: Rule, field: str, verdict: str, uncounted: tuple[str, ...] = ()) -> Iterator[str]:
    ports = f" dport {{ {', '.join(map(str, rule.ports))} }}" if rule.ports else ""
    match = f"{rule.protocol}{ports}" if ports else f"meta l4proto {rule.protocol}"
    if not rule.peers:
        yield from (line for family in FAMILIES for line in rate_lines(rule, family, match, uncounted))
        yield f"    {match} {verdict} comment {text(rule.label)}"
    for family, peers in whom(rule.peers):
        matched = f"{family} {field} {peers} {match}"
        yield from rate_lines(rule, family, matched, uncounted)
        yield f"    {matched} {verdict} comment {text(rule.label)}"


def rate_lines(rule: Rule, family: str, match: str, uncounted: tuple[str, ...]) -> Iterator[str]:
    """A bucket a source: full again after `seconds`; who finds it empty is cut off."""
    if not rule.rate:
        return
    apart = dict(whom(uncounted))
    often = f"limit rate over {-(-rule.rate.connections * 3600 // rule.rate.seconds)}/hour"
    often += f" burst {rule.rate.connections} packets"
    others = f"{family} saddr != {apart[family]} " if family in apart else ""
    came = f"update @{visitors(rule, family)} {{ {family} saddr {often} }}"
    cut_off = f"add @limited_{family} {{ {family} saddr . {family} daddr timeout {rule.rate.block}s }}"
    yield f"    {others}{match} {came} {cut_off} drop comment {text(rule.label)}"


def counted(rated: list[Rule]) -> Iterator[str]:
    """Who is cut off from which jail; and for each rate who came lately. A reload forgets both."""
    for family in FAMILIES if rated else ():
        yield f"  set limited_{family} {{"
        yield f"    type {FAMILIES[family]} . {FAMILIES[family]}; size 65535; flags dynamic,timeout; timeout 1h;"
        yield "  }"
    for rule, family in ((rule, family) for rule in rated for family in FAMILIES):
        assert rule.rate
        yield f"  set {visitors(rule, family)} {{"
        yield f"    type {FAMILIES[family]}; size 65535; flags dynamic,timeout; timeout {rule.rate.seconds}s;"
        yield "  }"


def visitors(rule: Rule, family: str) -> str:
    return f"rate_{digest(f'{rule.subject} {rule.ports}'.encode())[:12]}_{family}"
