"""Layer 2: the table that holds every port to its own MAC and addresses.

In: jails, each at one of its interfaces. Out: the lines of the table `bridge`. No port sends anything in another's
name, so that layer 3 may judge packets by address alone. Sources: nft(8), and the RFCs of neighbour discovery. Must not
know Rules: what a jail may reach changes nothing here.
"""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv6Address

from reconciler.model import Jail
from reconciler.platforms.addresses import link_local
from reconciler.platforms.files import digest
from reconciler.platforms.linux.network import GROUP
from reconciler.platforms.linux.nft import addresses, chain, quoted

SENT = """\
  chain sent {
    ip6 nexthdr { tcp, udp } accept
    ip6 nexthdr icmpv6 icmpv6 type { destination-unreachable, packet-too-big, time-exceeded, parameter-problem } accept
    ip6 nexthdr icmpv6 icmpv6 type { echo-request, echo-reply } accept
    ip6 nexthdr ipv6-frag frag nexthdr { tcp, udp } accept
    drop
  }"""
"""What a jail sends from an address of its own, without neighbour discovery: no other header comes first, so that
nothing hides behind one (RFC 7113). ICMPv6 comes in one piece: a fragment of it may be half a redirect (RFC 6980)."""


def bridge_table(jails: list[Jail]) -> Iterator[str]:
    """A port sends only its own MAC and addresses, speaks for no other address, and never as a router."""
    ports = quoted(jail.nic.host_side for jail in jails)
    yield "table bridge reconciler {"
    yield "  chain prerouting {"
    yield "    type filter hook prerouting priority -300; policy accept;"
    if jails:
        targets = ", ".join(f'"{jail.nic.host_side}" : goto {port(jail)}' for jail in jails)
        yield f"    iifname vmap {{ {targets} }}"
    # a port of ours that no document names (any more): its jail is left as it is, or could not be removed
    yield f'    meta iifgroup {GROUP} meta iifkind "veth" drop'
    yield "  }"
    if jails:
        # br_netfilter shows the rules of layer 3 no frame with a tag, and a jail takes a VLAN 0 for none at all
        yield "  chain forward {"
        yield "    type filter hook forward priority -300; policy accept;"
        yield f"    oifname {{ {ports} }} ether type != {{ ip6, ip, arp }} drop"
        yield "  }"
        yield SENT
    for jail in jails:
        yield from port_chain(jail)
    yield "}"


def port_chain(jail: Jail) -> Iterator[str]:
    """Everything is listed that may pass. An `ether type` of a tagged frame is the tag's."""
    mac = jail.nic.mac
    own = [address for address in addresses(jail) if ":" in address] + [link_local(mac)]
    four = ", ".join(address for address in addresses(jail) if ":" not in address)
    six = ", ".join(own)
    yield f"  chain {port(jail)} {{"
    yield f"    ether saddr != {mac} drop"
    if four:
        says = f"arp operation {{ request, reply }} arp saddr ether {mac} arp saddr ip {{ {four} }}"
        yield f"    ether type arp {says} accept"
        yield f"    ether type ip ip saddr {{ {four} }} accept"
    yield "    ether type != ip6 drop"
    yield from discovery(mac, own)
    yield f"    ip6 saddr {{ {six} }} goto sent"
    yield "    drop"
    yield "  }"


def port(jail: Jail) -> str:
    """The chain of one of its interfaces."""
    return f"{chain('port', jail)}_{digest(jail.nic.host_side.encode())[:6]}"


def discovery(mac: str, own: list[str]) -> Iterator[str]:
    """Solicitations and advertisements (RFC 4861, 4.3 and 4.4), with at most one option: the sender's own MAC."""
    targets = ", ".join(f"0x{int(IPv6Address(address)):032x}" for address in own)
    six = ", ".join(own)
    hardware = mac.replace(":", "")
    message = "ip6 nexthdr icmpv6 icmpv6 type"
    for kind, option in (("nd-neighbor-solicit", f"0x0101{hardware}"), ("nd-neighbor-advert", f"0x0201{hardware}")):
        # whose address the sender says it has
        check = f"@th,64,128 {{ {targets} }} @th,32,1 0 " if kind == "nd-neighbor-advert" else ""
        yield f"    {message} {kind} ip6 saddr {{ {six} }} {check}ip6 length 24 accept"
        yield f"    {message} {kind} ip6 saddr {{ {six} }} {check}ip6 length 32 @th,192,64 {option} accept"
        yield f"    {message} {kind} ip6 saddr != :: drop"
    # duplicate address detection; with a nonce (RFC 7527)
    yield f"    {message} nd-neighbor-solicit ip6 saddr :: @th,64,128 {{ {targets} }} ip6 length {{ 24, 32 }} accept"
    # switches of a segment that look for listeners; behind a router alert (RFC 3810, 5)
    reports = "icmpv6 type { mld-listener-report, mld-listener-done, mld2-listener-report }"
    yield f"    ip6 nexthdr hopopt {reports} ip6 saddr {{ ::, {link_local(mac)} }} accept"
