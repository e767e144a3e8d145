"""A host as one pass sees it: observe it, send what it lacks, apply to it. Joins a platform's text with a Remote.

In: Manifests and Plans. Out: Observations and Outcomes. `Wire` is what a pass needs of a host; `ShellWire` is the
real one, tests have one made of a dictionary. Must not know why anything is changed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import BinaryIO, Literal, Protocol

from reconciler.model import Change, Manifest, Observation, Owned
from reconciler.platforms import Platform
from reconciler.platforms.steps import INCOMING, observation, script
from reconciler.remote import APPLY, PROBE, Remote, RemoteFailure

Verdict = Literal["applied", "stale", "held", "busy"]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of each change, by its number in the plan, and what the host looks like now."""

    verdict: Verdict
    done: frozenset[int] = frozenset()
    failed: Mapping[int, str] = field(default_factory=dict)
    seen: Observation | None = None


class Wire(Protocol):
    def observe(self, manifest: Manifest) -> Observation: ...

    def send(self, name: str, archive: BinaryIO) -> None: ...

    def apply(
        self, manifest: Manifest, changes: tuple[Change, ...], inventory: Iterable[Owned], token: str
    ) -> Outcome: ...


class ShellWire:
    """The host at the other end of a Remote: one round trip to observe, one more to apply."""

    def __init__(self, remote: Remote, platform: Platform) -> None:
        self.remote, self.platform = remote, platform

    def observe(self, manifest: Manifest) -> Observation:
        text = observation(self.platform.PRELUDE, self.platform.probe(manifest))
        return self.platform.parse(self.remote.run(text, PROBE), manifest)

    def send(self, name: str, archive: BinaryIO) -> None:
        self.remote.send(archive, f"{INCOMING}/{name}")

    def apply(self, manifest: Manifest, changes: tuple[Change, ...], inventory: Iterable[Owned], token: str) -> Outcome:
        steps = [(change, self.platform.commands(change)) for change in changes]
        text = script(steps, inventory, token, self.platform.PRELUDE, self.platform.probe(manifest))
        return self.outcome(self.remote.run(text, APPLY), manifest)

    def outcome(self, output: bytes, manifest: Manifest) -> Outcome:
        told, marker, rest = output.partition(b"--\n")
        lines = [line.split("\t", 2) for line in told.decode("utf-8", "replace").splitlines()]
        for verdict in ("stale", "held", "busy"):
            if [verdict] in lines:
                return Outcome(verdict)
        if not marker:
            raise RemoteFailure(f"the apply on {self.remote.name} ended half-way; the next pass goes on from there")
        done = frozenset(int(line[1]) for line in lines if line[0] == "done")
        failed = {int(line[1]): line[2] for line in lines if line[0] == "failed"}
        return Outcome("applied", done, failed, self.platform.parse(rest, manifest))
