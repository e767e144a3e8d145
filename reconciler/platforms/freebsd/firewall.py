"""The typed rules → one pf.conf: default deny for jails, and for the host where a policy says so.

In: a host's switches, jails and Rules. Out: the text of `pf.conf`, with the labels and tables that are in it. Each jail
has one gate where its Rules are asked: its switch when that is routed, its own port when it is bridged. `in` at the
gate is what it may reach, `out` what it publishes; from jail to jail two gates are passed. States are made at gates and
bound to them: they open no other interface, and a label names all there is of a permission. Elsewhere a jail's packets
pass without states, for its gate has judged them or will: at ports of routed switches by the sender's own address, at
uplinks by being a jail's. Sources: pf.conf(5), if_bridge(4), RFC 4890. Must not know who loads it, nor jails' files.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from reconciler.model import HostSpec, Jail, Outside, Redirect, Rule, Switch, Translation
from reconciler.platforms.addresses import LINK_LOCAL, collapsed, inside, link_local, link_locals
from reconciler.platforms.freebsd.permissions import Policy, asked, cut_off, limited, matched, peers, permissions
from reconciler.platforms.freebsd.pf import Groups, addresses, among, families, numbers, plain, port, quoted, shown

SYSCTLS = {
    "net.link.bridge.pfil_member": "1",
    "net.link.bridge.pfil_bridge": "0",
    "net.link.bridge.pfil_onlyip": "1",
    # or what a jail sends to its gateway passes its port unseen, with whatever address it has chosen
    "net.link.bridge.pfil_local_phys": "1",
}
"""Without these the rules do not mean what they say. With them pf sees (if_bridge(4), bridge_input and bridge_pfil):

- what a jail sends, `in` on its port; if it is for the host or to be routed by it, then `in` on the switch;
- what the host sends or routes to a jail, `out` on the switch, and nowhere on its way to the port;
- what is bridged, `in` on one member and `out` on the other, and never on the switch;
- of what goes to a group, the host's own copy `in` on the switch, whatever the port thought of it.
"""

# `pfctl -f` forgets options that the file does not have, so they are in the same file; nothing below depends on them.
HEAD = """\
# Written by the reconciler; changes are overwritten.
set block-policy drop
set skip on lo0
"""
COUNTED = """\
set limit src-nodes 100000
"""
"""As many visitors as there may be states: at the 10,000 of pf.conf(5) forged ones would keep the others out."""
NORMAL = """
scrub in all no-df fragment reassemble
"""
START = """\
block drop all
pass quick on lo0 all no state
"""
BESIDE = """\
# Written by the reconciler; changes are overwritten. Loaded into an anchor: every rule is quick, or what comes after
# the anchor would decide. Options and scrub are the main ruleset's (pfctl.c, main: loadopt; pf_norm.c).
"""
TRANSLATED = "reconciler"
"""The tag of what was translated: the host's own rules would take it for theirs (pf.conf(5), PACKET TAGGING)."""

# What IPv6 dies without (RFC 4890): errors 1-4, echo 128 and 129, neighbours 135 and 136. Never from a jail: 134, 137.
ICMP6 = (1, 2, 3, 4, 128, 129, 135, 136)
REPORTS = (131, 132, 143)
"""Of multicast listeners; behind a router alert (RFC 3810, 5), therefore always with allow-opts."""
HEARD = (*ICMP6, 133, 134, 130, *REPORTS)
"""By the host itself."""
SEGMENT = (133, 134, 135, 136, 130, *REPORTS)
"""What stays on a segment: of neighbours, routers and listeners."""
ICMP = (0, 3, 8, 11, 12)
NEAR = ("(self)", "fe80::/10", "ff00::/8", "169.254.0.0/16", "224.0.0.0/4", "255.255.255.255")
"""The host on a routed switch: in `(self)` are neither groups nor broadcast, and link-local ones not as in packets."""
OWN = ("(self)", "any")
SPOOFED = "block drop in quick on ! lo proto { tcp, udp } from (self) to"
"""The half of antispoof (pf.conf(5)) that says nobody comes from outside as the host: gates let the host itself pass.

`lo` is all loopbacks: what the host says to an address of a second one passes there. Other protocols have no use of it,
and neighbours defend an address in its own name (RFC 4861, 7.2.4): duplicates would not be found. What the host says to
a group comes back to it by the interface it went out (ip6_mloopback), so each rule says to whom. Link-local addresses
are in `(self)` with a scope, as no packet has them. The other half would cut off jails in the network of the uplink.
"""
ANYTHING = (Rule("", "out", (), "tcp", (), ""), Rule("", "out", (), "udp", (), ""))


def ruleset(spec: HostSpec) -> bytes:
    policy = asked(spec)
    body = [*for_jails(spec, policy), *host(spec, policy)]
    options = HEAD + (COUNTED if limited(spec) else "")
    return "\n".join([options, *defined(spec, policy), NORMAL, *translations(spec), START, *body, ""]).encode()


def anchored(spec: HostSpec) -> bytes:
    """The same for an anchor in the administrator's ruleset, which goes on judging the host itself."""
    policy = asked(spec)
    body = [*for_jails(spec, policy), *beside(spec, policy)]
    return "\n".join([BESIDE, *defined(spec, policy), "", *translations(spec), "", *body, ""]).encode()


def defined(spec: HostSpec, policy: Policy) -> list[str]:
    return [*policy.groups.definitions(), *(f"table <{name}>" for name in limited(spec))]


def homes(spec: HostSpec) -> list[Jail]:
    """Jails that are at home on a bridged switch."""
    routed = {part.name for part in spec.parts if isinstance(part, Switch) and part.routed}
    return [jail for jail in sorted(spec.jails, key=lambda jail: jail.id) if jail.nic.switch not in routed]


def for_jails(spec: HostSpec, policy: Policy) -> Iterator[str]:
    """Every packet of a jail's, wherever it passes, ends at one of these: all are quick."""
    switches = sorted((part for part in spec.parts if isinstance(part, Switch)), key=lambda switch: switch.name)
    jails = [each for jail in sorted(spec.jails, key=lambda jail: jail.id) for each in jail.stations]
    gates = {
        switch.name: [jail for jail in jails if jail.nic.switch == switch.name] for switch in switches if switch.routed
    }
    routed = [jail for inside in gates.values() for jail in inside]
    bridged = [jail for jail in jails if jail.nic.switch not in gates]
    segments = [(switch, further(switch, spec.jails)) for switch in switches]
    yield from (line for p in spec.parts if isinstance(p, Outside) for line in door(p, spec, policy.groups))
    yield from (line for name, inside in gates.items() for line in routed_switch(name, inside, policy))
    yield from (line for jail in bridged for line in bridged_port(jail, policy))
    yield from to_bridged([switch for switch in switches if not switch.routed], bridged, policy)
    yield "# elsewhere"
    yield from strangers(routed, policy.groups)
    yield from (line for switch, guests in segments if guests for line in on_segment(switch, guests, policy.groups))
    yield from translated(spec, policy.groups)
    yield from elsewhere(routed, homes(spec), policy.groups)


# ── the uplink ───────────────────────────────────────────────────────────────────────────────────────────────


def door(part: Outside, spec: HostSpec, groups: Groups) -> Iterator[str]:
    """Before all else. Neighbour discovery has sources without a way back, and is neither TCP nor UDP."""
    at_home = {jail.nic.switch for jail in spec.jails}
    # the jails of a bridged switch have a door of their own; a segment of private addresses is no door
    doors = [part.nic, *(p.uplink for p in spec.parts if isinstance(p, Switch) and not p.routed and p.name in at_home)]
    for nic in doors if part.blocked else ():
        if link_locals(part.blocked):
            # a host that does not hear its router is cut off
            heard = f"icmp6-type {numbers(SEGMENT)} no state allow-opts"
            yield f"pass in quick on {quoted(nic)} inet6 proto ipv6-icmp from {LINK_LOCAL} to any {heard}"
        yield f"block drop in quick on {quoted(nic)} from {groups(collapsed(part.blocked))} to any"
    start = f"block drop in quick on {quoted(part.nic)}"
    if part.strict:
        yield f"{start} proto {{ tcp, udp }} from no-route to any"
        yield f"{start} proto {{ tcp, udp }} from urpf-failed to any"


def translations(spec: HostSpec) -> Iterator[str]:
    """The gates judge a jail by its own address, before it is hidden and after it is found."""
    for part in spec.parts:
        if isinstance(part, Translation):
            nic, networks = quoted(part.nic), among(collapsed(part.networks))
            yield f"nat on {nic} inet from {networks} to any tag {TRANSLATED} -> ({quoted(part.nic, ':0')})"
    arriving = [part for part in spec.parts if isinstance(part, Redirect)]
    for part in sorted(arriving, key=lambda part: (part.host_port, part.protocol)):
        target = f"{plain(part.address)} port {part.port:d}"
        to = f"to ({quoted(part.nic)}) port {part.host_port:d} tag {TRANSLATED} -> {target}"
        yield f"rdr on {quoted(part.nic)} inet proto {part.protocol} from any {to}"


def translated(spec: HostSpec, groups: Groups) -> Iterator[str]:
    """Private addresses are known on their host alone: whatever has one at an uplink stays here."""
    private = [plain(jail.nic.private) for jail in spec.jails if jail.nic.private]
    if private:
        # pf lets a packet go as it is when there is nothing to translate it to (pf_lb.c), and it has the tag
        yield f"block drop out quick inet from {groups(sorted(private))} to any"
    if any(isinstance(part, Translation | Redirect) for part in spec.parts):
        yield f"pass quick inet all tagged {TRANSLATED} keep state (if-bound)"
    if private:
        yield f"block drop in quick inet from any to {groups(sorted(private))}"


# ── routed switches ──────────────────────────────────────────────────────────────────────────────────────────


def routed_switch(name: str, jails: Sequence[Jail], policy: Policy) -> Iterator[str]:
    """The gate of all jails on it. Its ports only hold each sender to its own addresses."""
    for jail in jails:
        yield f"# {shown(jail.id)}"
        yield from own_icmp(jail)
        for family, own in families(addresses(jail)):
            yield f"pass in quick on {port(jail)} {family} proto {{ tcp, udp }} from {among(own)} to any no state"
        yield f"block drop quick on {port(jail)} all"
    yield f"# {shown(name)}"
    yield from gate_in(quoted(name), jails, policy)
    yield from gate_out(quoted(name), jails, policy)


def gate_in(gate: str, jails: Sequence[Jail], policy: Policy) -> Iterator[str]:
    """A jail reaches nothing else on its host; its answers to what the host asked have a state."""
    senders = [address for jail in jails for address in (*addresses(jail), link_local(jail.nic.mac))]
    if senders:
        yield from icmp(f"pass in quick on {gate}", policy.groups(senders))
    yield from (f"block drop in quick on {gate} from any to {place}" for place in NEAR)
    for jail in jails:
        yield from permissions(jail, "in", gate, policy)
    yield f"block drop in quick on {gate} all"


def gate_out(gate: str, jails: Sequence[Jail], policy: Policy) -> Iterator[str]:
    for jail in jails:
        yield from cut_off(jail, gate, policy)
    yield from icmp(f"pass out quick on {gate}", "any")
    yield from from_host(gate, jails, policy)
    for jail in jails:
        yield from permissions(jail, "out", gate, policy)
    yield f"block drop out quick on {gate} all"


def own_icmp(jail: Jail) -> Iterator[str]:
    """From its own addresses, and never as a router."""
    start = f"pass in quick on {port(jail)}"
    for family, own in families((*addresses(jail), link_local(jail.nic.mac))):
        yield from icmp(start, among(own), family)


def icmp(start: str, senders: str, only: str = "") -> Iterator[str]:
    if only != "inet":
        yield f"{start} inet6 proto ipv6-icmp from {senders} to any icmp6-type {numbers(ICMP6)} no state"
    if only != "inet6":
        yield f"{start} inet proto icmp from {senders} to any icmp-type {numbers(ICMP)} no state"


def from_host(gate: str, jails: Sequence[Jail], policy: Policy) -> Iterator[str]:
    """The host's own packets to its jails. The state is the gate's, or an answer could be another jail's word."""
    rules = policy.rules.get(("", "out"), ()) if "out" in policy.walls else ANYTHING
    found: dict[str, None] = {}
    for rule in rules if jails else ():
        for family, own in families([address for jail in jails for address in addresses(jail)]):
            theirs = [address for address in own if not rule.peers or inside(address, rule.peers)]
            if theirs:
                start = f"pass out quick on {gate} {family}"
                ends = ("(self)", policy.groups(theirs))
                found |= {f"{line} (if-bound)": None for line in matched(rule, start, *ends)}
    yield from sorted(found)


# ── bridged switches ─────────────────────────────────────────────────────────────────────────────────────────


def bridged_port(jail: Jail, policy: Policy) -> Iterator[str]:
    """A gate of its own."""
    gate = port(jail)
    yield f"# {shown(jail.id)}"
    yield from own_icmp(jail)
    yield from own_groups(jail)
    for family, own in families(addresses(jail)):
        # answers to the host: its switch, or uplink, lets in what has a state there, and nothing else
        yield f"pass in quick on {gate} {family} proto {{ tcp, udp }} from {among(own)} to (self) no state"
    yield from permissions(jail, "in", gate, policy)
    yield f"block drop in quick on {gate} all"
    yield from cut_off(jail, gate, policy)
    yield from icmp(f"pass out quick on {gate}", "any")
    segment = "icmp6-type { 130, 134 } no state allow-opts"
    yield f"pass out quick on {gate} inet6 proto ipv6-icmp from any to any {segment}"
    yield from permissions(jail, "out", gate, policy)
    yield f"block drop out quick on {gate} all"


def own_groups(jail: Jail) -> Iterator[str]:
    """Duplicate address detection, and reports for switches of the segment that look for listeners."""
    start, mine = f"pass in quick on {port(jail)} inet6 proto ipv6-icmp from", link_local(jail.nic.mac)
    yield f"{start} :: to ff02::1:ff00:0/104 icmp6-type 135 no state"
    yield f"{start} {{ ::, {mine} }} to ff02::/16 icmp6-type {numbers(REPORTS)} no state allow-opts"


def to_bridged(switches: Iterable[Switch], jails: Sequence[Jail], policy: Policy) -> Iterator[str]:
    """What leaves by the host's own stack passes no port: the host's connections may, what it would route may not."""
    if not jails:
        return
    for switch in switches:
        # before 15 the host's address may be on the uplink itself
        for name in filter(None, (switch.name, switch.uplink)):
            yield from from_host(quoted(name), jails, policy)
        yield from icmp(f"pass out quick on {quoted(switch.name)}", "any")
        yield f"block drop out quick on {quoted(switch.name)} from any to {theirs(jails, policy.groups)}"


# ── everywhere else ──────────────────────────────────────────────────────────────────────────────────────────


def strangers(routed: Sequence[Jail], groups: Groups) -> Iterator[str]:
    """With the address of a jail that is behind its switch; or with the host's, whom the gates would take it for."""
    if routed:
        yield f"{SPOOFED} {theirs(routed, groups)}"
        yield f"block drop in quick from {theirs(routed, groups)} to any"
        # its jail is gone, and with it the route
        yield f"block drop out quick from any to {theirs(routed, groups)}"


def elsewhere(routed: Sequence[Jail], bridged: Sequence[Jail], groups: Groups) -> Iterator[str]:
    """Uplinks. A router of the segment may bring a bridged jail's packet back, for another jail of this host."""
    for jails in filter(None, (routed, bridged)):
        yield f"pass in quick from any to {theirs(jails, groups)} no state"
        yield f"pass out quick from {theirs(jails, groups)} to any no state"


def further(switch: Switch, jails: Iterable[Jail]) -> list[Jail]:
    """Jails at the interfaces there that are not their own one."""
    ordered = sorted(jails, key=lambda jail: jail.id)
    return [each for jail in ordered for each in jail.stations[1:] if each.nic.switch == switch.name]


def on_segment(switch: Switch, jails: Sequence[Jail], groups: Groups) -> Iterator[str]:
    """Nowhere but there: customers choose these addresses, and elsewhere the same ones are anybody's. What one sends is
    bridged or the host's; it is no router for them."""
    yield f"block drop in quick on {quoted(switch.name)} proto {{ tcp, udp }} from {theirs(jails, groups)} to any"
    yield f"pass in quick on {quoted(switch.uplink)} from any to {theirs(jails, groups)} no state"
    yield f"pass out quick on {quoted(switch.uplink)} from {theirs(jails, groups)} to any no state"
    yield f"block drop in quick on {quoted(switch.uplink)} proto {{ tcp, udp }} from {theirs(jails, groups)} to any"


def theirs(jails: Sequence[Jail], groups: Groups) -> str:
    return groups([address for jail in jails for address in addresses(jail)])


def host(spec: HostSpec, policy: Policy) -> Iterator[str]:
    """Jails are judged by now; others reach of the host what the policy says, or everything without one."""
    yield "# the host"
    yield from messages()
    yield from as_the_host(spec, policy)
    yield from opened(spec, policy)
    if not policy.walls:
        yield from known_answers(spec)
    yield from unwalled(policy.walls)


def beside(spec: HostSpec, policy: Policy) -> Iterator[str]:
    """In an anchor: a direction of which the policy says nothing is the administrator's, but for what neighbours of a
    bridged jail, and the jail, say to each other."""
    yield "# the host, as far as its policy speaks of it"
    shared = [part for part in spec.parts if isinstance(part, Switch) and part.uplink]
    places = [f" on {quoted(nic)}" for part in sorted(shared, key=repr) for nic in (part.name, part.uplink)]
    for place in [""] if policy.walls else places:
        yield from messages(place)
    yield from as_the_host(spec, policy)
    if policy.walls:
        yield "pass quick on lo0 all no state"
        yield from opened(spec, policy)
    yield from (f"block drop {direction} quick all" for direction in sorted(policy.walls))


def messages(place: str = "") -> Iterator[str]:
    yield f"pass in quick{place} inet6 proto ipv6-icmp all icmp6-type {numbers(HEARD)} no state allow-opts"
    yield f"pass out quick{place} inet6 proto ipv6-icmp all no state allow-opts"
    yield f"pass quick{place} inet proto icmp all icmp-type {numbers(ICMP)} no state"


def as_the_host(spec: HostSpec, policy: Policy) -> Iterator[str]:
    if homes(spec):
        yield f"block drop in quick from {theirs(homes(spec), policy.groups)} to any"


def opened(spec: HostSpec, policy: Policy) -> Iterator[str]:
    yield f"{SPOOFED} (self)"
    # without states, also for connections older than these rules: the one that brings them is such a one
    yield f"pass in quick proto tcp from any to any port {spec.ssh.port} flags any no state"
    yield f"pass out quick proto tcp from any port {spec.ssh.port} to any flags any no state"
    for direction in ("in", "out"):
        rules = policy.rules.get(("", direction), ()) if direction in policy.walls else ()
        yield from sorted({line for rule in rules for line in host_lines(rule, policy.groups)})


def known_answers(spec: HostSpec) -> Iterator[str]:
    """To a port of the host that is also one for visitors: only a state comes before a translation."""
    for nic in sorted({part.nic for part in spec.parts if isinstance(part, Redirect)}):
        for rule in ANYTHING:
            yield from (f"{line} (if-bound)" for line in matched(rule, f"pass out quick on {quoted(nic)} inet", *OWN))


def host_lines(rule: Rule, groups: Groups) -> Iterator[str]:
    for family, peer in peers(rule, groups):
        ends = (peer, "any") if rule.direction == "in" else ("any", peer)
        yield from matched(rule, f"pass {rule.direction} quick {family}", *ends)


def unwalled(walls: Iterable[str]) -> Iterator[str]:
    """An open direction's connections from before these rules go on: sloppy, for their windows are not known."""
    opened = [direction for direction in ("in", "out") if direction not in walls]
    if len(opened) == 2:
        yield "pass quick all no state"
        return
    for direction in opened:
        yield f"pass {direction} quick proto tcp all flags S/SA keep state"
        yield f"pass {direction} quick all flags any keep state (sloppy)"
