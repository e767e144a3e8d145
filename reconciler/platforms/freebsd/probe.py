"""The probe: a script of one round trip that prints the state of everything in a Manifest, and the inventory.

In: a Manifest. Out: calls of the functions in `probe.sh`, which says what each line of the output means; `parse.py`
reads it back. No tenant's file is read or hashed, and nothing on the host is changed.
"""

from __future__ import annotations

from collections.abc import Iterator

from reconciler.model import Manifest, Resource, Secret
from reconciler.platforms.files import file_digest
from reconciler.platforms.freebsd import datasets
from reconciler.platforms.freebsd.paths import jail_name
from reconciler.platforms.steps import fed, quote


def probe(manifest: Manifest) -> str:
    return "\n".join(calls(manifest))


def calls(manifest: Manifest) -> Iterator[str]:
    by_type: dict[str, list[Resource]] = {}
    for resource in manifest.resources:
        by_type.setdefault(resource.type, []).append(resource)
    written = [file for resource in manifest.resources for file in resource.files]
    places = {path for r in by_type.get("data/1", ()) for path, state in r.state.items() if state == "there"}
    yield "owned"
    yield fed("files", sorted({file.path for file in written} | places))
    plain = {f.path: f for f in written if f.kind == "f" and not isinstance(f.content, Secret)}
    yield fed("differing", [f"{file_digest(f)}  {path}" for path, f in sorted(plain.items())])
    for file in written:
        if isinstance(file.content, Secret):
            yield f"salted {quote(file.path)} {quote(file.content.salt)}"
    yield "net"
    if "dataset/1" in by_type:
        names = [datasets.pool(manifest), *(r.name for r in by_type["dataset/1"])]
        yield fed(f"datasets {','.join(datasets.COLUMNS)}", names)
    yield fed("rooms", [jail_name(r.name) for r in by_type.get("port/1", ())])
    yield "jails"
    yield fed("programs", [f"{r.name} {r.undo.rpartition(chr(31))[2]}/spiped" for r in by_type.get("tunnel/1", ())])
    yield fed("accounts_of", [seal(r) for r in by_type.get("root/1", ())])
    yield fed("trees", [f"{r.name} {r.undo}" for r in by_type.get("tree/1", ())])
    yield fed("sysctls", [r.name for r in by_type.get("sysctl/1", ())])
    yield fed("loaded", [r.name for r in by_type.get("module/1", ())])
    yield from (f"devices_of {r.name}" for r in by_type.get("devices/1", ()))
    yield "rules"
    yield from (f"anchor {r.name}" for r in by_type.get("anchor/1", ()))


def seal(root: Resource) -> str:
    """Beside a jail's root stands of which accounts its tables were made."""
    return f"{root.undo}.accounts"
