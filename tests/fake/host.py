"""The Wire to a Debian made of dictionaries: what `apply.sh` does around the steps, and the accidents tests ask for.

In: what a pass sends. Out: Observations through the platform's own parser, Outcomes, RemoteFailures. Must not know why
anything is changed.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable
from copy import deepcopy
from typing import BinaryIO

from reconciler.archives import FetchFailure
from reconciler.model import Change, File, Manifest, Observation, Owned, Source
from reconciler.platforms import PLATFORMS
from reconciler.platforms.files import ETC
from reconciler.platforms.steps import INCOMING, Step, settled
from reconciler.remote import RemoteFailure
from reconciler.stages import Stage
from reconciler.wire import Outcome

from .linux import Debian, StepFailed

PLATFORM = PLATFORMS["linux"]


class Kill(RemoteFailure):
    """The apply ended half-way: the power went, say."""


class FakeHost:
    """`machine` is the host, as it is; all else is what happens on the way to it."""

    def __init__(self) -> None:
        self.machine = Debian()
        self.fuse: int | None = None
        """How many actions the next pass gets to do before it is killed; None is as many as it wants."""
        self.steps = 0
        """How many actions the last pass did."""
        self.applies = 0
        self.busy = False
        self.breaks: Callable[[Change, Step], str] = lambda change, step: ""
        """What goes wrong with a step, or ""."""
        self.watch: Callable[[Change | None], None] = lambda change: None
        """Called after each action."""
        self.meanwhile: Callable[[], None] = lambda: None
        """Called between the look and the apply."""
        self.goes_back = False
        """Whether it is kept what was before the network and the firewall changed; it takes long."""
        self.cut_off = ""
        """Why nobody can come back to confirm such a change."""
        self.unavailable: set[str] = set()
        """Digests of archives that cannot be had."""

    # ── what a pass calls ────────────────────────────────────────────────────────────────────────────────────

    def observe(self, manifest: Manifest) -> Observation:
        return PLATFORM.parse(self.machine.probe(manifest), manifest)

    def stock(self, source: Source) -> BinaryIO:
        if source.digest in self.unavailable:
            raise FetchFailure(f"{source.url} cannot be had")
        return io.BytesIO(f"archive {source.digest}".encode())

    def send(self, name: str, archive: BinaryIO) -> None:
        self.machine.put(File(f"{INCOMING}/{name}", archive.read(), 0o600))

    def confirm(self, armed: str, manifest: Manifest, works: Callable[[], bool]) -> str:
        reason = self.cut_off or ("" if works() else "jails that answered before it did not any more")
        self.machine.armed = False
        if reason:
            assert self.goes_back
            self.machine = self.before
            self.machine.refused.add(manifest.ground if self.cut_off else manifest.digest)
        return reason

    def apply(self, manifest: Manifest, stage: Stage, inventory: Iterable[Owned], token: str) -> Outcome:
        self.meanwhile()
        if self.busy:
            return Outcome("busy")
        if f"{ETC}/hold" in self.machine.files:
            return Outcome("held")
        if self.machine.token != token:
            return Outcome("stale")
        self.applies += 1
        if stage.guarded and self.goes_back:
            self.before = deepcopy(self.machine)
        self.machine.armed = stage.guarded
        self.burn()
        self.machine.write_inventory(list(inventory))
        self.acted(None)
        done, failed = self.run(stage.changes)
        for path in self.machine.below(INCOMING)[1:] if stage.final else ():
            del self.machine.files[path]
        seen = self.observe(manifest) if stage.observed else None
        armed = manifest.ground if stage.guarded else ""
        return Outcome("applied", frozenset(done), failed, seen, armed, self.machine.token)

    # ── what the script does ─────────────────────────────────────────────────────────────────────────────────

    def run(self, changes: tuple[Change, ...]) -> tuple[set[int], dict[int, str]]:
        """A change that fails stops its owner and who waits for it; one of the host's own stops everything."""
        done: set[int] = set()
        failed: dict[int, str] = {}
        stopped: set[str] = set()
        for number, change in enumerate(changes):
            if {change.owner, "", *change.waits} & stopped:
                stopped.add(change.owner)
                continue
            try:
                self.carry_out(change)
                done.add(number)
            except StepFailed as failure:
                failed[number] = str(failure)
                stopped.add(change.owner)
        return done, failed

    def carry_out(self, change: Change) -> None:
        for step in PLATFORM.commands(change):
            if trouble := self.breaks(change, step):
                raise StepFailed(trouble)
            self.machine.carry_out(step)
            self.acted(change)
        during = next((owned for owned in self.machine.inventory if owned.key == change.key), None)
        after = settled(change, during)
        if after != during:
            self.machine.own(change.key, after)
            self.acted(change)

    def acted(self, change: Change | None) -> None:
        self.steps += 1
        self.watch(change)
        self.burn()

    def burn(self) -> None:
        if self.fuse is not None and self.steps >= self.fuse:
            self.fuse = None
            raise Kill("the host went away")
