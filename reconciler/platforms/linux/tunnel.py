"""One end of a tunnel as a systemd unit that runs spiped(1) in the jail's network, and nowhere else of it.

In: a Tunnel Part. Out: a Resource. The jail's root sees neither the program nor the key, which is root's on the host:
spiped reads it, and then becomes nobody. It goes on while the jail restarts, because the network is the host's to keep.
No LoadCredential=: where no ramfs can be mounted it leaves a file that its own user cannot read. Sources:
systemd.exec(5), NetworkNamespacePath=; spiped(1), -u. Must not know firewalls.
"""

from __future__ import annotations

from reconciler.model import File, Resource, Tunnel
from reconciler.platforms.files import digest, file_digest, file_state
from reconciler.platforms.layers import content, jail_home
from reconciler.platforms.linux.paths import UNITS, tunnel_unit
from reconciler.platforms.tunnels import claims, spiped, words

PROGRAM = "/usr/bin/spiped"


def tunnel(part: Tunnel, storage: str) -> Resource:
    name = tunnel_unit(part.id)
    folder = f"{jail_home(storage, part.jail)}/tunnels"
    key = File(f"{folder}/{part.id}.key", content(part.key), 0o400)
    runs = digest(f"{part.jail} {command(part, key.path)} {file_digest(key)}".encode())[:32]
    files = (
        File(folder, mode=0o700, kind="d"),
        key,
        File(f"{UNITS}/{name}", unit_text(part, key.path, runs)),
        File(f"{UNITS}/multi-user.target.wants/{name}", f"../{name}".encode(), kind="l"),
    )
    state = {**file_state(*files), "runs": runs, "network": "its own"}
    undo = "\x1f".join((name, key.path))
    return Resource(f"tunnel/1 {part.id}", part.jail, state, files, words(part), claims(part), undo)


def command(part: Tunnel, key: str) -> str:
    return " ".join([PROGRAM, *spiped(part, key), "-u", "nobody:nogroup"])


def unit_text(part: Tunnel, key: str, runs: str) -> bytes:
    lines = [
        "# Written by the reconciler; changes are overwritten.",
        "[Unit]",
        f"Description={words(part)[0].upper()}{words(part)[1:]}",
        "After=reconciler-network.service",
        "Wants=reconciler-network.service",
        "StartLimitIntervalSec=0",
        "[Service]",
        # it has started when it is spiped and says what it runs as: a look a moment later must find that
        "Type=exec",
        f"Environment=RECONCILER_RUNS={runs}",
        f"ExecStart={command(part, key)}",
        f"NetworkNamespacePath=/run/netns/{part.jail}",
        *ALONE,
        "[Install]",
        "WantedBy=multi-user.target",
    ]
    return ("\n".join(lines) + "\n").encode()


ALONE = (
    "CapabilityBoundingSet=CAP_NET_BIND_SERVICE CAP_SETUID CAP_SETGID",
    "NoNewPrivileges=yes",
    "RestrictAddressFamilies=AF_INET AF_INET6",
    "ProtectSystem=strict",
    "ProtectHome=yes",
    "PrivateTmp=yes",
    "PrivateDevices=yes",
    # two descriptors a connection
    "LimitNOFILE=4096",
    "MemoryMax=64M",
    "TasksMax=16",
    "Restart=always",
    "RestartSec=1",
    # asked to end it waits for its last connection (spiped(1), SIGNALS), and takes no new one meanwhile
    "TimeoutStopSec=5",
)
