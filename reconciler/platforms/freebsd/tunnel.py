"""One end of a tunnel as spiped(1) runs it inside the jail, beside its application, kept up by daemon(8).

In: a Tunnel Part. Out: a Resource. A process is in a jail's network only when it is in the jail, which sees nothing of
the host's packages: so the program lies in the jail's read-only root, a copy of the host's, beside the key. It runs as
a user that has nothing else; the jail's own root can read the key. Must not know firewalls.
"""

from __future__ import annotations

from reconciler.model import File, Resource, Tunnel
from reconciler.platforms.files import digest, file_digest, file_state
from reconciler.platforms.freebsd.paths import TUNNELS, jail_name
from reconciler.platforms.layers import content, jail_home
from reconciler.platforms.steps import quote
from reconciler.platforms.tunnels import claims, spiped, words

INSIDE = "/etc/tunnels"
USER = 1001
"""Beside the application's."""


def tunnel(part: Tunnel, storage: str) -> Resource:
    """`runs` is what daemon(8) shows in its title for as long as it keeps the pipe up."""
    place = f"{jail_home(storage, part.jail)}/root{INSIDE}/{part.id}"
    key = File(f"{place}/key", content(part.key), 0o400, f"{USER}:{USER}")
    options = spiped(part, f"{INSIDE}/{part.id}/key")
    runs = digest(f"{' '.join(options)} {file_digest(key)}".encode())[:16]
    line = " ".join(["tunnel", jail_name(part.jail), part.id, runs, quote(place), *map(quote, options)])
    files = (
        File(place.rpartition("/")[0], mode=0o755, kind="d"),
        File(place, mode=0o755, kind="d"),
        key,
        File(f"{TUNNELS}/{part.id}", f"{line}\n".encode()),
    )
    state = {**file_state(*files), "program": "the host's", "runs": runs}
    undo = "\x1f".join((jail_name(part.jail), place))
    return Resource(f"tunnel/1 {part.id}", part.jail, state, files, words(part), claims(part), undo)
