"""How long a pass takes over N hosts that are as they should be: the daemon's most frequent one.

    tests/lab/enter.sh python -m benchmarks.hosts [HOSTS ...] [--jails N] [--runs K]

In: numbers of hosts (1, 20, 100 when left out), each with N jails, at most ten. Out: a Markdown table of medians, with
the least and the greatest of K passes over all of them, 32 at a time, from this one process: the time by the clock, and
the processor's time that this process took of it. Each host is observed whole and planned. The hosts are the lab's, on
this machine's processors, with an sshd and no systemd: a stub answers for `systemctl`, from the units' files. What the
hosts do themselves is therefore in the figures; an empty script, sent to all of them in the same way, is the floor.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import BinaryIO

from benchmarks.compile import cell
from benchmarks.documents import SAMPLE, generate
from reconciler.fetch import fetch
from reconciler.hostile import normalise
from reconciler.model import Circumstances, HostSpec, Jail, Part, Report, Rule, Secret, Source, Ssh
from reconciler.packing import pack
from reconciler.platforms import PLATFORMS
from reconciler.platforms.steps import COMPLETE
from reconciler.reconcile import Pass, reconcile
from reconciler.remote import Credentials, Remote
from reconciler.render.plans import summary
from reconciler.repo import Repository, archive
from reconciler.revision import Compiler
from reconciler.wire import ShellWire

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from lab import Host, Lab, Nic

WORKERS = 32
"""As many as the daemon has."""
SYSTEMCTL = r"""#!/bin/sh
[ "$1" = show ] || exit 0
cd /etc/systemd/system && exec awk '
    function said(unit) { print "Id=" unit "\nLoadState=loaded\nActiveState=activating\nMainPID=0\nDropInPaths=" }
    BEGIN { for (i = 1; i < ARGC; i++) if (ARGV[i] !~ /[.]service$/) ARGV[i] = "" }
    FNR == 1 { if (NR > 1) print ""; said(FILENAME) }
    /^(MemoryMax|TasksMax|Environment)=/
    /^CPUQuota=/ { split($0, words, /[=%]/); print "CPUQuotaPerSecUSec=" words[2] "0ms" }
' "$@"
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("hosts", nargs="*", type=int, default=[1, 20, 100])
    parser.add_argument("--jails", type=int, default=10)
    parser.add_argument("--runs", type=int, default=5)
    asked = parser.parse_args()
    kinds = {
        "kept": Station.look,
        "new": Station.look_anew,
        "kept, empty": Station.nothing,
        "new, empty": Station.nothing_anew,
    }
    columns = [name for kind in kinds for name in (f"{kind}, s", "ours, s")]
    with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
        print(f"| hosts | {' | '.join(columns)} |\n|{' --- |' * (len(columns) + 1)}")
        with fleet(Path(folder), max(asked.hosts), asked.jails) as hosts:
            for count in asked.hosts:
                runs = [[taken(hosts[:count], look) for _ in range(asked.runs)] for look in kinds.values()]
                figures = [figure for taken_each in runs for figure in zip(*taken_each, strict=True)]
                print(f"| {count} | {' | '.join(map(cell, figures))} |", flush=True)


def taken(hosts: list[Station], look: Callable[[Station], None]) -> tuple[float, float]:
    """Seconds until all of them have been asked, by the clock and of this process."""
    with ThreadPoolExecutor(WORKERS) as pool:
        begun, worked = time.perf_counter(), time.process_time()
        list(pool.map(look, hosts))
        return time.perf_counter() - begun, time.process_time() - worked


class Station:
    """One host, what it must be, and the connection to it."""

    def __init__(self, spec: HostSpec, credentials: Credentials, stock: Callable[[Source], BinaryIO]) -> None:
        self.spec, self.stock = spec, stock
        self.remote = Remote(spec.ssh, credentials, PLATFORMS[spec.platform].AS_ROOT)
        self.wire = ShellWire(self.remote, PLATFORMS[spec.platform])

    def look(self) -> None:
        report = self.brought_up()
        assert not report.done, summary(report)

    def look_anew(self) -> None:
        self.remote.close()
        self.look()

    def nothing(self) -> None:
        assert self.remote.run(f"{COMPLETE}\n") == b""

    def nothing_anew(self) -> None:
        self.remote.close()
        self.nothing()

    def brought_up(self) -> Report:
        """A pass; the first one applies."""
        report = reconcile(self.spec, self.wire, self.stock, Pass(Circumstances(date.today(), reviewed=True)))
        assert report.ready, summary(report)
        return report


# ── the hosts ────────────────────────────────────────────────────────────────────────────────────────────────


@contextmanager
def fleet(folder: Path, count: int, jails: int) -> Iterator[list[Station]]:
    """Hosts that are as they should be: applied once, and seen to be ready."""
    spec, stock = model(folder, jails)
    with Lab(folder / "lab") as lab:
        lab.segment("wan", router=["2001:db8:ffff:1::1/64"])
        hosts = [stubbed(lab, number) for number in range(count)]
        lab.up(timeout=300)
        credentials = Credentials(lab.key)
        stations = [Station(on(spec, host), credentials, stock) for host in hosts]
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(Station.brought_up, stations))
        yield stations


def stubbed(lab: Lab, number: int) -> Host:
    nic = Nic("wan", (f"2001:db8:ffff:1::{number + 10:x}/64",))
    host = lab.host(f"h{number}", {"eth0": nic}, ["default via 2001:db8:ffff:1::1"], init="sshd")
    stub = host.folder / "upper/usr/bin/systemctl"
    stub.parent.mkdir()
    stub.write_text(SYSTEMCTL)
    stub.chmod(0o755)
    return host


def model(folder: Path, jails: int) -> tuple[HostSpec, Callable[[Source], BinaryIO]]:
    """One host of the documents with so many jails, its archives those of the sample."""
    repository = Repository.open(generate(folder / "repository", 20))
    spec = Compiler().compile(repository.tree("everything")).fleet.hosts["h0"]
    archives = folder / "archives"
    archives.mkdir()
    digests = {tree.name: pack(tree, archives / f"{tree.name}.tar") for tree in (SAMPLE / "files").iterdir()}
    release = Source("archive", f"file://{archives}/acme-www.tar", digests["acme-www"].removeprefix("sha256:"))

    def stock(source: Source) -> BinaryIO:
        here = replace(source, url=source.url.replace("/srv/archives", str(archives)))
        return normalise(fetch(here, folder / "cache", archives, archive)).open("rb")

    away = {jail.id for jail in spec.jails[jails:]}
    parts = tuple(local(part, release) for part in spec.parts if whose(part) not in away)
    return replace(spec, parts=parts), stock


def whose(part: Part) -> str:
    return part.id if isinstance(part, Jail) else part.subject if isinstance(part, Rule) else ""


def local(part: Part, release: Source) -> Part:
    """A jail with a release that is there, and secrets that are open."""
    if not isinstance(part, Jail):
        return part
    secrets = tuple(replace(secret, opened=Secret(b"a secret", "salt")) for secret in part.secrets)
    return replace(part, release=release if part.release else None, secrets=secrets)


def on(spec: HostSpec, host: Host) -> HostSpec:
    return replace(spec, name=host.name, ssh=Ssh(host.address, 22, host.host_key))


if __name__ == "__main__":
    main()
