"""What it takes to run a program inside a jail: its files in place of the host's, its vnet for the stand-ins.

In: a jail of the state, a command. Out: the command's exit status. Runs in a mount namespace of its own, where each
folder of the jail's root lies over the host's of that name, nullfs mounts followed; programs below /usr stay the
host's, except /usr/local. Must not know jail(8).
"""

import os

from .state import JAIL, load, resolve

OURS = (
    "usr",
    "bin",
    "sbin",
    "lib",
    "lib64",
    "lib32",
    "dev",
    "proc",
    ".machine",
    ".python",
    "libexec",
    "rescue",
    "boot",
)
NEVER_THE_HOSTS = ("etc", "var", "root", "home", "tmp", "jails")
NOTHING = "/.nothing"


def layers(state, root):
    """(folder on the host, place in the jail), parents first."""
    real = resolve(state, root)
    names = [n for n in (os.listdir(real) if os.path.isdir(real) else ()) if n not in OURS]
    inside = {"/" + name for name in names if os.path.isdir(f"{real}/{name}") and not os.path.islink(f"{real}/{name}")}
    if os.path.isdir(f"{real}/usr/local"):
        inside.add("/usr/local")
    inside |= {
        m["on"][len(root) :] for m in state["mounts"] if m["type"] == "nullfs" and m["on"].startswith(root + "/")
    }
    inside = {place for place in inside if place.split("/")[1] not in OURS or place.startswith("/usr/local")}
    found = {place: resolve(state, root + place) for place in inside}
    found |= {f"/{name}": NOTHING for name in NEVER_THE_HOSTS if f"/{name}" not in found}
    return sorted((place, folder) for place, folder in found.items())


def enter(state, jail):
    """Descriptors first: a folder that a layer comes from may itself be under another layer."""
    # here, because ctypes takes a quarter of the time in which most commands are done
    import ctypes

    from .enter import BIND, NEWNS, libc, mount

    if libc.unshare(NEWNS):
        raise OSError(ctypes.get_errno(), "unshare")
    os.makedirs(NOTHING, exist_ok=True)
    opened = [
        (place, os.open(folder, os.O_PATH | os.O_CLOEXEC))
        for place, folder in layers(state, jail["path"].rstrip("/"))
        if os.path.exists(folder)
    ]
    for place, descriptor in opened:
        folder = os.path.isdir(f"/proc/self/fd/{descriptor}")
        if folder and not os.path.exists(place):
            os.makedirs(place, exist_ok=True)
        if os.path.exists(place):
            mount(f"/proc/self/fd/{descriptor}", place, BIND)
    os.chdir("/")


def become(jail, words, environment, say="jexec: execvp: {}: {}\n"):
    """Never returns when the command is there. rc(8) is pretended unless the jail has a real script in its place."""
    from . import boot

    if jail["path"] != "/":
        enter(load(), jail)
    environment = environment | {JAIL: str(jail["jid"])}
    script = words[1] if words[:1] in (["sh"], ["/bin/sh"]) and len(words) > 1 else ""
    if script in boot.PRETENDED and not os.path.exists(script):
        return boot.PRETENDED[script](jail)
    try:
        os.execvpe(words[0], words, environment)
    except OSError as error:
        os.write(2, say.format(words[0], error.strerror).encode())
        return 1
