"""jail(8): creates, changes and removes jails in the order of operations that a real one takes.

In: options, jail.conf(5) or parameters as words. Out: jails, interfaces and mounts in the state; the commands of
exec.* are really run, on the pretended host or in the jail. A step that fails undoes the steps before it, newest
first, except those of exec.* (command.c, next_command). A jail that is not `persist` vanishes when nothing runs in it.
"""

import os

from . import jailconf, mounts, room
from .boot import PRETENDED
from .commands import complain, getopt
from .state import (
    JAIL,
    Failure,
    bury,
    changing,
    find_jail,
    free_index,
    here,
    jail_of,
    load,
    loopback,
    move,
    names,
    resolve,
)

CONF = "/etc/jail.conf"
ALLOW = names("""chflags mlock mount mount.devfs mount.fdescfs mount.linprocfs
    mount.linsysfs mount.nullfs mount.procfs mount.tmpfs mount.zfs mount.fusefs quotas raw_sockets
    read_msgbuf reserved_ports set_hostname socket_af suser sysvipc unprivileged_proc_debug vmm nfsd
    extattr adjtime settime routing""")
KERNEL = names("""path name jid parent persist vnet host host.hostname host.domainname host.hostuuid host.hostid
    securelevel devfs_ruleset children.max children.cur enforce_statfs sysvmsg sysvsem sysvshm osrelease
    osreldate ip4 ip4.addr ip4.saddrsel ip6 ip6.addr ip6.saddrsel cpuset.id zfs zfs.mount_snapshot linux
    linux.osname linux.osrelease linux.oss_version""") + [f"allow.{word}" for word in ALLOW]
PSEUDO = names("""exec.prepare exec.prestart exec.created exec.start exec.poststart exec.prestop exec.stop
    exec.poststop exec.release exec.clean exec.jail_user exec.system_jail_user exec.system_user
    exec.timeout exec.consolelog exec.fib command interface vnet.interface ip_hostname mount mount.fstab
    mount.devfs mount.fdescfs mount.procfs stop.timeout depend allow.dying""")
SHELL = set("!\"$&'()*;<>?[\\]`{|}~")
"""Characters that make jail(8) run a command by the shell (command.c)."""
DEFAULTS = {
    "devfs_ruleset": "0",
    "enforce_statfs": "2",
    "securelevel": "-1",
    "sysvmsg": "disable",
    "sysvsem": "disable",
    "sysvshm": "disable",
    "children.max": "0",
    "host.domainname": "",
    "host.hostid": "0",
    "host.hostname": "",
    "host.hostuuid": "00000000-0000-0000-0000-000000000000",
    "ip4": "inherit",
    "ip6": "inherit",
    "host": "new",
}
ALLOWED = ("reserved_ports", "set_hostname", "suser", "unprivileged_proc_debug")
"""What a jail may do unless it is told otherwise, besides what its parameters say."""


class Aborted(Exception):
    """A step failed; what is to say has been said."""


def quoted(text):
    """As jail -e and jls print a value (jail.c, quoted_print)."""
    if not text:
        return '""'
    quote = '"' if "'" in text else "'" if '"' in text else '"' if " " in text or "\t" in text else ""
    return quote + "".join("\\" + c if c == "\\" or c == quote else c for c in text) + quote


# ── one jail on its way up or down ───────────────────────────────────────────────────────────────────────────


class Work:
    """What jail(8) knows of one jail: its parameters, and how loud to be."""

    def __init__(self, name, parameters, verbose):
        self.name = name
        self.parameters = parameters
        self.verbose = verbose

    def value(self, key, default=None):
        values = self.parameters.get(key)
        return values[-1] if values else default

    def values(self, key):
        return self.parameters.get(key, [])

    def truth(self, key):
        values = self.parameters.get(key)
        return values is not None and (not values or values[-1] in ("true", "1"))

    def warn(self, text):
        complain(f"jail: {self.name}: {text}")

    def note(self, text, least):
        if self.verbose >= least:
            print(f"{self.name}: {text}", flush=True)

    # ── steps ────────────────────────────────────────────────────────────────────────────────────────────

    def run(self, line, inside=False):
        """One command of exec.*, by the shell only where its characters ask for it."""
        background = line.endswith("&") and not SHELL & set(line[:-1])
        words = line.rstrip("&").split() if background or not SHELL & set(line) else ["/bin/sh", "-c", line]
        self.note(f"run command{' in jail' * inside}: {' '.join(words)}", 1)
        status = self.inside(words) if inside else self.outside(words)
        if status < 0:
            self.warn(f"{' '.join(words)}: exited on signal {-status}")
        elif status and not background:
            self.warn(f"{' '.join(words)}: failed")
        if status and not background:
            raise Aborted

    def outside(self, words):
        child = os.fork()
        if child:
            return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        try:
            os.execvpe(words[0], words, self.environment())
        except OSError as error:
            os.write(2, f"jail: {self.name}: exec {words[0]}: {error.strerror}\n".encode())
        os._exit(1)

    def inside(self, words):
        log = self.value("exec.consolelog")
        output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644) if log else None
        jail = find_jail(load(), self.name)
        if jail is None:
            return 1
        child = os.fork()
        if child:
            return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if output is not None:
            os.dup2(output, 1)
            os.dup2(output, 2)
        say = f"jail: {self.name}: exec {{}}: {{}}\n"
        os._exit(room.become(jail, words, self.environment(), say))

    def environment(self):
        if not self.truth("exec.clean"):
            return dict(os.environ)
        clean = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root", "USER": "root", "SHELL": "/bin/sh"}
        return clean | ({JAIL: os.environ[JAIL]} if JAIL in os.environ else {})

    def mount(self, kind, source, target, options, key):
        if not os.path.isdir(resolve(load(), target)):
            self.warn(f"{key}: {target}: No such file or directory")
            raise Aborted
        with changing() as state:
            try:
                mounts.mount(state, kind, source, target, [o for o in options.split(",") if o])
            except Failure as failure:
                complain(failure.message)
                shown = f" -o {options}" if options else ""
                self.warn(f"/sbin/mount -t {kind}{shown} {source} {target}: failed")
                raise Aborted from None

    def unmount(self, target):
        self.note(f"run command: /sbin/umount {target}", 1)
        with changing() as state:
            try:
                mounts.unmount(state, target, force=False)
            except Failure as failure:
                complain(failure.message)

    def mount_lines(self):
        """(key, words) of mount.fstab and mount, in their order."""
        fstab = self.value("mount.fstab")
        lines = []
        if fstab:
            if not os.path.exists(fstab):
                self.warn(f"mount.fstab: {fstab}: No such file or directory")
                raise Aborted
            with open(fstab) as file:
                lines = [("mount.fstab", line.split("#")[0].split()) for line in file]
        lines += [("mount", line.split()) for line in self.values("mount")]
        return [(key, words) for key, words in lines if words]

    def mounting(self, key, words):
        source, target, kind, options = [*words, "", ""][:4]
        return lambda: self.mount(kind, source, target, options, key), lambda: self.unmount(target)

    def mount_devfs(self):
        ruleset = self.value("devfs_ruleset")
        option = f" -oruleset={ruleset}" if ruleset else ""
        self.note(f"run command: /sbin/mount -t devfs{option} . {self.devfs()}", 1)
        self.mount("devfs", "devfs", self.devfs(), f"ruleset={ruleset}" if ruleset else "", "mount.devfs")

    def devfs(self):
        return f"{self.value('path')}/dev"

    def create(self):
        path = self.value("path")
        if path and not os.path.isdir(resolve(load(), path)):
            self.warn(f"path {path}: No such file or directory")
            raise Aborted
        with changing() as state:
            jail = new_jail(state, self)
            state["jails"].append(jail)
            if jail["vnet"]:
                state["interfaces"].append(loopback(jail["jid"], free_index(state, jail["jid"]), up=False))
        shown = " ".join(in_words(self.parameters))
        self.note(f"jail_set(JAIL_CREATE) persist {shown}", 1)
        self.note("created", 0)

    def take_interface(self, name):
        line = f"/sbin/ifconfig {name} vnet {self.name}"
        self.note(f"run command: {line}", 1)
        if self.outside(line.split()):
            self.warn(f"{line}: failed")
            raise Aborted

    def settle(self):
        """The last step of a start: a jail that is not persist and in which nothing runs is gone."""
        with changing() as state:
            jail = find_jail(state, self.name)
            if jail is None:
                return
            jail["persist"] = self.truth("persist")
            self.note(f"jail_set(JAIL_UPDATE) jid={jail['jid']} nopersist", 1 if not jail["persist"] else 9)
            if not jail["persist"] and not jail["processes"]:
                bury(state, jail)

    def remove(self, note=True):
        with changing() as state:
            jail = find_jail(state, self.name)
            if jail is not None and jail["name"] in state["linger"]:
                jail |= {"dying": True, "processes": []}
            elif jail is not None:
                bury(state, jail)
        if note:
            self.note("removed", 0)

    # ── whole ways ───────────────────────────────────────────────────────────────────────────────────────

    def up(self):
        check(self)
        undo = []
        try:
            for do, back in self.steps_up():
                do()
                if back:
                    undo.append(back)
        except Aborted:
            for back in reversed(undo):
                back()
            return 1
        return 0

    def steps_up(self):
        yield from ((lambda c=c: self.run(c), None) for c in self.values("exec.prepare"))
        yield from (self.mounting(key, words) for key, words in self.mount_lines())
        if self.truth("mount.devfs"):
            yield self.mount_devfs, lambda: self.unmount(self.devfs())
        yield from ((lambda c=c: self.run(c), None) for c in self.values("exec.prestart"))
        yield self.create, self.remove
        yield from ((lambda c=c: self.run(c), None) for c in self.values("exec.created"))
        yield from ((lambda i=i: self.take_interface(i), lambda i=i: self.give(i)) for i in self.interfaces())
        for key in ("exec.start", "command"):
            yield from ((lambda c=c: self.run(c, inside=True), None) for c in self.values(key))
        yield from ((lambda c=c: self.run(c), None) for c in self.values("exec.poststart"))
        yield self.settle, None

    def interfaces(self):
        return [name for value in self.values("vnet.interface") for name in value.split(",") if name]

    def give(self, name):
        with changing() as state:
            jail = find_jail(state, self.name)
            for interface in [i for i in state["interfaces"] if jail and i["vnet"] == jail["jid"]]:
                if interface["name"] == name:
                    move(state, interface, 0)

    def down(self, note=True):
        try:
            for line in self.values("exec.prestop"):
                self.run(line)
            for line in self.values("exec.stop"):
                self.run(line, inside=True)
        except Aborted:
            return 1
        if find_jail(load(), self.name) and (find_jail(load(), self.name)["processes"] or self.verbose > 0):
            self.note("sent SIGTERM to: 1106", 1)
        self.remove(note)
        return self.after()

    def after(self):
        """What follows a removal, also one that nobody asked for (jail -C)."""
        try:
            for line in self.values("exec.poststop"):
                self.run(line)
        except Aborted:
            return 1
        if self.truth("mount.devfs"):
            self.unmount(self.devfs())
        for _, words in reversed(self.mount_lines()):
            self.unmount(words[1])
        for line in self.values("exec.release"):
            self.run(line)
        return 0


# ── parameters ───────────────────────────────────────────────────────────────────────────────────────────────


def positive(key):
    head, dot, last = key.rpartition(".")
    return head + dot + last[2:] if last.startswith("no") and key not in KERNEL + PSEUDO else key


def in_words(parameters):
    """As jail_set is told them."""
    for key, values in parameters.items():
        if key not in PSEUDO:
            yield f"{key}={','.join(values)}" if values else "vnet=new" if key == "vnet" else key


def check(work):
    for key in work.parameters:
        if positive(key) not in KERNEL + PSEUDO:
            raise Failure(f"jail: {work.name}: unknown parameter: {key}")
    parent, dot, _ = work.name.rpartition(".")
    if dot and find_jail(load(), parent) is None:
        raise Failure(f'jail: {work.name}: jail "{parent}" not found')
    if work.truth("vnet") and (work.values("ip4.addr") or work.values("ip6.addr")):
        raise Failure(f"jail: {work.name}: vnet jails cannot have IP address restrictions")


def new_jail(state, work):
    jid = (
        int(work.name)
        if work.name.isdigit()
        else next(n for n in range(state["jids"] + 1, 10**6) if jail_of(state, n) is None)
    )
    state["jids"] = max(state["jids"], 0 if work.name.isdigit() else jid)
    jail = {
        "jid": jid,
        "name": work.name,
        "path": (work.value("path") or "/").rstrip("/") or "/",
        "parent": here(),
        "persist": True,
        "dying": False,
        "vnet": work.truth("vnet") or work.value("vnet") == "new",
        "parameters": dict(DEFAULTS),
        "allow": list(ALLOWED),
        "processes": [],
        "started": os.times().elapsed,
    }
    apply(jail, work.parameters)
    return jail


SYSTEM_V = {"allow.sysvipc": "inherit", "allow.nosysvipc": "disable"}


def apply(jail, parameters):
    """`allow.sysvipc` says what of System V is not said by itself (sysv_shm.c)."""
    said = [what for key, what in SYSTEM_V.items() if key in parameters]
    jail["parameters"] |= {name: said[0] for name in ("sysvmsg", "sysvsem", "sysvshm") if said}
    for key, values in parameters.items():
        name = positive(key)
        if name.startswith("allow."):
            word = name.removeprefix("allow.")
            on = name == key and (not values or values[-1] not in ("false", "0"))
            jail["allow"] = [w for w in jail["allow"] if w != word] + [word] * on
        elif name == "persist":
            jail["wanted persist"] = name == key
        elif name in KERNEL and name not in ("path", "name", "jid", "vnet", "parent"):
            jail["parameters"][name] = ",".join(values) if values else ""


# ── the command ──────────────────────────────────────────────────────────────────────────────────────────────

USAGE = """usage: jail [-dhilqv] [-J jid_file] [-u username] [-U username]
            -[cmr] param=value ... [command=command ...]
       jail [-dqv] [-f file] -[cmr] [jail]
       jail [-qv] [-f file] -[rR] ['*' | jail ...]
       jail [-dhilqv] [-J jid_file] [-u username] [-U username]
            [-n jailname] [-s securelevel]
            path hostname [ip[,...]] command ..."""


def read_conf(file):
    try:
        with open(file) as opened:
            return jailconf.parse(opened.read(), file)
    except OSError as error:
        raise Failure(f"jail: {file}: {error.strerror}") from None


def show(jails, names, separator):
    for name, parameters in jails.items():
        if names and name not in names:
            continue
        words = [
            f"{key}={','.join(quoted(v) for v in values)}" if values else key for key, values in parameters.items()
        ]
        print(separator.join(words))
    return 0


def from_words(words):
    """`jail -c name=x path=/y persist`: one jail, on the command line."""
    parameters = {}
    for number, word in enumerate(words):
        key, equals, value = word.partition("=")
        if key == "command":
            parameters["command"] = [" ".join([value, *words[number + 1 :]])]
            break
        parameters[key] = [value] if equals else []
    name = (parameters.get("name") or parameters.get("jid") or ["0"])[-1]
    return {name: {"name": [name]} | parameters}


def start_all(jails, names, verbose):
    status = 0
    for name in with_dependencies(jails, names):
        if find_jail(load(), name):
            if name in names:
                complain(f'jail: "{name}" already exists')
                status = 1
            continue
        try:
            status |= Work(name, jails[name], verbose).up()
        except Failure as failure:
            complain(failure.message)
            status = 1
    return status


def with_dependencies(jails, names):
    done = []

    def visit(name):
        for other in jails[name].get("depend", ()):
            if other in jails and other not in done:
                visit(other)
        if name not in done:
            done.append(name)

    for name in names:
        visit(name)
    return done


def stop_all(jails, names, verbose, note=True, bare=False):
    status = 0
    for name in names:
        jail = find_jail(load(), name)
        if jail is None:
            complain(f'jail: "{name}" not found')
            status = 1
            continue
        parameters = {} if bare else jails.get(jail["name"], {})
        status |= Work(jail["name"], parameters, verbose).down(note)
    return status


def update(jails, names, verbose):
    status = 0
    for name in names:
        with changing() as state:
            jail = find_jail(state, name)
            if jail is None:
                complain(f'jail: "{name}" not found')
                status = 1
                continue
            apply(jail, jails[name])
            jail["persist"] = jail.pop("wanted persist", jail["persist"] and "persist" in jails[name])
        if verbose >= 0:
            print(f"{name}: updated")
    return status


def chosen(jails, names):
    wanted = [n for n in names if n != "*"] or list(jails)
    for name in wanted:
        if name not in jails:
            raise Failure(f'jail: "{name}" not found')
    return wanted


def main(words):
    options, names = getopt(words, "cCde:f:hiJ:ln:mp:qrRs:u:U:v", USAGE, "jail")
    verbose = 1 if "v" in options else -1 if "q" in options else 0
    if not set("cmrReC") & set(options):
        raise Failure(USAGE)
    if any("=" in name for name in names) and "f" not in options:
        jails, names = from_words(names), []
    elif set("rRC") & set(options) and "c" not in options and not os.path.exists(options.get("f", CONF)):
        jails = {}
    else:
        jails = read_conf(options.get("f", CONF))
    if "e" in options:
        return show(jails, chosen(jails, names) if names else [], options["e"])
    if "R" in options or ("r" in options and "c" not in options):
        running = [j["name"] for j in load()["jails"] if not j["dying"]]
        return stop_all(jails, running if names == ["*"] else names, verbose, bare="R" in options)
    return way(options)(jails, chosen(jails, names), verbose)


def way(options):
    if "C" in options:
        return lambda jails, names, verbose: max([Work(n, jails[n], verbose).after() for n in names], default=0)
    if "r" in options:
        return lambda jails, names, verbose: (
            stop_all(jails, names, verbose, note=False) or start_all(jails, names, verbose)
        )
    if "m" in options and "c" not in options:
        return update
    return start_all


COMMANDS = {"jail": main}
__all__ = ["COMMANDS", "PRETENDED", "quoted"]
