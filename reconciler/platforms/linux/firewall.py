"""The typed rules → one nftables file: default deny for jails, and for the host where a policy says so.

In: a host's switches, jails and Rules. Out: the text of `firewall.nft`, which replaces our two tables in one
transaction and touches nobody else's. Packets are judged by address, not by interface: ports are held to their own
addresses by the bridge table, so an address is as good as a name, and bridged frames (br_netfilter) need no second
ruleset. Sources: nft(8); RFC 4890 for the ICMPv6 that must pass. Must not know units or files of jails.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from ipaddress import IPv4Network, IPv6Address, IPv6Network, collapse_addresses, ip_network

from reconciler.model import HostSpec, Jail, Rule, Switch, Wall
from reconciler.platforms.linux.paths import UNITS, digest

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

# What IPv6 dies without (RFC 4890): errors 1-4 and echo. Neighbour discovery crosses a host only on bridged segments.
HEAD = """\
# Written by the reconciler; changes are overwritten.
table inet reconciler {}
delete table inet reconciler
table bridge reconciler {}
delete table bridge reconciler
"""
ICMP = """\
    ct state established,related accept
    ct state invalid drop
    icmpv6 type { destination-unreachable, packet-too-big, time-exceeded, parameter-problem } accept
    icmpv6 type { echo-request, echo-reply } accept
    icmp type { destination-unreachable, time-exceeded, parameter-problem, echo-request, echo-reply } accept"""
NEIGHBOURS = "icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert, nd-router-solicit, nd-router-advert }"

LISTENERS = "icmpv6 type { mld-listener-query, mld-listener-report, mld-listener-done, mld2-listener-report }"


def ruleset(spec: HostSpec) -> bytes:
    switches = [part for part in spec.parts if isinstance(part, Switch)]
    rules = [part for part in spec.parts if isinstance(part, Rule)]
    walls = {part.direction for part in spec.parts if isinstance(part, Wall)}
    jails = sorted(spec.jails, key=lambda jail: jail.id)
    lines = [HEAD, *inet_table(switches, jails, rules, walls), *bridge_table(jails)]
    return ("\n".join(lines) + "\n").encode()


# ── layer 3 ──────────────────────────────────────────────────────────────────────────────────────────────────


def inet_table(switches: list[Switch], jails: list[Jail], rules: list[Rule], walls: Collection[str]) -> Iterator[str]:
    """A jail's packets pass its `out` chain, then the receiver's `in` chain; what nothing accepts is dropped."""
    names = ", ".join(f'"{switch.name}"' for switch in switches)
    by_subject: dict[tuple[str, str], list[Rule]] = {}
    for rule in rules:
        by_subject.setdefault((rule.subject, rule.direction), []).append(rule)
    yield "table inet reconciler {"
    yield from host_chains(names, by_subject, walls)
    yield "  chain forward {"
    yield "    type filter hook forward priority filter; policy accept;"
    yield f"    iifname {{ {names} }} jump jails"
    yield f"    oifname {{ {names} }} jump jails"
    yield "  }"
    yield "  chain jails {"
    yield ICMP
    if any(not switch.routed for switch in switches):
        yield f"    {NEIGHBOURS} accept"
    yield from dispatch("saddr", "out", jails)
    yield from dispatch("daddr", "in", jails)
    yield from members(jails)
    yield "    drop"
    yield "  }"
    for jail in jails:
        yield from jail_chains(jail, by_subject)
    yield "}"


def host_chains(names: str, rules: dict[tuple[str, str], list[Rule]], walls: Collection[str]) -> Iterator[str]:
    """Jails reach nothing on their host but its ICMPv6; others what the policy says, or everything without one."""
    yield "  chain input {"
    yield "    type filter hook input priority filter; policy accept;"
    yield '    iifname "lo" accept'
    yield ICMP
    yield f"    {NEIGHBOURS} accept"
    yield f"    iifname {{ {names} }} drop"
    for rule in rules.get(("", "in"), ()):
        yield from rule_lines(rule, "saddr", "accept")
    if "in" in walls:
        yield f"    {LISTENERS} accept"
        yield "    drop"
    yield "  }"
    if "out" in walls:
        yield "  chain output {"
        yield "    type filter hook output priority filter; policy accept;"
        yield '    oifname "lo" accept'
        yield ICMP
        yield "    meta l4proto icmpv6 accept"
        for rule in rules.get(("", "out"), ()):
            yield from rule_lines(rule, "daddr", "accept")
        yield "    drop"
        yield "  }"


def dispatch(field: str, direction: str, jails: list[Jail]) -> Iterator[str]:
    """By a map: one look-up, however many jails there are."""
    for family, colon in (("ip6", True), ("ip", False)):
        targets = [
            f"{address.partition('/')[0]} : jump {chain(direction, jail)}"
            for jail in jails
            for address in jail.nic.addresses
            if (":" in address) == colon
        ]
        if targets:
            yield f"    {family} {field} vmap {{ {', '.join(targets)} }}"


def members(jails: list[Jail]) -> Iterator[str]:
    """Whose packet came back from its `out` chain may leave, and goes to nobody here."""
    for family, colon in (("ip6", True), ("ip", False)):
        own = [a.partition("/")[0] for jail in jails for a in jail.nic.addresses if (":" in a) == colon]
        if own:
            yield f"    {family} saddr {{ {', '.join(own)} }} accept"


def jail_chains(jail: Jail, rules: dict[tuple[str, str], list[Rule]]) -> Iterator[str]:
    for direction, field, verdict in (("out", "daddr", "return"), ("in", "saddr", "accept")):
        yield f"  chain {chain(direction, jail)} {{"
        for rule in sorted(rules.get((jail.id, direction), ()), key=repr):
            yield from rule_lines(rule, field, verdict)
        yield "    drop"
        yield "  }"


def chain(direction: str, jail: Jail) -> str:
    """Ids are `[a-z0-9-]`, nft's names `[A-Za-z0-9_]`: the digest keeps `a-b--c` and `a--b-c` apart."""
    return f"{direction}_{jail.id.replace('-', '_')}_{digest(jail.id.encode())[:6]}"


def rule_lines(rule: Rule, field: str, verdict: str) -> Iterator[str]:
    ports = f" dport {{ {', '.join(map(str, rule.ports))} }}" if rule.ports else ""
    match = f"{rule.protocol}{ports}" if ports else f"meta l4proto {rule.protocol}"
    if not rule.peers:
        yield f"    {match} {verdict} comment {text(rule.label)}"
    for family, colon in (("ip6", True), ("ip", False)):
        peers = [peer for peer in rule.peers if (":" in peer) == colon]
        if peers:
            whom = f"{family} {field} {{ {', '.join(collapsed(peers))} }}"
            yield f"    {whom} {match} {verdict} comment {text(rule.label)}"


def collapsed(peers: Iterable[str]) -> list[str]:
    """nft refuses overlapping prefixes in an anonymous set."""
    networks = [ip_network(peer) for peer in peers]
    six = [n for n in networks if isinstance(n, IPv6Network)]
    four = [n for n in networks if isinstance(n, IPv4Network)]
    return [str(n) for n in (*collapse_addresses(six), *collapse_addresses(four))]


def text(label: str) -> str:
    """A string of nft: printable, no quote, no backslash, at most 128 bytes with its end (nft(8), comment)."""
    kept = "".join(c if c.isascii() and c.isprintable() and c not in '"\\' else "?" for c in label)
    return f'"{kept[:100]}"'


# ── layer 2 ──────────────────────────────────────────────────────────────────────────────────────────────────


def bridge_table(jails: list[Jail]) -> Iterator[str]:
    """A port sends only its own MAC and addresses, speaks for no other address, and never as a router."""
    yield "table bridge reconciler {"
    yield "  chain prerouting {"
    yield "    type filter hook prerouting priority -300; policy accept;"
    ports = [f'"{jail.nic.host_side}" : goto {chain("port", jail)}' for jail in jails]
    if ports:
        yield f"    iifname vmap {{ {', '.join(ports)} }}"
    yield "  }"
    for jail in jails:
        yield from port_chain(jail)
    yield "}"


def port_chain(jail: Jail) -> Iterator[str]:
    six = [a.partition("/")[0] for a in jail.nic.addresses if ":" in a]
    four = [a.partition("/")[0] for a in jail.nic.addresses if ":" not in a]
    own = ", ".join([*six, link_local(jail.nic.mac)])
    targets = ", ".join(f"0x{int(IPv6Address(a)):032x}" for a in (*six, link_local(jail.nic.mac)))
    yield f"  chain {chain('port', jail)} {{"
    yield f"    ether saddr != {jail.nic.mac} drop"
    yield "    icmpv6 type { nd-router-advert, nd-redirect } drop"
    # the target of an advertisement: whose address the sender says it has (RFC 4861, 4.4)
    yield f"    icmpv6 type nd-neighbor-advert @th,64,128 != {{ {targets} }} drop"
    yield f"    ip6 saddr {{ {own} }} accept"
    yield "    ip6 saddr :: icmpv6 type { nd-neighbor-solicit, mld2-listener-report } accept"
    if four:
        yield f"    arp saddr ip {{ {', '.join(four)} }} accept"
        yield f"    ip saddr {{ {', '.join(four)} }} accept"
    yield "    drop"
    yield "  }"


def link_local(mac: str) -> str:
    """The address the kernel derives (modified EUI-64, RFC 4291 appendix A)."""
    octets = bytes.fromhex(mac.replace(":", ""))
    identifier = bytes([octets[0] ^ 2, *octets[1:3], 0xFF, 0xFE, *octets[3:]])
    return str(IPv6Address(b"\xfe\x80" + bytes(6) + identifier))
