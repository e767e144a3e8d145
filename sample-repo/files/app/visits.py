"""The application of jails without a release: greets, and counts visits in a redis database in another jail.

In: GREETING, DATABASE_HOST, DATABASE_PORT and PASSWORD_FILE from the environment. Without a DATABASE_HOST nothing is
counted. The redis protocol is plain enough to be spoken over a socket: no library is needed.
"""

import os
import pathlib
import socket
import sys
from collections.abc import Callable, Iterable
from typing import Any, BinaryIO

SECONDS = 3.0


def command(*words: bytes) -> bytes:
    """A command in the redis protocol (RESP): an array of strings that carry their lengths."""
    strings = (b"$%d\r\n%s\r\n" % (len(word), word) for word in words)
    return b"*%d\r\n" % len(words) + b"".join(strings)


def reply(stream: BinaryIO) -> bytes:
    """The value of a one-line reply; OSError when the database complains."""
    line = stream.readline(4096).rstrip(b"\r\n")
    if line[:1] not in (b"+", b":"):
        raise OSError(f"the database says: {line.decode(errors='replace') or 'nothing'}")
    return line[1:]


def count() -> int:
    """One more visit; returns how many there were."""
    password = pathlib.Path(os.environ["PASSWORD_FILE"]).read_bytes().rstrip(b"\n")
    address = (os.environ["DATABASE_HOST"], int(os.environ["DATABASE_PORT"]))
    with socket.create_connection(address, SECONDS) as connection, connection.makefile("rb") as stream:
        connection.sendall(command(b"AUTH", password) + command(b"INCR", b"visits"))
        reply(stream)
        return int(reply(stream))


def text() -> str:
    name, greeting = os.environ.get("JAIL_NAME", "?"), os.environ.get("GREETING", "Hello")
    if not os.environ.get("DATABASE_HOST"):
        return f"{greeting} from {name}\n"
    return f"{greeting} from {name}\nvisits: {count()}\n"


def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    try:
        status, body = "200 OK", text()
    except OSError as error:
        print(f"no database: {error}", file=sys.stderr, flush=True)
        status, body = "503 Service Unavailable", "the database does not answer\n"
    content = body.encode()
    start_response(status, [("Content-Type", "text/plain; charset=utf-8"), ("Content-Length", str(len(content)))])
    return [content]
