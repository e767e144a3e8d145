"""A jail as a systemd-nspawn machine: its root, its four layers, its start script and its unit.

In: a Jail Part. Out: Resources. The layers: /usr of the host read-only; the blueprint at /app and the customer's code
at /release, read-only and immutable; /config, copied once from the blueprint by the jail itself; the data
directories, stored unshifted below a 0700 directory and idmapped into the jail's user namespace. Nothing of a
customer's stands in the unit: names, parameters and command go through the start script, whose one language is sh.
Sources: systemd-nspawn(1), systemd.resource-control(5). Must not know networks or firewalls.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator

from reconciler.model import HEALTH, File, Jail, Resource
from reconciler.platforms.files import digest, file_state
from reconciler.platforms.layers import APP, ancestors, data, data_place, jail_home, secrets, tree, user
from reconciler.platforms.linux.paths import UNITS, unit
from reconciler.platforms.steps import quote

PASSWD = f"root:x:0:0:root:/root:/bin/sh\napp:x:{APP}:{APP}:app:/:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n"
GROUP = f"root:x:0:\napp:x:{APP}:\nnogroup:x:65534:\n"
FIXED = {
    "passwd": PASSWD,
    "group": GROUP,
    "nsswitch.conf": "passwd: files\ngroup: files\nhosts: files dns\n",
    "os-release": 'NAME="jail"\nID=jail\n',
    "machine-id": "",
}
MOUNT_POINTS = (
    "usr",
    "app",
    "release",
    "config",
    "tmp",
    "run",
    "var",
    "proc",
    "sys",
    "dev",
    "root",
    "etc/alternatives",
)
USR_LINKS = ("bin", "sbin", "lib", "lib64")
COPIED = "/config/.defaults-copied"


def resources(jail: Jail, storage: str) -> Iterator[Resource]:
    """In application order, up to where the network must stand."""
    yield data(jail, storage)
    yield root(jail, storage)
    yield from secrets(jail, storage)


# ── the root ─────────────────────────────────────────────────────────────────────────────────────────────────


def root(jail: Jail, storage: str) -> Resource:
    """The read-only root: mount points, and an /etc that holds nothing of the host's."""
    base = f"{jail_home(storage, jail.id)}/root"
    points = {part for path in (*MOUNT_POINTS, *(p.strip("/") for p in jail.data)) for part in ancestors(path)}
    files = [File(base, mode=0o755, kind="d"), File(f"{base}/etc", mode=0o755, kind="d")]
    files += [File(f"{base}/{point}", mode=0o755, kind="d") for point in sorted(points - {"etc"})]
    files += [File(f"{base}/{name}", f"usr/{name}".encode(), kind="l") for name in USR_LINKS]
    files += [File(f"{base}/etc/{name}", text.encode()) for name, text in sorted(etc(jail).items())]
    files.append(File(f"{base}/etc/start", start(jail), 0o755))
    return Resource(f"root/1 {jail.id}", jail.id, file_state(*files), tuple(files), f"root of {jail.id}", undo=base)


def etc(jail: Jail) -> dict[str, str]:
    hosts = [("localhost", "::1"), (jail.name, jail.address), *jail.neighbours]
    return {
        **FIXED,
        "hostname": f"{jail.name}\n",
        "hosts": "".join(f"{address} {name}\n" for name, address in hosts),
        "resolv.conf": "".join(f"nameserver {address}\n" for address in jail.resolvers),
    }


# ── what runs ────────────────────────────────────────────────────────────────────────────────────────────────


def start(jail: Jail) -> bytes:
    """Runs in the jail as its root, which outside is nobody; hands over to the command."""
    exports = "".join(f"export {name}={quote(value)}\n" for name, value in jail.environment)
    runner = user(jail)
    hand_over = f"chown -Rh {runner}:{runner}"
    copying = f"cp -Rn /app/{jail.defaults}/. /config/; {hand_over} /config; : >{COPIED}"
    copy = f"[ -e {COPIED} ] || {{ {copying}; }}\n" if jail.defaults else ""
    places = " ".join(["/config", *jail.data])
    own = f'for place in {places}; do [ "$(stat -c %u "$place")" = {runner} ] || {hand_over} "$place"; done\n'
    # root in a jail keeps what a server needs; what mounts and renames needs nobody
    lost = "-sys_admin" if jail.root else "-all"
    powers = f"--no-new-privs --inh-caps={lost} --bounding-set={lost}"
    command = " ".join(map(quote, jail.command))
    return f"""#!/bin/sh
# Written by the reconciler; runs as the jail's root before the application.
set -eu
export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/ LANG=C.UTF-8
{exports}{copy}{own}cd /
# no user namespaces in this one (user_namespaces(7)): in them anybody is root, and at the kernel's least tried doors
mount -o remount,bind,rw /proc/sys
echo 0 >/proc/sys/user/max_user_namespaces
mount -o remount,bind,ro /proc/sys
exec setpriv --reuid={runner} --regid={runner} --clear-groups {powers} -- {command}
""".encode()


def environment(jail: Jail) -> tuple[str, ...]:
    """A command that runs another one with what the start script exports."""
    given = (f"{name}={value}" for name, value in jail.environment)
    return ("/usr/bin/env", "-i", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/", "LANG=C.UTF-8", *given)


RESTARTING = ("runs", "network", "mounts", "grants", HEALTH)
"""Attributes that only a restart mends."""


def machine(jail: Jail, storage: str, made_of: list[Resource]) -> Resource:
    """The running unit. `runs` names everything that only a restart can change; limits are not in it."""
    name = unit(jail.id)
    runs = digest(json.dumps([command_line(jail, storage), jail.restart, *restarting(made_of)]).encode())[:32]
    files = (
        File(f"{UNITS}/{name}", unit_text(jail, storage, runs)),
        File(f"{UNITS}/multi-user.target.wants/{name}", f"../{name}".encode(), kind="l"),
    )
    state = {**file_state(*files), "runs": runs, "network": "its own", "mounts": "whole", "overrides": "none"}
    state["grants"] = " ".join(jail.grants) or "none"
    state |= limits(jail)
    restart = f"restart of jail {jail.id}"
    disrupts = dict.fromkeys(RESTARTING, restart)
    undo = f"{name}\x1f{jail_home(storage, jail.id)}"
    return Resource(f"jail/1 {jail.id}", jail.id, state, files, f"jail {jail.id}", disrupts=disrupts, undo=undo)


LIVE = ("/root/etc/hosts", "/root/etc/resolv.conf", "/owner")
"""Ends of paths whose files change under a running jail: they are read when they are needed."""


def restarting(made_of: list[Resource]) -> list[tuple[str, str]]:
    pairs = [
        (path, state, r.type != "secret/1" and path.endswith(LIVE)) for r in made_of for path, state in r.state.items()
    ]
    return sorted((path, state) for path, state, live in pairs if not live)


def limits(jail: Jail) -> dict[str, str]:
    """In the words of the documents; `parse` turns into them what `systemctl show` prints."""
    wanted = jail.limits
    return {
        "memory": f"{wanted.memory >> 20}Mi" if wanted.memory else "infinity",
        "processes": str(wanted.processes) if wanted.processes else "infinity",
        "cpu": f"{wanted.cpu}%" if wanted.cpu else "infinity",
        "open files": str(wanted.open_files) if wanted.open_files else "infinity",
    }


def unit_text(jail: Jail, storage: str, runs: str) -> bytes:
    after = " ".join(unit(other) for other in jail.after)
    lines = [
        "# Written by the reconciler; changes are overwritten.",
        "[Unit]",
        f"Description=Jail {jail.customer}/{jail.name}",
        f"After=reconciler-network.service {after}".rstrip(),
        f"Wants=reconciler-network.service {after}".rstrip(),
        "StartLimitIntervalSec=0",
        "[Service]",
        "Type=notify",
        f"Environment=RECONCILER_RUNS={runs}",
        f"ExecStart={' '.join(escape(word) for word in command_line(jail, storage, open_files(jail)))}",
        f"ExecStop=-/bin/sh -c {escape(STOP)}",
        # a machine that was killed with its supervisor is still known to machined, and cannot start again
        f"ExecStopPost=-/bin/sh -c {escape(f'{UNREGISTER} {quote(jail.id)} 2>/dev/null')}",
        *LIFE,
        f"TimeoutStopSec={jail.stop_timeout}",
        f"MemoryMax={jail.limits.memory or 'infinity'}",
        "MemorySwapMax=0",
        f"TasksMax={limits(jail)['processes']}",
        *([f"CPUQuota={jail.limits.cpu}%"] if jail.limits.cpu else ()),
        "[Install]",
        "WantedBy=multi-user.target",
    ]
    return ("\n".join(lines) + "\n").encode()


# nspawn kills the command at once; so it is asked to end first, as PID 2 of its jail. TimeoutStopSec= ends the waiting.
STOP = (
    "for leader in $(cat /proc/$MAINPID/task/$MAINPID/children); do"
    " kill $(cat /proc/$leader/task/$leader/children) && while kill -0 $MAINPID; do sleep 0.05; done; "
    "done 2>/dev/null"
)
MACHINED = "org.freedesktop.machine1"
UNREGISTER = f"busctl call {MACHINED} /org/freedesktop/machine1 {MACHINED}.Manager UnregisterMachine s"
LIFE = (
    "Slice=machine.slice",
    "Delegate=yes",
    "KillMode=mixed",
    "Restart=always",
    "RestartSec=1",
    "TimeoutStartSec=30",
)


def open_files(jail: Jail) -> tuple[str, ...]:
    """nspawn hands no limit of its unit down (systemd-nspawn(1), --rlimit=); without ours it is 1024 to 524288."""
    return (f"--rlimit=NOFILE={jail.limits.open_files}",) if jail.limits.open_files else ()


def command_line(jail: Jail, storage: str, limits: Iterable[str] = ()) -> list[str]:
    """nspawn runs inside the jail's network namespace, which the host owns: root in the jail cannot change it.

    `limits` can be changed while it runs, and are no part of what it runs as.
    """
    home = jail_home(storage, jail.id)
    words = ["/usr/bin/nsenter", f"--net=/run/netns/{jail.id}", "/usr/bin/systemd-nspawn", "--quiet", "--keep-unit"]
    words += [f"--machine={jail.id}", f"--hostname={jail.name}", f"--directory={home}/root", "--read-only"]
    words += ["--private-users=pick", "--private-users-ownership=map", "--no-new-privileges=yes"]
    words += ["--resolv-conf=off", "--timezone=off", "--link-journal=no", "--console=pipe", "--as-pid2"]
    words += ["--bind-ro=/usr", "--bind-ro=/etc/alternatives", "--tmpfs=/var:mode=755"]
    words += [f"--bind-ro={tree(storage, jail.application.digest)}:/app:idmap"]
    if jail.release:
        words += [f"--bind-ro={tree(storage, jail.release.digest)}:/release:idmap"]
    words += [f"--bind={home}/config:/config:idmap"]
    words += [f"--bind={data_place(home, path)}:{path}:idmap" for path in jail.data]
    words += [f"--bind-ro={home}/secrets:/run/secrets:idmap"] if jail.secrets else []
    words += granting(jail)
    return [*words, *limits, "/etc/start"]


GRANTS = {"debug": 19, "mlock": 14}
"""CAP_SYS_PTRACE and CAP_IPC_LOCK (linux/capability.h): by them nspawn's filter lets the system calls through."""


def granting(jail: Jail) -> Iterator[str]:
    """Whoever is nobody on the host may lock as much memory as RLIMIT_MEMLOCK says (mlock(2))."""
    if "mlock" in jail.grants:
        yield from ("--capability=CAP_IPC_LOCK", "--rlimit=MEMLOCK=infinity")
    if "debug" not in jail.grants:
        yield "--drop-capability=CAP_SYS_PTRACE"


def escape(word: str) -> str:
    """For ExecStart=: systemd expands % and $, and splits at white space (systemd.service(5), COMMAND LINES)."""
    body = word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$")
    return f'"{body}"'
