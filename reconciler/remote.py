"""A host over SSH: a script in, its output out. The only importer of fabric.

In: a host's address, port, pinned key and account, and scripts for `sh`. Out: bytes, or RemoteFailure with words for
the status. Scripts run as root, whoever logs in. Connections stay open between calls and are opened again when they
broke. Must not know what the scripts say.
"""

from __future__ import annotations

import logging
import re
import shlex
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import BinaryIO

import fabric
import paramiko
from paramiko.hostkeys import HostKeyEntry

from reconciler.model import Ssh, Trouble

CONNECT, PROBE, APPLY, SEND = 15.0, 120.0, 900.0, 900.0
"""Seconds after which an attempt is given up, whatever came by then. A slow host that has answered at all may take its
time over the keys: three times CONNECT until it has let us in."""
KEEPALIVE = 15
"""Seconds of silence after which we speak: a firewall that has just begun learns of a connection by our packet, and not
by the answer that it drops."""
MOST = 256 << 20
"""Bytes of output beyond which a host is not believed."""

FORBIDDEN, NOBODY_THERE = 1, 2
"""Why a channel was not opened (RFC 4254, 5.1)."""
FORWARDING = "its sshd_config has to allow us local forwarding (AllowTcpForwarding, PermitOpen)"

# bash under sshd reads ~/.bashrc: an environment of our own, and sh by name. A script runs when all of it has arrived.
RUN = "exec /usr/bin/env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C sh -c " + shlex.quote(
    "umask 077; f=$(mktemp /tmp/reconciler.XXXXXX) || exit 97; "
    'cat >"$f" && [ "$(tail -n 1 "$f")" = "# complete" ] && exec sh "$f"; rm -f "$f"; exit 97'
)
RECEIVE = "exec /usr/bin/env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin sh -c "
REFUSED = re.compile(r"(^|[/ ])(sudo|doas): |^Sorry, user ")
"""How the last line of who was not made root begins, in any language; or the shell's, when there is no such program."""


# what it writes to standard error of a connection that broke, with tracebacks, is in our words as well
logging.getLogger("paramiko").setLevel(logging.CRITICAL)


class RemoteFailure(Trouble):
    """What went wrong with a host, in words for people."""


class ScriptFailure(RemoteFailure):
    """A script exited other than 0. `words` is the end of what it said."""

    def __init__(self, name: str, status: int, words: str) -> None:
        super().__init__(f"a script ended with status {status} on {name}: {words}")
        self.words = words


@dataclass(frozen=True, slots=True)
class Credentials:
    """The reconciler's own private key; its agent and default keys are never asked."""

    key: Path


class Remote:
    """One host. Safe to use from one thread at a time; `run` waits its turn.

    `as_root` stands before every command of an account that is not root: it gets one shell, which the rule on the host
    can name, and in it the very command that root would be sent.
    """

    def __init__(self, ssh: Ssh, credentials: Credentials, as_root: str, connect: float = CONNECT) -> None:
        self.ssh, self.credentials, self.as_root = ssh, credentials, as_root
        self._connect = connect
        self._connection: fabric.Connection | None = None
        self._turn = threading.Lock()

    @property
    def name(self) -> str:
        return f"[{self.ssh.address}]:{self.ssh.port}"

    def run(self, script: str, timeout: float = PROBE) -> bytes:
        """Runs a whole script; its standard output. A script that exits other than 0 is a failure."""
        with self._turn:
            return self._execute(RUN, [script.encode()], timeout)

    def dial(self, address: str, port: int, timeout: float) -> paramiko.Channel:
        """A TCP connection that the host makes, without any tool there; OSError where nobody took it. RemoteFailure:
        it was not tried. May be used by several threads at a time."""
        deadline = monotonic() + timeout
        transport = self._connected()
        while True:
            left = max(0.05, deadline - monotonic())
            try:
                return transport.open_channel("direct-tcpip", (address, port), ("::1", 0), timeout=left)
            except paramiko.ChannelException as error:
                if error.code == NOBODY_THERE:
                    raise ConnectionRefusedError from error
                what = "sshd makes no connections for us" if error.code == FORBIDDEN else "sshd cannot connect"
                raise RemoteFailure(f"{what} on {self.name}: {FORWARDING}") from error
            except (OSError, EOFError, paramiko.SSHException) as error:
                if not transport.is_active():
                    raise RemoteFailure(f"the connection to {self.name} broke") from error
                # paramiko keeps one reason for all who wait: another thread may have taken ours
                if monotonic() >= deadline:
                    raise TimeoutError from error

    def _connected(self) -> paramiko.Transport:
        with self._turn:
            if self._connection is None or not self._transport().is_active():
                self._drop()
                self._connection = connect(self.ssh, self.credentials)
            return self._transport()

    def renew(self, timeout: float) -> None:
        """Takes a new connection in place of the kept one, which a firewall may let through for having known it."""
        with self._turn:
            fresh = connect(self.ssh, self.credentials, timeout)
            self._drop()
            self._connection = fresh

    def send(self, source: BinaryIO, path: str) -> None:
        """Writes a file on the host, readable by root only, at once or not at all.

        To `cat` a connection that breaks is the end of the file: it gets its name when all is known to be there. Who
        can no longer be told of it goes, so that attempts do not fill a disk.
        """
        quoted = shlex.quote(path)
        folder = shlex.quote(path.rpartition("/")[0])
        receive = (
            f"umask 077; trap '' PIPE; mkdir -p {folder} && part=$(mktemp {quoted}.XXXXXX) && "
            '{ cat >"$part" && echo "$part" || { rm -f "$part"; exit 1; }; }'
        )
        with self._turn:
            chunks = iter(lambda: source.read(1 << 18), b"")
            part = self._execute(RECEIVE + shlex.quote(receive), chunks, SEND).decode().rstrip("\n")
            self._execute(RECEIVE + shlex.quote(f"mv {shlex.quote(part)} {quoted}"), [], PROBE)

    def stream(self, command: str) -> Iterator[bytes]:
        """The output of a command as it comes, until it ends or the caller stops asking."""
        with self._turn:
            channel = self._session()
            try:
                with at_most(self._connect, self._transport().sock):
                    channel.exec_command(self.raised(command))
                channel.settimeout(None)
                while chunk := channel.recv(1 << 16):
                    yield chunk
                self._check_root(channel.recv_stderr(4096).decode("utf-8", "replace"))
            finally:
                channel.close()

    def close(self) -> None:
        with self._turn:
            self._drop()

    def _execute(self, command: str, chunks: Iterator[bytes] | list[bytes], timeout: float) -> bytes:
        try:
            channel = self._session()
            with at_most(timeout, self._transport().sock):
                channel.exec_command(self.raised(command))
                channel.settimeout(timeout)
                feed(channel, chunks)
                return finish(channel, self.name, monotonic() + timeout)
        except ScriptFailure as failure:
            self._check_root(failure.words)
            raise
        except (OSError, EOFError, paramiko.SSHException) as error:
            self._drop()
            raise RemoteFailure(f"the connection to {self.name} broke: {error or type(error).__name__}") from error

    def raised(self, command: str) -> str:
        """The command as it is sent."""
        if self.ssh.user == "root":
            return command
        return f"exec {self.as_root} /bin/sh -c {shlex.quote(command)}"

    def _check_root(self, said: str) -> None:
        """Who is let in and may not become root hears what is missing, and not how sudo puts it alone."""
        last = said.strip().rpartition("\n")[2]
        if self.ssh.user != "root" and REFUSED.search(last):
            raise RemoteFailure(
                f"{self.name} lets {self.ssh.user} in and not become root ({last[:200]}): "
                f"the host needs the rule for {self.as_root.split()[0]} that README.md gives, or spec.ssh.user be root"
            )

    def _session(self) -> paramiko.Channel:
        """A session on the kept connection, or on a new one when that turns out to be dead."""
        if self._connection is not None:
            try:
                return self._open()
            except (OSError, EOFError, paramiko.SSHException):
                self._drop()
        self._connection = connect(self.ssh, self.credentials, self._connect)
        return self._open()

    def _open(self) -> paramiko.Channel:
        with at_most(2 * self._connect, self._transport().sock):
            return self._transport().open_session(timeout=self._connect)

    def _transport(self) -> paramiko.Transport:
        assert self._connection is not None
        transport: paramiko.Transport | None = self._connection.transport
        if transport is None:
            raise paramiko.SSHException("not connected")
        return transport

    def _drop(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def feed(channel: paramiko.Channel, chunks: Iterator[bytes] | list[bytes]) -> None:
    """Who ends before all has arrived says why: that is to be heard, and not that nobody listened."""
    for chunk in chunks:
        try:
            channel.sendall(chunk)
        except OSError:
            if not channel.exit_status_ready():
                raise
            return
    channel.shutdown_write()


def finish(channel: paramiko.Channel, name: str, deadline: float) -> bytes:
    """All of the output, then the exit status. Standard error is read beside it: unread, it would stop the other."""
    output, errors = bytearray(), bytearray()
    reader = threading.Thread(target=drain, args=(channel, errors), daemon=True)
    reader.start()
    while chunk := channel.recv(1 << 18):
        output += chunk
        if len(output) > MOST or monotonic() > deadline:
            channel.close()
            raise RemoteFailure(f"{name} sent more than {MOST} bytes, or for too long")
    status = channel.recv_exit_status()
    reader.join(CONNECT)
    channel.close()
    if status == -1:
        alive = channel.get_transport().is_active()
        what = f"a script was killed on {name}" if alive else f"the connection to {name} broke"
        raise RemoteFailure(f"{what}; the next pass goes on from there")
    if status != 0:
        words = (errors.strip() or output[-500:]).decode("utf-8", "replace")
        raise ScriptFailure(name, status, words)
    return bytes(output)


def drain(channel: paramiko.Channel, kept: bytearray) -> None:
    """The end of what a script says on standard error."""
    with suppress(OSError):
        while chunk := channel.recv_stderr(1 << 16):
            kept += chunk
            del kept[:-4096]


def connect(ssh: Ssh, credentials: Credentials, timeout: float = CONNECT) -> fabric.Connection:
    """A connection to exactly the host whose key is pinned, or a RemoteFailure that says what to do."""
    name = f"[{ssh.address}]:{ssh.port}"
    try:
        return opened(ssh, credentials, timeout)
    except paramiko.BadHostKeyException as error:
        got = f"{error.key.get_name()} {error.key.get_base64()}"
        raise RemoteFailure(
            f"{name} shows the host key {got}, not the one in its Host document: "
            "if it was reinstalled, correct spec.ssh.hostKey; if not, somebody else is answering"
        ) from error
    except paramiko.AuthenticationException as error:
        raise RemoteFailure(f"{name} does not let the key {credentials.key} in as {ssh.user}") from error
    except (OSError, EOFError, paramiko.SSHException) as error:
        raise RemoteFailure(f"cannot reach {name}: {error or type(error).__name__}") from error


@contextmanager
def at_most(seconds: float, sock: socket.socket) -> Iterator[None]:
    """What waits on this connection within ends by then. paramiko's own bounds begin anew with every byte, and where it
    waits for an answer or for room to send, it has none."""
    ended = threading.Event()

    def end() -> None:
        ended.set()
        with suppress(OSError):
            sock.shutdown(socket.SHUT_RDWR)

    timer = threading.Timer(seconds, end)
    timer.daemon = True
    timer.start()
    try:
        yield
    except (OSError, EOFError, paramiko.SSHException, RemoteFailure) as error:
        if ended.is_set():
            raise TimeoutError(f"it took longer than {seconds:g} s") from error
        raise
    finally:
        timer.cancel()


def opened(ssh: Ssh, credentials: Credentials, timeout: float) -> fabric.Connection:
    sock = plug(ssh, timeout)
    connection = fabric.Connection(
        ssh.address,
        user=ssh.user,
        port=ssh.port,
        config=fabric.Config(lazy=True),
        connect_kwargs={
            "sock": sock,
            "key_filename": str(credentials.key),
            "look_for_keys": False,
            "allow_agent": False,
            "banner_timeout": 3 * timeout,
            "auth_timeout": 3 * timeout,
        },
    )
    try:
        pin(connection.client, ssh)
        with at_most(3 * timeout, sock):
            connection.open()
        connection.transport.set_keepalive(KEEPALIVE)
    except BaseException:
        # fabric closes what it has opened, and no attempt: its thread and socket would stay until they are collected
        connection.client.close()
        raise
    return connection


def plug(ssh: Ssh, timeout: float) -> socket.socket:
    """paramiko never sets TCP_NODELAY: without it every command waits 40 ms."""
    sock = socket.create_connection((ssh.address, ssh.port), timeout=timeout)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


def pin(client: paramiko.SSHClient, ssh: Ssh) -> None:
    """fabric accepts any host key unless told otherwise."""
    kind, _, body = ssh.host_key.partition(" ")
    try:
        entry = HostKeyEntry.from_line(f"host {kind} {body}")
    except (paramiko.SSHException, ValueError):
        entry = None
    if entry is None or entry.key is None:
        raise RemoteFailure(f"the host key in the Host document of {ssh.address} is no key")
    host = ssh.address if ssh.port == 22 else f"[{ssh.address}]:{ssh.port}"
    client.get_host_keys().add(host, kind, entry.key)
    client.set_missing_host_key_policy(paramiko.RejectPolicy())
