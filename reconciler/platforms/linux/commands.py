"""A Change → the steps that carry it out on a Linux host.

In: a Change (its resource, what differs, the inventory's entry). Out: Steps. Four tables: for making and mending, for
removal, for the end of data, for going back; a removal knows only the key and the inventory's entry, because the
resource has left the manifest. The removal of a type once shipped is never taken out of its table. Every list of steps
may be begun again after a kill at any point. What the functions do is in `apply.sh` and `network.sh` beside this
file, and in `apply.sh` above it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from reconciler.model import Change, File, Owned, Resource
from reconciler.platforms.files import ETC, NETWORK, digest
from reconciler.platforms.ground import Undo, nothing_but_files, was_there
from reconciler.platforms.linux.machine import RESTARTING
from reconciler.platforms.linux.paths import UNITS
from reconciler.platforms.steps import INCOMING, Call, Delete, Put, Step, carried_out, files_only, wanted_files


def commands(change: Change) -> tuple[Step, ...]:
    return carried_out(change, MAKE, REMOVE, PURGE)


# ── making and mending ───────────────────────────────────────────────────────────────────────────────────────


def make_network(change: Change, resource: Resource) -> Iterator[Step]:
    """The one-line file is both the boot state and what is run now."""
    yield from files_only(change, resource)
    if resource.type == "port/1" and change.before and change.before.undo != resource.undo:
        yield from forget_port(change.before, resource)
    if resource.type == "cable/1" and change.before and change.before.undo != resource.undo:
        yield from cut(change.before)
    yield Call("network", ("run", resource.files[0].path))


def forget_port(before: Owned, resource: Resource) -> Iterator[Step]:
    nic, addresses, bridge, announce = before.undo.split("\x1f")
    # a name that cannot be had must not cost the jail the interface it has
    yield Call("network", ("to_be_had", resource.undo.partition("\x1f")[0]))
    yield Call("network", ("leave", addresses, bridge, announce))
    if nic != resource.undo.partition("\x1f")[0]:
        yield Call("network", ("no_switch", nic))


def make_sysctl(change: Change, resource: Resource) -> Iterator[Step]:
    yield Call("set_sysctl", (resource.name, resource.state["value"]))


def make_ruleset(change: Change, resource: Resource) -> Iterator[Step]:
    rules, *others = resource.files
    differing = set(wanted_files(change, resource))
    yield from (Put(file) for file in others if file in differing)
    candidate = f"{rules.path}.candidate"
    yield Put(File(candidate, rules.content, rules.mode, rules.owner))
    yield Call("load_rules", (candidate, rules.path))


def make_tree(change: Change, resource: Resource) -> Iterator[Step]:
    archive = f"{INCOMING}/{resource.name}"
    yield Call("unpack", (archive, resource.undo))
    yield Delete(archive)


def make_data(change: Change, resource: Resource) -> Iterator[Step]:
    yield from files_only(change, resource)
    yield Call("places", tuple(path for path, state in resource.state.items() if state == "there"))
    yield Call("unretain", (resource.undo,))


def make_jail(change: Change, resource: Resource) -> Iterator[Step]:
    """The snapshot stands first: where none can be taken, what it was started as is still what its files say."""
    differing = {attribute: was for attribute, was, _ in change.differences}
    if "runs" in differing:
        between = digest(f"{differing['runs']} {resource.state['runs']}".encode())[:12] if differing["runs"] else ""
        yield Call("snapshot", (*resource.undo.split("\x1f"), between))
    yield from files_only(change, resource)
    verb = "keep"
    if set(RESTARTING) & set(differing):
        verb = "restart" if any(differing.get(attribute) for attribute in RESTARTING) else "start"
    yield Call("machine", (unit_of(resource.undo), verb))
    if verb == "keep" and "open files" in differing:
        yield Call("open_files", (unit_of(resource.undo), resource.state["open files"]))


def unit_of(undo: str) -> str:
    """Of a jail; older entries of an inventory say nothing else."""
    return undo.partition("\x1f")[0]


def make_tunnel(change: Change, resource: Resource) -> Iterator[Step]:
    """Whatever differs, it is started anew: spiped reads the key when it starts, and never again. So the key in a jail
    that it leaves goes first, while there is something left to do, or an apply killed here would leave it behind."""
    unit, key = resource.undo.split("\x1f")
    yield Call("spiped_is_there")
    before = change.before.undo.partition("\x1f")[2] if change.before else key
    if before != key:
        yield Delete(before)
    yield from files_only(change, resource)
    yield Call("machine", (unit, "restart"))


MAKE: Mapping[str, Callable[[Change, Resource], Iterator[Step]]] = {
    "uplink/1": make_network,
    "vlan/1": make_network,
    "switch/1": make_network,
    "port/1": make_network,
    "plug/1": make_network,
    "cable/1": make_network,
    "sysctl/1": make_sysctl,
    "ruleset/1": make_ruleset,
    "tree/1": make_tree,
    "data/1": make_data,
    "jail/1": make_jail,
    "tunnel/1": make_tunnel,
}
"""Types that are more than their files."""


# ── removing ─────────────────────────────────────────────────────────────────────────────────────────────────


def name_of(before: Owned) -> str:
    return before.key.partition(" ")[2]


def remove_file(before: Owned) -> Iterator[Step]:
    yield Delete(name_of(before))


def remove_uplink(before: Owned) -> Iterator[Step]:
    """The kernel's setting stays: nothing is announced any more, and somebody else may have wanted it."""
    yield Delete(f"{NETWORK}/05-{name_of(before)}")


def remove_vlan(before: Owned) -> Iterator[Step]:
    yield Call("network", ("no_switch", name_of(before)))
    yield Delete(f"{NETWORK}/08-{name_of(before)}")


def remove_switch(before: Owned) -> Iterator[Step]:
    yield Call("network", ("no_switch", name_of(before)))
    yield Delete(f"{NETWORK}/10-{name_of(before)}")


def remove_port(before: Owned) -> Iterator[Step]:
    nic, addresses, bridge, announce = before.undo.split("\x1f")
    yield Call("network", ("leave", addresses, bridge, announce))
    yield Call("network", ("no_port", name_of(before), nic))
    yield Delete(f"{NETWORK}/20-{name_of(before)}")


def remove_plug(before: Owned) -> Iterator[Step]:
    nic, _, path = before.undo.split("\x1f")
    yield Call("network", ("no_switch", nic))
    yield Delete(path)


def cut(before: Owned) -> Iterator[Step]:
    """Both ends go with one; the second is for half a pair."""
    first, first_nic, second, second_nic, _ = before.undo.split("\x1f")
    yield Call("network", ("no_cable", first, first_nic))
    yield Call("network", ("no_cable", second, second_nic))


def remove_cable(before: Owned) -> Iterator[Step]:
    yield from cut(before)
    yield Delete(before.undo.split("\x1f")[4])


def remove_sysctl(before: Owned) -> Iterator[Step]:
    """The value stays until the next boot: what it was before us is not known to be right either."""
    return iter(())


def remove_ruleset(before: Owned) -> Iterator[Step]:
    yield Call("no_rules")
    for path in (f"{UNITS}/sysinit.target.wants/reconciler-firewall.service", f"{UNITS}/reconciler-firewall.service"):
        yield Delete(path)
    yield Delete(f"{ETC}/firewall.nft")


def remove_tree(before: Owned) -> Iterator[Step]:
    yield Call("remove_tree", (before.undo,))


def remove_secret(before: Owned) -> Iterator[Step]:
    yield Delete(before.undo)


def remove_jail(before: Owned) -> Iterator[Step]:
    yield from remove_unit(unit_of(before.undo))


def remove_unit(unit: str) -> Iterator[Step]:
    yield Delete(f"{UNITS}/multi-user.target.wants/{unit}")
    yield Call("no_machine", (unit,))
    yield Delete(f"{UNITS}/{unit}")
    # or systemd goes on showing a unit that has no file any more, and it looks like somebody else's
    yield Call("reload_units", (unit,))


def remove_tunnel(before: Owned) -> Iterator[Step]:
    unit, key = before.undo.split("\x1f")
    yield from remove_unit(unit)
    yield Delete(key)


REMOVE: Mapping[str, Callable[[Owned], Iterator[Step]]] = {
    "file/1": remove_file,
    "uplink/1": remove_uplink,
    "vlan/1": remove_vlan,
    "switch/1": remove_switch,
    "port/1": remove_port,
    "plug/1": remove_plug,
    "cable/1": remove_cable,
    "sysctl/1": remove_sysctl,
    "ruleset/1": remove_ruleset,
    "tree/1": remove_tree,
    "root/1": remove_tree,
    "secret/1": remove_secret,
    "jail/1": remove_jail,
    "tunnel/1": remove_tunnel,
}


def purge_data(before: Owned) -> Iterator[Step]:
    yield Call("purge", (before.undo, name_of(before), before.retained))


PURGE: Mapping[str, Callable[[Owned], Iterator[Step]]] = {"data/1": purge_data}
"""Of what is retained: apart from what is removed without an approval."""


# ── going back ───────────────────────────────────────────────────────────────────────────────────────────────

FILES = {"vlan/1": "08", "switch/1": "10"}


def undo_interface(change: Change) -> tuple[tuple[Step, ...], tuple[Step, ...]]:
    if not was_there(change):
        return (Call("network", ("no_switch", change.name)),), ()
    return (), (Call("network", ("run", f"{NETWORK}/{FILES[change.type]}-{change.name}")),)


def undo_sysctl(change: Change) -> tuple[tuple[Step, ...], tuple[Step, ...]]:
    return (), tuple(Call("set_sysctl", (change.name, was)) for _, was, _ in change.differences if was)


def undo_ruleset(change: Change) -> tuple[tuple[Step, ...], tuple[Step, ...]]:
    return (), (Call("load_again", (f"{ETC}/firewall.nft",)),)


UNDO: Mapping[str, Undo] = {
    "file/1": nothing_but_files,
    "uplink/1": nothing_but_files,
    "vlan/1": undo_interface,
    "switch/1": undo_interface,
    "sysctl/1": undo_sysctl,
    "ruleset/1": undo_ruleset,
}
"""Of what is the host's own network and firewall."""
