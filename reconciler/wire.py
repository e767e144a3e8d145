"""A host as one pass sees it: observe it, send what it lacks, apply to it, confirm that it is still there. Joins a
platform's text with a Remote.

In: Manifests and Plans. Out: Observations and Outcomes. `Wire` is what a pass needs of a host; `ShellWire` is the
real one, tests have one made of a dictionary. Must not know why anything is changed.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import BinaryIO, Literal, Protocol

from reconciler.model import Manifest, Observation, Owned
from reconciler.platforms import Platform
from reconciler.platforms.ground import answer, arming, functions, way_back
from reconciler.platforms.steps import APPLY as FUNCTIONS
from reconciler.platforms.steps import INCOMING, observation, script
from reconciler.remote import APPLY, CONNECT, PROBE, Remote, RemoteFailure
from reconciler.stages import Stage

Verdict = Literal["applied", "stale", "held", "busy"]
PATIENCE = 60.0
"""Seconds until a host that has done its work takes back what nobody confirmed: half is for the new connection."""
GRACE = 10.0
"""Seconds in which what answered before must answer again: neighbours have to find each other first."""
PAUSE = 0.5
"""Seconds between two attempts."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of each change, by its number in the plan, and what the host looks like now."""

    verdict: Verdict
    done: frozenset[int] = frozenset()
    failed: Mapping[int, str] = field(default_factory=dict)
    seen: Observation | None = None
    armed: str = ""
    """What has to be confirmed, or the host takes it back: a name, and the digest of what was tried."""
    token: str = ""
    """Of the inventory as it is now, where nothing else was seen because another stage follows."""


class Wire(Protocol):
    def observe(self, manifest: Manifest) -> Observation: ...

    def send(self, name: str, archive: BinaryIO) -> None: ...

    def apply(self, manifest: Manifest, stage: Stage, inventory: Iterable[Owned], token: str) -> Outcome: ...

    def confirm(self, armed: str, manifest: Manifest, works: Callable[[], bool]) -> str:
        """By a new connection; why it was taken back, or "". RemoteFailure if nobody knows yet."""


class ShellWire:
    """The host at the other end of a Remote: one round trip to observe, one more to apply, one to confirm."""

    def __init__(self, remote: Remote, platform: Platform, patience: float = PATIENCE) -> None:
        self.remote, self.platform, self.patience = remote, platform, patience

    def observe(self, manifest: Manifest) -> Observation:
        text = observation(self.platform.PRELUDE, self.platform.probe(manifest))
        seen = self.platform.parse(self.remote.run(text, PROBE), manifest)
        if seen.unconfirmed:
            # who takes it over vouches for the host, which a connection from before cannot
            self.remote.renew(CONNECT)
        return seen

    def send(self, name: str, archive: BinaryIO) -> None:
        self.remote.send(archive, f"{INCOMING}/{name}")

    def apply(self, manifest: Manifest, stage: Stage, inventory: Iterable[Owned], token: str) -> Outcome:
        steps = [(change, self.platform.commands(change)) for change in stage.changes]
        way = way_back(steps, self.platform.UNDO, manifest.ground)
        back, armed = ((*functions(way),), (arming(way, self.patience),)) if stage.guarded else ((), ())
        probe = self.platform.probe(manifest)
        text = script(steps, inventory, token, self.platform.PRELUDE, probe, back, armed, stage.final, stage.observed)
        return self.outcome(self.remote.run(text, APPLY), manifest, stage)

    def outcome(self, output: bytes, manifest: Manifest, stage: Stage) -> Outcome:
        told, marker, rest = output.partition(b"--\n")
        lines = [line.split("\t", 2) for line in told.decode("utf-8", "replace").splitlines()]
        for verdict in ("stale", "held", "busy"):
            if [verdict] in lines:
                return Outcome(verdict)
        if not marker:
            raise RemoteFailure(f"the apply on {self.remote.name} ended half-way; the next pass goes on from there")
        done = frozenset(int(line[1]) for line in lines if line[0] == "done")
        failed = {int(line[1]): line[2] for line in lines if line[0] == "failed"}
        named = {line[0]: line[1] for line in lines if line[0] in ("armed", "token")}
        seen = self.platform.parse(rest, manifest) if stage.observed else None
        return Outcome("applied", done, failed, seen, named.get("armed", ""), named.get("token", ""))

    def confirm(self, armed: str, manifest: Manifest, works: Callable[[], bool]) -> str:
        begun = time.monotonic()
        reason = self.renewed(begun + self.patience / 2)
        while not reason and not works():
            if time.monotonic() > begun + min(GRACE, self.patience / 2):
                silent = "jails that answered before it did not any more"
                return self.answered("taken_back", f"{armed} {manifest.digest}", silent)
            time.sleep(PAUSE)
        if not reason:
            return self.answered("confirm", armed, "no new connection came through in time to confirm them")
        # the host takes it back by itself, and is there again
        lost = self.renewed(begun + 2 * self.patience)
        if lost:
            raise RemoteFailure(f"{lost}; it takes back by itself what cut it off")
        return self.answered("confirm", armed, reason)

    def renewed(self, deadline: float) -> str:
        """Speaks to the host by a new connection; why there is none, or ""."""
        while True:
            try:
                self.remote.renew(max(1.0, min(10.0, deadline - time.monotonic())))
                return ""
            except RemoteFailure as failure:
                if time.monotonic() > deadline:
                    return str(failure)
                time.sleep(PAUSE)

    def answered(self, function: str, armed: str, reason: str) -> str:
        said = self.remote.run(answer(function, armed, self.platform.PRELUDE, FUNCTIONS), PROBE)
        return "" if b"confirmed" in said else reason
