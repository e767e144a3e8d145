"""Archives as files: there as a whole or not at all, and known by a digest.

In: a path. Out: a file to write to, which takes its place when all went well; the digest of what is there; and the
failure that says why an archive is not. Must not know where archives come from, nor what is in them.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from reconciler.model import Trouble

BLOCK = 64 << 10


class FetchFailure(Trouble):
    """An archive that cannot be had or cannot be trusted; the message says which, why, and how to mend it."""


@contextlib.contextmanager
def replacing(target: Path, mode: int) -> Iterator[BinaryIO]:
    """A file that takes the target's place when all went well, so that nobody ever sees half of it."""
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=".part-", dir=target.parent)
    try:
        with os.fdopen(handle, "w+b") as file:
            yield file
        os.chmod(name, mode)
        os.replace(name, target)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def sha256(path: Path) -> str:
    """The digest of what is really there, since a cache entry may be damaged; "" when there is nothing."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return ""
