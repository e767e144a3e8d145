"""FreeBSD hosts from 13.2: VNET jails, if_bridge and epair, pf, nullfs layers, ZFS, rctl. Base system only.

`lower` is the table of contents of a host, in application order. The functions below are all that the rest of the
program sees (see `platforms.Platform`). No I/O; nothing of YAML or git.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from importlib.resources import files

from reconciler.model import (
    File,
    HostSpec,
    Jail,
    Link,
    LinkEnd,
    Manifest,
    Rename,
    Resource,
    Switch,
    Sysctl,
    Tunnel,
    Vlan,
)
from reconciler.platforms.files import ETC, NETWORK, file_digest, file_state
from reconciler.platforms.freebsd import anchor, datasets, firewall, jail, network, permissions
from reconciler.platforms.freebsd.commands import UNDO, commands
from reconciler.platforms.freebsd.parse import parse
from reconciler.platforms.freebsd.paths import ANCHOR, CRON, DEVICES, EXPIRY, HOOK, JAILS, LOGS, jail_name
from reconciler.platforms.freebsd.probe import probe
from reconciler.platforms.freebsd.tunnel import tunnel
from reconciler.platforms.ground import REVERT, manifest
from reconciler.platforms.layers import in_start_order, jail_home, source_tree, trees
from reconciler.platforms.steps import quote

AS_ROOT = "/usr/local/bin/doas -n"
PRELUDE = "".join(files(__name__).joinpath(name).read_text() for name in ("probe.sh", "apply.sh"))
MODULES = ("if_bridge", "if_epair", "pf")
SEEN_DEVICES = ("null", "zero", "random", "urandom", "fd", "fd/*", "stdin", "stdout", "stderr", "pts", "pts/*")
"""Of /dev, in a jail; as in functions.sh. Not pf, bpf, mem, disks."""
SYSCTLS = {
    "net.inet6.ip6.forwarding": "1",
    # a host that got its default route by router advertisement would lose it as soon as it forwards
    "net.inet6.ip6.rfc6204w3": "1",
    # the rules block redirects on their way to jails anyway
    "net.inet6.ip6.redirect": "0",
    "net.inet.ip.redirect": "0",
    **firewall.SYSCTLS,
}

INSIDE = files(__name__).joinpath("ask.sh").read_text()

__all__ = ["AS_ROOT", "INSIDE", "PRELUDE", "UNDO", "commands", "inside", "logs", "lower", "parse", "probe"]


def lower(spec: HostSpec) -> Manifest:
    return manifest(spec, listed, UNDO)


def listed(spec: HostSpec) -> Iterator[Resource]:
    routed = {part.name: part.routed for part in spec.parts if isinstance(part, Switch)}
    jails = in_start_order(spec.jails)
    yield from host_files(boot_files(spec))
    for name in modules(spec):
        yield Resource(f"module/1 {name}", "", {"loaded": "yes"}, words=f"kernel module {name}")
    yield from sysctls(spec)
    yield devices()
    yield from (network.nic(part) for part in spec.parts if isinstance(part, Rename))
    yield from (network.vlan(part) for part in spec.parts if isinstance(part, Vlan))
    yield from (network.switch(part) for part in spec.parts if isinstance(part, Switch))
    yield rules(spec)
    yield from host_files(expiry(spec))
    yield from datasets.of_host(spec)
    yield from (source_tree(source, spec.storage) for source in trees(spec.jails))
    yield from host_files([jail_list(jails, spec.storage)])
    yield from running(jails, [part for part in spec.parts if isinstance(part, Link)], routed, spec)
    yield from (tunnel(part, spec.storage) for part in spec.parts if isinstance(part, Tunnel))


def running(jails: list[Jail], links: list[Link], routed: dict[str, bool], spec: HostSpec) -> Iterator[Resource]:
    """All that stands before any jail starts, then the jails: a cable has two, and both find it at their start."""
    piped = {part.jail for part in spec.parts if isinstance(part, Tunnel)}
    ends = {j.id: [end for link in links for end in link.ends if end.jail == j.id] for j in jails}
    for each in jails:
        yield from datasets.of_jail(each, spec)
        yield from jail.resources(each, spec.storage, ends[each.id])
        yield network.port(each, routed[each.nic.switch])
        yield from (network.plug(each, nic) for nic in each.more)
    yield from (network.cable(link) for link in sorted(links, key=lambda link: link.id))
    for each in jails:
        yield machine(each, spec, ends[each.id], piped=each.id in piped)


def machine(each: Jail, spec: HostSpec, ends: list[LinkEnd], *, piped: bool) -> Resource:
    made_of = list(jail.resources(each, spec.storage, ends))
    return jail.machine(each, spec.storage, made_of, ends, piped=piped, dataset=datasets.name(spec, each.id))


def modules(spec: HostSpec) -> tuple[str, ...]:
    return (*MODULES, *(["if_vlan"] if any(isinstance(part, Vlan) for part in spec.parts) else []))


def boot_files(spec: HostSpec) -> Iterator[File]:
    """What brings a host back after a restart, and what jail.conf calls."""
    here = files(__name__)
    yield File(f"{NETWORK}/functions.sh", here.joinpath("network.sh").read_bytes())
    yield File(f"{ETC}/functions.sh", here.joinpath("functions.sh").read_bytes())
    yield File(f"{ETC}/run", here.joinpath("run.sh").read_bytes(), 0o755)
    yield REVERT
    yield File(f"{ETC}/up.sh", here.joinpath("up.sh").read_bytes(), 0o755)
    yield File(f"{ETC}/modules", "".join(f"{name}\n" for name in modules(spec)).encode())
    yield File(HOOK, here.joinpath("hook.sh").read_bytes(), 0o755)


def jail_list(jails: Iterable[Jail], storage: str) -> File:
    """In the order of starting: name, and where it is mounted."""
    lines = [f"{jail_name(each.id)} {jail_home(storage, each.id)}/live\n" for each in jails]
    return File(f"{JAILS}/list", "".join(lines).encode())


def host_files(written: Iterable[File]) -> Iterator[Resource]:
    for file in written:
        yield Resource(f"file/1 {file.path}", "", file_state(file), (file,), f"file {file.path}")


def sysctls(spec: HostSpec) -> Iterator[Resource]:
    values = {part.key: part.value for part in spec.parts if isinstance(part, Sysctl)} | SYSCTLS
    if any(":" not in address for each in spec.jails for address in each.nic.addresses):
        values["net.inet.ip.forwarding"] = "1"
    body = "".join(f"{key}={value}\n" for key, value in sorted(values.items()))
    yield from host_files([File(f"{ETC}/sysctl.conf", body.encode())])
    for key, value in sorted(values.items()):
        yield Resource(f"sysctl/1 {key}", "", {"value": value}, words=f"sysctl {key}")


def devices() -> Resource:
    listed = "; ".join(["hide", *(f"path {path} unhide" for path in SEEN_DEVICES)])
    return Resource(f"devices/1 {DEVICES}", "", {"rules": listed}, words=f"devfs ruleset {DEVICES}")


def rules(spec: HostSpec) -> Resource:
    return RULES[spec.firewall](spec)


def ruleset(spec: HostSpec) -> Resource:
    file = File(f"{ETC}/pf.conf", firewall.ruleset(spec), 0o600)
    # what the kernel holds is told by the digest of the file it was loaded from
    state = {**file_state(file), "kernel": file_digest(file), "enabled": "yes"}
    return Resource("ruleset/1 pf", "", state, (file,), "firewall rules", undo=file.path)


RULES: Mapping[str, Callable[[HostSpec], Resource]] = {"ruleset": ruleset, "anchor": anchor.resource}
"""By `spec.firewall` of the Host."""


def expiry(spec: HostSpec) -> Iterator[File]:
    """pf forgets nobody by itself: cron(8) asks it to, once a minute."""
    limited = permissions.limited(spec)
    if limited:
        body = "".join(f"{table} {seconds}\n" for table, seconds in sorted(limited.items()))
        yield File(EXPIRY, body.encode())
        words = f"{ETC}/run expire {EXPIRY}{f' {ANCHOR}' if spec.firewall == 'anchor' else ''}"
        # cron's own PATH has no /sbin (crontab(5))
        yield File(CRON, f"PATH=/sbin:/bin:/usr/sbin:/usr/bin\n* * * * * root {words}\n".encode())


def logs(id: str, follow: bool) -> str:
    return f"tail -n 200 {'-F ' if follow else ''}{LOGS}/{jail_name(id)}.log"


def inside(each: Jail, command: Iterable[str], seconds: int) -> str:
    words = (*jail.as_user(each), *jail.environment(each), *command)
    return " ".join(["inside", jail_name(each.id), str(seconds), *map(quote, words)])
