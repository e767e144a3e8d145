"""What a process and its hosts have at a moment: memory, files, threads, children, disk.

In: a process id, a cache, lab hosts. Out: numbers by name. Reads /proc, so that the daemon does nothing for it, but for
the three counts that it is asked for by a signal.
"""

from __future__ import annotations

import json
import os
import re
import signal
import time
from contextlib import suppress
from pathlib import Path

from lab import Host

Figures = dict[str, float]
MEBI = 1 << 20
TICK = os.sysconf("SC_CLK_TCK")
# what waits to take back what cut a host off is there for 300 s by design: not among the processes, and never longer
LOOK = r"""
ps -e -o args --no-headers | grep -vcE '^(sh /var/lib/reconciler/transactions/|sleep )'
ps -e -o etimes,args --no-headers | awk '$1 > 400 && $3 ~ "^/var/lib/reconciler/transactions/"' | wc -l
pgrep -fc '[s]shd: root@' || true
ps -e -o stat --no-headers | grep -c ^Z || true
ls -A /var/lib/reconciler/incoming 2>/dev/null | wc -l
find /tmp /var/tmp /run -xdev -maxdepth 1 -name 'reconciler.*' -o -name 'tmp.*' | wc -l
find /etc/reconciler /var/lib/reconciler /etc/systemd/system -xdev -name '*~' | wc -l
"""
SEEN = ("processes", "overdue", "sessions", "zombies", "incoming", "temporary", "half-written")


def of_process(pid: int, counts: Path) -> Figures:
    with suppress(OSError):
        counts.unlink()
    os.kill(pid, signal.SIGUSR1)
    process = Path(f"/proc/{pid}")
    memory = {name: int(kib) / 1024 for name, kib in re.findall(r"(\w+): +(\d+) kB", read(process / "smaps_rollup"))}
    children = [stat(child) for child in read(process / f"task/{pid}/children").split()]
    own = stat(str(pid))
    return {
        "rss": memory["Rss"],
        "pss": memory["Pss"],
        "uss": memory["Private_Clean"] + memory["Private_Dirty"],
        "anonymous": memory["Anonymous"],
        "files": len(os.listdir(process / "fd")),
        "threads": len(os.listdir(process / "task")),
        "children": len(children),
        "zombies": sum(fields[0] == "Z" for fields in children if fields),
        "cpu": (int(own[11]) + int(own[12])) / TICK,
        **told(counts),
    }


def stat(pid: str) -> list[str]:
    """The fields after the name; [] of a process that is gone."""
    return read(Path("/proc", pid, "stat")).rpartition(") ")[2].split()


def read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""


def told(counts: Path, patience: float = 2.0) -> Figures:
    """What the daemon says of itself; nothing while it is too busy to."""
    last = time.monotonic() + patience
    while time.monotonic() < last:
        with suppress(OSError, ValueError):
            return {name: float(value) for name, value in json.loads(counts.read_text()).items()}
        time.sleep(0.02)
    return {}


def of_disk(cache: Path) -> Figures:
    """Bytes as they are used; git's objects apart, for they hold a history that grows."""
    used = dict.fromkeys(("objects", "git", "archives", "rest"), 0.0)
    for folder, _, names in os.walk(cache):
        below = Path(folder).relative_to(cache).parts
        for name in names:
            with suppress(OSError):
                size = os.lstat(f"{folder}/{name}").st_blocks * 512 / MEBI
                used[below[0] if below and below[0] in used else "rest"] += size
                used["objects"] += "objects" in below and "pack" not in below
    return {f"cache, {name}": size for name, size in used.items()}


def of_host(host: Host) -> Figures:
    lines = host.run(LOOK).stdout.split()
    return {f"host {host.name}, {name}": float(line) for name, line in zip(SEEN, lines, strict=True)}


def of_metrics(text: str) -> Figures:
    """Nothing while the daemon is too busy to answer."""
    lines = [line.rpartition(" ") for line in text.splitlines() if not line.startswith("#")]
    named = {"reconciler_pass_seconds_count": "passes", "reconciler_changes_total": "changes"}
    return {
        short: sum(float(value) for name, _, value in lines if name.partition("{")[0] == long)
        for long, short in named.items()
        if text
    }
