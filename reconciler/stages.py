"""A plan's changes → the stages in which they are applied: what may cut a host off by itself, before all that is made.

In: Changes in their order, and the types of which a host's own network and firewall are made. Out: Stages, each one
apply. Pure; must not know how one is armed, confirmed or taken back.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace

from reconciler.model import Change


@dataclass(frozen=True, slots=True)
class Stage:
    """Changes of one apply. One that is `guarded` is taken back unless it is confirmed."""

    changes: tuple[Change, ...]
    guarded: bool = False
    final: bool = False

    @property
    def observed(self) -> bool:
        """Whether it ends with a look at the host: what has to be confirmed must not wait for that."""
        return self.final and not self.guarded


def stages(changes: tuple[Change, ...], ground: Collection[str]) -> tuple[Stage, ...]:
    """The host's own network and firewall before all that is made, for they can be taken back; before them only what
    jails give up that go, after them the rest, and by itself again what of the network nothing uses any more.
    `ground`: types. Never none: an inventory may be to mend."""
    making = next((n for n, c in enumerate(changes) if c.resource is not None), 0)
    ranks = [rank(change, n < making, ground) for n, change in enumerate(changes)]
    if 1 not in ranks:
        ranks = [max(its, 2) for its in ranks]
    parts = [tuple(c for c, its in zip(changes, ranks, strict=True) if its == n) for n in range(4)]
    found = [Stage(part, guarded=n % 2 == 1) for n, part in enumerate(parts) if part] or [Stage(())]
    return (*found[:-1], replace(found[-1], final=True))


def rank(change: Change, early: bool, ground: Collection[str]) -> int:
    if change.type in ground:
        return 1 if change.resource is not None or early else 3
    return 0 if early else 2
