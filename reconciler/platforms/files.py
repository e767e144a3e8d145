"""Where our things are on every host, and how files become attributes of a state. Knows no Part."""

from __future__ import annotations

import hashlib

from reconciler.model import File, Secret

ETC = "/etc/reconciler"
STATE = "/var/lib/reconciler"
NETWORK = f"{ETC}/network"


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def file_digest(file: File) -> str:
    """Of a secret with its salt: the digest of a short password is as good as the password."""
    if isinstance(file.content, Secret):
        return digest(file.content.salt.encode() + file.content.value)
    return digest(file.content)


def file_state(*files: File) -> dict[str, str]:
    """Path → what is compared: kind, mode, owner, and what is in it."""
    return {file.path: described(file) for file in files}


def described(file: File) -> str:
    if file.kind == "l":
        assert isinstance(file.content, bytes)
        return f"link to {file.content.decode()}"
    if file.kind == "d":
        return f"directory {file.mode:04o} {file.owner}"
    return f"{file.mode:04o} {file.owner} {file_digest(file)}"
