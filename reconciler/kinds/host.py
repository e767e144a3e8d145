"""Host: its switches, sysctls and the rules for the host itself.

In: a Host document. Out: Parts for that one host. The rule for SSH is always there, whatever the policy says: a host
that the reconciler cannot reach cannot be mended by it. Jails arrive from their own documents.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any, Literal

from reconciler.kinds.documents import Expansion, Staff, missing
from reconciler.model import Claim, Document, Part, Problem, Rule, Switch, Sysctl, Wall, problem

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
        claims=tuple(claims(document)),
        problems=tuple(problems),
    )


def parts(document: Document, location: Document, staff: Staff) -> Iterator[tuple[str, Part]]:
    for part in (*sysctls(document), *switches(document, location), *rules(document, staff)):
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
        yield from uplink_problems(document, location)
    if "zfs" in spec and spec["platform"] != "freebsd":
        hint = "remove it: the data of jails on linux is plain directories, without a quota"
        yield problem(document.path, ("spec", "zfs"), "zfs is for FreeBSD hosts", hint)


def uplink_problems(document: Document, location: Document) -> Iterator[Problem]:
    """Routed hosts have one uplink; in bridged locations each switch has its own."""
    spec, bridged = document.spec, location.spec["mode"] == "bridged"
    if announces(location) and spec["platform"] == "freebsd":
        hint = f"set announce: none in {location.path} and route its prefix to the host, or take mode: bridged"
        yield problem(document.path, ("spec", "platform"), "a FreeBSD host cannot announce its jails' addresses", hint)
        return
    if not bridged and announces(location) and "uplink" not in spec:
        hint = f"add uplink, or set announce: none in {location.path}"
        yield problem(document.path, ("spec",), "no uplink to announce the jails' addresses on", hint)
    if bridged and "uplink" in spec:
        hint = "give the switch an uplink instead"
        yield problem(document.path, ("spec", "uplink"), "uplink does nothing in a bridged location", hint)
    for index, switch in enumerate(spec["switches"]):
        if bridged == ("uplink" in switch):
            continue
        message = "a switch in a bridged location needs an uplink" if bridged else "uplink belongs to bridged locations"
        yield problem(document.path, ("spec", "switches", index), message, "")


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
        yield Switch(switch["name"], routed, switch.get("uplink", ""), tuple(switch.get("addresses", ())))


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
            yield policy_rule(policy, direction, rule, rule.get(side), index)


def policy_rule(policy: Document, direction: Direction, rule: Any, names: list[str] | None, index: int) -> Rule:
    """A rule that names only empty tables lets nobody pass: no peers at all would mean everybody."""
    tables = policy.spec.get("tables", {})
    peers = [prefix for name in names or () for prefix in tables.get(name, ())]
    label = rule.get("description") or f"{policy.name} {direction} {index}"
    nobody = () if names is None else ("::/128",)
    return Rule("", direction, tuple(peers) or nobody, rule.get("protocol", "tcp"), tuple(rule["ports"]), label)


def claims(document: Document) -> Iterator[Claim]:
    ssh = document.spec["ssh"]
    yield Claim("SSH address", f"[{ssh['address']}]:{ssh.get('port', 22)}", document.path, ("spec", "ssh", "address"))
    if "uplink" in document.spec:
        yield Claim(f"interface on host {document.name}", document.spec["uplink"], document.path, ("spec", "uplink"))
    for index, switch in enumerate(document.spec["switches"]):
        for key in ("name", "uplink"):
            if key in switch:
                pointer = ("spec", "switches", index, key)
                yield Claim(f"interface on host {document.name}", switch[key], document.path, pointer)
