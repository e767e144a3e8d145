"""The probe: a script of one round trip that prints the state of everything in a Manifest, and the inventory.

In: a Manifest. Out: calls of the functions in `probe.sh`, which says what each line of the output means; `parse.py`
reads it back. No tenant's file is read or hashed, and nothing on the host is changed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from reconciler.model import Manifest, Resource, Secret
from reconciler.platforms.files import file_digest
from reconciler.platforms.steps import fed, quote

UNITS = ("jail/1", "tunnel/1")
"""Types that systemd runs."""


def probe(manifest: Manifest) -> str:
    return "\n".join(calls(manifest))


def calls(manifest: Manifest) -> Iterator[str]:
    by_type: dict[str, list[Resource]] = {}
    for resource in manifest.resources:
        by_type.setdefault(resource.type, []).append(resource)
    written = [file for resource in manifest.resources for file in resource.files]
    yield "owned"
    yield fed("files", sorted({file.path for file in written} | set(places(by_type.get("data/1", ())))))
    plain = {f.path: f for f in written if f.kind == "f" and not isinstance(f.content, Secret)}
    yield fed("differing", [f"{file_digest(f)}  {path}" for path, f in sorted(plain.items())])
    for file in written:
        if isinstance(file.content, Secret):
            yield f"salted {quote(file.path)} {quote(file.content.salt)}"
    yield "net"
    for resource in by_type.get("uplink/1", ()):
        path = f"/proc/sys/net/ipv6/conf/{resource.name}/proxy_ndp"
        yield f"printf 'net\\tproxy_ndp %s\\t%s\\n' {quote(resource.name)} \"$(cat {quote(path)} 2>/dev/null)\""
    yield fed("rooms", [r.name for r in by_type.get("port/1", ())])
    yield fed("units", [r.undo.partition("\x1f")[0] for kind in UNITS for r in by_type.get(kind, ())])
    yield fed("trees", [f"{r.name} {r.undo}" for r in by_type.get("tree/1", ())])
    yield fed("sysctls", [r.name for r in by_type.get("sysctl/1", ())])
    yield from (f"sharing {quote(storage)}" for storage in sorted({storage_of(r) for r in by_type.get("data/1", ())}))
    yield "rules"


def storage_of(data: Resource) -> str:
    return data.undo.rpartition("/jails/")[0]


def places(resources: Iterable[Resource]) -> Iterator[str]:
    return (path for r in resources for path, state in r.state.items() if state == "there")
