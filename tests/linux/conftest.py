"""Real hosts `a` and `b` with the sample on them, shared by all tests of this folder. Root does not log in to `a`.

A test gets `world` converged, and leaves it so: whatever it did to the documents is taken back afterwards, and the
hosts are brought back when it edited documents or failed. Tests that need a host of their own ask for `spare`.
"""

from __future__ import annotations

import itertools
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from lab import Host, Lab, Nic
from lab.sample import sample_lab

from .town import town, whole_town  # noqa: F401
from .world import PROJECT, Garage, World

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    outside = os.environ.get("RECONCILER_LAB") != "1" or os.geteuid() != 0
    skip = pytest.mark.skip(reason="needs real hosts: run tests/lab/enter.sh python -m pytest tests/linux as root")
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.lab)
            if outside:
                item.add_marker(skip)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    outcome = yield
    if outcome.get_result().failed:  # type: ignore[attr-defined]
        item.stash[FAILED] = True


FAILED = pytest.StashKey[bool]()


@pytest.fixture(scope="session")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """The data centres; hosts come with `everything` and `spare`."""
    with Lab(tmp_path_factory.mktemp("lab")) as lab:
        yield lab


@pytest.fixture(scope="session")
def garage(tmp_path_factory: pytest.TempPathFactory) -> Garage:
    return Garage(tmp_path_factory.mktemp("archives"))


@pytest.fixture(scope="session")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("keys")
    folder.chmod(0o700)
    for key in (PROJECT / "tests/lab/keys").iterdir():
        shutil.copy(key, folder)
    return folder


@pytest.fixture(scope="session")
def everything(lab: Lab, garage: Garage, keys: Path, tmp_path_factory: pytest.TempPathFactory) -> World:
    """The whole sample, applied once."""
    hosts = sample_lab(lab)
    lab.up()
    world = World(lab, tmp_path_factory.mktemp("world") / "repo", garage, keys, hosts, frozenset("a"))
    world.close_root()
    world.restore()
    for name in hosts:
        report = world.reconcile(name)
        assert report.ready, report
    return world


@pytest.fixture
def world(everything: World, request: pytest.FixtureRequest) -> Iterator[World]:
    """The sample on its hosts, converged before and after."""
    yield everything
    failed = request.node.stash.get(FAILED, False)
    if everything.touched or failed:
        everything.restore()
        for name, host in everything.hosts.items():
            host.run("rm -f /etc/reconciler/hold", check=False)
            if failed or everything.applied[name] != everything.fleet.hosts[name]:
                everything.reconcile(name, adopt=True)


@pytest.fixture
def a(world: World) -> Host:
    return world["a"]


@pytest.fixture
def b(world: World) -> Host:
    return world["b"]


NUMBERS = itertools.count(1)


@pytest.fixture
def spare(lab: Lab, garage: Garage, keys: Path, tmp_path: Path) -> Iterator[Callable[[str], World]]:
    """A fresh host that takes the place of `a` (routed) or `b` (bridged), on segments of its own: a world apart.

    Its jails have the sample's addresses, so they are asked from the host itself: `host.run("curl …")`.
    """
    with spares(lab, garage, keys, tmp_path) as fresh:
        yield fresh


@pytest.fixture(scope="module")
def lasting(
    lab: Lab, garage: Garage, keys: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[str], World]]:
    """The same, for tests that leave such a host as others can use it. Root does not log in to these either."""
    with spares(lab, garage, keys, tmp_path_factory.mktemp("lasting"), frozenset("ab")) as fresh:
        yield fresh


@contextmanager
def spares(
    lab: Lab, garage: Garage, keys: Path, folder: Path, without_root: frozenset[str] = frozenset()
) -> Iterator[Callable[[str], World]]:
    worlds: list[World] = []

    def fresh(role: str) -> World:
        number = next(NUMBERS)
        wan = f"wan{number}"
        lab.segment(wan, router=[f"2001:db8:ffff:{number + 0x100:x}::1/64"])
        lab.segment(f"lan{number}")
        nics = {"eth0": Nic(wan, (f"2001:db8:ffff:{number + 0x100:x}::a/64",)), "eth1": Nic(f"lan{number}")}
        host = lab.host(f"s{number}", nics, (f"default via 2001:db8:ffff:{number + 0x100:x}::1",))
        host.start()
        host.wait()
        world = World(lab, folder / f"repo{number}", garage, keys, {role: host}, without_root & {role})
        world.close_root()
        world.restore()
        worlds.append(world)
        return world

    yield fresh
    for world in worlds:
        for host in world.hosts.values():
            host.stop()
