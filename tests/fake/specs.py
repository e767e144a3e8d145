"""What a host shall be, made up: one rich example, and a strategy for many.

Few names, addresses and interfaces, so that two draws take them from each other.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from hypothesis import strategies as st

from reconciler.model import (
    HostSpec,
    Jail,
    JailSecret,
    Limits,
    Link,
    LinkEnd,
    Nic,
    Outside,
    Part,
    Rate,
    Redirect,
    Rule,
    Secret,
    Source,
    Ssh,
    Switch,
    Sysctl,
    Translation,
    Tunnel,
    Vlan,
    Wall,
)

STORAGE = "/var/lib/reconciler"
SWITCHES = (Switch("sw0", True), Switch("sw1", True, addresses=("2001:db8:0:99::1/64",)))
SEGMENT = Switch("seg0", False, "eth3", ("192.168.56.1/24",))
IDS = ("acme--db", "acme--shop", "acme--www", "uirig--blog", "uirig--www")


def archive(letter: str) -> Source:
    return Source("archive", f"https://files.example/{letter}.tar", letter * 64)


def mac(id: str) -> str:
    return f"02:00:00:00:00:{IDS.index(id) if id in IDS else 99:02x}"


def nic(id: str, number: int, **fields: object) -> Nic:
    plain = Nic(f"j{id.replace('--', '-')}", "sw0", mac(id), (address(number),), ("fe80::1",), "eth0")
    return replace(plain, **fields)  # type: ignore[arg-type]


def address(number: int) -> str:
    return f"2001:db8:0:1::{number:x}/128"


def private_nic(id: str, number: int, **fields: object) -> Nic:
    """With a private IPv4 address beside its own one."""
    four = f"10.0.2.{number}/32"
    more = {"addresses": (address(number), four), "gateways": ("fe80::1", "169.254.1.1"), "private": four}
    return nic(id, number, **{**more, **fields})


def further(id: str, name: str, number: int) -> Nic:
    """An interface on the segment."""
    return Nic(name, "seg0", f"{mac(id)[:-5]}03:{mac(id)[-2:]}", (f"192.168.56.{number}/24",), ())


def outside(nic: str = "eth0") -> list[Part]:
    """Jails with private addresses leave by it, and nobody comes in from some places."""
    return [Translation(nic, ("10.0.2.0/24",)), Outside(nic, ("203.0.113.0/24",), ("198.51.100.0/24",), True)]


def jail(id: str, number: int = 0, **fields: object) -> Jail:
    """A jail that has everything; its address is the one of that number."""
    customer, _, name = id.partition("--")
    plain = Jail(
        id=id,
        customer=customer,
        name=name,
        nic=nic(id, number or IDS.index(id) + 1),
        blueprint="web",
        application=archive("a"),
        release=None,
        command=("/app/start",),
        root=False,
        defaults="config",
        data=("/data",),
        environment=(("JAIL_NAME", name),),
        secrets=(),
        limits=Limits(256 << 20, 64, 100, 512),
        after=(),
        restart=0,
        stop_timeout=15,
        grants=(),
        resolvers=("2001:db8:ffff:53::53",),
        neighbours=(),
    )
    return replace(plain, **fields)  # type: ignore[arg-type]


def secret(name: str, value: str) -> JailSecret:
    return JailSecret(name, f"customers/acme/secrets/{name}.age", "sealed", Secret(value.encode(), "salt"))


def link(first: str, first_nic: str, second: str, second_nic: str, number: int = 0) -> Link:
    """A cable, and 10.77.N.0/30 on it."""
    one = LinkEnd(first, first_nic, "02:00:00:00:01:00", (f"10.77.{number}.1/30",))
    other = LinkEnd(second, second_nic, "02:00:00:00:02:00", (f"10.77.{number}.2/30",))
    return Link(f"{first}--{first_nic}", (one, other))


def tunnel(name: str, jail: str, port: int, key: JailSecret, encrypts: bool = True) -> Tunnel:
    """The end in `jail` of a pipe that leads to another host, or (not `encrypts`) comes from there: `port` is where it
    listens."""
    away = ("2001:db8:0:2::1", 5433)
    here, connects = (("::1", port), away) if encrypts else (("2001:db8:0:1::1", port), ("::1", 5432))
    return Tunnel(f"acme--{name}", "acme", jail, encrypts, here, connects, key)


def rule(subject: str, direction: str = "in", port: int = 80, peers: Iterable[str] = ()) -> Rule:
    return Rule(subject, direction, tuple(peers), "tcp", (port,), f"{subject or 'host'} {direction} {port}")  # type: ignore[arg-type]


def spec(*parts: Part, switches: Iterable[Switch] = SWITCHES) -> HostSpec:
    return HostSpec("a", "linux", "cam", Ssh("2001:db8::a", 22, "ssh-ed25519 AAAA"), STORAGE, (*switches, *parts))


RATE = Rate(20, 10, 180)
RICH = spec(
    Sysctl("vm.overcommit_memory", "1"),
    Wall("in"),
    rule("", "in", 22),
    *outside(),
    jail(
        "acme--db",
        secrets=(secret("password", "hunter2"),),
        data=("/data", "/srv/db"),
        more=(further("acme--db", "db_in", 30),),
    ),
    jail(
        "acme--www",
        nic=private_nic("acme--www", 3),
        release=archive("b"),
        after=("acme--db",),
        neighbours=(("db.link", "10.77.0.2"),),
    ),
    jail("uirig--www", nic=nic("uirig--www", 5, switch="sw1", addresses=(address(5), "192.0.2.5/32"))),
    link("acme--www", "db0", "acme--db", "www0"),
    tunnel("mail", "acme--www", 2525, secret("pipe", "32 random bytes")),
    tunnel("copy", "acme--www", 5432, secret("pipe", "32 random bytes")),
    tunnel("read", "acme--db", 5433, secret("pipe", "32 random bytes"), encrypts=False),
    replace(rule("acme--www", "in", 80), rate=RATE),
    Redirect("eth0", "tcp", 8080, "acme--www", "10.0.2.3", 80),
    rule("acme--db", "in", 5432, [address(3)]),
    Vlan("eth3_7", "eth3", 7),
    switches=(*SWITCHES, replace(SEGMENT, uplink="eth3_7")),
)
"""Every type of resource, and every attribute."""
CHANGED = spec(
    rule("", "in", 22),
    Translation("eth0", ("10.0.2.0/24",)),
    jail(
        "acme--db",
        secrets=(secret("password", "correct horse"),),
        application=archive("c"),
        limits=Limits(cpu=50),
        more=(further("acme--db", "db_b", 31),),
    ),
    jail("acme--www", release=archive("d"), nic=nic("acme--www", 7, host_side="web", switch="sw1")),
    jail("acme--shop", nic=private_nic("acme--shop", 3), more=(further("acme--shop", "db_in", 30),)),
    link("acme--www", "db0", "acme--shop", "www0", 1),
    tunnel("mail", "acme--www", 2526, secret("other-pipe", "32 others")),
    tunnel("more", "acme--www", 2525, secret("pipe", "32 random bytes")),
    tunnel("copy", "acme--shop", 5432, secret("pipe", "32 random bytes")),
    tunnel("read", "acme--db", 5433, secret("pipe", "32 others"), encrypts=False),
    rule("acme--www", "in", 443),
    Redirect("eth0", "tcp", 8080, "acme--shop", "10.0.2.3", 80),
    switches=(*SWITCHES, replace(SEGMENT, uplink="eth2")),
)
"""The same host a year later: uirig--www went, acme--shop has the addresses that were acme--www's and
the interface that was acme--db's, a tunnel goes into acme--shop and another takes its neighbour's port, all else
changed."""


# ── many ─────────────────────────────────────────────────────────────────────────────────────────────────────

LETTERS = st.sampled_from("abcd")


@st.composite
def jails(draw: st.DrawFn, id: str, number: int, plugged: int, switches: list[Switch]) -> Jail:
    """`plugged`: the number of its interface on the segment, or 0."""
    bridged = not switches[0].routed
    private = not bridged and draw(st.booleans())
    four = (f"10.0.2.{number}/32",) if private else (f"192.0.2.{number}/32",) if draw(st.booleans()) else ()
    wiring = nic(
        id,
        number,
        host_side=draw(st.sampled_from([f"j{id.replace('--', '-')}", f"nic{number}"])),
        switch=draw(st.sampled_from([switch.name for switch in switches])),
        addresses=(address(number), *four),
        gateways=("fe80::1", *(["192.0.2.1"] if four else [])),
        announce="" if bridged else "eth0",
        private=four[0] if private else "",
    )
    name = draw(st.sampled_from([f"seg_{plugged}", f"{id.replace('--', '_')}_in"]))
    return jail(
        id,
        nic=wiring,
        application=archive(draw(LETTERS)),
        release=archive(draw(LETTERS)) if draw(st.booleans()) else None,
        data=tuple(draw(st.sets(st.sampled_from(["/data", "/srv/db", "/var/lib/x"]), max_size=2))),
        environment=(("GREETING", draw(st.sampled_from(["hello", "it's $HOME `x`", ""]))),),
        secrets=tuple(secret(n, draw(st.sampled_from(["one", "two"]))) for n in draw(SECRETS)),
        limits=Limits(*(draw(amounts) for amounts in (MEMORY, PROCESSES, CPU, OPEN_FILES))),
        after=tuple(sorted(draw(st.sets(st.sampled_from(IDS), max_size=2)) & set(IDS[: IDS.index(id)]))),
        restart=draw(st.integers(0, 1)),
        stop_timeout=draw(st.sampled_from([15, 60])),
        grants=tuple(sorted(draw(st.sets(st.sampled_from(["debug", "mlock"]))))),
        root=draw(st.booleans()),
        more=(further(id, name, plugged),) if plugged else (),
    )


SECRETS = st.lists(st.sampled_from(["key", "password"]), max_size=2, unique=True)
MEMORY = st.sampled_from([0, 128 << 20, 1 << 30])
PROCESSES, CPU, OPEN_FILES = st.sampled_from([0, 64]), st.sampled_from([0, 50, 150]), st.sampled_from([0, 256])


@st.composite
def hosts(draw: st.DrawFn, routed: bool = True) -> HostSpec:
    """A host that a few jails of two customers share."""
    switches = [Switch("sw0", routed, "" if routed else "eth1"), Switch("sw1", routed, "" if routed else "eth2")]
    switches = switches[: draw(st.integers(1, 2))]
    ids = draw(st.sets(st.sampled_from(IDS), max_size=4))
    numbers = draw(st.permutations(range(1, 7)))
    plugged = draw(st.permutations(range(6))) if draw(st.booleans()) else [0] * 6
    placed = zip(sorted(ids), numbers, plugged, strict=False)
    parts: list[Part] = [draw(jails(id, number, plug, switches)) for id, number, plug in placed]
    switches += [SEGMENT] if any(plugged) else []
    parts += draw(links(sorted(id for id in ids if id.startswith("acme"))))
    parts += draw(tunnels(sorted(id for id in ids if id.startswith("acme"))))
    parts += outside() if draw(st.booleans()) and switches[0].routed else []
    for id in sorted(ids):
        parts += [
            replace(rule(id, port=port), rate=draw(st.sampled_from([None, RATE])))
            for port in draw(st.sets(st.sampled_from([80, 443]), max_size=2))
        ]
    parts += [Wall("in")] if draw(st.booleans()) else []
    parts += [Sysctl("vm.swappiness", value) for value in draw(st.lists(st.sampled_from(["1", "60"]), max_size=1))]
    return spec(rule("", "in", 22), *parts, switches=switches)


@st.composite
def links(draw: st.DrawFn, ids: list[str]) -> list[Link]:
    """Cables between jails of one customer; an interface name is one cable's."""
    pairs = [(a, b) for a in ids for b in ids if a != b]
    found: list[Link] = []
    free = {(id, f"c{n}") for id in ids for n in range(2)}
    for number, (a, b) in enumerate(draw(st.lists(st.sampled_from(pairs), max_size=3)) if pairs else ()):
        ends = (a, draw(st.sampled_from(["c0", "c1"]))), (b, draw(st.sampled_from(["c0", "c1"])))
        if free.issuperset(ends):
            free.difference_update(ends)
            found.append(link(*ends[0], *ends[1], number=number))
    return found


@st.composite
def tunnels(draw: st.DrawFn, ids: list[str]) -> list[Tunnel]:
    """Ends in jails of one customer; a port of a jail is one end's."""
    found: dict[tuple[str, int], Tunnel] = {}
    for name in draw(st.sets(st.sampled_from(["copy", "mail"]))) if ids else ():
        jail, port = draw(st.sampled_from(ids)), draw(st.sampled_from([2525, 5432]))
        key = secret("pipe", draw(st.sampled_from(["one", "two"])))
        found.setdefault((jail, port), tunnel(name, jail, port, key, draw(st.booleans())))
    return list(found.values())
