"""A host that keeps us waiting, wherever: each attempt ends within its bound, in words, and the next one is new.

In: an SSH server of our own that does what it is asked, and before it a relay that lets so many bytes through and then
falls silent, drips, or no longer listens: what a frozen machine, a tarpit and a firewall that loses packets look like
from here. No time is measured: what has no bound ends the test.
"""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import paramiko
import pytest

from reconciler.model import Ssh
from reconciler.remote import Credentials, Remote, RemoteFailure

SCRIPT = "true\n" * 100_000
"""More than fits into what lies between us."""
SOON = 0.3
PATIENT = 60.0
ALL = os.environ.get("RECONCILER_KILLS") == "all"
PARTS = 48 if ALL else 12
WAITS = [
    *(("silent", part) for part in (range(PARTS) if ALL else (0, 2, 5, 8, 11))),
    *(("drips", part) for part in (range(PARTS) if ALL else (0, 6))),
    *(("deaf", part) for part in (range(PARTS * 3 // 4, PARTS - 5) if ALL else (10,))),
]
"""What happens after how many parts of what is said; RECONCILER_KILLS=all (`make faults`) tries each."""


class Obedient(paramiko.ServerInterface):
    """Lets everybody in; of every command it takes all of its input, and says one word."""

    def get_allowed_auths(self, username: str) -> str:
        return "publickey"

    def check_auth_publickey(self, username: str, key: paramiko.PKey) -> int:
        return int(paramiko.AUTH_SUCCESSFUL)

    def check_channel_request(self, kind: str, chanid: int) -> int:
        return int(paramiko.OPEN_SUCCEEDED)

    def check_channel_exec_request(self, channel: paramiko.Channel, command: bytes) -> bool:
        threading.Thread(target=self.answer, args=(channel,), daemon=True).start()
        return True

    def answer(self, channel: paramiko.Channel) -> None:
        with suppress(OSError, EOFError):
            while channel.recv(1 << 16):
                pass
            channel.sendall(b"well\n")
            channel.send_exit_status(0)
            channel.close()


class Host:
    """Listens on loopback. `how` and `after` say when a connection goes wrong, `said` how much was said on the last."""

    def __init__(self, folder: Path) -> None:
        self.key = paramiko.ECDSAKey.generate()
        paramiko.ECDSAKey.generate().write_private_key_file(str(folder / "id"))
        self.folder, self.how, self.after, self.said = folder, "", 0, 0
        self.listener = socket.create_server(("::1", 0), family=socket.AF_INET6)
        threading.Thread(target=self.serve, daemon=True).start()

    def remote(self, seconds: float) -> Remote:
        ssh = Ssh("::1", self.listener.getsockname()[1], f"{self.key.get_name()} {self.key.get_base64()}")
        return Remote(ssh, Credentials(self.folder / "id"), "", seconds)

    def serve(self) -> None:
        with suppress(OSError):
            while True:
                outer, _ = self.listener.accept()
                inner, far = socket.socketpair()
                transport = paramiko.Transport(far)
                transport.add_server_key(self.key)
                transport.start_server(threading.Event(), Obedient())
                self.said = 0
                for pair in ((inner, outer), (outer, inner)):
                    threading.Thread(target=self.pass_on, args=(*pair, pair[0] is inner), daemon=True).start()

    def pass_on(self, source: socket.socket, target: socket.socket, told: bool) -> None:
        """Never closes a connection: whoever waits on it would be told."""
        with suppress(OSError):
            while data := source.recv(1 << 12):
                if not told and self.how == "deaf" and self.said >= self.after:
                    return
                left = self.after - self.said if told and self.how in ("silent", "drips") else len(data)
                target.sendall(data[: max(left, 0)])
                self.said += len(data[: max(left, 0)]) if told else 0
                for byte in data[max(left, 0) :]:
                    if self.how == "silent":
                        return
                    time.sleep(SOON / 6)
                    target.sendall(bytes([byte]))


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    host = Host(tmp_path)
    yield host
    host.listener.close()


def attempt(folder: Path, how: str, part: int, whole: int) -> str:
    """What a run says that goes wrong after so many parts of the whole, on a host of its own."""
    folder.mkdir()
    host = Host(folder)
    host.how, host.after = how, whole * part // PARTS
    remote = host.remote(SOON)
    try:
        return remote.run(SCRIPT, timeout=SOON).decode()
    except RemoteFailure as failure:
        host.how = ""
        assert host.remote(PATIENT).run(SCRIPT, timeout=PATIENT) == b"well\n"
        return f"failed: {failure}"
    finally:
        remote.close()
        host.listener.close()


def test_a_host_that_falls_silent_drips_or_is_deaf_at_any_point_is_given_up(host: Host, tmp_path: Path) -> None:
    assert host.remote(PATIENT).run(SCRIPT, timeout=PATIENT) == b"well\n"
    whole = host.said - 250  # the last of it says that nothing more will come
    with ThreadPoolExecutor(6) as pool:
        runs = [pool.submit(attempt, tmp_path / f"{how}{part}", how, part, whole) for how, part in WAITS]
    said = {waits: run.result() for waits, run in zip(WAITS, runs, strict=True)}
    assert {waits: words for waits, words in said.items() if not words.startswith("failed: ")} == {}
    words = {words.partition(" [")[0] for words in said.values()}
    # how far a connection comes in so short a time is the machine's doing
    assert words <= {"failed: cannot reach", "failed: the connection to"}
    assert "failed: cannot reach" in words
