"""Run as a program: makes a private mount namespace with the pretended host's root, and becomes the command in it.

In: the host's root folder, this package, the interpreter's folder; then the command. Out: that command's output. What
it mounts dies with it. The machine's /usr is at /.machine, read-only; all else is the pretended host's own folder.
Beside the command it leaves a process that answers for most of the stand-ins (ready.py).
"""

import codecs
import ctypes
import os
import sys

NEWNS, RDONLY, REMOUNT, BIND, REC, PRIVATE = 0x20000, 1, 32, 4096, 16384, 1 << 18

libc = ctypes.CDLL(None, use_errno=True)


def mount(source, target, flags):
    kind = None
    if libc.mount(source and os.fsencode(source), os.fsencode(target), kind, flags, None):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), target)


def show(source, target):
    """Read-only; a bind takes that flag only in a second call."""
    mount(source, target, BIND)
    mount(None, target, BIND | REMOUNT | RDONLY)


def enter(root, package, python):
    if libc.unshare(NEWNS):
        raise OSError(ctypes.get_errno(), "unshare")
    mount(None, "/", REC | PRIVATE)
    show("/usr", f"{root}/.machine")
    mount(package, f"{root}/usr/sbin/.code/bsd", BIND)
    show(python, f"{root}/.python")
    for folder in ("/dev", "/proc"):
        mount(folder, root + folder, BIND | REC)
    os.chroot(root)
    os.chdir("/root")


def main():
    root, package, python, *command = sys.argv[1:]
    # codecs are looked for where their package was when Python started
    codecs.lookup("ascii")
    enter(root, package, python)
    # where the standard library is from now on
    sys.path = ["/usr/sbin/.code", *(place.replace(python, "/.python", 1) for place in sys.path)]
    from bsd import ready

    listener, parent = ready.listening(), os.getpid()
    if os.fork() == 0:
        ready.serve(listener, parent)
    os.execv(command[0], command)


if __name__ == "__main__":
    main()
