"""An apply that is killed, cut off or garbled leaves a host that one more pass makes right.

The script of an apply is changed on its way to the host: `step`, which stands after every step and does nothing, counts
and lets something happen. Most of all it kills the script with all its children: with RECONCILER_KILLS=all (`make
faults`) after every step and command, else after every sixteenth step that is not one more file of the same change, and
after a few commands. Who else may be killed (the connection, the reconciler, the host) is so by `make faults` alone:
`make test` has a sample of each in test_remote.py, test_boot.py, test_guard.py and tests/flow.
"""

from __future__ import annotations

import os
import queue
import re
import select
import signal
import subprocess
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress

import pytest

from reconciler.model import Owned
from reconciler.platforms.steps import INCOMING, parse_entry
from reconciler.remote import APPLY, PROBE, Remote

from .world import World

ALL = os.environ.get("RECONCILER_KILLS") == "all"
NOTHING = "step() { :; }"
"""What `apply.sh` says."""
COUNTER = """step() {
    count=$(($(cat /run/steps) + 1))
    echo $count >/run/steps
    case $count in
        EVENTS
        *) ;;
    esac
}
"""
KILLED = "kill -9 0"
COMMANDS = ("mv", "rm", "rmdir", "mkdir", "chown", "chmod", "ln", "tar", "nft", "ip", "bridge", "sysctl", "systemctl")
BETWEEN = "".join(f'{name}() {{ command {name} "$@"; set -- $?; step; return $1; }}\n' for name in COMMANDS)
"""`step` also after every command that changes anything, so that functions are killed in their middle."""


class Eventful:
    """Stands before a host's Remote: lets things happen after steps of its applies, and keeps what they were."""

    def __init__(self, remote: Remote, events: Mapping[int, str], more: str) -> None:
        self.remote, self.name = remote, remote.name
        cases = "\n".join(f"{at}) {{ {command}; }} ;;" for at, command in events.items())
        self.text = COUNTER.replace("EVENTS", cases) + more
        self.script = ""
        """All that its applies do, one after the other."""

    def run(self, script: str, timeout: float = PROBE) -> bytes:
        if timeout == APPLY:
            assert NOTHING in script
            script = script.replace(NOTHING, self.text)
            self.script += "".join(script.partition("\nchange_0()")[1:])
        return self.remote.run(script, timeout)

    def __getattr__(self, name: str) -> object:
        return getattr(self.remote, name)


@contextmanager
def happening(world: World, events: Mapping[int, str], more: str = "") -> Iterator[Eventful]:
    """Within, applies on the world's host `a` count their steps, and run these commands after those of the numbers."""
    wire = world.wire("a")
    world["a"].run("echo 0 >/run/steps")
    remote, eventful = wire.remote, Eventful(wire.remote, events, more)
    wire.remote = eventful  # type: ignore[assignment]
    try:
        yield eventful
    finally:
        wire.remote = remote


def telling(script: str) -> list[int]:
    """The numbers of the steps that are not just another file of the same change."""
    found, number, first = [], 0, True
    before = ""
    for line in script.splitlines():
        if line.startswith("change_"):
            first = True
        elif line == "step":
            number += 1
            if first or before not in {"put", "directory", "link"}:
                found.append(number)
            first = False
        elif re.match("[a-z_]+( |$)", line):
            before = line.split()[0]
    return found


# ── a small world ────────────────────────────────────────────────────────────────────────────────────────────


def small(world: World) -> None:
    """As little as has everything: two jails with a cable, a release, a secret, data, limits, a policy."""
    world.restore()
    bare(world)
    world.edit("hosts/a.yaml", sysctls=None)  # the machine's own, and what one lab's host sets all others have
    release = {"archive": "file:///srv/archives/acme-www.tar"}
    release["digest"] = world.garage.pack(world.repo / "files/acme-www")
    link = {"to": "db", "nic": "db0", "address": "10.77.0.1/30", "peerNic": "shop0", "peerAddress": "10.77.0.2/30"}
    world.jail("acme", "db", blueprint="redis", host="a", secrets=["db-password"])
    world.jail(
        "acme", "shop", blueprint="nginx", host="a", release=release, publish=[{"port": 80}], after=["db"], links=[link]
    )


def bare(world: World) -> None:
    """The host without jails."""
    world.remove(*(str(path.relative_to(world.repo)) for path in world.repo.glob("customers/*/*/*.yaml")))


def changed(world: World) -> None:
    """Nearly everything of the two jails is another."""
    shop, db = "customers/acme/jails/shop.yaml", "customers/acme/jails/db.yaml"
    world.secret("acme", "db-password", b"another")
    world.edit(db, limits={"memory": "200Mi"}, parameters={"MAXMEMORY": "90mb"})
    link = {"to": "db", "nic": "db1", "address": "10.78.0.1/30", "peerNic": "shop0", "peerAddress": "10.78.0.2/30"}
    world.edit(shop, release=None, address="2001:db8:ca00:1::5", links=[link])
    world.edit("policies/edge.yaml", lambda spec: spec["in"].pop())


def works(world: World, words: str) -> None:
    """The page answers, the inventory is the manifest's, and nothing lies about."""
    address = world.address("a", "acme--shop")
    ask = f"for i in $(seq 100); do curl -sgm 2 'http://[{address}]/' && break; sleep 0.1; done"
    assert words in world["a"].run(ask).stdout
    owned = inventory(world)
    assert set(owned) == {resource.key for resource in world.manifest("a").resources}
    assert not any(o.retained for o in owned.values())
    clean(world)


def inventory(world: World) -> dict[str, Owned]:
    lines = world["a"].run("sed 1d /var/lib/reconciler/inventory").stdout.splitlines()
    return {owned.key: owned for owned in map(parse_entry, lines)}


def has_release(world: World) -> None:
    works(world, "Anvils")


def has_no_release(world: World) -> None:
    works(world, "shop is running")


def gone(world: World) -> None:
    """Only the jails' data is left, and it is retained."""
    host, owned = world["a"], inventory(world).values()
    assert {o.key for o in owned if o.owner} == {"data/1 acme--shop", "data/1 acme--db"}
    assert all(o.retained for o in owned if o.owner)
    look = "ip netns; machinectl list --no-legend; ip -br link; nft list ruleset; find /etc /var/lib/reconciler/trees"
    assert "acme" not in host.run(look).stdout
    assert host.run("ls /var/lib/reconciler/jails/*").stdout.count("data") == 2
    clean(world)


def clean(world: World) -> None:
    """Nothing half-made: no file beside its place, no archive, no half of a tree, no script with secrets."""
    left = world["a"].run(
        "find /etc /var/lib/reconciler /tmp -xdev -name '*.new~' -o -xdev -name '*.candidate' -o -xdev -path "
        f"'{INCOMING}/*' -o -xdev -path '*/trees/*.new' -o -xdev -path '/tmp/reconciler.*'"
    )
    assert not left.stdout


OURS = (
    "upper/etc/reconciler upper/etc/systemd/system/reconciler-* upper/etc/systemd/system/*/reconciler-*"
    " upper/etc/sysctl.d/99-reconciler.conf upper/etc/modules-load.d/reconciler.conf data/reconciler/*"
)


def swept(world: World) -> None:
    """The host without anything of ours: turned off, its disk cleaned, turned on."""
    host = world["a"]
    host.stop()
    subprocess.run(["sh", "-c", f"rm -rf {OURS}; chmod 755 data/reconciler"], cwd=host.folder, check=True)
    host.start()
    host.wait()


def as_before(world: World) -> None:
    small(world)
    assert world.reconcile("a").ready


Scene = tuple[Callable[[World], None], Callable[[World], None], Callable[[World], None]]
CREATION: Scene = (swept, small, has_release)
CHANGE: Scene = (as_before, changed, has_no_release)
REMOVAL: Scene = (as_before, bare, gone)
"""How the host gets ready, what is then wanted, and how to tell that it came true."""


@pytest.fixture(scope="module")
def worlds(lasting: Callable[[str], World]) -> list[World]:
    """As many as there are processors here: they are what the tests wait for. Each scene makes ready what it finds."""
    return [lasting("a"), lasting("a")]


def counted(world: World, scene: Scene, more: str = "") -> Eventful:
    ready, wanted, true = scene
    ready(world)
    wanted(world)
    with happening(world, {}, more) as eventful:
        report = world.reconcile("a")
    assert report.ready, report
    true(world)
    return eventful


def killed(world: World, at: int, more: str, how: str = KILLED) -> int:
    """The script dies, with all its children; how many passes it may take from there."""
    with happening(world, {at: how}, more):
        assert world.reconcile("a").unreachable
    return 1


def cut(world: World, at: int, more: str) -> int:
    """The connection dies; the script goes on."""
    return killed(world, at, more, "kill -9 $PPID")


def orphaned(world: World, at: int, more: str) -> int:
    """The reconciler dies; the script goes on. What is armed meanwhile, the pass after the next one takes over."""
    with another(world, {at: f"echo >{REACHED}"}, more) as pid:
        os.kill(pid, signal.SIGKILL)
    return 3


def unplugged(world: World, at: int, more: str) -> int:
    """The host dies, and is started again."""
    with another(world, {at: f"echo >{REACHED}; sleep 1000"}, more) as pid:
        world["a"].stop()
        os.kill(pid, signal.SIGKILL)
    world["a"].start()
    world["a"].wait()
    return 1


REACHED = "/run/reached"
VICTIMS = {"script": killed, "connection": cut, "reconciler": orphaned, "host": unplugged}


@contextmanager
def another(world: World, events: Mapping[int, str], more: str) -> Iterator[int]:
    """Another reconciler, with connections of its own, in the middle of an apply; its process."""
    world["a"].run(f"echo 0 >/run/steps; rm -f {REACHED}; mkfifo {REACHED}")
    reached = os.open(f"/proc/{world['a'].pid}/root{REACHED}", os.O_RDONLY | os.O_NONBLOCK)
    pid = os.fork()
    if pid == 0:
        with suppress(BaseException):
            wire = world.wire("a")
            wire.remote = Eventful(Remote(wire.remote.ssh, wire.remote.credentials, wire.remote.as_root), events, more)  # type: ignore[assignment]
            world.reconcile("a")
        os._exit(0)
    try:
        assert select.select([reached], [], [], 120)[0], "it never came to that step"
        yield pid
    finally:
        os.close(reached)
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def die(world: World, scene: Scene, at: int, more: str = "", victim: str = "script") -> str:
    """What went wrong, or ""."""
    ready, wanted, true = scene
    try:
        ready(world)
        wanted(world)
        for _ in range(VICTIMS[victim](world, at, more)):
            report = world.reconcile("a")
            if report.ready:
                break
        assert report.ready, report
        true(world)
    except Exception as error:
        return f"killed at {at}: {type(error).__name__} {error}"
    return ""


def die_at(
    worlds: list[World], scene: Scene, points: Iterable[int], more: str = "", victim: str = "script"
) -> list[str]:
    """At each of the points, on one of the worlds; the complaints."""
    free = queue.SimpleQueue[World]()
    for world in worlds:
        free.put(world)

    def one(at: int) -> str:
        world = free.get()
        try:
            return die(world, scene, at, more, victim)
        finally:
            free.put(world)

    with ThreadPoolExecutor(len(worlds)) as pool:
        return [complaint for complaint in pool.map(one, points) if complaint]


def spread(last: int, count: int) -> list[int]:
    """As many numbers from 1 to `last`, evenly; but for the last few: which folders are there already differs."""
    last -= 9
    return list(range(1, last + 1)) if ALL else sorted({1 + i * (last - 1) // (count - 1) for i in range(count)})


def test_a_first_apply_that_is_killed_after_any_step_is_finished_by_the_next_pass(worlds: list[World]) -> None:
    script = counted(worlds[0], CREATION).script
    points = telling(script)
    last = steps(worlds[0])
    assert len(points) > 30
    assert last >= points[-1] > last - 3
    assert die_at(worlds, CREATION, range(1, last + 1) if ALL else points[::16]) == []


def test_an_apply_that_is_killed_between_two_commands_of_a_step_is_finished_by_the_next_pass(
    worlds: list[World],
) -> None:
    counted(worlds[0], CREATION, BETWEEN)
    assert die_at(worlds, CREATION, spread(steps(worlds[0]), 3), BETWEEN) == []


@pytest.mark.parametrize("scene", [CHANGE, REMOVAL], ids=["change", "removal"])
def test_a_later_apply_that_is_killed_is_finished_by_the_next_pass(worlds: list[World], scene: Scene) -> None:
    counted(worlds[0], scene, BETWEEN)
    assert die_at(worlds, scene, spread(steps(worlds[0]), 3), BETWEEN) == []


@pytest.mark.skipif(not ALL, reason="`make faults`")
@pytest.mark.parametrize("scene", [CREATION, CHANGE, REMOVAL], ids=["creation", "change", "removal"])
@pytest.mark.parametrize("victim", ["connection", "reconciler", "host"])
def test_whoever_is_killed_after_any_step_nobody_has_to_come(worlds: list[World], victim: str, scene: Scene) -> None:
    counted(worlds[0], scene)
    assert die_at(worlds, scene, range(1, steps(worlds[0]) + 1), victim=victim) == []


def steps(world: World) -> int:
    return int(world["a"].run("cat /run/steps").stdout)
