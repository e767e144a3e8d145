"""Data of jails that are gone: how long it is kept, and what ends it.

In: the inventory, the manifest, today's date and the approvals. Out: Changes that delete, and what the approvals would
be called. Pure; must not know where data lies.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import timedelta

from reconciler.model import DATA, Change, Circumstances, Manifest, Owned, Retained, approval

RETENTION = timedelta(days=14)
"""How long it is kept at least."""


def purges(manifest: Manifest, inventory: Iterable[Owned], given: Circumstances) -> Iterator[Change]:
    """What of them is deleted: last of all, after its day, and by an approval of exactly this. Nothing of a jail that
    is wanted again."""
    owners = {resource.owner for resource in manifest.resources}
    for owned in inventory:
        name = purge_of(manifest.host, owned)
        over = owned.retained != "" and owned.retained < given.today.isoformat()
        if over and name in given.approved and owned.key.startswith(DATA) and owned.owner not in owners:
            what = f"delete the data of {owned.owner}, kept until {owned.retained}, approved by {name}"
            yield Change("purge", owned.key, owned.owner, what, before=owned)


def purge_of(host: str, owned: Owned) -> str:
    """What the approval of its end is called. Kept until another day, it is the data of another life of the jail."""
    return approval("purge", host, owned.key, owned.undo, owned.retained)


def retained(host: str, inventory: Iterable[Owned]) -> tuple[Retained, ...]:
    return tuple(Retained(o.owner, o.retained, purge_of(host, o)) for o in inventory if o.retained)
