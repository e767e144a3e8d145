"""A Change → the steps that carry it out on a FreeBSD host.

In: a Change (its resource, what differs, the inventory's entry). Out: Steps. Four tables: for making and mending, for
removal, for the end of data, for going back; a removal knows only the key and the inventory's entry, because the
resource has left the manifest. The removal of a type once shipped is never taken out of its table. Every list of steps
may be begun again after a kill at any point. What the functions do is in `apply.sh`, `functions.sh` and `network.sh`
beside this file, and in `apply.sh` above it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from reconciler.model import Change, File, Owned, Resource
from reconciler.platforms.files import ETC, NETWORK, digest
from reconciler.platforms.freebsd import datasets
from reconciler.platforms.freebsd.jail import RESTARTING, changeable
from reconciler.platforms.freebsd.paths import JAILS, LOGS, TUNNELS, jail_name
from reconciler.platforms.freebsd.probe import seal
from reconciler.platforms.ground import Undo, nothing_but_files, was_there
from reconciler.platforms.steps import INCOMING, Call, Delete, Put, Step, carried_out, files_only, wanted_files


def commands(change: Change) -> tuple[Step, ...]:
    return carried_out(change, MAKE, REMOVE, PURGE)


def host(*words: str) -> Call:
    return Call("host", words)


# ── making and mending ───────────────────────────────────────────────────────────────────────────────────────


def make_network(change: Change, resource: Resource) -> Iterator[Step]:
    """The one-line file is both the boot state and what is run now."""
    yield from files_only(change, resource)
    if change.before and change.before.undo != resource.undo:
        yield from CUT[resource.type](change.before)
    yield host("run", resource.files[0].path)


def make_module(change: Change, resource: Resource) -> Iterator[Step]:
    yield host("modules", resource.name)


def make_devices(change: Change, resource: Resource) -> Iterator[Step]:
    yield host("devices")


def make_dataset(change: Change, resource: Resource) -> Iterator[Step]:
    """Made in one call, so that what a kill leaves behind says whose it is. It is never mounted over files."""
    was = {attribute: before for attribute, before, _ in change.differences}
    words = datasets.properties(resource, was)
    if all(was.get(attribute) == "" for attribute in resource.state):
        if resource.undo:
            yield Call("vacant", (resource.undo,))
        yield Call("zfs", ("create", *(word for each in words for word in ("-o", each)), resource.name))
        return
    yield from (Call("zfs", ("set", each, resource.name)) for each in words)
    if resource.undo and {"mounted", "mountpoint", "canmount"} & set(was):
        yield Call("mount_dataset", (resource.name, resource.undo))


def make_sysctl(change: Change, resource: Resource) -> Iterator[Step]:
    yield Call("set_sysctl", (resource.name, resource.state["value"]))


def make_ruleset(change: Change, resource: Resource) -> Iterator[Step]:
    yield from load(resource.files[0])


def make_anchor(change: Change, resource: Resource) -> Iterator[Step]:
    yield from load(resource.files[0], resource.name)


def load(rules: File, *anchor: str) -> Iterator[Step]:
    candidate = f"{rules.path}.candidate"
    yield Put(File(candidate, rules.content, rules.mode, rules.owner))
    yield Call("load_rules", (candidate, rules.path, *anchor))


def make_tree(change: Change, resource: Resource) -> Iterator[Step]:
    archive = f"{INCOMING}/{resource.name}"
    yield Call("unpack", (archive, resource.undo))
    yield Delete(archive)


def make_data(change: Change, resource: Resource) -> Iterator[Step]:
    yield from files_only(change, resource)
    yield Call("places", tuple(path for path, state in resource.state.items() if state == "there"))
    yield Call("unretain", (resource.undo,))


def make_root(change: Change, resource: Resource) -> Iterator[Step]:
    yield from files_only(change, resource)
    written = {file.path for file in wanted_files(change, resource)}
    if f"{resource.undo}/etc/master.passwd" in written or "accounts" in {a for a, _, _ in change.differences}:
        yield Call("accounts", (f"{resource.undo}/etc", seal(resource), resource.state["accounts"]))


def make_jail(change: Change, resource: Resource) -> Iterator[Step]:
    """A jail that is not there, or whose command is not kept up, is started; what jail(8) can change it changes."""
    yield from files_only(change, resource)
    was = {attribute: before for attribute, before, _ in change.differences}
    wants = set(was) & {*RESTARTING, "application"}
    verb = "restart" if wants else "change" if {"settings", "grants"} & set(was) else "keep"
    if "runs" in was and not was["runs"]:
        verb = "up"
    dataset = resource.state.get("dataset", "")
    if verb == "restart" and "runs" in was and dataset:
        yield Call("snapshot", (dataset, digest(f"{was['runs']} {resource.state['runs']}".encode())[:12]))
    settings = changeable(resource.state["grants"], was.get("grants", ""))
    yield Call("machine", (*resource.undo.split("\x1f"), verb, *settings))


def make_tunnel(change: Change, resource: Resource) -> Iterator[Step]:
    """Whatever differs, it is started anew. One that was in another jail has ended there before."""
    if change.before and change.before.undo != resource.undo:
        yield from remove_tunnel(change.before)
        yield from (Put(file) for file in resource.files)
    else:
        yield from files_only(change, resource)
    yield host("run", resource.files[-1].path)


MAKE: Mapping[str, Callable[[Change, Resource], Iterator[Step]]] = {
    "nic/1": make_network,
    "vlan/1": make_network,
    "switch/1": make_network,
    "port/1": make_network,
    "plug/1": make_network,
    "cable/1": make_network,
    "dataset/1": make_dataset,
    "module/1": make_module,
    "devices/1": make_devices,
    "sysctl/1": make_sysctl,
    "ruleset/1": make_ruleset,
    "anchor/1": make_anchor,
    "tree/1": make_tree,
    "data/1": make_data,
    "root/1": make_root,
    "jail/1": make_jail,
    "tunnel/1": make_tunnel,
}
"""Types that are more than their files."""


# ── removing ─────────────────────────────────────────────────────────────────────────────────────────────────


def name_of(before: Owned) -> str:
    return before.key.partition(" ")[2]


def remove_file(before: Owned) -> Iterator[Step]:
    yield Delete(name_of(before))


def remove_module(before: Owned) -> Iterator[Step]:
    """It stays loaded until the next boot: somebody else may use it by now."""
    return iter(())


def remove_dataset(before: Owned) -> Iterator[Step]:
    """Data is in it: it stays as it is, with its mark."""
    return iter(())


def remove_devices(before: Owned) -> Iterator[Step]:
    yield Call("no_devices", (name_of(before),))


def remove_nic(before: Owned) -> Iterator[Step]:
    """The card keeps the name until the next boot: the administrator may use it by now."""
    yield Delete(f"{NETWORK}/04-{name_of(before)}")


def remove_vlan(before: Owned) -> Iterator[Step]:
    yield host("no_switch", name_of(before))
    yield Delete(f"{NETWORK}/08-{name_of(before)}")


def remove_switch(before: Owned) -> Iterator[Step]:
    yield host("no_switch", name_of(before))
    yield Delete(f"{NETWORK}/10-{name_of(before)}")


def unplug(before: Owned) -> Iterator[Step]:
    nic, addresses, _ = before.undo.split("\x1f")
    yield host("leave", addresses, nic)


def remove_port(before: Owned) -> Iterator[Step]:
    yield from unplug(before)
    yield Delete(f"{NETWORK}/20-{jail_name(name_of(before))}")


def unplug_further(before: Owned) -> Iterator[Step]:
    yield host("leave", "", before.undo.partition("\x1f")[0])


def remove_plug(before: Owned) -> Iterator[Step]:
    yield from unplug_further(before)
    yield Delete(before.undo.rpartition("\x1f")[2])


def cut(before: Owned) -> Iterator[Step]:
    yield host("no_cable", *before.undo.split("\x1f")[:4])


def remove_cable(before: Owned) -> Iterator[Step]:
    yield from cut(before)
    yield Delete(before.undo.split("\x1f")[4])


CUT: Mapping[str, Callable[[Owned], Iterator[Step]]] = {
    "nic/1": lambda before: iter(()),
    "vlan/1": lambda before: iter(()),
    "switch/1": lambda before: iter(()),
    "port/1": unplug,
    "plug/1": unplug_further,
    "cable/1": cut,
}
"""What goes before something else takes its place."""


def remove_sysctl(before: Owned) -> Iterator[Step]:
    """The value stays until the next boot: what it was before us is not known to be right either."""
    return iter(())


def remove_ruleset(before: Owned) -> Iterator[Step]:
    yield Call("no_rules")
    yield Delete(f"{ETC}/pf.conf")


def remove_anchor(before: Owned) -> Iterator[Step]:
    yield Call("no_anchor", (name_of(before),))
    yield Delete(before.undo)


def remove_tree(before: Owned) -> Iterator[Step]:
    yield Call("remove_tree", (before.undo,))


def remove_root(before: Owned) -> Iterator[Step]:
    yield Call("remove_tree", (before.undo,))
    yield Call("remove_tree", (f"{before.undo.removesuffix('/root')}/live",))
    yield Delete(f"{before.undo}.accounts")


def remove_secret(before: Owned) -> Iterator[Step]:
    yield Delete(before.undo)


def remove_jail(before: Owned) -> Iterator[Step]:
    name, live = before.undo.split("\x1f")
    yield host("down", name, live)
    for ending in ("conf", "fstab", "limits"):
        yield Delete(f"{JAILS}/{name}.{ending}")


def remove_tunnel(before: Owned) -> Iterator[Step]:
    name, place = before.undo.split("\x1f")
    yield host("no_tunnel", name, name_of(before))
    yield Delete(f"{TUNNELS}/{name_of(before)}")
    yield Call("remove_tree", (place,))


REMOVE: Mapping[str, Callable[[Owned], Iterator[Step]]] = {
    "file/1": remove_file,
    "dataset/1": remove_dataset,
    "module/1": remove_module,
    "devices/1": remove_devices,
    "nic/1": remove_nic,
    "vlan/1": remove_vlan,
    "switch/1": remove_switch,
    "port/1": remove_port,
    "plug/1": remove_plug,
    "cable/1": remove_cable,
    "sysctl/1": remove_sysctl,
    "ruleset/1": remove_ruleset,
    "anchor/1": remove_anchor,
    "tree/1": remove_tree,
    "root/1": remove_root,
    "secret/1": remove_secret,
    "jail/1": remove_jail,
    "tunnel/1": remove_tunnel,
}


def purge_data(before: Owned) -> Iterator[Step]:
    """With its log, in which the same people's words may be."""
    jail = name_of(before)
    yield Call("purge", (before.undo, jail, before.retained))
    yield Delete(f"{LOGS}/{jail_name(jail)}.log")


PURGE: Mapping[str, Callable[[Owned], Iterator[Step]]] = {"data/1": purge_data}
"""Of what is retained: apart from what is removed without an approval."""


# ── going back ───────────────────────────────────────────────────────────────────────────────────────────────

FILES = {"nic/1": "04", "vlan/1": "08", "switch/1": "10"}


def undo_nic(change: Change) -> tuple[tuple[Step, ...], tuple[Step, ...]]:
    """A card that had the name by somebody else keeps it."""
    named = [want for attribute, _, want in change.differences if attribute == "card"]
    if not was_there(change):
        return tuple(host("rename", change.name, device) for device in named), ()
    return run_again(change)


def undo_interface(change: Change) -> tuple[tuple[Step, ...], tuple[Step, ...]]:
    if not was_there(change):
        return (host("no_switch", change.name),), ()
    return run_again(change)


def run_again(change: Change) -> tuple[tuple[Step, ...], tuple[Step, ...]]:
    return (), (host("run", f"{NETWORK}/{FILES[change.type]}-{change.name}"),)


def undo_devices(change: Change) -> tuple[tuple[Step, ...], tuple[Step, ...]]:
    return (), (host("devices"),)


def undo_sysctl(change: Change) -> tuple[tuple[Step, ...], tuple[Step, ...]]:
    return (), tuple(Call("set_sysctl", (change.name, was)) for _, was, _ in change.differences if was)


def undo_ruleset(change: Change) -> tuple[tuple[Step, ...], tuple[Step, ...]]:
    return (), (Call("load_again", (f"{ETC}/pf.conf",)),)


def undo_anchor(change: Change) -> tuple[tuple[Step, ...], tuple[Step, ...]]:
    path = change.before.undo if change.before else change.resource.undo if change.resource else ""
    return (), (Call("load_again", (path, change.name)),)


UNDO: Mapping[str, Undo] = {
    "file/1": nothing_but_files,
    "module/1": nothing_but_files,
    "devices/1": undo_devices,
    "nic/1": undo_nic,
    "vlan/1": undo_interface,
    "switch/1": undo_interface,
    "sysctl/1": undo_sysctl,
    "ruleset/1": undo_ruleset,
    "anchor/1": undo_anchor,
}
"""Of what is the host's own network and firewall."""
