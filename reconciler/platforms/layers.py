"""What a jail is made of on every platform: unpacked trees, its data, its secrets. Running it is the platform's.

In: Jails and Sources. Out: Resources of files and directories on the host. Data lies unshifted below a 0700 directory
of root's, one folder a jail; trees are immutable and named by their digest; each secret is a Resource of its own.
Must not know networks, firewalls, or how anything is mounted.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from graphlib import TopologicalSorter

from reconciler.model import File, Jail, JailSecret, Resource, Secret, Source
from reconciler.platforms.files import file_state

APP = 1000
"""The unprivileged user of a jail."""


def jail_home(storage: str, jail: str) -> str:
    return f"{storage}/jails/{jail}"


def tree(storage: str, digest: str) -> str:
    return f"{storage}/trees/{digest}"


def data_place(home: str, path: str) -> str:
    return f"{home}/data/{path.strip('/').replace('/', '+')}"


def user(jail: Jail) -> int:
    """Who runs the command, inside the jail."""
    return 0 if jail.root else APP


def source_tree(source: Source, storage: str) -> Resource:
    """An unpacked archive. Its seal is made on the host when it has been unpacked: a change by hand breaks it."""
    name = f"{source.kind} {source.digest[:12]} ({source.url.rpartition('/')[2]})"
    return Resource(
        f"tree/1 {source.digest}",
        "",
        {"contents": "as sealed"},
        words=f"files of {name}",
        undo=tree(storage, source.digest),
        source=source,
    )


def data(jail: Jail, storage: str) -> Resource:
    """The customer's data and configuration: retained, never deleted. `owner` is the mark that finds it again."""
    home = jail_home(storage, jail.id)
    files = (
        File(storage, mode=0o700, kind="d"),
        File(f"{storage}/jails", mode=0o700, kind="d"),
        File(home, mode=0o700, kind="d"),
        File(f"{home}/owner", f"{jail.id}\n".encode(), 0o600),
    )
    places = [f"{home}/config", f"{home}/data", *(data_place(home, path) for path in jail.data)]
    state = dict.fromkeys(places, "there")
    return Resource(
        f"data/1 {jail.id}", jail.id, {**file_state(*files), **state}, files, f"data of {jail.id}", undo=home
    )


def secrets(jail: Jail, storage: str) -> Iterator[Resource]:
    """Each a resource of its own; readable by the one user the command runs as, below a 0700 directory of root's."""
    owner = f"{user(jail)}:{user(jail)}"
    home = f"{jail_home(storage, jail.id)}/secrets"
    directory = File(home, mode=0o500, owner=owner, kind="d")
    for secret in jail.secrets:
        file = File(f"{home}/{secret.name}", content(secret), 0o400, owner)
        yield Resource(
            f"secret/1 {jail.id}/{secret.name}",
            jail.id,
            file_state(directory, file),
            (directory, file),
            f"secret {secret.name} of {jail.id}",
            undo=file.path,
        )


def content(secret: JailSecret) -> Secret:
    """What a file of it holds; where nobody could open it, what is compared and never written."""
    return secret.opened or Secret(secret.ciphertext.encode(), "")


def ancestors(path: str) -> Iterator[str]:
    """`a`, `a/b`, `a/b/c`."""
    parts = path.split("/")
    return ("/".join(parts[: i + 1]) for i in range(len(parts)))


def trees(jails: Iterable[Jail]) -> list[Source]:
    """Each source once, whoever uses it."""
    sources = {s.digest: s for jail in jails for s in (jail.application, jail.release) if s}
    return [source for _, source in sorted(sources.items())]


def in_start_order(jails: Iterable[Jail]) -> list[Jail]:
    """Sorted by id, but each after the jails it waits for. Cycles were refused when the documents were resolved."""
    by_id = {jail.id: jail for jail in sorted(jails, key=lambda jail: jail.id)}
    order = TopologicalSorter({id: [a for a in jail.after if a in by_id] for id, jail in by_id.items()})
    return [by_id[id] for id in order.static_order()]
