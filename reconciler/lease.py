"""Which of several reconcilers works: the one that has the lease, a ref of the config repository.

In: the ref, our name, a clock of our own. Out: whether the lease is ours, and whose it is else. Nobody compares clocks:
who has it moves the ref on in time, and who waits takes over after seeing it unmoved for the lease's whole time, as its
own clock counts. Every step is a compare-and-swap, so whoever comes second learns it. Must not know: hosts, and when a
look is due.
"""

from __future__ import annotations

import fcntl
import hashlib
import math
import re
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TextIO

from reconciler.config import Config, ConfigFailure
from reconciler.model import Trouble
from reconciler.passes import ssh_command
from reconciler.repo import GitFailure, Refused, Said, SharedRef

TICKS = 15
"""After so many renewals the words repeat: with the empty tree, 16 objects in the repository, for ever."""


class LeaseFailure(Trouble):
    """Somebody else works in our place; the message says who."""


class Lease:
    """`seconds` is how long it has to stand still before somebody else may take it; every third of that, `look`."""

    def __init__(self, ref: SharedRef, name: str, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.name, self.seconds = name, seconds
        self.held = False
        self.lost = False
        """Somebody took it from us: there is no way back but a new start, which waits."""
        self.why = "the lease has not been asked for yet"
        """Whom we wait for, or what is wrong with the ref; "" when the lease is ours and was renewed."""
        self._ref, self._clock = ref, clock
        self._seen: Said | None = None
        self._since = self._looked = -math.inf
        self._over = False
        self._lock = threading.Lock()  # who gives it up waits for a look under way, which might take it again

    def look(self) -> None:
        """Takes it if it is free or stands still, renews it if it is ours.

        A remote that does not answer takes nothing from who has it: hosts must be kept through a forge's outage. The
        risk: where it is only us whom it does not answer, another one takes over, and both work until it does. The
        lock on each host keeps them from applying at once, but we hold hosts to an older commit: each undoes what the
        other did.
        """
        with self._lock:
            if self._over:
                return
            try:
                self._hear(self._asked())
            except GitFailure as failure:
                self.why = f"the lease: {failure}"

    def give_up(self) -> None:
        """At the end, so that the next one need not wait; when the remote does not answer, it has to."""
        with self._lock:
            self._over = True
            if self.held:
                self.held = False
                with suppress(GitFailure):
                    said = self._ref.read()
                    if said and self._ours(said):
                        self._ref.swap(said, "")

    def _asked(self) -> Said | None:
        begun = self._clock()
        said = self._ref.read()
        return self._move(said) if said is None or self._ours(said) or self._still(said, begun) else said

    def _hear(self, said: Said | None) -> None:
        if said is None:  # it was given up while we asked: the next look takes it
            return
        before, self.held, who = self.held, self._ours(said), holder(said.words)
        self.lost = self._over = before and not self.held
        if self.held:
            self.why = ""
        elif self.lost:
            self.why = f"{who} took the lease: only one reconciler works, and the next start waits for it"
        else:
            self.why = f"waiting: the lease is held by {who}, until it has not renewed it for {self.seconds:g} s"

    def _move(self, said: Said | None) -> Said | None:
        tick = (ticks(said.words) + 1) % TICKS if said and self._ours(said) else 0
        try:
            return self._ref.swap(said, f"held by {self.name}, tick {tick}")
        except Refused as refused:
            advice = "Let our key create, replace and delete it; or set daemon.lease to 0, and run one reconciler only"
            raise GitFailure(f"{refused}. {advice}") from None

    def _ours(self, said: Said) -> bool:
        """Ours by name is ours, also when another process took it: it is dead, for we have its `seat`."""
        return holder(said.words) == self.name

    def _still(self, said: Said, begun: float) -> bool:
        """Whether it stood still for the whole time. From after the first look to before this one: never too long.

        Who was not looking for that long does not know: it may have gone once around.
        """
        now = self._clock()
        if said != self._seen or begun - self._looked > self.seconds:
            self._seen, self._since = said, now
        self._looked = now
        return begun - self._since >= self.seconds


_WORDS = re.compile(r"held by (.*), tick (\d{1,2})")


def holder(words: str) -> str:
    """Its name; who writes something else into the ref is called by that."""
    found = _WORDS.fullmatch(words)
    return printable(found[1] if found else words) or "somebody without a name"


def ticks(words: str) -> int:
    found = _WORDS.fullmatch(words)
    return int(found[2]) if found else 0


def printable(words: str) -> str:
    return " ".join("".join(c if c.isprintable() else " " for c in words).split())[:200]


# ── who we are ───────────────────────────────────────────────────────────────────────────────────────────────


@contextmanager
def claimed(config: Config) -> Iterator[Lease | None]:
    """The lease that this configuration asks for, None when it wants none; meanwhile its cache is nobody else's."""
    source, ref = config.source, f"refs/leases/{config.status.instance}"
    cache = Path(config.daemon.cache).absolute()
    with seat(cache, f"{source.url} {ref}") as token:
        if not config.daemon.lease:
            yield None
            return
        name = printable(f"{socket.gethostname()}:{cache}"[:150] + f" ({token})")
        shared = SharedRef(source.url, ref, cache / "lease", ssh_command(source.key))
        yield Lease(shared, name, config.daemon.lease)


@contextmanager
def seat(cache: Path, purpose: str) -> Iterator[str]:
    """What tells this cache from any other, for as long as no other process of this machine has it.

    A daemon that was killed goes on at once under the same name when it starts again: with its cache it has the lock
    that the dead one had, so there are never two. The token is for machines and containers that are called alike; it
    goes with the cache, and who lost that waits like anybody else.
    """
    with seated(cache, f"{hashlib.sha256(purpose.encode()).hexdigest()[:16]}.seat") as file:
        yield token(file)


def seated(cache: Path, name: str) -> TextIO:
    """The file, open and locked: the lock ends with it, or with the process."""
    try:
        cache.mkdir(mode=0o700, parents=True, exist_ok=True)
        file = (cache / name).open("a+")
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return file
    except BlockingIOError:
        raise LeaseFailure(
            f"another `reconciler run` works in {cache}: end it, or set daemon.cache to another"
        ) from None
    except OSError as error:
        raise ConfigFailure(f"daemon.cache is {cache}: {error.strerror}") from None


def token(file: TextIO) -> str:
    """Made once, and read from then on."""
    file.seek(0)
    known = file.read(64).strip()
    if not known:
        known = secrets.token_hex(4)
        file.write(f"{known}\n")
        file.flush()
    return known
