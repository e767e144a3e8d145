"""pf as pf.conf(5) has it: which rules a text means, and what they do with a packet.

In: the text of a pf.conf, or what `pfctl -nvf` makes of one; packets, one interface at a time. Out: rules as the kernel
would have them, one for each combination of lists; pass or block. It knows the part of the language that the tests
use, and everything else is an error. It shares nothing with what renders our rules, and must not know them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_interface, ip_network
from itertools import product

SERVICES = {"ssh": 22, "domain": 53, "http": 80, "ntp": 123, "https": 443, "smtps": 465, "http-alt": 8080}
PROTOCOLS = ("tcp", "udp", "icmp", "ipv6-icmp")
BEGINS = frozenset({"set", "table", "scrub", "nat", "rdr", "block", "pass", "antispoof"})
Ports = tuple[int, int]
Address = IPv4Address | IPv6Address


class SyntaxFault(Exception):
    """pfctl would not load this, or this is not in the part of the language that is known here."""


@dataclass(frozen=True)
class Where:
    """`network` None: anything. A table by its name, `self` and urpf-failed and no-route by theirs, as `special`."""

    network: IPv4Network | IPv6Network | None = None
    table: str = ""
    special: str = ""
    ports: Ports | None = None

    @property
    def family(self) -> str:
        return "" if self.network is None else "inet" if self.network.version == 4 else "inet6"


@dataclass(frozen=True)
class Rule:
    action: str
    direction: str = ""
    quick: bool = False
    interface: str = ""
    elsewhere: bool = False
    """`on ! interface`"""
    family: str = ""
    protocol: str = ""
    sender: Where = Where()
    receiver: Where = Where()
    icmp: int | None = None
    flags: str = ""
    state: bool = False
    bound: bool = False
    sloppy: bool = False
    options: bool = False
    """allow-opts"""
    label: str = ""
    counted: str = ""
    """Options of its states that have no part in whether a packet passes, as they were written."""


@dataclass(frozen=True)
class Translation:
    """Kept as it was written: none of ours has any."""

    words: tuple[str, ...]


@dataclass
class Ruleset:
    rules: list[Rule] = field(default_factory=list)
    tables: dict[str, list[str]] = field(default_factory=dict)
    scrubs: list[tuple[str, ...]] = field(default_factory=list)
    translations: list[Translation] = field(default_factory=list)
    skipped: set[str] = field(default_factory=set)
    settings: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Packet:
    protocol: str
    source: str
    destination: str
    port: int = 0
    source_port: int = 0
    icmp: int = -1
    flags: str = "S"
    options: bool = False

    @property
    def answer(self) -> Packet:
        ends = replace(self, source=self.destination, destination=self.source)
        return replace(ends, port=self.source_port, source_port=self.port, flags="SA")


# ── words ────────────────────────────────────────────────────────────────────────────────────────────────────

WORD = re.compile(
    r'(?P<blank>[ \t]+|\\\n|\#[^\n]*)|(?P<end>\n)|"(?P<string>[^"\\\n]*)"'
    r"|(?P<word>->|[{}(),=!<>]|\$\w+|[A-Za-z0-9_.:/-]+)"
)


class Quoted(str):
    """A string that no keyword can be."""


def statements(text: str) -> Iterator[list[str]]:
    if not text.endswith("\n"):
        raise SyntaxFault("no newline at the end")
    place, words, depth = 0, list[str](), 0
    while place < len(text):
        found = WORD.match(text, place)
        if not found:
            raise SyntaxFault(text[place : place + 40])
        place = found.end()
        if found["word"] or found["string"] is not None:
            words.append(found["word"] or Quoted(found["string"]))
            depth += {"{": 1, "}": -1}.get(found["word"], 0)
        elif found["end"] and not depth:
            if words:
                yield words
            words = []
    if words or depth:
        raise SyntaxFault("a list that is not closed")


class Words:
    """What is left of a statement."""

    def __init__(self, words: Iterable[str]) -> None:
        self._words = list(words)

    def __bool__(self) -> bool:
        return bool(self._words)

    def next(self) -> str:
        if not self._words:
            raise SyntaxFault("something is missing at the end")
        return self._words.pop(0)

    def rest(self) -> tuple[str, ...]:
        rest, self._words = tuple(self._words), []
        return rest

    def peek(self) -> str:
        return self._words[0] if self._words and not isinstance(self._words[0], Quoted) else ""

    def take(self, *choices: str) -> str:
        return self.next() if self.peek() in choices else ""

    def expect(self, *choices: str) -> str:
        found = self.take(*choices)
        if not found:
            raise SyntaxFault(f"{choices} and not {self._words[:3]}")
        return found

    def name(self) -> str:
        """An interface: a keyword has to be in quotes."""
        word = self.next()
        if not isinstance(word, Quoted) and not re.fullmatch(r"[A-Za-z][A-Za-z0-9_.-]*", word):
            raise SyntaxFault(f"no name: {word}")
        return str(word)

    def listed(self) -> list[Words]:
        """The entries of `{ a, b c }`; or the one thing that stands there without braces, left where it is."""
        if not self.take("{"):
            return [self]
        found: list[Words] = []
        while not self.take("}"):
            if not self.take(","):
                found.append(Words(self._entry()))
        if not found:
            raise SyntaxFault("an empty list")
        return found

    def _entry(self) -> Iterator[str]:
        """A word, `! word`, `<table>` or `(interface)`."""
        word = self.next()
        yield word
        if word == "!":
            yield from self._entry()
        elif word in ("<", "("):
            yield self.next()
            yield self.expect(">", ")")


# ── a whole file ─────────────────────────────────────────────────────────────────────────────────────────────


def parse(text: str, interfaces: Mapping[str, str] | None = None) -> Ruleset:
    """`interfaces`: name → its address with a length, for antispoof, which pfctl works out when it reads the file."""
    macros: dict[str, list[str]] = {}
    found, order = Ruleset(), 0
    for statement in statements(text):
        words = list(expanded(statement, macros))
        if len(words) > 2 and words[1] == "=" and words[0] not in BEGINS:
            macros[words[0]] = [w for value in words[2:] for s in statements(f"{value}\n") for w in s]
            continue
        rank = {"set": 0, "table": order, "scrub": 1, "nat": 2, "rdr": 2}.get(words[0], 3)
        if rank < order:
            raise SyntaxFault("Rules must be in order: options, normalization, queueing, translation, filtering")
        order = rank
        read(found, Words(words), interfaces or {})
    return found


def expanded(words: Iterable[str], macros: Mapping[str, list[str]]) -> Iterator[str]:
    for word in words:
        if word.startswith("$") and not isinstance(word, Quoted):
            if word[1:] not in macros:
                raise SyntaxFault(f"macro '{word[1:]}' not defined")
            yield from macros[word[1:]]
        else:
            yield word


def read(found: Ruleset, words: Words, interfaces: Mapping[str, str]) -> None:
    match words.expect(*BEGINS):
        case "set":
            option(found, words)
        case "table":
            table(found, words)
        case "scrub":
            scrub(found, words)
        case "nat" | "rdr" as kind:
            found.translations.append(Translation((kind, *words.rest())))
        case "antispoof":
            found.rules += antispoof(words, interfaces)
        case action:
            found.rules += rules(action, words)
    if words:
        raise SyntaxFault(f"left over: {words.rest()}")


def option(found: Ruleset, words: Words) -> None:
    match words.expect("skip", "block-policy"):
        case "skip":
            words.expect("on")
            found.skipped |= {entry.name() for entry in words.listed()}
        case key:
            found.settings[key] = words.expect("drop")


def table(found: Ruleset, words: Words) -> None:
    words.expect("<")
    name = words.next()
    words.expect(">")
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_-]{0,30}", name) or name in found.tables:
        raise SyntaxFault(f"table <{name}>")
    found.tables[name] = []
    while words:
        match words.peek():
            case "const" | "persist":
                words.next()
            case "file":
                words.next()
                words.next()
            case _:
                for entry in words.listed():
                    found.tables[name].append(str(network(entry.next())))


def scrub(found: Ruleset, words: Words) -> None:
    words.expect("in")
    words.expect("all")
    options: list[str] = []
    while words:
        options.append(words.expect("no-df", "fragment"))
        if options[-1] == "fragment":
            words.expect("reassemble")
    found.scrubs.append(tuple(sorted(options)))


def antispoof(words: Words, interfaces: Mapping[str, str]) -> Iterator[Rule]:
    quick = bool(words.take("quick"))
    words.expect("for")
    name = words.name()
    interface = ip_interface(interfaces[name])
    own = ip_network(interface.ip)
    block = Rule("block", "in", quick, family="inet" if own.version == 4 else "inet6")
    yield replace(block, interface=name, elsewhere=True, sender=Where(interface.network))
    yield replace(block, sender=Where(own))


# ── rules ────────────────────────────────────────────────────────────────────────────────────────────────────


def rules(action: str, words: Words) -> Iterator[Rule]:
    if action == "block":
        words.take("drop")
    rule = Rule(action, words.take("in", "out"), bool(words.take("quick")))
    on = [(bool(e.take("!")), e.name()) for e in words.listed()] if words.take("on") else [(False, "")]
    family = words.take("inet", "inet6")
    protocols = [e.expect(*PROTOCOLS) for e in words.listed()] if words.take("proto") else [""]
    senders, receivers = ends(words)
    rest = filters(replace(rule, family=family, state=action == "pass"), words)
    for not_on, protocol, sender, receiver, rule in product(on, protocols, senders, receivers, rest):
        whole = replace(rule, elsewhere=not_on[0], interface=not_on[1], sender=sender, receiver=receiver)
        yield from consistent(replace(whole, protocol=protocol))


def ends(words: Words) -> tuple[list[Where], list[Where]]:
    if words.take("all"):
        return [Where()], [Where()]
    senders = list(side(words)) if words.take("from") else [Where()]
    receivers = list(side(words)) if words.take("to") else [Where()]
    return senders, receivers


def side(words: Words) -> Iterator[Where]:
    places = [Where()] if words.peek() == "port" else [place(entry) for entry in words.listed()]
    ports = [port(entry) for entry in words.listed()] if words.take("port") else [None]
    yield from (replace(where, ports=p) for where, p in product(places, ports))


def place(words: Words) -> Where:
    match words.next():
        case "any":
            return Where()
        case "no-route" | "urpf-failed" as word:
            return Where(special=word)
        case "(":
            name = words.next()
            words.expect(")")
            return Where(special=f"({name})")
        case "<":
            name = words.next()
            words.expect(">")
            return Where(table=name)
        case word:
            return Where(network(word))


def network(word: str) -> IPv4Network | IPv6Network:
    short = re.fullmatch(r"(\d+(?:\.\d+){0,2})/(\d+)", word)
    if short:
        word = ".".join([*short[1].split("."), "0", "0", "0"][:4]) + f"/{short[2]}"
    try:
        return ip_network(word)
    except ValueError as fault:
        raise SyntaxFault(f"no address: {word}") from fault


def port(words: Words) -> Ports:
    words.take("=")
    word = words.next()
    number = SERVICES.get(word, int(word) if word.isdigit() else -1)
    if not 0 <= number < 65536:
        raise SyntaxFault(f"unknown port {word}")
    return number, number


def filters(rule: Rule, words: Words) -> list[Rule]:
    """One for each type of ICMP."""
    types: list[int | None] = [None]
    while words:
        match words.expect("flags", "keep", "no", "label", "allow-opts", "icmp-type", "icmp6-type"):
            case "flags":
                rule = replace(rule, flags=words.expect("any", "S/SA"))
            case "keep":
                rule = with_state(rule, words)
            case "no":
                words.expect("state")
                rule = replace(rule, state=False)
            case "label":
                rule = replace(rule, label=label(words.next()))
            case "allow-opts":
                rule = replace(rule, options=True)
            case _:
                types = [int(entry.next()) for entry in words.listed()]
    return [replace(rule, icmp=kind) for kind in types]


def label(word: str) -> str:
    if not isinstance(word, Quoted) or len(word) > 63 or "$" in word:
        raise SyntaxFault(f"label {word}")
    return str(word)


def with_state(rule: Rule, words: Words) -> Rule:
    words.expect("state")
    rule = replace(rule, state=True)
    if not words.take("("):
        return rule
    inside: list[str] = []
    while (word := words.next()) != ")":
        inside.append(word)
    match inside:
        case ["if-bound"]:
            return replace(rule, bound=True)
        case ["sloppy"]:
            return replace(rule, sloppy=True)
        case ["max-src-conn-rate" | "max-src-conn" | "source-track", *_]:
            # pfctl says what follows from the rest
            tracked = re.sub(r"^source-track rule , | , src\.track \d+$", "", " ".join(inside))
            return replace(rule, counted=tracked)
    raise SyntaxFault(f"keep state ({' '.join(inside)})")


def consistent(rule: Rule) -> Iterator[Rule]:
    """What pfctl leaves out of a product of lists, what it adds, and what it refuses."""
    seen = {family for family in (rule.family, rule.sender.family, rule.receiver.family) if family}
    ported = rule.sender.ports or rule.receiver.ports
    if len(seen) > 1:
        return
    family = "".join(seen)
    if ported and rule.protocol not in ("tcp", "udp"):
        raise SyntaxFault("port only applies to tcp/udp")
    if rule.icmp is not None and rule.protocol not in ("icmp", "ipv6-icmp"):
        raise SyntaxFault("icmp-type only applies to icmp")
    if {"icmp": "inet6", "ipv6-icmp": "inet"}.get(rule.protocol) == family:
        raise SyntaxFault("proto icmp(6) does not go with the family")
    flags = rule.flags or ("S/SA" if rule.state and rule.protocol in ("", "tcp") else "")
    yield replace(rule, family=family, flags="" if flags == "any" else flags)


# ── packets ──────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class State:
    interface: str
    """"" when it floats."""
    direction: str
    packet: Packet
    rule: Rule

    def has(self, interface: str, direction: str, packet: Packet) -> bool:
        """The same way in the same direction, or back in the other one (pf_find_state)."""
        if self.interface not in ("", interface):
            return False
        back = replace(packet.answer, flags="")
        forth = replace(packet, flags="")
        return replace(self.packet, flags="") == (forth if direction == self.direction else back)


class Firewall:
    """A ruleset in force, with its states. `own`: the host's addresses."""

    def __init__(self, ruleset: Ruleset, own: Iterable[str] = (), tables: Mapping[str, Iterable[str]] = {}) -> None:
        self.ruleset = ruleset
        self.states: list[State] = []
        self._own = {ip_address(address) for address in own}
        listed = {**ruleset.tables, **tables}
        self._tables = {name: [ip_network(entry) for entry in entries] for name, entries in listed.items()}

    def passes(self, direction: str, interface: str, packet: Packet, failed: str = "") -> bool:
        """`failed`: urpf-failed or no-route, if one of them holds for this packet."""
        if interface in self.ruleset.skipped or any(s.has(interface, direction, packet) for s in self.states):
            return True
        decided = Rule("pass")
        for rule in self.ruleset.rules:
            if self._matches(rule, direction, interface, packet, failed):
                decided = rule
                if rule.quick:
                    break
        if decided.action == "block" or (packet.options and not decided.options):
            return False
        if decided.state:
            self.states.append(State(interface if decided.bound else "", direction, packet, decided))
        return True

    def kill(self, label: str) -> None:
        """As `pfctl -k label -k LABEL` does."""
        self.states = [state for state in self.states if state.rule.label != label]

    def _matches(self, rule: Rule, direction: str, interface: str, packet: Packet, failed: str) -> bool:
        source, destination = ip_address(packet.source), ip_address(packet.destination)
        return (
            rule.direction in ("", direction)
            and (not rule.interface or (rule.interface == interface) != rule.elsewhere)
            and rule.family in ("", "inet" if source.version == 4 else "inet6")
            and rule.protocol in ("", packet.protocol)
            and rule.icmp in (None, packet.icmp)
            and not (rule.flags and packet.protocol == "tcp" and (set(packet.flags) & set("SA")) != {"S"})
            and self._at(rule.sender, source, packet.source_port, failed)
            and self._at(rule.receiver, destination, packet.port, failed)
        )

    def _at(self, where: Where, address: Address, port: int, failed: str) -> bool:
        if where.ports and not where.ports[0] <= port <= where.ports[1]:
            return False
        if where.special:
            return address in self._own if where.special == "(self)" else where.special == failed
        if where.table:
            return any(address in entry for entry in self._tables[where.table])
        return where.network is None or address in where.network
