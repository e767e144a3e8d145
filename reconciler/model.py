"""Every noun of the project, as frozen values without behaviour of their own.

What flows: Document → Fleet of HostSpecs (made of Parts) → Manifest (Resources) against an Observation
→ Plan (Changes) → Report. Nothing here reads a file, a clock or the environment, and nothing here knows YAML,
git, SSH, or a platform.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import field, replace
from datetime import date
from typing import Any, Literal

from reconciler.values import dataclass


class Trouble(Exception):
    """What went wrong outside of the program, in words for people: what it was, and what to do."""


# ── documents ────────────────────────────────────────────────────────────────────────────────────────────────

Pointer = tuple[str | int, ...]
"""Where in a document: the keys and indexes from its root, as in JSON Pointer."""


@dataclass(frozen=True, slots=True, order=True)
class Problem:
    """Something wrong with a document. Collected, never raised: users see all problems at once.

    `line` and `column` count from 1; 0 means "not located yet", `pointer` then says what to look for.
    """

    path: str
    line: int
    column: int
    message: str
    hint: str = ""
    pointer: Pointer = field(default=(), compare=False)


def problem(path: str, pointer: Iterable[str | int], message: str, hint: str = "") -> Problem:
    """A Problem known by its pointer; `load.locate` finds the line and column."""
    return Problem(path, 0, 0, message, hint, tuple(pointer))


@dataclass(frozen=True, slots=True)
class Document:
    """One YAML file of the config repository, valid in shape. `customer` is "" in staff's documents."""

    path: str
    kind: str
    name: str
    customer: str
    spec: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class SecretFile:
    """`customers/X/secrets/NAME.age`: ciphertext, opened only by the shell, with the key of customer X."""

    path: str
    customer: str
    name: str
    ciphertext: str


@dataclass(frozen=True, slots=True)
class ListFile:
    """`lists/NAME.txt`, or `customers/X/lists/NAME.txt`: prefixes, each once. `customer` is "" in staff's lists."""

    path: str
    customer: str
    name: str
    prefixes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Revision:
    """Which commit of which source is in force: mount point → commit.

    The mount "" is the platform's repository; `customers/X` is there when that folder comes from another commit
    (the customer is held at its last good one) or, later, from a repository of its own. None: held, and no good
    commit is known, so the customer's resources are left as they are.
    """

    mounts: Mapping[str, str | None]

    @property
    def commit(self) -> str:
        """The commit of the platform's repository."""
        return self.mounts[""] or ""

    @property
    def held(self) -> dict[str, str | None]:
        """Customer → the commit it is held at."""
        return {m.removeprefix("customers/"): c for m, c in sorted(self.mounts.items()) if m}


# ── secrets ──────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Secret:
    """Bytes that never appear in a plan, a log, a status or an error: its repr says nothing."""

    value: bytes = field(repr=False)
    salt: str = field(repr=False)
    """Keyed per customer and path, so that the digest of a short secret cannot be guessed."""


# ── Parts: what a host must be, for every platform ───────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Sysctl:
    key: str
    value: str


@dataclass(frozen=True, slots=True)
class Switch:
    """A bridge. `routed`: the host is the gateway (`gateway` sits on the switch); else `uplink` joins the segment."""

    name: str
    routed: bool
    uplink: str = ""
    addresses: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Rename:
    """The network card that its driver calls `device` is called `name`."""

    name: str
    device: str


@dataclass(frozen=True, slots=True)
class Vlan:
    """A tagged network on one of the host's interfaces (802.1Q), as an interface of its own."""

    name: str
    parent: str
    tag: int


@dataclass(frozen=True, slots=True)
class Nic:
    """A jail's interface on a switch. `host_side` ≤ 15 characters; addresses carry prefix lengths."""

    host_side: str
    switch: str
    mac: str
    addresses: tuple[str, ...]
    gateways: tuple[str, ...]
    announce: str = ""
    """The host's interface that answers neighbour solicitations for the addresses; "" when routes are upstream."""
    private: str = ""
    """The one of the addresses that its own host alone knows, or ""."""

    @property
    def public(self) -> tuple[str, ...]:
        """The addresses that nobody else in the fleet can have, without the lengths of their prefixes."""
        return tuple(a.partition("/")[0] for a in self.addresses if a != self.private)


@dataclass(frozen=True, slots=True)
class LinkEnd:
    jail: str
    nic: str
    mac: str
    addresses: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Link:
    """A pair of interfaces from jail to jail, on no switch."""

    id: str
    ends: tuple[LinkEnd, LinkEnd]


@dataclass(frozen=True, slots=True)
class Limits:
    """Memory and disk in bytes, processes and open files as counts, CPU in percent of one core.

    0: not limited, nothing reserved.
    """

    memory: int = 0
    processes: int = 0
    cpu: int = 0
    open_files: int = 0
    disk: int = 0
    reserved: int = 0
    """Of the disk, what nobody else can take."""


@dataclass(frozen=True, slots=True)
class Source:
    """Something pinned that is unpacked on the host: `digest` names the immutable directory.

    `kind` archive: url is https:// or file://, digest the SHA-256 of the archive; git: digest is the commit.
    """

    kind: Literal["archive", "git"]
    url: str
    digest: str


@dataclass(frozen=True, slots=True)
class JailSecret:
    """A secret as a jail has it, in a file of /run/secrets say: ciphertext until the shell opened it."""

    name: str
    path: str
    ciphertext: str
    opened: Secret | None = None


@dataclass(frozen=True, slots=True)
class Check:
    """One question to a jail, that has to be answered in `timeout` seconds; after `failures` in a row it counts.

    tcp: `port` accepts a connection. http: `path` on it answers with `status` (0: any from 200 to 399), for the name
    `host` (""; its address), and with what it `contains`. command: ends with status 0 inside the jail.
    """

    kind: Literal["tcp", "http", "command"]
    port: int = 0
    path: str = "/"
    status: int = 0
    contains: str = ""
    host: str = ""
    command: tuple[str, ...] = ()
    timeout: int = 5
    failures: int = 3


@dataclass(frozen=True, slots=True)
class Health:
    """How a jail is told to be well. `start_timeout`: the seconds that it has to be so for the first time."""

    checks: tuple[Check, ...] = ()
    start_timeout: int = 120
    restart: bool = True


@dataclass(frozen=True, slots=True)
class Jail:
    """One website's machine. `id` is `customer--name`, unique in the fleet and usable as a host-level name."""

    id: str
    customer: str
    name: str
    nic: Nic
    blueprint: str
    application: Source
    release: Source | None
    command: tuple[str, ...]
    root: bool
    """Whether the command runs as the jail's root (never the host's)."""
    defaults: str
    data: tuple[str, ...]
    environment: tuple[tuple[str, str], ...]
    secrets: tuple[JailSecret, ...]
    limits: Limits
    after: tuple[str, ...]
    restart: int
    stop_timeout: int
    """Seconds that the command has to end."""
    grants: tuple[str, ...]
    """What it may do that other jails may not, by the blueprints' names for it."""
    resolvers: tuple[str, ...]
    neighbours: tuple[tuple[str, str], ...]
    """Name → address lines for /etc/hosts: the customer's own jails."""
    more: tuple[Nic, ...] = ()
    """Interfaces beside its `nic`: on segments, without a way out."""
    health: Health = field(default_factory=Health)

    @property
    def address(self) -> str:
        """The one that all know it by, without its length."""
        return self.nic.addresses[0].partition("/")[0]

    @property
    def stations(self) -> tuple[Jail, ...]:
        """Itself at each of its interfaces: rules and ports ask for one at a time."""
        return tuple(replace(self, nic=nic, more=()) for nic in (self.nic, *self.more)) if self.more else (self,)


@dataclass(frozen=True, slots=True)
class Tunnel:
    """One end of an encrypted pipe, in a jail: who connects to where it `listens` is led to where it `connects`.

    `encrypts`: this is the end that people use; the other one has the same id on another host.
    """

    id: str
    customer: str
    jail: str
    encrypts: bool
    listens: tuple[str, int]
    connects: tuple[str, int]
    key: JailSecret


@dataclass(frozen=True, slots=True)
class Rate:
    """Who opens more than `connections` in `seconds` reaches nothing of the jail for `block` seconds."""

    connections: int
    seconds: int
    block: int


@dataclass(frozen=True, slots=True)
class Rule:
    """Lets one kind of traffic pass; everything that no rule lets pass is dropped.

    `subject` is a jail's id, or "" for the host itself. `peers` are prefixes, () means anybody; `ports` () means all.
    """

    subject: str
    direction: Literal["in", "out"]
    peers: tuple[str, ...]
    protocol: Literal["tcp", "udp"]
    ports: tuple[int, ...]
    label: str
    rate: Rate | None = None
    """Of TCP connections into a jail."""
    sake: str = field(default="", repr=False)
    """The jail for which the host itself has this rule, that goes with it; "" for what is the host's own."""


@dataclass(frozen=True, slots=True)
class Wall:
    """Default deny for the host itself in a direction; without one, only the jails are walled."""

    direction: Literal["in", "out"]


@dataclass(frozen=True, slots=True)
class Outside:
    """The host's way to the world. `blocked` sources come in nowhere, `uncounted` ones are in no rate.

    `strict`: a source comes in only where the way back leads out.
    """

    nic: str
    blocked: tuple[str, ...] = ()
    uncounted: tuple[str, ...] = ()
    strict: bool = False


@dataclass(frozen=True, slots=True)
class Translation:
    """Packets from private `networks` leave by `nic` with the host's own IPv4 address there (NAT)."""

    nic: str
    networks: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Redirect:
    """What comes in by `nic` for `host_port` of the host's own IPv4 goes to a jail; its Rules judge it there."""

    nic: str
    protocol: Literal["tcp", "udp"]
    host_port: int
    jail: str
    address: str
    port: int


Part = Sysctl | Rename | Vlan | Switch | Link | Jail | Tunnel | Rule | Wall | Outside | Translation | Redirect


@dataclass(frozen=True, slots=True)
class Ssh:
    address: str
    port: int
    host_key: str
    user: str = "root"
    """Whom the host lets in: root, or an account that may become root."""


@dataclass(frozen=True, slots=True)
class Window:
    """A time of the week: from one minute of the day to before another (UTC), which is of the day after when it is not
    later. `days`: those on which it begins, Monday is 0."""

    days: frozenset[int]
    begin: int
    end: int

    def holds(self, day: int, minute: int) -> bool:
        over_midnight = self.end <= self.begin
        today = day in self.days and self.begin <= minute and (over_midnight or minute < self.end)
        return today or (over_midnight and (day - 1) % 7 in self.days and minute < self.end)


@dataclass(frozen=True, slots=True)
class HostSpec:
    """What one host must be."""

    name: str
    platform: str
    location: str
    ssh: Ssh
    storage: str
    parts: tuple[Part, ...]
    zfs: str = ""
    """The dataset below which every jail's home is one of its own; "": homes are plain directories."""
    firewall: Literal["ruleset", "anchor"] = "ruleset"
    """Whose rules are in force on a FreeBSD host: ours alone, or the administrator's with ours in an anchor."""
    suspended: str = ""
    """The document that says that nothing is to be changed on it; "" when none does."""
    canary: bool = False
    """What touches many hosts touches this one first."""
    windows: tuple[Window, ...] = ()
    """When staff's changes may stop or restart its jails; () is always."""

    @property
    def jails(self) -> tuple[Jail, ...]:
        return tuple(p for p in self.parts if isinstance(p, Jail))


@dataclass(frozen=True, slots=True)
class Claim:
    """What a document needs for itself alone: two claims on one (scope, value) are a Problem in both."""

    scope: str
    value: str
    path: str
    pointer: Pointer


@dataclass(frozen=True, slots=True)
class Site:
    """Names and the backends that serve them; each backend is a jail's id, its address and a port."""

    customer: str
    name: str
    names: tuple[str, ...]
    backends: tuple[tuple[str, str, int], ...]


@dataclass(frozen=True, slots=True)
class Guard:
    """A plan that removes or restarts more than `percent` of a host's jails, and at least `minimum`, waits for somebody
    to approve of it; so does every removal when as large a share of the fleet's jails goes."""

    percent: int = 30
    minimum: int = 3


@dataclass(frozen=True, slots=True)
class Waves:
    """How a change of staff's reaches the hosts that it touches, when they are `many`: canaries first, then up to each
    of the `shares` (percent of them), then the rest. `pause` and `deadline` are seconds."""

    many: int = 4
    shares: tuple[int, ...] = (10, 50)
    pause: int = 30
    """How long every host of a wave has to be well before the next one begins."""
    deadline: int = 900
    """How long a host may take to be well before it has failed."""
    roll_back: bool = False
    """Whether all go back to what they had when one has failed; else the others keep it, until it is mended."""


@dataclass(frozen=True, slots=True)
class Ahead:
    """Staff's commit that a host has before the others, and the jails that were not well there before it came."""

    revision: str
    unwell: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Rollout:
    """How far staff's documents have come: all hosts have those of `revision`, but those that are `ahead`."""

    revision: str
    ahead: Mapping[str, Ahead] = field(default_factory=dict)
    target: str = ""
    """The commit whose documents are on their way; "" when none are."""
    failed: str = ""
    """The commit whose documents were rolled back, and are not tried again."""
    waits: tuple[str, ...] = ()
    """Why it does not go on, a line each."""
    left: tuple[str, ...] = ()
    """Hosts that are still to come, in their order."""
    approval: str = ""
    """What the approval is called that lets it go to all of them at once."""


@dataclass(frozen=True, slots=True)
class Lost:
    """Jails that lost their documents while they were too many at once, those included that are gone by now, and how
    many jails there were."""

    jails: frozenset[str]
    of: int


@dataclass(frozen=True, slots=True)
class Fleet:
    """The whole desired state at one Revision. `frozen` customers keep what the hosts have of them."""

    hosts: Mapping[str, HostSpec]
    sites: tuple[Site, ...] = ()
    frozen: frozenset[str] = frozenset()
    guard: Guard = field(default_factory=Guard)
    approvals: Mapping[str, str] = field(default_factory=dict)
    """What staff let happen that nothing else does, as in `Plan.approval` and `Retained.purge` → the last day on which
    they do."""
    vanishing: frozenset[str] = frozenset()
    """Jails whose documents are gone, when so many of the fleet's go at once that it waits for an approval."""
    lost: Lost | None = None
    """Why they wait: what the first of them that goes must not make few."""
    waves: Waves = field(default_factory=Waves)
    suspended: Mapping[str, str] = field(default_factory=dict)
    """Jail's id → the document that says that nothing of it is to be changed."""


# ── resources, and what is done to them ──────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class File:
    """A file ("f"), directory ("d") or symbolic link ("l", its content is the target) at an absolute path."""

    path: str
    content: bytes | Secret = b""
    mode: int = 0o644
    owner: str = "0:0"
    kind: Literal["f", "d", "l"] = "f"


@dataclass(frozen=True, slots=True)
class Resource:
    """One thing on a host. `state` is all of it that is compared with what is observed, attribute by attribute.

    `key` is "type/version name". `owner` is the jail's id, or "" for what belongs to the host. `files` are written
    before the type's own commands run, and each is an attribute of the state. `undo` is what a removal needs to know
    beyond the key: it is kept in the inventory, because by then the resource has left the manifest.
    """

    key: str
    owner: str
    state: Mapping[str, str]
    files: tuple[File, ...] = ()
    words: str = ""
    """What a customer would call it."""
    claims: frozenset[str] = frozenset()
    undo: str = ""
    disrupts: Mapping[str, str] = field(default_factory=dict)
    """Attribute → what happens to the running jail when it has to be changed."""
    source: Source | None = None
    """What has to be on the host before the apply, for resources that are unpacked from an archive."""

    @property
    def type(self) -> str:
        return self.key.partition(" ")[0]

    @property
    def name(self) -> str:
        return self.key.partition(" ")[2]


@dataclass(frozen=True, slots=True)
class Manifest:
    """The Resources of a host in application order. `digest` is of all their states, `ground` of what its network and
    firewall are without any jail."""

    host: str
    resources: tuple[Resource, ...]
    digest: str
    ground: str = ""


@dataclass(frozen=True, slots=True)
class Owned:
    """One entry of the inventory on the host. `retained` is the day a removed jail's data may be purged, or ""."""

    key: str
    owner: str
    position: int
    retained: str = ""
    claims: frozenset[str] = frozenset()
    undo: str = ""


@dataclass(frozen=True, slots=True)
class Observation:
    """What is on a host now: key → observed attributes (what is not there has none), and what we own there."""

    states: Mapping[str, Mapping[str, str]]
    present: frozenset[str] = frozenset()
    """Keys of which something exists that must be somebody's: ours, if the inventory says so."""
    inventory: tuple[Owned, ...] = ()
    token: str = ""
    """Names this state of the inventory: an apply goes ahead only while it is still the same."""
    contents: Mapping[str, str] = field(default_factory=dict)
    """Path → text of files that differ from what is wanted, for the diffs people read."""
    degraded: Mapping[str, str] = field(default_factory=dict)
    """Owner → what is wrong with it although nothing needs to be changed (a command that keeps exiting, say)."""
    hold: str = ""
    """Why the administrator stopped all applies on this host; "" when nobody did."""
    refusals: tuple[str, ...] = ()
    """Why this host cannot be reconciled at all (a missing command, say)."""
    unconfirmed: bool = False
    """An apply that changed the network or the firewall was not confirmed (yet)."""
    refused: frozenset[str] = frozenset()
    """Digests, as in `Manifest.ground`, of what was taken back because it cut the host off."""
    obstacles: Mapping[str, str] = field(default_factory=dict)
    """Key → what is in its way on this host, that nobody but the administrator may move."""
    disrupts: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """Key → attribute → as in Resource, where it depends on the host what happens."""


DATA, JAIL = "data/", "jail/"
"""Types that every platform has: what is retained instead of removed, and what runs."""
Action = Literal["create", "update", "remove", "retain", "release", "purge"]
HEALTH = "health"
"""An attribute that no jail's state has: it differs where a jail is as it should be, and is to be restarted."""


@dataclass(frozen=True, slots=True)
class Change:
    """One step from the Observation to the Manifest, in words a customer understands."""

    action: Action
    key: str
    owner: str
    words: str
    disrupts: str = ""
    resource: Resource | None = None
    differences: tuple[tuple[str, str, str], ...] = ()
    """(attribute, is, should be)"""
    before: Owned | None = None
    """The inventory's entry, where there is one: all that a removal knows."""
    waits: frozenset[str] = frozenset()
    """Owners who give up in the same plan what this takes: where they fail, it must not go ahead."""
    diff: str = ""

    @property
    def type(self) -> str:
        return self.key.partition(" ")[0]

    @property
    def name(self) -> str:
        return self.key.partition(" ")[2]


def approval(*what: object) -> str:
    """What the approval of exactly this is called: a digest, behind a letter because names in documents begin so."""
    return "h" + hashlib.sha256(json.dumps(what).encode()).hexdigest()[:15]


def holders(inventory: Iterable[Owned]) -> frozenset[str]:
    """Who has something on the host."""
    return frozenset(owned.owner for owned in inventory)


def whose(owner: str) -> str:
    """The customer of a jail, by its id."""
    return owner.partition("--")[0]


@dataclass(frozen=True, slots=True)
class Failure:
    """Something that could not be done, or must not be touched. `owner` is a jail's id, or "" for the host."""

    owner: str
    key: str
    reason: str


@dataclass(frozen=True, slots=True)
class Circumstances:
    """What a plan depends on beside the two states. `today` is an input: plans hold no clock."""

    today: date
    guard: Guard = field(default_factory=Guard)
    approved: frozenset[str] = frozenset()
    """Approvals that are valid today."""
    released: frozenset[str] = frozenset()
    """Changes, by `guards.digest_of`, that one of those was of when it came: half of them may be done by now."""
    vanishing: frozenset[str] = frozenset()
    """Jails that go when too many of the whole fleet do."""
    frozen: frozenset[str] = frozenset()
    """Customers of whom no good commit is known: a host that has anything of theirs is left as it is."""
    untouched: frozenset[str] = frozenset()
    """Owners that are left as they are: a jail of which a secret cannot be opened, say."""
    adopt: bool = False
    """Take what exists under our keys for ours: for a host whose inventory was lost."""
    newcomer: str = ""
    """The reconciler's version, when another one was at work on the host last."""
    reviewed: bool = False
    """Somebody has seen this plan: the guard lets it through."""
    unwell: Mapping[str, str] = field(default_factory=dict)
    """Jails that are to be restarted now, and why. Of a host on hold none is, nor where that would trip a guard."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What one pass would do on one host. `digest` names exactly these changes, for `apply --digest`."""

    host: str
    changes: tuple[Change, ...]
    digest: str
    conflicts: tuple[Failure, ...] = ()
    """Things that exist under our keys and are not ours: their owners are left alone."""
    refusal: str = ""
    """Why a guard holds the whole plan back; "" when none does."""
    untouched: frozenset[str] = frozenset()
    """Owners of whom nothing is changed, nor taken into the inventory."""
    approval: str = ""
    """What the approval is called that lets go what a guard holds back; "" when none does."""
    held: tuple[str, ...] = ()
    """The changes that it is of, by `guards.digest_of`."""


@dataclass(frozen=True, slots=True)
class Retained:
    """Data of a jail that is gone, kept until that day at least; `purge` is what the approval is called that lets it
    be deleted afterwards."""

    jail: str
    until: str
    purge: str


@dataclass(frozen=True, slots=True)
class Report:
    """What one pass did on one host, and what is left. Holds no time and nothing of the reconciler's own machine."""

    host: str
    manifest: str
    owners: tuple[tuple[str, str], ...] = ()
    """(jail's id, digest of all that was wanted of it)"""
    done: tuple[Change, ...] = ()
    pending: tuple[Change, ...] = ()
    plan: str = ""
    """The digest of the pending changes, for `apply --digest`."""
    failures: tuple[Failure, ...] = ()
    conflicts: tuple[Failure, ...] = ()
    degraded: tuple[tuple[str, str], ...] = ()
    """(jail, what is wrong with it although nothing needs to be changed), as the host itself tells it"""
    ailing: tuple[tuple[str, str], ...] = ()
    """(jail, which of its checks fails, and how); "" is the host, on which too many fail at once"""
    starting: tuple[tuple[str, str], ...] = ()
    """(jail that was made or changed, which of its checks has not passed yet)"""
    unchecked: tuple[tuple[str, str], ...] = ()
    """(jail, why nobody knows what its checks would say)"""
    refusal: str = ""
    approval: str = ""
    """What the approval is called for which the plan waits."""
    held: tuple[str, ...] = ()
    """The changes that it is of."""
    hold: str = ""
    unreachable: str = ""
    version: str = ""
    """The reconciler's, once it was let work on this host."""
    retained: tuple[Retained, ...] = ()

    @property
    def ready(self) -> bool:
        return not (self.pending or self.failures or self.conflicts or self.refusal or self.hold or self.unreachable)

    @property
    def unwell(self) -> Mapping[str, str]:
        """Jail → why it does not do its work, although nothing is left to be changed. Not in it: those `starting`."""
        return {owner: why for owner, why in (*self.ailing, *self.degraded) if owner}
