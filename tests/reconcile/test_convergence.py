"""Properties of a pass over any host: it converges, also when it is killed, and touches nothing that is not ours."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from copy import deepcopy
from dataclasses import replace
from datetime import date
from itertools import count

import pytest
from hypothesis import HealthCheck, Phase, assume, example, given, note, settings
from hypothesis import strategies as st

from fake import Debian, FakeHost, drift, specs
from fake.linux import Interface
from reconciler.model import Change, Circumstances, File, HostSpec, Owned, Plan, Report, Switch
from reconciler.plan import plan
from reconciler.platforms import PLATFORMS
from reconciler.platforms.files import STATE
from reconciler.platforms.linux.commands import MAKE, REMOVE
from reconciler.platforms.linux.paths import tunnel_unit, unit
from reconciler.reconcile import Pass, reconcile
from reconciler.retention import retained

TODAY = date(2024, 2, 29)
REVIEWED = Circumstances(TODAY, reviewed=True)
SLOW = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]
PHASES = (Phase.explicit, Phase.generate)
STEADY = settings(deadline=None, derandomize=True, suppress_health_check=SLOW, phases=PHASES)
"""The same examples every time. A failure is shown as it was found: shrinking one takes minutes."""
EMPTY = specs.spec()


def apply(spec: HostSpec, host: FakeHost) -> Report:
    host.steps = 0
    return reconcile(spec, host, host.stock, Pass(REVIEWED))


def planned(spec: HostSpec, host: FakeHost) -> Plan:
    manifest = PLATFORMS["linux"].lower(spec)
    return plan(manifest, host.observe(manifest), REVIEWED)


def at(*specs: HostSpec) -> FakeHost:
    """A host that has been each of these, one after the other."""
    host = FakeHost()
    for spec in specs:
        apply(spec, host)
    return host


def everything(machine: Debian) -> dict[object, object]:
    """All that a machine is, without what differs between two machines that are the same: numbers and order."""
    rooms = {inode: name for name, inode in machine.rooms.items()}
    return {
        **{("file", path): node for path, node in machine.files.items() if path != f"{STATE}/inventory"},
        **{("inventory", owned.key): owned for owned in machine.inventory},
        **{("interface", *key): interface for key, interface in machine.interfaces.items()},
        **{("routes", room): routes for room, routes in machine.routes.items()},
        **{("process", n): (p.runs, rooms.get(p.room), p.settings) for n, p in machine.processes.items()},
        **{(name,): value for name, value in machine.settings.items()},
        "proxied": machine.proxied,
        "kernel": machine.kernel,
        "seals": machine.seals,
    }


def differences(one: FakeHost, other: FakeHost) -> list[tuple[object, object, object]]:
    first, second = everything(one.machine), everything(other.machine)
    keys = [*first, *(key for key in second if key not in first)]
    return [(key, first.get(key), second.get(key)) for key in keys if first.get(key) != second.get(key)]


def exchange(spec: HostSpec, host: FakeHost) -> bool:
    return bool(planned(spec, host).conflicts)


both = st.booleans().flatmap(lambda routed: st.tuples(*[specs.hosts(routed)] * 2))
three = st.booleans().flatmap(lambda routed: st.tuples(*[specs.hosts(routed)] * 3))
"""States that one host may have one after the other; a location does not change its mode."""


# ── converging ───────────────────────────────────────────────────────────────────────────────────────────────


@settings(STEADY, max_examples=40)
@example((specs.RICH, specs.CHANGED))
@example((specs.CHANGED, EMPTY))
@given(both)
def test_after_an_apply_the_plan_is_empty_and_a_restart_changes_nothing(pair: tuple[HostSpec, HostSpec]) -> None:
    before, after = pair
    host = at(before)
    assume(not exchange(after, host))
    report = apply(after, host)
    assert report.ready, (report.failures, report.pending)
    assert not planned(after, host).changes
    host.machine.reboot()
    assert not planned(after, host).changes


# ── killed at every step ─────────────────────────────────────────────────────────────────────────────────────

ROADS = {
    "from-nothing": ((), specs.RICH),
    "from-one-to-another": ((specs.RICH,), specs.CHANGED),
    "and-back": ((specs.RICH, specs.CHANGED), specs.RICH),
    "to-nothing": ((specs.RICH,), EMPTY),
}


def test_what_is_killed_makes_and_removes_every_type_there_is() -> None:
    host = at(specs.RICH)
    made = {change.type for change in apply(specs.RICH, FakeHost()).done}
    removed = {change.type for change in apply(EMPTY, host).done if change.action == "remove"}
    assert made >= {*MAKE}
    assert removed == {*REMOVE} - {"ruleset/1"}  # which every host has


@pytest.mark.parametrize("road", ROADS)
def test_killed_after_any_step_one_more_pass_ends_where_an_undisturbed_one_does(road: str) -> None:
    behind, ahead = ROADS[road]
    undisturbed = at(*behind)
    halves: list[tuple[str, Debian]] = []
    undisturbed.watch = lambda change: halves.append((change.key if change else "", deepcopy(undisturbed.machine)))
    assert apply(ahead, undisturbed).ready
    assert len(halves) == undisturbed.steps > 50
    for step, (key, machine) in enumerate(halves, start=1):
        host = FakeHost()
        host.machine = machine
        assert apply(ahead, host).ready, (step, key)
        assert not differences(host, undisturbed), (step, key)


def test_killed_while_data_is_deleted_one_more_pass_ends_it_and_the_jails_that_are_there_keep_theirs() -> None:
    spec = specs.spec(specs.jail("acme--www"))
    stands = at(specs.RICH, spec)
    kept = retained("a", stands.machine.inventory)
    late = Circumstances(date(2099, 1, 1), approved=frozenset(one.purge for one in kept))
    halves: list[Debian] = []
    stands.watch = lambda change: halves.append(deepcopy(stands.machine))
    assert len(reconcile(spec, stands, stands.stock, Pass(late)).done) == len(kept) > 1
    for machine in halves:
        host = FakeHost()
        host.machine = machine
        assert not reconcile(spec, host, host.stock, Pass(late)).pending
        assert not differences(host, stands)
    homes = {path.split("/")[5] for path in stands.machine.below("/var/lib/reconciler/jails")[1:]}
    assert homes == {"acme--www"}


@settings(STEADY, max_examples=30)
@given(both, st.integers(0, 1000))
def test_a_kill_anywhere_between_any_two_states_is_mended_by_one_more_pass(
    pair: tuple[HostSpec, HostSpec], step: int
) -> None:
    before, after = pair
    host = at(before)
    assume(not exchange(after, host) and planned(after, host).changes)
    undisturbed = deepcopy(host)
    apply(after, undisturbed)
    host.fuse = step % (undisturbed.steps + 1)
    note(f"killed after {host.fuse} of {undisturbed.steps} steps")
    assert apply(after, host).unreachable == "the host went away"
    assert apply(after, host).ready
    assert not differences(host, undisturbed)


@settings(STEADY, max_examples=25)
@given(three, st.integers(0, 150))
def test_killed_on_the_way_to_one_state_a_pass_still_reaches_another(
    road: tuple[HostSpec, HostSpec, HostSpec], step: int
) -> None:
    """The next commit arrives before the host is back: what was half made is finished or removed."""
    before, other, after = road
    host = at(before)
    host.fuse = step
    apply(other, host)
    host.fuse = None
    assume(not exchange(after, host))
    assert apply(after, host).ready
    assert not planned(after, host).changes


# ── drift ────────────────────────────────────────────────────────────────────────────────────────────────────

BRIDGED = specs.spec(
    specs.jail("acme--www", nic=specs.nic("acme--www", 1, announce="")),
    switches=[Switch("sw0", False, "eth1", ("2001:db8::2/64",))],
)


def hands(spec: HostSpec) -> Iterator[tuple[str, str, drift.Accident]]:
    for resource in PLATFORMS["linux"].lower(spec).resources:
        for attribute in resource.state:
            for name, accident in drift.accidents(resource, attribute):
                yield resource.key, f"{attribute}: {name}", accident


@pytest.mark.parametrize("spec", [specs.RICH, BRIDGED], ids=["routed", "bridged"])
def test_any_attribute_changed_by_hand_is_found_and_mended_by_one_pass(spec: HostSpec) -> None:
    sound = at(spec)
    found = Counter[str]()
    for key, name, accident in hands(spec):
        host = deepcopy(sound)
        accident(host.machine)
        report = apply(spec, host)
        assert report.ready, (key, name)
        assert key in {change.key for change in report.done}, (key, name)
        assert not differences(host, sound), (key, name)
        found[key.partition("/")[0]] += 1
    assert min(found.values()) > 0
    assert set(found) == {r.type.partition("/")[0] for r in PLATFORMS["linux"].lower(spec).resources}


@settings(STEADY, max_examples=25)
@given(specs.hosts(), st.data())
def test_several_accidents_at_once_are_mended_by_one_pass(spec: HostSpec, data: st.DataObject) -> None:
    sound = at(spec)
    possible = list(hands(spec))
    host = deepcopy(sound)
    for number in data.draw(st.sets(st.integers(0, len(possible) - 1), max_size=4)):
        key, name, accident = possible[number]
        note(f"{key} {name}")
        with suppress(KeyError):  # the accident before took it away
            accident(host.machine)
    assert apply(spec, host).ready
    assert not differences(host, sound)


# ── what is not ours ─────────────────────────────────────────────────────────────────────────────────────────


def foreign(machine: Debian) -> None:
    """An administrator's own things, some of them where ours would be."""
    for path in ("/etc/hosts", "/etc/systemd/system/backup.service", "/etc/reconciler/notes", f"{STATE}/mine"):
        machine.put(File(path, b"the administrator's"))
    machine.put(File("/etc/systemd/system/multi-user.target.wants/backup.service", b"../backup.service", kind="l"))
    machine.interfaces["", "docker0"] = Interface("bridge", addresses={"172.17.0.1/16"})
    machine.room("vpn")
    machine.routes[""]["2001:db8:9::/48"] = ("eth0", "fe80::9")
    machine.settings["net.core.somaxconn"] = "9"


@settings(STEADY, max_examples=15)
@given(both)
def test_what_is_not_in_the_inventory_is_never_touched(pair: tuple[HostSpec, HostSpec]) -> None:
    host = FakeHost()
    fresh = everything(host.machine)
    foreign(host.machine)
    theirs = {key: value for key, value in everything(host.machine).items() if key not in fresh}
    for spec in (*pair, EMPTY):
        apply(spec, host)
        assert theirs.items() <= everything(host.machine).items()
        assert host.machine.routes[""]["2001:db8:9::/48"] == ("eth0", "fe80::9")


@pytest.mark.parametrize("kind", ["jail", "root", "secret", "data", "tunnel"])
def test_what_somebody_else_made_under_our_keys_stays_and_its_jail_waits(kind: str) -> None:
    host = FakeHost()
    manifest = PLATFORMS["linux"].lower(specs.RICH)
    theirs = next(r for r in manifest.resources if r.type == f"{kind}/1" and r.owner == "acme--db")
    path = next(file.path for file in theirs.files if file.kind == "f")
    host.machine.put(File(path, b"theirs"))
    report = apply(specs.RICH, host)
    assert [conflict.key for conflict in report.conflicts] == [theirs.key]
    assert host.machine.files[path].content == b"theirs"
    assert "acme--db" not in {owned.owner for owned in host.machine.inventory}
    others = {unit("acme--www"), unit("uirig--www"), tunnel_unit("acme--mail"), tunnel_unit("acme--copy")}
    assert set(host.machine.processes) == others


def test_adopting_takes_what_is_there_and_converges() -> None:
    host = at(specs.RICH)
    sound = deepcopy(host)
    host.machine.delete(f"{STATE}/inventory")
    assert len(apply(specs.RICH, host).conflicts) > 10
    assert not host.machine.inventory
    report = reconcile(specs.RICH, host, host.stock, Pass(replace(REVIEWED, adopt=True)))
    assert report.ready
    assert not report.done
    assert not differences(host, sound)
    assert apply(specs.RICH, host).ready


# ── failures ─────────────────────────────────────────────────────────────────────────────────────────────────


def addresses_in_two_jails(machine: Debian) -> list[str]:
    plugged = (i for (room, _), i in machine.interfaces.items() if room and i.peer and not i.peer[0])
    found = Counter(address for interface in plugged for address in interface.addresses)
    return [address for address, count in found.items() if count > 1]


@settings(STEADY, max_examples=30)
@given(both, st.sampled_from(specs.IDS), st.integers(0, 30))
def test_no_address_is_in_two_jails_at_any_moment(pair: tuple[HostSpec, HostSpec], owner: str, number: int) -> None:
    """Also when the jail that has to give it up cannot."""
    host = FakeHost()
    steps = count()
    host.breaks = lambda change, step: "no" if change.owner == owner and next(steps) == number else ""
    moments: list[list[str]] = []
    host.watch = lambda change: moments.append(addresses_in_two_jails(host.machine))
    for spec in pair * 2:
        apply(spec, host)
    assert moments
    assert not any(moments)


@settings(STEADY, max_examples=25)
@given(both, st.sampled_from(specs.IDS), st.integers(0, 30))
def test_a_step_that_fails_stops_its_owner_and_nobody_else(
    pair: tuple[HostSpec, HostSpec], owner: str, number: int
) -> None:
    before, after = pair
    host = at(before)
    steps = count()
    start = planned(after, host)
    assume(not start.conflicts)
    host.breaks = lambda change, step: "disk full" if change.owner == owner and next(steps) == number else ""
    report = apply(after, host)
    assume(report.failures)
    assert [(failure.owner, failure.reason) for failure in report.failures] == [(owner, "disk full")]
    waiting = {c.owner for c in start.changes if c.waits}
    assert {change.owner for change in report.pending} <= {owner, "", *waiting}
    host.breaks = lambda change, step: ""
    report = apply(after, host)
    assert report.ready, (report.failures, report.pending)


def test_a_step_of_the_hosts_own_that_fails_stops_everything() -> None:
    host = FakeHost()
    host.breaks = lambda change, step: "no such device" if change.key == "switch/1 sw1" else ""
    report = apply(specs.RICH, host)
    assert [(failure.owner, failure.key) for failure in report.failures] == [("", "switch/1 sw1")]
    assert not host.machine.processes
    assert not [change for change in report.done if change.owner]


def test_without_spiped_the_jails_run_and_say_what_their_tunnels_want() -> None:
    host = FakeHost()
    host.machine.commands.remove("spiped")
    report = apply(specs.RICH, host)
    reason = "spiped is not installed on this host: apt-get install spiped"
    assert [(f.owner, f.reason) for f in report.failures] == [("acme--www", reason), ("acme--db", reason)]
    assert {change.key.partition(" ")[0] for change in report.pending} == {"tunnel/1"}
    assert set(host.machine.processes) == {unit(jail.id) for jail in specs.RICH.jails}
    host.machine.commands.add("spiped")
    assert apply(specs.RICH, host).ready


# ── the inventory ────────────────────────────────────────────────────────────────────────────────────────────


def traces(machine: Debian, owned: Owned) -> list[object]:
    """What is left on a host of something that was ours, by the names of its key and its undo."""
    words = {owned.key.partition(" ")[2], *owned.undo.split("\x1f")} - {
        "eth0",
        "eth1",
        "eth2",
        "sw0",
        "sw1",
        "seg0",
        "",
    }
    match owned.key.partition("/")[0]:
        case "sysctl" | "uplink":  # a setting stays until the next boot, and nothing shows whose it was
            return []
        case "ruleset":
            return [machine.kernel] if machine.kernel else []
        case "switch":
            return [key for key in machine.interfaces if key == ("", owned.key.partition(" ")[2])]
        case "port" | "plug":
            return [key for key in machine.interfaces if key == ("", owned.undo.partition("\x1f")[0])]
        case "cable":
            return [key for key in machine.interfaces if list(key) == owned.undo.split("\x1f")[:2]]
        case "jail":
            return [name for name in machine.processes if name in words]
        case "tunnel":
            return [name for name in (*machine.processes, *machine.files) if name in words]
        case _:
            return [path for path in machine.files if path in words]


def test_the_inventory_says_whose_a_thing_is_also_when_it_went_to_another_jail() -> None:
    host = at(specs.RICH, specs.CHANGED)
    wanted = {resource.key: resource.owner for resource in PLATFORMS["linux"].lower(specs.CHANGED).resources}
    assert {o.key: o.owner for o in host.machine.inventory if not o.retained} == wanted


@settings(STEADY, max_examples=20)
@example((specs.RICH, specs.CHANGED))
@example((specs.RICH, EMPTY))
@given(both)
def test_the_inventory_has_a_thing_before_it_is_there_and_until_it_is_gone(pair: tuple[HostSpec, HostSpec]) -> None:
    host = FakeHost()
    ever: dict[str, Owned] = {}

    def look(change: Change | None) -> None:
        now = {owned.key: owned for owned in host.machine.inventory}
        if change is not None and change.action != "remove":
            assert change.key in now
        for key in ever.keys() - now.keys():
            assert not traces(host.machine, ever.pop(key)), key
        ever.update(now)

    host.watch = look
    for spec in (*pair, EMPTY):
        apply(spec, host)
    left = {owned.key for owned in host.machine.inventory if owned.owner}
    assert left == {f"data/1 {jail.id}" for spec in pair for jail in spec.jails if f"data/1 {jail.id}" in ever}
