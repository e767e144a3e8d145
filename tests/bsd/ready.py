"""Holds the commands' code ready beside a run: a command is a fork of this, and not a start of Python, which takes ten
times as long.

In: a listening socket on loopback, where clients (`host.QUICK`) say their process id. Out: their exit statuses. A fork
takes its client's words, environment, descriptors, folder and mount namespace from /proc, so that it is the client in
all but its process id. A command that becomes another one, or stays, cannot be run like this (`commands.SLOW`).
"""

import contextlib
import ctypes
import os
import signal
import sys
from _socket import AF_INET, SOCK_STREAM, socket

from .commands import MODULES, STATE_ONLY, main

NEWNS, PDEATHSIG, PIDFD_GETFD = 0x20000, 1, 438

libc = ctypes.CDLL(None, use_errno=True)


PORT = "/usr/sbin/.port"
"""Where clients read which port to ask: there as long as the run is, the newest when there are two."""


def listening():
    listener = socket(AF_INET, SOCK_STREAM)
    listener.bind(("127.0.0.1", 0))
    listener.listen(64)
    with open(f"{PORT}.new", "w") as file:
        file.write(f"{listener.getsockname()[1]}\n")
    os.replace(f"{PORT}.new", PORT)
    return listener


def serve(listener, parent):
    """Until whoever forked us ends, who may have done so already."""
    libc.prctl(PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(0)
    null = os.open("/dev/null", os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(null, descriptor)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    for module in MODULES:
        __import__(f"bsd.{module}")
    while True:
        descriptor, _ = listener._accept()
        connection = socket(fileno=descriptor)
        pid = int(connection.recv(16))
        asked = words(pid)[1:]
        if asked and asked[0].rpartition("/")[2] in STATE_ONLY:
            answer_here(connection, pid, asked)
        elif os.fork() == 0:
            answer(connection, pid, asked)
        connection.close()


def answer_here(connection, pid, asked):
    """Without a fork, which is half of what such a command costs: it reads no file but the state, and says little."""
    status = 70
    holder = os.pidfd_open(pid)
    streams = sys.stdout, sys.stderr
    try:
        sys.stdout, sys.stderr = (os.fdopen(taken(holder, theirs), "w") for theirs in (4, 2))
        surround(pid)
        status = main(asked)
        sys.stdout.flush()
        sys.stderr.flush()
    except SystemExit as end:
        status = end.code or 0
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        os.close(holder)
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError):
                stream.close()
        sys.stdout, sys.stderr = streams
        with contextlib.suppress(OSError):
            connection.sendall(b"%d\n" % status)


def answer(connection, pid, asked):
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    status = 70
    try:
        become(pid)
        status = main(asked)
    except SystemExit as end:
        status = end.code or 0
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        connection.sendall(b"%d\n" % status)
        os._exit(0)


def become(pid):
    """Descriptors first: what is opened in the client's namespace stays open in it."""
    root, folder, namespace = (os.open(f"/proc/{pid}/{name}", os.O_RDONLY) for name in ("root", "cwd", "ns/mnt"))
    holder = os.pidfd_open(pid)
    for descriptor, theirs in ((0, 0), (1, 4), (2, 2)):
        try:
            stream = taken(holder, theirs)
            os.dup2(stream, descriptor)
            os.close(stream)
        except OSError:
            os.close(descriptor)
    surround(pid)
    with open(f"/proc/{pid}/status") as file:
        os.umask(int(next(line for line in file if line.startswith("Umask:")).split()[1], 8))
    if os.readlink(f"/proc/{pid}/ns/mnt") != os.readlink("/proc/self/ns/mnt") and libc.setns(namespace, NEWNS):
        raise OSError(ctypes.get_errno(), "setns")
    os.fchdir(root)
    os.chroot(".")
    os.fchdir(folder)
    for descriptor in (root, folder, namespace, holder):
        os.close(descriptor)


def taken(holder, theirs):
    """A descriptor of the client's as one of ours."""
    stream = libc.syscall(PIDFD_GETFD, holder, theirs, 0)
    if stream < 0:
        raise OSError(ctypes.get_errno(), "pidfd_getfd")
    return stream


def surround(pid):
    """With the client's environment."""
    with open(f"/proc/{pid}/environ", "rb") as file:
        entries = [entry.partition(b"=") for entry in file.read().split(b"\0") if entry]
    os.environ.clear()
    os.environb.update({name: value for name, _, value in entries})


def words(pid):
    with open(f"/proc/{pid}/cmdline", "rb") as file:
        return [os.fsdecode(word) for word in file.read().split(b"\0")[:-1]]
