"""jexec(8), and the commands about processes: what runs in a pretended jail is a list of names, not processes.

In: words. Out: a command's exit status; processes of jails in the state. `daemon` starts nothing: it adds a name. A
jail that is not persist vanishes when its last process is killed.
"""

import os
import re

from . import room
from .boot import spawn
from .commands import complain, getopt
from .state import JAIL, Failure, bury, changing, find_jail, here, jail_of, load, resolve

CLEAN = {
    "SHELL": "/bin/sh",
    "HOME": "/root",
    "USER": "root",
    "BLOCKSIZE": "K",
    "MAIL": "/var/mail/root",
    "MM_CHARSET": "UTF-8",
    "LANG": "C.UTF-8",
    "PATH": "/sbin:/bin:/usr/sbin:/usr/bin:/usr/local/sbin:/usr/local/bin:/root/bin",
}


def jexec(words):
    options, words = getopt(
        words, "lnu:U:", "usage: jexec [-l] [-u username | -U username] jail [command ...]", "jexec"
    )
    if not words:
        raise Failure("usage: jexec [-l] [-u username | -U username] jail [command ...]")
    jail = find_jail(load(), words[0])
    if jail is None:
        raise Failure(f'jexec: jail "{words[0]}" not found')
    user = options.get("u") or options.get("U")
    if user and user not in users(jail):
        raise Failure(f"jexec: {user}: no such user")
    environment = dict(os.environ)
    if "l" in options:
        environment = CLEAN | {"TERM": os.environ.get("TERM", "su")}
    command = words[1:] or ["/bin/sh"]
    if kills_all(command):
        return end(jail)
    return room.become(jail, command, environment)


def users(jail):
    inside = resolve(load(), jail["path"] + "/etc/passwd")
    with open(inside if os.path.exists(inside) else "/etc/passwd") as file:
        return [line.partition(":")[0] for line in file]


def kills_all(command):
    """Pretended, and never run: a jail's processes are this machine's, which has more of them."""
    text = " ".join(command)
    return "kill" in text and text.endswith(" -1")


def end(jail):
    with changing() as state:
        found = jail_of(state, jail["jid"])
        found["processes"] = []
        vanish(state, found)
    return 0


def vanish(state, jail):
    if not jail["persist"] and not jail["processes"]:
        bury(state, jail)


# ── processes ────────────────────────────────────────────────────────────────────────────────────────────────


def all_processes(state):
    found = [(0, p) for p in state.get("processes", ())]
    return found + [(jail["jid"], p) for jail in state["jails"] for p in jail["processes"]]


def seen(state):
    """Inside a jail only its own are to be seen."""
    return [(jid, p) for jid, p in all_processes(state) if here() in (0, jid)]


PRINTED = {
    "jid": lambda jid, process: str(jid),
    "pid": lambda jid, process: str(process["pid"]),
    "command": lambda jid, process: process["command"],
    "comm": lambda jid, process: process["command"].split()[0].rpartition("/")[2].rstrip(":"),
    "args": lambda jid, process: process["command"],
    "user": lambda jid, process: "root",
}


def ps(words):
    options, _ = getopt([w for w in words if w != "aux"], "acdefhjJ:lmno:O:p:rSTt:uvwxU:A", "usage: ps", "ps")
    state = load()
    columns = [c.partition("=") for c in options.get("o", "pid,command").split(",")]
    found = seen(state)
    if "J" in options:
        jail = find_jail(state, options["J"])
        jid = 0 if options["J"] == "0" else jail["jid"] if jail else -1
        if jid < 0:
            raise Failure(f"ps: Invalid jail name: {options['J']}")
        found = [(j, p) for j, p in found if j == jid]
    if "p" in options:
        found = [(j, p) for j, p in found if str(p["pid"]) in options["p"].split(",")]
    if not all(equals for _, equals, _ in columns):
        print(" ".join(name.upper() for name, _, _ in columns))
    for jid, process in found:
        print(" ".join(PRINTED[name](jid, process) for name, _, _ in columns))
    return 0 if found else 1


def stop(state, jid, process):
    holder = jail_of(state, jid) if jid else state
    holder["processes"].remove(process)
    if jid:
        vanish(state, holder)


def kill(words):
    """A pid that is pretended; any other is this machine's, and the shell's own kill has seen to it."""
    pids = [w for w in words if w.isdigit()]
    signal = next((w[1:] for w in words if w.startswith("-")), "TERM")
    status = 0
    with changing() as state:
        for pid in pids:
            found = [(j, p) for j, p in seen(state) if str(p["pid"]) == pid]
            if not found:
                complain(f"kill: {pid}: No such process")
                status = 1
            elif signal not in ("0", "HUP", "USR1", "1"):
                stop(state, *found[0])
    return status


def matching(words, name):
    options, words = getopt(words, "afF:g:G:iIj:lLM:N:nOoP:qs:St:T:u:U:vx", f"usage: {name}", name)
    state = load()
    found = seen(state)
    if "j" in options:
        jail = find_jail(state, options["j"])
        found = [(j, p) for j, p in found if jail and j == jail["jid"]]
    shown = (lambda p: p["command"]) if "f" in options else (lambda p: PRINTED["comm"](0, p))
    # an extended regular expression (pkill(1))
    test = re.fullmatch if "x" in options else re.search
    return [(j, p) for j, p in found if not words or test(words[0], shown(p))]


def pgrep(words):
    found = matching(words, "pgrep")
    if "-q" not in words:
        for _, process in found:
            print(process["pid"])
    return 0 if found else 1


def pkill(words):
    found = matching(
        [w for w in words if not (w[0] == "-" and w[1:].isalnum() and (w[1:].isdigit() or w[1:].isupper()))], "pkill"
    )
    if any(w in words for w in ("-HUP", "-USR1", "-0")):
        return 0 if found else 1
    with changing() as state:
        for jid, process in found:
            if (jid, process) not in seen(state):
                continue
            child = re.match(r"daemon: .*\[(\d+)\] \(daemon\)$", process["command"])
            stop(state, jid, process)
            # daemon(8) hands what it is ended by on to what it keeps up
            for owner, other in seen(state) if child and "-9" not in words else ():
                if other["pid"] == int(child[1]):
                    stop(state, owner, other)
    return 0 if found else 1


def daemon(words):
    options, command = getopt(
        words, "cfHSp:P:rR:t:u:o:s:l:T:m:C:", "usage: daemon [-cfHrS] command arguments ...", "daemon"
    )
    with changing() as state:
        pids = {"p": spawn(state, here(), " ".join(became(command)))}
        if {"r", "R", "P"} & set(options):
            title = options.get("t") or command[0]
            pids["P"] = spawn(state, here(), f"daemon: {title}[{pids['p']}] (daemon)")
    for key in pids.keys() & set(options):
        with open(options[key], "w") as file:
            file.write(str(pids[key]))
    return 0


def became(command):
    """chroot(8) hands its process over to its command."""
    if command[0].rpartition("/")[2] != "chroot":
        return command
    _, (_, *rest) = getopt(command[1:], "G:g:u:n", "usage: chroot newroot", "chroot")
    return rest


def killall(words):
    return pkill(words)


def chroot(words):
    """Nothing is changed but the words: the folders of a pretended tree hold no programs."""
    _, words = getopt(words, "g:G:nu:", "usage: chroot [-n] [-u user] [-g group] newroot [command]", "chroot")
    if not os.path.isdir(words[0]):
        raise Failure(f"chroot: {words[0]}: No such file or directory")
    os.execvpe(words[1], words[1:], os.environ)


def pwd_mkdb(words):
    options, words = getopt(words, "BCiLNpd:s:u:", "usage: pwd_mkdb [-BCiLNp] [-d directory] file", "pwd_mkdb")
    folder = options.get("d", "/etc")
    with open(words[0]) as file:
        lines = [line.rstrip("\n").split(":") for line in file if line.strip() and not line.startswith("#")]
    if any(len(fields) != 10 for fields in lines):
        raise Failure("pwd_mkdb: corrupted entry")
    plain = ["{0}:*:{2}:{3}:{7}:{8}:{9}".format(*fields) for fields in lines]
    if words[0] != f"{folder}/master.passwd":
        os.replace(words[0], f"{folder}/master.passwd")
    for name, body in (("passwd", "\n".join(plain) + "\n"), ("pwd.db", ""), ("spwd.db", "")):
        if name != "passwd" or "p" in options:
            with open(f"{folder}/{name}", "w") as file:
                file.write(body)
    return 0


def nothing(words):
    return 0


COMMANDS = {
    "jexec": jexec,
    "ps": ps,
    "kill": kill,
    "pkill": pkill,
    "pgrep": pgrep,
    "killall": killall,
    "daemon": daemon,
    "chroot": chroot,
    "pwd_mkdb": pwd_mkdb,
    "procstat": nothing,
    "sockstat": nothing,
}
__all__ = ["COMMANDS", "JAIL"]
