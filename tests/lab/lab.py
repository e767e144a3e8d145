"""The lab as a whole: segments and hosts, started in parallel and taken away again whatever happens.

In: a folder on a real file system (ext4, xfs; not an overlay), which the caller owns and deletes.
Out: `Host`s that answer on port 22, reachable from this process, which sits at the routers' place.
Runs only inside enter.sh. Must not know the product.
"""

import os
import secrets
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Self

from . import disk, network
from .host import Host, HostPlan, Init, LabError
from .network import Link, Nic

NOTHING: Mapping[str, Path] = {}


class Lab:
    def __init__(self, folder: Path) -> None:
        self.folder = folder.resolve()
        self.key = self.folder / "lab.key"
        self.hosts: dict[str, Host] = {}
        # cgroups are machine-wide: labs of other runs must not share names; enter.sh sweeps this prefix
        self.id = os.environ.get("RECONCILER_LAB_ID", "lab") + secrets.token_hex(2)
        self._segments: list[str] = []
        self._links = 0

    def __enter__(self) -> Self:
        if os.environ.get("RECONCILER_LAB") != "1":
            raise LabError("a lab runs only inside tests/lab/enter.sh")
        self.folder.mkdir(parents=True, exist_ok=True)
        if not self.key.exists():
            disk.make_key(self.key, "lab")
        network.prepare_router()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            _each(Host.stop, self.hosts.values())
        finally:
            for segment in self._segments:
                network.delete_link(segment)

    def segment(self, name: str, router: Sequence[str] = (), onlink: Sequence[str] = ()) -> None:
        """A bridge with the router's addresses ("2001:db8::1/64") and prefixes that are directly on it."""
        self._segments.append(name)
        network.add_bridge(name, router, onlink)

    def host(
        self,
        name: str,
        nics: Mapping[str, Nic],
        routes: Sequence[str] = (),
        init: Init = "systemd",
        shown: Mapping[str, Path] = NOTHING,
    ) -> Host:
        """Plans a host and makes its disk; `up` or its own `start` and `wait` boot it.

        `shown`: place on the host → a folder of this machine, read-only there.
        """
        if name in self.hosts:
            raise LabError(f"there is a host {name} already")
        plan = HostPlan(name, dict(nics), tuple(routes), init, shown)
        links = [self._link(nic_name, nic) for nic_name, nic in plan.nics.items()]
        public = self.key.with_suffix(".key.pub").read_text()
        host = Host(plan, self.folder / name, links, f"{self.id}-{name}", public)
        self.hosts[name] = host
        return host

    def up(self, timeout: float = 60) -> None:
        """Boots every host that is not up yet, in parallel; returns when all of them answer on port 22."""
        down = [host for host in self.hosts.values() if not host.started]
        _each(Host.start, down)
        _each(lambda host: host.wait(timeout), down)

    def _link(self, name: str, nic: Nic) -> Link:
        if nic.segment not in self._segments:
            raise LabError(f"there is no segment {nic.segment}")
        self._links += 1
        return network.wire(name, f"{self.id[-4:]}-{self._links}", nic)


def _each(action: Callable[[Host], None], hosts: Iterable[Host]) -> None:
    """Does the action for all hosts, also when it fails for some, and reports every failure."""
    with ThreadPoolExecutor(8) as pool:
        futures = [pool.submit(action, host) for host in hosts]
    errors = [error for future in futures if (error := future.exception())]
    if errors:
        raise LabError("\n\n".join(str(error) for error in errors)) from errors[0]
