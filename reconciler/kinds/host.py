"""Host: its switches, sysctls and the rules for the host itself.

In: a Host document. Out: Parts for that one host. The rule for SSH is always there, whatever the policy says: a host
that the reconciler cannot reach cannot be mended by it. Jails arrive from their own documents.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from itertools import chain
from typing import Any, Literal

from reconciler.kinds import lists
from reconciler.kinds.addresses import networks4
from reconciler.kinds.documents import Expansion, Staff, interface, missing, stable
from reconciler.model import (
    Claim,
    Document,
    Outside,
    Part,
    Pointer,
    Problem,
    Rename,
    Rule,
    Switch,
    Sysctl,
    Translation,
    Vlan,
    Wall,
    problem,
)

LONGEST = 15
"""Characters of an interface's name (IFNAMSIZ)."""
Direction = Literal["in", "out"]
SIDES: tuple[tuple[Direction, str], ...] = (("in", "from"), ("out", "to"))


def expand(document: Document, staff: Staff) -> Expansion:
    location = staff.find("Location", document.spec["location"])
    problems = list(problems_of(document, staff, location))
    if location is None:
        return Expansion(problems=tuple(problems))
    return Expansion(
        hosts=frozenset({document.name}),
        parts=partial(parts, document, location, staff),
        claims=tuple(claims(document, staff)),
        problems=tuple(problems),
    )


def parts(document: Document, location: Document, staff: Staff) -> Iterator[tuple[str, Part]]:
    found: tuple[Iterator[Part], ...] = (
        sysctls(document),
        (Rename(name, device) for name, device in sorted(document.spec.get("nics", {}).items())),
        switches(document, location),
        outside(document, staff),
        rules(document, staff),
    )
    for part in chain.from_iterable(found):
        yield document.name, part


def problems_of(document: Document, staff: Staff, location: Document | None) -> Iterator[Problem]:
    spec = document.spec
    if location is None:
        yield from missing(document, ("spec", "location"), "location", spec["location"], staff.named("Location"))
    if "policy" in spec and staff.find("FirewallPolicy", spec["policy"]) is None:
        yield from missing(
            document, ("spec", "policy"), "firewall policy", spec["policy"], staff.named("FirewallPolicy")
        )
    if location:
        yield from uplink_problems(document, location, staff)
        yield from nat_problems(document, location)
    yield from outside_problems(document, staff)
    yield from nic_problems(document)
    if "zfs" in spec and spec["platform"] != "freebsd":
        hint = "remove it: the data of jails on linux is plain directories, without a quota"
        yield problem(document.path, ("spec", "zfs"), "zfs is for FreeBSD hosts", hint)
    if "firewall" in spec and spec["platform"] != "freebsd":
        hint = "remove it: on linux the rules are tables of their own, beside those of the administrator"
        yield problem(document.path, ("spec", "firewall"), "firewall is for FreeBSD hosts", hint)


def uplink_problems(document: Document, location: Document, staff: Staff) -> Iterator[Problem]:
    """Routed hosts have one uplink; in bridged locations each switch has its own."""
    spec, bridged = document.spec, location.spec["mode"] == "bridged"
    if announces(location) and spec["platform"] == "freebsd":
        hint = f"set announce: none in {location.path} and route its prefix to the host, or take mode: bridged"
        yield problem(document.path, ("spec", "platform"), "a FreeBSD host cannot announce its jails' addresses", hint)
        return
    if not bridged and announces(location) and "uplink" not in spec:
        hint = f"add uplink, or set announce: none in {location.path}"
        yield problem(document.path, ("spec",), "no uplink to announce the jails' addresses on", hint)
    unknown = spec.get("policy") in staff.named("FirewallPolicy").broken
    if bridged and "uplink" in spec and not unknown and not outside_words(document, staff):
        hint = "give the switch an uplink instead"
        yield problem(document.path, ("spec", "uplink"), "uplink does nothing in a bridged location", hint)
    for index, switch in enumerate(spec["switches"]):
        if "vlan" in switch and "uplink" not in switch:
            pointer = ("spec", "switches", index, "vlan")
            yield problem(document.path, pointer, "a VLAN of no interface", "add the uplink that carries it")
        if bridged and "uplink" not in switch:
            message = "a switch in a bridged location needs an uplink"
            yield problem(document.path, ("spec", "switches", index), message, "")
    if not bridged and not any(carries(switch, location) for switch in spec["switches"]):
        message = "no switch whose jails the host is the router of"
        yield problem(document.path, ("spec", "switches"), message, "add one without an uplink")


def carries(switch: Mapping[str, Any], location: Document) -> bool:
    """Whether jails have their own address there, and their way out; else it is a segment for further interfaces."""
    bridged: bool = location.spec["mode"] == "bridged"
    return ("uplink" in switch) == bridged


def nat_problems(document: Document, location: Document) -> Iterator[Problem]:
    """Where the jails' router is not the host there is nothing for it to translate."""
    for index, switch in enumerate(document.spec["switches"]):
        if not switch.get("nat"):
            continue
        pointer = ("spec", "switches", index, "nat")
        if location.spec["mode"] == "bridged":
            yield problem(document.path, pointer, "the jails of a bridged location leave by its router", "remove it")
        elif "uplink" not in document.spec:
            yield problem(document.path, pointer, "no uplink whose address the jails could leave with", "add uplink")
        elif not carries(switch, location):
            message = f"{switch['name']} is a segment, and no jail has its way out there"
            yield problem(document.path, pointer, message, "put nat on the switch without an uplink")
        elif not networks4(switch):
            hint = "add one to its addresses, such as 10.0.2.1/24"
            yield problem(document.path, pointer, f"{switch['name']} has no private IPv4 network", hint)


def nic_problems(document: Document) -> Iterator[Problem]:
    spec, names = document.spec, {device: name for name, device in document.spec.get("nics", {}).items()}
    if names and spec["platform"] != "freebsd":
        hint = "remove it, and write the names that `ip link` shows; systemd.link(5) gives others"
        yield problem(document.path, ("spec", "nics"), "nics is for FreeBSD hosts", hint)
    for pointer, used in uplinks(document):
        if used in names:
            message = f"{used} is called {names[used]} on this host"
            hint = f"write {names[used]}, or remove it from nics, where a card is OUR-NAME: DRIVERS-NAME"
            yield problem(document.path, pointer, message, hint)


def uplinks(document: Document) -> Iterator[tuple[Pointer, str]]:
    """Where it names network cards."""
    if "uplink" in document.spec:
        yield ("spec", "uplink"), document.spec["uplink"]
    for index, switch in enumerate(document.spec["switches"]):
        if "uplink" in switch:
            yield ("spec", "switches", index, "uplink"), switch["uplink"]


def outside_problems(document: Document, staff: Staff) -> Iterator[Problem]:
    asked = outside_words(document, staff)
    if asked and "uplink" not in document.spec:
        message = f"policy {document.spec['policy']} says {' and '.join(asked)}, and host {document.name} has no uplink"
        hint = "add spec.uplink, the interface with the host's own way out; a switch's uplink is another one"
        yield problem(document.path, ("spec", "policy"), message, hint)


def outside_words(document: Document, staff: Staff) -> list[str]:
    """What the host's policy says of its uplink."""
    policy = staff.find("FirewallPolicy", document.spec.get("policy", ""))
    return [key for key in ("block", "strict") if policy and policy.spec.get(key)]


def on_freebsd(name: str, staff: Staff) -> bool:
    host = staff.find("Host", name)
    return host is not None and host.spec["platform"] == "freebsd"


def announces(location: Document) -> bool:
    return bool(location.spec["mode"] == "routed" and location.spec.get("announce", "ndp") == "ndp")


def sysctls(document: Document) -> Iterator[Part]:
    for key, value in sorted(document.spec.get("sysctls", {}).items()):
        yield Sysctl(key, value)


def switches(document: Document, location: Document) -> Iterator[Part]:
    routed = location.spec["mode"] == "routed"
    for switch in document.spec["switches"]:
        uplink = joined(switch)
        if "vlan" in switch:
            yield Vlan(uplink, switch["uplink"], switch["vlan"])
        yield Switch(switch["name"], routed and not uplink, uplink, tuple(switch.get("addresses", ())))


def joined(switch: Mapping[str, Any]) -> str:
    """The interface that is the bridge's member: the uplink, or its VLAN, whose name no system uses by itself."""
    uplink: str = switch.get("uplink", "")
    if "vlan" not in switch:
        return uplink
    name = f"{uplink}_{switch['vlan']}"
    return name if len(name) <= LONGEST else interface(stable(name), "v_")


def outside(document: Document, staff: Staff) -> Iterator[Part]:
    nic = document.spec.get("uplink", "")
    policy = staff.find("FirewallPolicy", document.spec.get("policy", ""))
    if policy is not None:
        blocked, uncounted = (prefixes(policy, policy.spec.get(key, ()), staff) for key in ("block", "bypass"))
        yield Outside(nic, blocked, uncounted, policy.spec.get("strict", False))
    for switch in document.spec["switches"]:
        if switch.get("nat"):
            yield Translation(nic, tuple(map(str, networks4(switch))))


def rules(document: Document, staff: Staff) -> Iterator[Part]:
    port = document.spec["ssh"].get("port", 22)
    yield Rule("", "in", (), "tcp", (port,), "ssh")
    policy = staff.find("FirewallPolicy", document.spec.get("policy", ""))
    if policy is None:
        return
    for direction, side in SIDES:
        if direction in policy.spec:
            yield Wall(direction)
        for index, rule in enumerate(policy.spec.get(direction, ())):
            peers = prefixes(policy, rule[side], staff) or lists.NOBODY if side in rule else ()
            yield policy_rule(policy, direction, rule, peers, index)


def own_ports(document: Document, staff: Staff) -> set[tuple[str, int]]:
    """What its policy opens of the host itself, to whomever."""
    policy = staff.find("FirewallPolicy", document.spec.get("policy", ""))
    opened = policy.spec.get("in", ()) if policy else ()
    return {(rule.get("protocol", "tcp"), port) for rule in opened for port in rule["ports"]}


def policy_rule(policy: Document, direction: Direction, rule: Any, peers: tuple[str, ...], index: int) -> Rule:
    label = rule.get("description") or f"{policy.name} {direction} {index}"
    return Rule("", direction, peers, rule.get("protocol", "tcp"), tuple(rule["ports"]), label)


def prefixes(policy: Document, names: Iterable[str], staff: Staff) -> tuple[str, ...]:
    return lists.joined(lists.table(policy, name, staff) for name in names)


def claims(document: Document, staff: Staff) -> Iterator[Claim]:
    ssh = document.spec["ssh"]
    sshd = ("tcp", ssh.get("port", 22))
    yield Claim(f"tcp port of host {document.name}", str(sshd[1]), document.path, ("spec", "ssh", "port"))
    for protocol, port in sorted(own_ports(document, staff) - {sshd}):
        # or a jail's `hostPort` would answer in the name of the host
        yield Claim(f"{protocol} port of host {document.name}", str(port), document.path, ("spec", "policy"))
    for index, switch in enumerate(document.spec["switches"]):
        for position, address in enumerate(switch.get("addresses", ())):
            pointer = ("spec", "switches", index, "addresses", position)
            yield Claim(f"address on host {document.name}", address.partition("/")[0], document.path, pointer)
    yield Claim("SSH address", f"[{ssh['address']}]:{ssh.get('port', 22)}", document.path, ("spec", "ssh", "address"))
    if "uplink" in document.spec:
        yield Claim(f"interface on host {document.name}", document.spec["uplink"], document.path, ("spec", "uplink"))
    for index, switch in enumerate(document.spec["switches"]):
        for key, name in (("name", switch["name"]), ("vlan" if "vlan" in switch else "uplink", joined(switch))):
            if name:
                where = ("spec", "switches", index, key)
                yield Claim(f"interface on host {document.name}", name, document.path, where)
    yield from nic_claims(document)


def nic_claims(document: Document) -> Iterator[Claim]:
    """Of both names; what it names as an uplink, which is a claim already, is meant to be one of them."""
    used = {document.spec.get("uplink"), *map(joined, document.spec["switches"])}
    for name, device in document.spec.get("nics", {}).items():
        for each in {name, device} - used:
            yield Claim(f"interface on host {document.name}", each, document.path, ("spec", "nics", name))
