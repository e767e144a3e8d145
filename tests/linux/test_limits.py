"""Limits as the kernel has them, order of start, restarts.

The lab's kernel files are of cgroup v1; the units' properties are the same in both worlds.
"""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

import pytest

from .test_layers import started, unit
from .town import APP, ROOT, SPY, WEB, Town, shell

V1 = Path("/sys/fs/cgroup/memory").is_dir()
pytestmark = pytest.mark.skipif(not V1, reason="reads the files of cgroup v1")
MAY_RAISE = bool(int(Path("/proc/self/status").read_text().split("CapEff:")[1].split()[0], 16) >> 24 & 1)
"""CAP_SYS_RESOURCE (capabilities(7)), which root of a container need not have."""
UNLIMITED = 1 << 62
"""Kernels write a number near 2^63 for no limit."""


def kernel(town: Town, jail: str, controller: str, file: str) -> int:
    """A limit of the whole unit, with its supervisor, as the kernel has it."""
    group = town.host_of(jail).run(f"systemctl show -p ControlGroup --value {unit(jail)}").stdout.strip()
    text = town.host_of(jail).run(f"cat /sys/fs/cgroup/{controller}{group}/{file}").stdout.strip()
    return UNLIMITED if text == "max" else int(text)


def limits(town: Town, jail: str) -> tuple[int, int, int]:
    """Mi, processes, percent of a core (-1: no limit)."""
    memory = kernel(town, jail, "memory", "memory.limit_in_bytes")
    quota, period = kernel(town, jail, "cpu", "cpu.cfs_quota_us"), kernel(town, jail, "cpu", "cpu.cfs_period_us")
    processes = kernel(town, jail, "pids", "pids.max")
    percent = quota * 100 // period if quota > 0 else -1
    return (-1 if memory >= UNLIMITED else memory >> 20, -1 if processes >= UNLIMITED else processes, percent)


def test_the_kernel_has_the_limits_of_the_documents(town: Town) -> None:
    assert limits(town, ROOT) == (128, 40, 50)
    assert limits(town, WEB) == (256, 64, -1)


def test_changed_and_removed_limits_apply_to_the_running_jail(town: Town) -> None:
    before = started(town, ROOT)
    town.red("root", limits={"memory": "96Mi", "processes": 30, "cpu": 30})
    town.converge("a")
    assert limits(town, ROOT) == (96, 30, 30)
    town.red("root", limits={"memory": "192Mi"})
    town.converge("a")
    assert limits(town, ROOT) == (192, 64, -1)
    document = town.document("platform.yaml")
    del document["spec"]["defaults"]
    town.write("platform.yaml", document)
    for path in sorted(town.repo.glob("customers/*/jails/*.yaml")):
        name = str(path.relative_to(town.repo))
        town.edit(name, limits={"memory": "192Mi"})
    town.converge("a")
    assert limits(town, ROOT) == (192, -1, -1)
    assert started(town, ROOT) == before


def test_who_takes_too_much_memory_dies_and_the_neighbours_live(town: Town) -> None:
    others = {jail: started(town, jail) for jail in (WEB, SPY)}
    code, out = town.attempt(ROOT, "python3 -c 'x = bytes([1]) * (400 << 20)'; echo code $?")
    assert "code 137" in out, (code, out)
    assert {jail: started(town, jail) for jail in others} == others
    town.inside(WEB, "python3 -c 'x = bytes([1]) * (64 << 20)'")


def test_files_in_memory_count_as_memory(town: Town) -> None:
    """Nothing else bounds the temporary file systems: who fills one is killed, and starts again without it."""
    other = started(town, WEB)
    try:
        _, out = town.attempt(ROOT, "head -c 400M /dev/zero >/tmp/big; echo code $?")
    except (OSError, ValueError):  # the application was the one to be killed
        out = "killed"
    assert "code 0" not in out
    town["a"].run(f"systemctl restart {unit(ROOT)}")
    town.ready(ROOT)
    assert town.inside(ROOT, "ls /tmp") == ""
    assert started(town, WEB) == other


BOMB = """
import os, time
n = 0
try:
    while n < 500:
        n += 1
        if os.fork() == 0:
            time.sleep(2)
            os._exit(0)
except OSError:
    print(n)
"""


def test_a_fork_bomb_stays_in_its_jail(town: Town) -> None:
    count = int(town.inside(ROOT, f"python3 -c {shell(BOMB)}"))
    assert 10 < count <= 40
    town.inside(WEB, "for i in 1 2 3 4 5 6 7 8; do /bin/true & done; wait")


HOARD = """
import os
held = []
try:
    while len(held) < 5000: held.append(os.dup(0))
except OSError:
    print(len(held))
"""


def opened(town: Town, jail: str) -> int:
    return int(town.inside(jail, f"python3 -c {shell(HOARD)}"))


def test_a_process_opens_no_more_files_than_its_limit_from_now_on_and_after_a_restart(town: Town) -> None:
    before = started(town, WEB)
    assert 1000 < opened(town, WEB) <= 1024
    town.red("web", limits={"openFiles": 100})
    town.converge("a")
    assert 80 < opened(town, WEB) <= 100
    assert started(town, WEB) == before
    assert town.attempt(WEB, "ulimit -n 200")[0] != 0, "the limit is not the jail's to raise"
    town.red("web", limits={"openFiles": 200}, restart=1)
    town.converge("a")
    town.ready(WEB)
    assert 180 < opened(town, WEB) <= 200


@pytest.mark.skipif(not MAY_RAISE, reason="root of this machine may not raise limits of what runs")
def test_a_raised_limit_of_open_files_applies_to_the_running_jail(town: Town) -> None:
    before = started(town, WEB)
    for limits, least, most in (({"openFiles": 100}, 80, 100), ({"openFiles": 200}, 180, 200), ({}, 1000, 1024)):
        town.red("web", limits=limits)
        town.converge("a")
        assert least < opened(town, WEB) <= most
    assert started(town, WEB) == before


def test_a_jail_cannot_lift_its_own_limits(town: Town) -> None:
    for file in ("memory/memory.limit_in_bytes", "pids/pids.max", "cpu/cpu.cfs_quota_us"):
        code, out = town.attempt(ROOT, f"echo -1 >/sys/fs/cgroup/{file}")
        assert code != 0, out
    assert town.attempt(ROOT, "mkdir /sys/fs/cgroup/memory/more")[0] != 0
    assert limits(town, ROOT) == (128, 40, 50)


GRANTED = """
import ctypes, mmap, os, time
c = ctypes.CDLL(None)
page = ctypes.addressof(ctypes.c_char.from_buffer(memory := mmap.mmap(-1, 4 << 20)))
child = os.fork() or time.sleep(9)
print(c.mlock(ctypes.c_void_p(page), ctypes.c_size_t(4 << 20)), c.ptrace(16, child, 0, 0))
os.kill(child, 9)
"""


def granted(town: Town, jail: str) -> str:
    """Whether it may lock memory, and whether it may look into another process."""
    return town.inside(jail, f"python3 -c {shell(GRANTED)}").strip()


@pytest.mark.parametrize(("jail", "blueprint"), [(WEB, "tool"), (ROOT, "rooted")])
def test_a_jail_may_what_its_blueprint_grants_and_no_more(town: Town, jail: str, blueprint: str) -> None:
    assert granted(town, jail) == "-1 -1"
    town.edit(f"blueprints/{blueprint}.yaml", grants=["mlock", "debug"])
    town.converge("a")
    town.ready(jail)
    assert granted(town, jail) == "0 0"
    assert town.attempt(jail, "mount -t tmpfs none /tmp")[0] != 0


def test_a_jail_that_was_started_with_more_than_it_is_granted_is_started_again(town: Town) -> None:
    edit = f"sed -i s/--drop-capability=CAP_SYS_PTRACE/--quiet/ /etc/systemd/system/{unit(ROOT)}.service"
    town["a"].run(f"{edit}; systemctl daemon-reload; systemctl restart {unit(ROOT)}")
    town.ready(ROOT)
    assert granted(town, ROOT) == "-1 0"
    assert "grants debug → none" in town.words("a")
    town.converge("a")
    town.ready(ROOT)
    assert granted(town, ROOT) == "-1 -1"


CHILD = "read -r pid _ </proc/$pid/task/$pid/children || :"


def test_a_command_that_does_not_end_has_the_time_of_its_blueprint(town: Town) -> None:
    before, host = started(town, ROOT), town["a"]
    town.edit("blueprints/rooted.yaml", stopTimeout=2)
    town.converge("a")
    assert started(town, ROOT) == before, "the time to end is no reason to end"
    # its command, below nspawn and the jail's first process
    host.run(f"pid=$(systemctl show -P MainPID {unit(ROOT)}); for _ in 1 2; do {CHILD}; done; kill -STOP $pid")
    begin = time.monotonic()
    host.run(f"systemctl restart {unit(ROOT)}")
    assert 2 <= time.monotonic() - begin < 9
    town.ready(ROOT)


def test_raising_restart_restarts_once(town: Town) -> None:
    before, other = started(town, WEB), started(town, APP)
    town.red("web", restart=1)
    assert "restart" in " ".join(change.disrupts for change in town.plan("a").changes)
    town.converge("a")
    after = started(town, WEB)
    assert after != before
    assert started(town, APP) == other
    town.converge("a")
    assert started(town, WEB) == after


def test_a_jail_starts_after_those_it_waits_for_in_the_plan_and_at_boot(town: Town) -> None:
    keys = [resource.key for resource in town.manifest("a").resources]
    assert keys.index(f"jail/1 {WEB}") < keys.index(f"jail/1 {APP}")
    host = town["a"]
    host.restart()
    # the router kept the host's addresses, its neighbours need not
    subprocess.run(["ip", "-6", "neigh", "flush", "dev", "tcam"], check=False, capture_output=True)
    host.run("systemctl is-system-running --wait", check=False)
    for jail in (WEB, APP, ROOT, SPY):
        town.ready(jail)
    stamps = {
        jail: int(host.run(f"systemctl show -p ExecMainStartTimestampMonotonic --value {unit(jail)}").stdout)
        for jail in (WEB, APP)
    }
    assert stamps[WEB] < stamps[APP]
    assert not town.words("a")
    assert limits(town, ROOT) == (128, 40, 50)
