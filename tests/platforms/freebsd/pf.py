"""pf as pf.conf(5) has it: which rules a text means, and what they do with a packet.

In: the text of a pf.conf, or what `pfctl -nvf` makes of one; packets, one interface at a time. Out: rules as the kernel
would have them, one for each combination of lists; what a packet has become behind an interface, if it passes. It
knows the part of the language that the tests use, and everything else is an error; sources are parse.y, pf.c and
pf_lb.c of FreeBSD 13. It shares nothing with what renders our rules, and must not know them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
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
    tagged: str = ""
    rate: Rate | None = None


@dataclass(frozen=True)
class Rate:
    """More than `limit` connections in `seconds`: the source comes into `table`; `flush` ends its connections."""

    limit: int
    seconds: int
    table: str = ""
    flush: str = ""
    """"", of this rule, or global"""


@dataclass(frozen=True)
class Translation:
    """What matches has another source (nat) or destination (rdr)."""

    kind: str
    rule: Rule
    to: Where
    """An address, or an interface's in brackets; ports None: pf chooses one (nat), or it stays (rdr)."""
    tag: str = ""
    passes: bool = False
    """`rdr pass`"""
    taking_turns: bool = False


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
    tag: str = ""
    """Given by a rule, and kept until it leaves the host."""

    @property
    def answer(self) -> Packet:
        return answer(self)

    @property
    def connection(self) -> Packet:
        """What states know of it."""
        return connection(self)


# few packets are asked about hundreds of rules: parsing their addresses again each time took most of the time


@cache
def answer(packet: Packet) -> Packet:
    ends = replace(packet, source=packet.destination, destination=packet.source, tag="")
    icmp = {8: 0, 128: 129}.get(packet.icmp, packet.icmp)
    return replace(ends, port=packet.source_port, source_port=packet.port, flags="SA", icmp=icmp)


@cache
def connection(packet: Packet) -> Packet:
    return replace(packet, flags="", options=False, tag="", icmp={0: 8, 129: 128}.get(packet.icmp, packet.icmp))


address_of = cache(ip_address)


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
        """A word, `! word`, `<table>` or `(interface:0)`."""
        word = self.next()
        yield word
        if word == "!":
            yield from self._entry()
        elif word in ("<", "("):
            while word not in (">", ")"):
                word = self.next()
                yield word


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
            found.translations += translations(kind, words)
        case "antispoof":
            found.rules += antispoof(words, interfaces)
        case action:
            found.rules += rules(action, words)
    if words:
        raise SyntaxFault(f"left over: {words.rest()}")


def option(found: Ruleset, words: Words) -> None:
    match words.expect("skip", "block-policy", "limit"):
        case "limit":
            what, most = words.expect("src-nodes", "states"), words.next()
            found.settings[what] = str(int(most))
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
    if any(receiver.special == "urpf-failed" for receiver in receivers):
        raise SyntaxFault('"urpf-failed" is not permitted in a destination address')
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
            return Where(special=f"({interface_of(words)})")
        case "<":
            name = words.next()
            words.expect(">")
            return Where(table=name)
        case word:
            return Where(network(word))


def interface_of(words: Words) -> str:
    """As brackets have it: a name, and which of its addresses."""
    name = words.next()
    while words.peek() != ")":
        name += words.next()
    words.expect(")")
    plain, *modifiers = name.split(":")
    if not plain[:1].isalpha() or len(plain) > 15 or set(modifiers) - {"network", "broadcast", "peer", "0"}:
        raise SyntaxFault(f"interface {name}")
    return name


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
        match words.expect("flags", "keep", "no", "label", "allow-opts", "tagged", "icmp-type", "icmp6-type"):
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
            case "tagged":
                rule = replace(rule, tagged=tag(words))
            case _:
                types = [int(entry.next()) for entry in words.listed()]
    return [replace(rule, icmp=kind) for kind in types]


def label(word: str) -> str:
    if not isinstance(word, Quoted) or len(word) > 63 or "$" in word:
        raise SyntaxFault(f"label {word}")
    return str(word)


def tag(words: Words) -> str:
    word = words.next()
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_.-]{0,62}", word):
        raise SyntaxFault(f"tag {word}")
    return word


def with_state(rule: Rule, words: Words) -> Rule:
    words.expect("state")
    rule = replace(rule, state=True)
    if not words.take("("):
        return rule
    seen: set[str] = set()
    while words.take(",") or not seen or not words.take(")"):
        option = words.next()
        if option in seen:
            raise SyntaxFault(f"{option}: multiple definitions")
        seen.add(option)
        rule = with_option(rule, option, words)
    if rule.rate and not rule.rate.seconds:
        raise SyntaxFault("'overload' requires 'max-src-conn' or 'max-src-conn-rate'")
    return rule


def with_option(rule: Rule, option: str, words: Words) -> Rule:
    rate = rule.rate or Rate(0, 0)
    match option:
        case "if-bound":
            return replace(rule, bound=True)
        case "sloppy":
            return replace(rule, sloppy=True)
        case "max-src-conn-rate":
            limit, seconds = map(int, words.next().split("/"))
            if not limit or not seconds or limit > (1 << 32) // 1000:
                raise SyntaxFault("'max-src-conn-rate' values")
            return replace(rule, rate=replace(rate, limit=limit, seconds=seconds))
        case "overload":
            name = place(words).table
            flush = words.take("flush") and f"flush {words.take('global')}".strip()
            return replace(rule, rate=replace(rate, table=name, flush=flush))
        case "source-track" | "src.track" | "max-src-conn":
            # the first two are what pfctl adds; of connections at one time nothing is known here
            words.next()
            return rule
    raise SyntaxFault(f"keep state ({option})")


def consistent(rule: Rule, translates: str = "") -> Iterator[Rule]:
    """What pfctl leaves out of a product of lists, what it adds, and what it refuses."""
    seen = {family for family in (rule.family, rule.sender.family, rule.receiver.family) if family}
    ported = rule.sender.ports or rule.receiver.ports
    if len(seen) > 1:
        return
    family = "".join(seen)
    if ported and rule.protocol not in ("tcp", "udp") and translates != "nat":
        raise SyntaxFault("port only applies to tcp/udp")
    if rule.icmp is not None and rule.protocol not in ("icmp", "ipv6-icmp"):
        raise SyntaxFault("icmp-type only applies to icmp")
    if {"icmp": "inet6", "ipv6-icmp": "inet"}.get(rule.protocol) == family:
        raise SyntaxFault("proto icmp(6) does not go with the family")
    flags = rule.flags or ("S/SA" if rule.state and rule.protocol in ("", "tcp") else "")
    yield replace(rule, family=family, flags="" if flags == "any" else flags)


# ── translation ──────────────────────────────────────────────────────────────────────────────────────────────


def translations(kind: str, words: Words) -> Iterator[Translation]:
    passes = bool(words.take("pass"))
    on = [(bool(e.take("!")), e.name()) for e in words.listed()] if words.take("on") else [(False, "")]
    family = words.take("inet", "inet6")
    protocols = [e.expect(*PROTOCOLS) for e in words.listed()] if words.take("proto") else [""]
    senders, receivers = ends(words)
    name = tag(words) if words.take("tag") else ""
    matching = Rule("pass", tagged=tag(words) if words.take("tagged") else "")
    to = target(words)
    turns = bool(words.take("round-robin")) or several(to.special)
    seen = family or next(filter(None, (w.family for w in (*senders, *receivers, to))), "")
    for (elsewhere, nic), protocol, sender, receiver in product(on, protocols, senders, receivers):
        whole = replace(matching, interface=nic, elsewhere=elsewhere, sender=sender, receiver=receiver)
        for rule in consistent(replace(whole, protocol=protocol, family=seen), translates=kind):
            yield Translation(kind, rule, fitting(kind, to, rule), name, passes, turns)


def several(special: str) -> bool:
    """`(em0:0)` is one address; `(em0)` may be more, and `(em:0)` is a group of interfaces (DYNIF_MULTIADDR)."""
    return special.startswith("(") and not re.search(r"\d:0\)$", special)


def target(words: Words) -> Where:
    words.expect("->")
    to = place(words)
    if to.table or to.special in ("no-route", "urpf-failed") or (to.network and to.network.num_addresses > 1):
        raise SyntaxFault(f"-> {to}: not known here")
    return replace(to, ports=port(words)) if words.take("port") else to


def fitting(kind: str, to: Where, rule: Rule) -> Where:
    if to.family not in ("", rule.family):
        raise SyntaxFault("no translation address with matching address family found.")
    if kind == "rdr" and to.ports and rule.protocol not in ("tcp", "udp"):
        raise SyntaxFault("rpool port only applies to tcp/udp")
    return to


def group(interface: str) -> str:
    """A name without a number at its end is of all that are called so and numbered (pfi_kkif_match)."""
    return interface.rstrip("0123456789")


# ── packets ──────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass
class State:
    interface: str
    """"" when it floats."""
    direction: str
    before: Packet
    after: Packet
    """Translated, or the same."""
    rule: Rule
    answered: bool = False
    counted: bool = False

    def made(self, interface: str, direction: str, packet: Packet) -> Packet | None:
        """The same way in the same direction, or back in the other one (pf_find_state)."""
        if self.interface not in ("", interface):
            return None
        forth = direction == self.direction
        known, other = (self.before, self.after) if forth else (self.after.answer, self.before.answer)
        if known.connection != packet.connection:
            return None
        self.answered = self.answered or not forth
        ends = replace(packet, source=other.source, destination=other.destination)
        return replace(ends, source_port=other.source_port, port=other.port)


@dataclass
class Threshold:
    """pf_add_threshold: what was counted fades with the time that has passed since the last one."""

    count: int = 0
    last: int = 0

    def above(self, rate: Rate, now: int) -> bool:
        passed = now - self.last
        self.count = 0 if passed >= rate.seconds else self.count - self.count * passed // rate.seconds
        self.count, self.last = self.count + 1000, now
        return self.count > rate.limit * 1000


class Firewall:
    """A ruleset in force, with its states and tables. `interfaces`: the host's addresses; `now`: seconds."""

    def __init__(
        self,
        ruleset: Ruleset,
        interfaces: Mapping[str, Iterable[str]] = {},
        tables: Mapping[str, Iterable[str]] = {},
    ) -> None:
        self.ruleset = ruleset
        self.states: list[State] = []
        self.now = 0
        self._counts: dict[tuple[Rule, str], Threshold] = {}
        self._addresses = {name: [ip_address(a) for a in listed] for name, listed in interfaces.items()}
        listed = {**ruleset.tables, **tables}
        self.tables = {name: {ip_network(entry): 0 for entry in entries} for name, entries in listed.items()}

    def passes(self, direction: str, interface: str, packet: Packet, failed: str = "") -> bool:
        return self.passed(direction, interface, packet, failed) is not None

    def passed(self, direction: str, interface: str, packet: Packet, failed: str = "") -> Packet | None:
        """What it has become. `failed`: urpf-failed or no-route, if one of them holds for this packet."""
        if interface in self.ruleset.skipped:
            return packet
        for state in self.states:
            made = state.made(interface, direction, packet)
            if made:
                return made if self._counted(state, direction, packet) else None
        return self._judged(direction, interface, packet, failed)

    def _judged(self, direction: str, interface: str, packet: Packet, failed: str) -> Packet | None:
        by, translated = self._translated(direction, interface, packet, failed)
        decided = Rule("pass") if not by or not by.passes else by.rule
        for rule in self.ruleset.rules if not by or not by.passes else ():
            if self._matches(rule, direction, interface, translated, failed):
                decided = rule
                if rule.quick:
                    break
        if decided.action == "block" or (translated.options and not decided.options):
            return None
        if decided.state or by:
            bound = interface if decided.bound else ""
            self.states.append(State(bound, direction, packet, translated, decided))
        return translated

    def kill(self, label: str) -> None:
        """As `pfctl -k label -k LABEL` does."""
        self.states = [state for state in self.states if state.rule.label != label]

    def expire(self, table: str, seconds: int) -> None:
        """As `pfctl -t TABLE -T expire SECONDS` does."""
        entries = self.tables[table].items()
        self.tables[table] = {entry: since for entry, since in entries if self.now - since <= seconds}

    # ── what a rate counts ──────────────────────────────────────────────────────────────────────────────────

    def _counted(self, state: State, direction: str, packet: Packet) -> bool:
        """A connection is one when its third packet comes (pf_tcp_track_full, pf_src_connlimit)."""
        rate, rule = state.rule.rate, state.rule
        third = packet.protocol == "tcp" and state.answered and direction == state.direction
        if not rate or not third or state.counted:
            return True
        state.counted, source = True, state.before.source
        if not self._counts.setdefault((rule, source), Threshold()).above(rate, self.now):
            return True
        if rate.table:
            self.tables[rate.table].setdefault(ip_network(source), self.now)
        gone = {"": [state], "flush": self._of(source, rule), "flush global": self._of(source)}[rate.flush]
        self.states = [other for other in self.states if other is not state and other not in gone]
        return False

    def _of(self, source: str, rule: Rule | None = None) -> list[State]:
        return [s for s in self.states if s.before.source == source and rule in (None, s.rule)]

    # ── what a rule says ────────────────────────────────────────────────────────────────────────────────────

    def _translated(
        self, direction: str, interface: str, packet: Packet, failed: str
    ) -> tuple[Translation | None, Packet]:
        """The first that matches. Its tag is given even where there is no address to translate to (pf_lb.c)."""
        for each in self.ruleset.translations:
            way = {"nat": "out", "rdr": "in"}[each.kind]
            if way == direction and self._matches(each.rule, direction, interface, packet, failed):
                packet = replace(packet, tag=each.tag or packet.tag)
                to = self._target(each)
                return (each, self._changed(each, to, packet)) if to else (None, packet)
        return None, packet

    def _target(self, each: Translation) -> str:
        if each.to.network is not None:
            return str(each.to.network.network_address)
        version = 6 if each.rule.family == "inet6" else 4
        return next((str(a) for a in self._dynamic(each.to.special) if a.version == version), "")

    def _changed(self, each: Translation, to: str, packet: Packet) -> Packet:
        ports = each.to.ports[0] if each.to.ports else 0
        if each.kind == "rdr":
            return replace(packet, destination=to, port=ports or packet.port)
        free = 50001 + sum(state.before != state.after for state in self.states)
        return replace(packet, source=to, source_port=ports or (free if packet.source_port else 0))

    def _matches(self, rule: Rule, direction: str, interface: str, packet: Packet, failed: str) -> bool:
        source, destination = address_of(packet.source), address_of(packet.destination)
        return (
            rule.direction in ("", direction)
            and (not rule.interface or (rule.interface in (interface, group(interface))) != rule.elsewhere)
            and rule.family in ("", "inet" if source.version == 4 else "inet6")
            and rule.protocol in ("", packet.protocol)
            and rule.icmp in (None, packet.icmp)
            and rule.tagged in ("", packet.tag)
            and not (rule.flags and packet.protocol == "tcp" and (set(packet.flags) & set("SA")) != {"S"})
            and self._at(rule.sender, source, packet.source_port, failed)
            and self._at(rule.receiver, destination, packet.port, failed)
        )

    def _at(self, where: Where, address: Address, port: int, failed: str) -> bool:
        if where.ports and not where.ports[0] <= port <= where.ports[1]:
            return False
        if where.special.startswith("("):
            return address in self._dynamic(where.special)
        if where.special:
            return where.special == failed
        if where.table:
            return any(address in entry for entry in self.tables[where.table])
        return where.network is None or address in where.network

    def _dynamic(self, special: str) -> list[Address]:
        """The addresses of `(interface)`, now; with `:0` the first of each family."""
        name, _, modifier = special.strip("()").partition(":")
        if name == "self":
            return [address for listed in self._addresses.values() for address in listed]
        listed = self._addresses.get(name, [])
        firsts = [next((a for a in listed if a.version == version), None) for version in (4, 6)]
        return [a for a in firsts if a] if modifier == "0" else listed
