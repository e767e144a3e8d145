"""A jail as jail(8) runs it: its root, its layers by fstab(5), its scripts, and one self-contained jail.conf(5).

In: a Jail Part. Out: Resources. The layers: the host's base read-only by nullfs, without /etc, /root and /usr/local;
the blueprint at /app and the customer's code at /release, read-only and immutable; /config, copied once from the
blueprint by the jail itself; the data directories. Nothing of a customer's stands in jail.conf but its checked name:
parameters and command go through the start script, whose one language is sh. Sources: jail(8), jail.conf(5),
daemon(8), chroot(8), rctl(8). Must not know firewalls.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping

from reconciler.model import HEALTH, File, Jail, LinkEnd, Resource
from reconciler.platforms.files import digest, file_state
from reconciler.platforms.freebsd import network
from reconciler.platforms.freebsd.paths import DEVICES, JAILS, LOGS, inside, jail_name
from reconciler.platforms.layers import APP, ancestors, data, data_place, jail_home, secrets, tree, user
from reconciler.platforms.steps import quote

BASE = (
    "bin",
    "lib",
    "libexec",
    "sbin",
    "usr/bin",
    "usr/lib",
    "usr/libdata",
    "usr/libexec",
    "usr/sbin",
    "usr/share",
)
"""What a jail sees of the host: programs, and nothing that a host keeps for itself."""
POINTS = (*BASE, "app", "release", "config", "dev", "etc", "root", "run/secrets", "tmp", "usr/local", "var")
HOME, SHELL = "/nonexistent", "/usr/sbin/nologin"
ACCOUNTS = {
    "master.passwd": "root:*:0:0::0:0:root:/root:/bin/sh\n"
    f"app:*:{APP}:{APP}::0:0:app:/:/bin/sh\n"
    f"nobody:*:65534:65534::0:0:nobody:{HOME}:{SHELL}\n",
    "group": f"wheel:*:0:root\napp:*:{APP}:\nnogroup:*:65533:\nnobody:*:65534:\n",
}
COPIED = "/config/.defaults-copied"
PATH = "/sbin:/bin:/usr/sbin:/usr/bin:/usr/local/sbin:/usr/local/bin"
PORTS = "net.inet.ip.portrange.reservedhigh"


def resources(jail: Jail, storage: str, ends: Iterable[LinkEnd]) -> Iterator[Resource]:
    """In application order, up to where the network must stand."""
    yield data(jail, storage)
    yield root(jail, storage, ends)
    yield from secrets(jail, storage)


# ── the root ─────────────────────────────────────────────────────────────────────────────────────────────────


def root(jail: Jail, storage: str, ends: Iterable[LinkEnd]) -> Resource:
    """What the jail sees read-only as its root: mount points, and an /etc that holds nothing of the host's."""
    home = jail_home(storage, jail.id)
    base = f"{home}/root"
    points = {part for path in (*POINTS, *(p.strip("/") for p in jail.data)) for part in ancestors(path)}
    files = [File(f"{home}/live", mode=0o755, kind="d"), File(base, mode=0o755, kind="d")]
    files += [File(f"{base}/{point}", mode=0o755, kind="d") for point in sorted(points)]
    files += [File(f"{base}/etc/{name}", text.encode()) for name, text in sorted(etc(jail).items())]
    files.append(File(f"{base}/etc/master.passwd", ACCOUNTS["master.passwd"].encode(), 0o600))
    files += [
        File(f"{base}/etc/network", network.script(jail, ends), 0o755),
        File(f"{base}/etc/start", start(jail), 0o755),
        File(f"{base}/etc/stop", stop(jail), 0o755),
    ]
    # pwd_mkdb(8) makes binary tables of the accounts; beside the root stands of which
    state = {**file_state(*files), "accounts": digest(ACCOUNTS["master.passwd"].encode())}
    return Resource(f"root/1 {jail.id}", jail.id, state, tuple(files), f"root of {jail.id}", undo=base)


def etc(jail: Jail) -> dict[str, str]:
    hosts = [("localhost", "::1"), (jail.name, jail.address), *jail.neighbours]
    return {
        "group": ACCOUNTS["group"],
        "nsswitch.conf": "passwd: files\ngroup: files\nhosts: files dns\n",
        "hosts": "".join(f"{address} {name}\n" for name, address in hosts),
        "resolv.conf": "".join(f"nameserver {address}\n" for address in jail.resolvers),
    }


def start(jail: Jail) -> bytes:
    """Runs in the jail as its root; leaves behind daemon(8), which keeps the command running."""
    exports = "".join(f"export {name}={quote(value)}\n" for name, value in jail.environment)
    runner = user(jail)
    hand_over = f"chown -Rh {runner}:{runner}"
    copying = f"cp -Rn /app/{jail.defaults}/. /config/; {hand_over} /config; : >{COPIED}"
    copy = f"[ -e {COPIED} ] || {{ {copying}; }}\n" if jail.defaults else ""
    places = " ".join(["/config", *jail.data])
    own = f'for place in {places}; do [ "$(stat -f %u "$place")" = {runner} ] || {hand_over} "$place"; done\n'
    command = " ".join([*as_user(jail), *map(quote, jail.command)])
    return f"""#!/bin/sh
# Written by the reconciler; runs as the jail's root before the application.
set -eu
umask 022
export PATH={PATH} HOME=/ LANG=C.UTF-8
{exports}mkdir -p /var/run /var/log /var/db /var/empty /var/tmp
chmod 1777 /var/tmp
{copy}{own}cd /
# how much may be locked is the jail's memory, whether at all its blueprint's to grant
ulimit -l unlimited 2>/dev/null || :
# a port below 1024 belongs to whoever runs in the jail; at a higher securelevel that can no longer be set
[ "$(sysctl -n {PORTS})" = 0 ] || sysctl {PORTS}=0 || echo "ports below 1024 stay root's"
# a restart a second at most; what the command writes goes where jail(8) opened the log, outside: by -o, because
# daemon(8) keeps back what it prints itself until some KiB have come together
exec /usr/sbin/daemon -R 1 -P /var/run/app.pid -o /dev/stdout -t {jail.id} {command}
""".encode()


def as_user(jail: Jail) -> tuple[str, ...]:
    """By number: the groups that root has are given up as well, which -u alone does not."""
    return () if jail.root else ("/usr/sbin/chroot", "-G", f"{APP}", "-g", f"{APP}", "-u", f"{APP}", "/")


def environment(jail: Jail) -> tuple[str, ...]:
    """A command that runs another one with what the start script exports."""
    given = (f"{name}={value}" for name, value in jail.environment)
    return ("/usr/bin/env", "-i", f"PATH={PATH}", "HOME=/", "LANG=C.UTF-8", *given)


def stop(jail: Jail) -> bytes:
    return f"""#!/bin/sh
# Written by the reconciler: the command is asked to end, and has a while; then the jail is taken away under it.
[ -s /var/run/app.pid ] || exit 0
read -r pid </var/run/app.pid
kill "$pid" 2>/dev/null || exit 0
tries=0
while kill -0 "$pid" 2>/dev/null && [ $tries -lt {5 * jail.stop_timeout} ]; do
    sleep 0.2
    tries=$((tries + 1))
done
""".encode()


# ── what runs ────────────────────────────────────────────────────────────────────────────────────────────────

RESTARTING = ("runs", "mounts", "dataset", "shared memory", HEALTH)
"""Attributes that only a restart mends."""
LIVE = ("/root/etc/hosts", "/root/etc/resolv.conf", "/root/etc/network", "/root/etc/stop", "/owner")
"""Ends of paths whose files change under a running jail: they are read when they are needed."""
SETTINGS = {
    "persist": "true",
    "devfs_ruleset": DEVICES,
    "enforce_statfs": "2",
    "children.max": "0",
    "securelevel": "2",
    "allow.reserved_ports": "true",
    "allow.suser": "true",
}
"""What every jail is held to, as jls(8) prints it. Without allow.suser its root could start nothing."""
GRANTS = {"chflags": "allow.chflags", "debug": "allow.unprivileged_proc_debug", "mlock": "allow.mlock"}
"""What a blueprint may grant. No raw sockets: root of a jail with a network of its own has them whatever
allow.raw_sockets says (kern_jail.c, prison_priv_check, PRIV_NETINET_RAW), and pf sees to the addresses."""
DENIED = (
    "allow.mount",
    "allow.quotas",
    "allow.raw_sockets",
    "allow.read_msgbuf",
    "allow.set_hostname",
    "allow.socket_af",
    "allow.sysvipc",
)
"""What no jail may; with the others above all that every kernel from 13.2 knows (kern_jail.c, pr_flag_allow). jail(8)
refuses a jail.conf with a parameter that its kernel does not know, and modules and later releases have more of them
(allow.mount.*, allow.vmm, allow.nfsd, allow.settime): all off in a new jail, and turned off where one is seen to be on.
"""
LASTING = {"sysvmsg": "new", "sysvsem": "new", "sysvshm": "new"}
"""The same, that `jail -m` cannot change back while the jail runs: System V's shared memory is each jail's own."""
RAISED = "securelevel"
"""Set when the start script has done what only a lower one allows."""


def machine(
    jail: Jail, storage: str, made_of: list[Resource], ends: list[LinkEnd], *, piped: bool = False, dataset: str = ""
) -> Resource:
    """The running jail. `runs` names everything that only a restart can change, and is the jail's own host.hostuuid:
    it is in the kernel for exactly as long as the jail is, and `allow.set_hostname` being off keeps it from its root.
    `dataset` is what its home has to be for what is mounted of it to be alive, and what is snapshot before `runs` is
    another; "" for a plain directory. `piped`: tunnels begin or end in it, and start with it.
    """
    name = jail_name(jail.id)
    table = mounts(jail, storage)
    runs = uuid(digest(json.dumps([table, settings(), jail.restart, jail.name, *restarting(made_of)]).encode()))
    files = (
        File(LOGS, mode=0o750, kind="d"),
        File(f"{JAILS}/{name}.conf", conf(jail, storage, runs, ends, piped=piped)),
        File(f"{JAILS}/{name}.fstab", fstab(table)),
        File(f"{JAILS}/{name}.limits", "".join(f"{rule}\n" for rule in rctl(jail)).encode()),
    )
    state = {**file_state(*files), "runs": runs, "mounts": "whole", "settings": settings(), "application": "kept up"}
    state |= {"shared memory": "its own", "grants": " ".join(jail.grants) or "none"}
    state |= {**limits(jail), **({"dataset": dataset} if dataset else {})}
    disrupts = dict.fromkeys((*RESTARTING, "application"), f"restart of jail {jail.id}")
    disrupts |= {"runs": f"restart of jail {jail.id}, snapshot first"} if dataset else {}
    undo = "\x1f".join((name, f"{jail_home(storage, jail.id)}/live"))
    return Resource(f"jail/1 {jail.id}", jail.id, state, files, f"jail {jail.id}", disrupts=disrupts, undo=undo)


def restarting(made_of: Iterable[Resource]) -> list[tuple[str, str]]:
    pairs = [
        (path, state, r.type != "secret/1" and path.endswith(LIVE)) for r in made_of for path, state in r.state.items()
    ]
    return sorted((path, state) for path, state, live in pairs if not live)


def uuid(text: str) -> str:
    return "-".join((text[:8], text[8:12], text[12:16], text[16:20], text[20:32]))


def settings() -> str:
    return " ".join(f"{name}={value}" for name, value in SETTINGS.items())


def mounts(jail: Jail, storage: str) -> list[tuple[str, str, str, str]]:
    """(source, target, type, options), in the order of mounting. Only programs of the base may be set-user-ID.

    The root is a mount as well: root in a jail is the host's root to the file system, and would write to it.
    """
    home = jail_home(storage, jail.id)
    top = f"{home}/live"
    table = [(f"{home}/root", top, "nullfs", "ro,nosuid")]
    table += [(f"/{path}", f"{top}/{path}", "nullfs", "ro") for path in BASE]
    table.append((tree(storage, jail.application.digest), f"{top}/app", "nullfs", "ro,nosuid"))
    if jail.release:
        table.append((tree(storage, jail.release.digest), f"{top}/release", "nullfs", "ro,nosuid"))
    table.append((f"{home}/config", f"{top}/config", "nullfs", "rw,nosuid"))
    table += [(data_place(home, path), f"{top}{path}", "nullfs", "rw,nosuid") for path in jail.data]
    if jail.secrets:
        table.append((f"{home}/secrets", f"{top}/run/secrets", "nullfs", "ro,nosuid"))
    table.append(("tmpfs", f"{top}/tmp", "tmpfs", "rw,nosuid,mode=1777,size=64m"))
    table.append(("tmpfs", f"{top}/var", "tmpfs", "rw,nosuid,mode=755,size=64m"))
    return table


def fstab(table: Iterable[tuple[str, str, str, str]]) -> bytes:
    return "".join("\t".join((*entry, "0", "0")) + "\n" for entry in table).encode()


def conf(jail: Jail, storage: str, runs: str, ends: Iterable[LinkEnd], *, piped: bool = False) -> bytes:
    """All that jail(8) needs, in one file: `jail -f FILE -c NAME` by hand does what the reconciler does."""
    name = jail_name(jail.id)
    nics = [inside(nic.host_side) for nic in (jail.nic, *jail.more)] + sorted(end.nic for end in ends)
    run = "/bin/sh /etc/reconciler/run"
    lines = [
        ("path", f"{jail_home(storage, jail.id)}/live"),
        ("host.hostname", jail.name),
        ("host.hostuuid", runs),
        ("mount.fstab", f"{JAILS}/{name}.fstab"),
        ("exec.consolelog", f"{LOGS}/{name}.log"),
        ("exec.prestart", f"{run} before {name}"),
        ("exec.created", f"{run} limit {name}"),
        ("exec.start", "/bin/sh /etc/network"),
        ("exec.poststart", f"{run} secure {name} {SETTINGS[RAISED]}"),
        ("exec.stop", "/bin/sh /etc/stop"),
        # longer than the longest stopTimeout
        ("exec.timeout", "150"),
        ("stop.timeout", "5"),
        *((key, value) for key, value in SETTINGS.items() if value not in {"true", "false"} and key != RAISED),
        *LASTING.items(),
    ]
    allowed = [GRANTS[grant] for grant in jail.grants]
    flags = [
        "vnet",
        "mount.devfs",
        "exec.clean",
        *(key for key, value in SETTINGS.items() if value == "true"),
        *allowed,
    ]
    body = [f"    {flag};" for flag in flags] + [f"    {key} = {string(value)};" for key, value in lines]
    body += [f"    {no(key)};" for key in (*GRANTS.values(), *DENIED) if key not in allowed]
    body += [f"    vnet.interface = {', '.join(map(string, nics))};"]
    # after the network, because a service binds at once
    body += [f"    exec.start += {string('/bin/sh /etc/start')};"]
    body += [f"    exec.poststart += {string(f'{run} tunnels {name}')};"] if piped else []
    head = "# Written by the reconciler; changes are overwritten."
    return "\n".join([head, f"{name} {{", *body, "}", ""]).encode()


def changeable(wanted: str, found: str) -> tuple[str, ...]:
    """Settings and grants as words of `jail -m`; grants as a state tells them, those wanted and those there are.

    With the lasting ones: `allow.nosysvipc` by itself takes System V's shared memory away (sysv_shm.c).
    """
    allowed = [GRANTS[grant] for grant in wanted.split() if grant in GRANTS]
    known = (*GRANTS.values(), *DENIED)
    others = [word for word in found.split() if word.startswith("allow.") and word not in known]
    settings = [key if value == "true" else f"{key}={value}" for key, value in (SETTINGS | LASTING).items()]
    return (*settings, *(key if key in allowed else no(key) for key in (*known, *others)))


def granted(parameters: Mapping[str, str]) -> str:
    """The grants of a running jail; what nobody can be granted by its own name."""
    names = {parameter: grant for grant, parameter in GRANTS.items()}
    on = [key for key, value in parameters.items() if key.startswith("allow.") and value == "true"]
    return " ".join(sorted(names.get(key, key) for key in on if key not in SETTINGS)) or "none"


def no(flag: str) -> str:
    """`allow.mount` → `allow.nomount` (jail.conf(5): a boolean is turned off by "no" before its last word)."""
    group, dot, last = flag.rpartition(".")
    return f"{group}{dot}no{last}"


def string(value: str) -> str:
    """A string of jail.conf(5): between double quotes a backslash escapes, and $ begins a variable."""
    kept = "".join(c if c.isprintable() else "?" for c in value)
    return '"' + kept.replace("\\", "\\\\").replace('"', '\\"').replace("$", "\\$") + '"'


# ── limits ───────────────────────────────────────────────────────────────────────────────────────────────────


def limits(jail: Jail) -> dict[str, str]:
    """In the words of the documents; `parse` turns into them what rctl(8) prints."""
    wanted = jail.limits
    return {
        "memory": f"{wanted.memory >> 20}Mi" if wanted.memory else "infinity",
        "processes": str(wanted.processes) if wanted.processes else "infinity",
        "cpu": f"{wanted.cpu}%" if wanted.cpu else "infinity",
        "open files": str(wanted.open_files) if wanted.open_files else "infinity",
    }


def rctl(jail: Jail) -> Iterator[str]:
    """memoryuse:deny is taken and limits nothing: vmemoryuse does. pcpu is in percent of one core. openfiles counts the
    sizes of the processes' tables, which grow to twice the number that no longer fits (kern_descrip.c, fdalloc).
    """
    subject = f"jail:{jail_name(jail.id)}"
    if jail.limits.memory:
        yield f"{subject}:vmemoryuse:deny={jail.limits.memory}"
    if jail.limits.processes:
        yield f"{subject}:maxproc:deny={jail.limits.processes}"
    if jail.limits.cpu:
        yield f"{subject}:pcpu:deny={jail.limits.cpu}"
    if jail.limits.open_files:
        yield f"{subject}:openfiles:deny={jail.limits.open_files}"
