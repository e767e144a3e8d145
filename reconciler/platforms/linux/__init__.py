"""Debian 12 hosts: systemd-nspawn machines, bridges and veth pairs, nftables, unit limits.

`lower` is the table of contents of a host, in application order. The four functions below are all that the rest of
the program sees (see `platforms.Platform`). No I/O; nothing of YAML or git.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from importlib.resources import files

from reconciler.model import File, HostSpec, Jail, Link, Manifest, Resource, Switch, Sysctl, Tunnel, Vlan
from reconciler.platforms.files import ETC, file_digest, file_state
from reconciler.platforms.ground import manifest
from reconciler.platforms.layers import in_start_order, source_tree, trees, user
from reconciler.platforms.linux import firewall, machine, network
from reconciler.platforms.linux.commands import UNDO, commands
from reconciler.platforms.linux.parse import parse
from reconciler.platforms.linux.paths import UNITS, unit
from reconciler.platforms.linux.probe import probe
from reconciler.platforms.linux.tunnel import tunnel
from reconciler.platforms.steps import quote

AS_ROOT = "/usr/bin/sudo -n"
PRELUDE = "".join(files(__name__).joinpath(name).read_text() for name in ("probe.sh", "apply.sh"))

INSIDE = files(__name__).joinpath("inside.sh").read_text()

__all__ = ["AS_ROOT", "INSIDE", "PRELUDE", "UNDO", "commands", "inside", "logs", "lower", "parse", "probe"]


def lower(spec: HostSpec) -> Manifest:
    return manifest(spec, listed, UNDO)


def listed(spec: HostSpec) -> Iterator[Resource]:
    routed = {part.name: part.routed for part in spec.parts if isinstance(part, Switch)}
    yield from host_files(network.boot_files())
    for name in sorted({jail.nic.announce for jail in spec.jails} - {""}):
        yield network.uplink(name)
    yield from (network.vlan(part) for part in spec.parts if isinstance(part, Vlan))
    yield from (network.switch(part) for part in spec.parts if isinstance(part, Switch))
    yield from sysctls(spec)
    yield rules(spec)
    yield from (source_tree(source, spec.storage) for source in trees(spec.jails))
    links = [part for part in spec.parts if isinstance(part, Link)]
    jails = in_start_order(spec.jails)
    yield from jail_grounds(jails, links, routed, spec.storage)
    for jail in jails:
        yield machine.machine(jail, spec.storage, list(machine.resources(jail, spec.storage)))
    yield from (tunnel(part, spec.storage) for part in spec.parts if isinstance(part, Tunnel))


def jail_grounds(jails: list[Jail], links: list[Link], routed: dict[str, bool], storage: str) -> Iterator[Resource]:
    """All that stands before any jail starts: a cable has two jails, and both find it at their start."""
    for jail in jails:
        yield from machine.resources(jail, storage)
        yield network.port(jail, routed[jail.nic.switch])
        yield from (network.plug(jail, nic) for nic in jail.more)
    for link in sorted(links, key=lambda link: link.id):
        yield network.cable(link)


def host_files(written: Iterable[File]) -> Iterator[Resource]:
    for file in written:
        yield Resource(f"file/1 {file.path}", "", file_state(file), (file,), f"file {file.path}")


def sysctls(spec: HostSpec) -> Iterator[Resource]:
    """Forwarding stands after the uplinks, which keep their default route by it. Later files win: ours is 99-."""
    bridged = any(isinstance(part, Switch) and not part.routed for part in spec.parts)
    values = {part.key: part.value for part in spec.parts if isinstance(part, Sysctl)}
    values |= {"net.ipv6.conf.all.forwarding": "1"}
    if any(":" not in address for jail in spec.jails for address in jail.nic.addresses):
        values["net.ipv4.ip_forward"] = "1"
    if bridged:
        # bridged frames pass the same rules as routed packets
        values |= {"net.bridge.bridge-nf-call-ip6tables": "1", "net.bridge.bridge-nf-call-iptables": "1"}
        yield from host_files([File("/etc/modules-load.d/reconciler.conf", b"br_netfilter\n")])
    body = "".join(f"{key} = {value}\n" for key, value in sorted(values.items()))
    yield from host_files([File("/etc/sysctl.d/99-reconciler.conf", body.encode())])
    for key, value in sorted(values.items()):
        yield Resource(f"sysctl/1 {key}", "", {"value": value}, words=f"sysctl {key}")


def rules(spec: HostSpec) -> Resource:
    path = f"{ETC}/firewall.nft"
    name = firewall.UNIT_NAME
    written = (
        File(path, firewall.ruleset(spec)),
        File(firewall.UNIT_PATH, firewall.unit(path)),
        File(f"{UNITS}/sysinit.target.wants/{name}", f"../{name}".encode(), kind="l"),
    )
    # what the kernel holds is told by the digest of the file it was loaded from
    state = {**file_state(*written), "kernel": file_digest(written[0])}
    return Resource("ruleset/1 nftables", "", state, written, "firewall rules", undo=path)


def logs(jail: str, follow: bool) -> str:
    return f"journalctl --no-pager -o cat -n 200 {'-f ' if follow else ''}-u {unit(jail)}"


def inside(jail: Jail, command: Iterable[str], seconds: int) -> str:
    """systemd looks for variables in the words (systemd.service(5), COMMAND LINES)."""
    words = (word.replace("$", "$$") for word in (*machine.environment(jail), *command))
    return " ".join(["inside", quote(unit(jail.id)), str(user(jail)), str(seconds), *map(quote, words)])
