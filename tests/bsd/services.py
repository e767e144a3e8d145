"""service, sysrc, rcorder and pw: rc.conf, the scripts of rc.d, users.

In: words, the files below /etc. Out: what they print. A script below /usr/local/etc/rc.d is really run, by a small
rc.subr of our own only when it does not bring what it needs; pf, jail, syslogd and others of the base are pretended.
"""

import os
import sys

from .boot import rc_conf
from .commands import complain
from .jls import jls
from .state import Failure, changing, find_jail, here, jail_of, load, names

CONF = "/etc/rc.conf"
DEFAULTS = {
    "jail_enable": "NO",
    "jail_list": "",
    "jail_conf": "/etc/jail.conf",
    "jail_parallel_start": "NO",
    "jail_reverse_stop": "NO",
    "pf_enable": "NO",
    "pf_rules": "/etc/pf.conf",
    "pf_flags": "",
    "pflog_enable": "NO",
    "sshd_enable": "NO",
    "syslogd_enable": "YES",
    "syslogd_flags": "-s",
    "cron_enable": "YES",
    "devd_enable": "YES",
    "cloned_interfaces": "",
    "kld_list": "",
    "gateway_enable": "NO",
    "ipv6_gateway_enable": "NO",
    "ipv6_defaultrouter": "NO",
    "defaultrouter": "NO",
    "hostname": "",
    "zfs_enable": "NO",
    "devfs_system_ruleset": "",
    "devfs_load_rulesets": "YES",
    "rctl_enable": "YES",
    "sendmail_enable": "NO",
    "rc_conf_files": "/etc/rc.conf /etc/rc.conf.local",
}
BASE = names("""sysctl hostid zpool zvol zfsbe zfs cleanvar kldxref ip6addrctl rctl netif
    resolv devfs pf pflog jail cron sshd syslogd routing bridge kld hostname local newsyslog motd
    securelevel""")


# ── sysrc ────────────────────────────────────────────────────────────────────────────────────────────────────


def check_conf(path, status=1, tail="\nsysrc: Exiting due to previous syntax errors"):
    """A shell reads the file at each call, so a broken one breaks everything."""
    if not os.path.exists(path):
        return
    with open(path) as file:
        lines = file.read().split("\n")
    junk = ""
    for line in lines:
        name, equals, _ = line.partition("=")
        if equals and not name.replace("_", "a").isalnum() and not name.startswith("#") and name.strip():
            junk = "{}: {}: not found\n".format(path, line.replace('"', ""))
    if "\n".join(lines).count('"') % 2:
        said = f"{path}: {len([line for line in lines if line])}: Syntax error: Unterminated quoted string"
        raise Failure(f"{junk * (status == 2)}{said}{tail}", status)


def effective(files):
    found = dict(DEFAULTS)
    for path in files:
        found |= rc_conf(path)
    return found


def lines_of(path):
    if not os.path.exists(path):
        return []
    with open(path) as file:
        return file.read().splitlines()


def set_variable(path, name, new):
    try:
        lines = lines_of(path)
        kept = [at for at, line in enumerate(lines) if line.startswith(f"{name}=")]
        line = f'{name}="{new}"'
        if kept:
            lines[kept[-1]] = line
        else:
            lines.append(line)
        with open(path, "w") as file:
            file.write("\n".join(lines) + "\n")
    except OSError as error:
        raise Failure(f"/usr/sbin/sysrc: cannot create {path}: {error.strerror}") from None


def expanded(value):
    """What a shell makes of a value between double quotes; `$(command)` and a quote inside end it."""
    return "" if "$(" in value or '"' in value else value


def combined(old, operator, value):
    items = old.split()
    if operator == "+=":
        return " ".join(items + [w for w in value.split() if w not in items])
    return " ".join(w for w in items if w not in value.split()) if operator == "-=" else value


class Sysrc:
    def __init__(self, words):
        self.flags = set()
        self.file = None
        self.root = ""
        words = list(words)
        while words and words[0].startswith("-"):
            word = words.pop(0)
            for letter in word[1:]:
                if letter in "fRj":
                    setattr(self, {"f": "file", "R": "root", "j": "jail"}[letter], words.pop(0))
                    continue
                self.flags.add(letter)
        if hasattr(self, "jail"):
            found = find_jail(load(), self.jail)
            if found is None:
                raise Failure(f'jexec: jail "{self.jail}" not found')
            self.root = found["path"]
        self.words = words
        self.path = self.file or f"{self.root}{CONF}"

    def run(self):
        if not self.file:
            check_conf(self.path)
        known = effective([self.path] if self.file else [self.path, self.path + ".local"])
        if self.flags & {"a", "A"}:
            return self.all()
        status = 0
        for word in self.words:
            try:
                self.one(word, known)
            except Failure as failure:
                if failure.message:
                    complain(failure.message)
                status = 1
        return status

    def all(self):
        found = rc_conf(self.path)
        for name in sorted(found):
            print(found[name] if "n" in self.flags else f"{name}: {found[name]}")
        return 0

    def one(self, word, known):
        name, equals, value = word.partition("=")
        operator = "="
        if equals and name[-1:] in "+-":
            name, operator = name[:-1], name[-1] + "="
        if "x" in self.flags:
            return self.remove(name)
        if not equals:
            return self.print_one(name, known)
        old = known.get(name, "")
        new = combined(old, operator, value)
        if "c" in self.flags:
            if new != old:
                raise Failure("")
            return None
        set_variable(self.path, name, new)
        if "-" in name:
            print(f"{name}: {name.partition('-')[2]} -> {name.partition('-')[2]}")
        elif "q" not in self.flags:
            print(f"{name}: {old} -> {expanded(new)}")
        known[name] = new
        return None

    def remove(self, name):
        found = rc_conf(self.path)
        if name not in found:
            raise Failure(f"sysrc: unknown variable '{name}'")
        kept = [line + "\n" for line in lines_of(self.path) if not line.startswith(f"{name}=")]
        with open(self.path, "w") as file:
            file.write("".join(kept))

    def print_one(self, name, known):
        if name not in known:
            raise Failure("" if "q" in self.flags else f"sysrc: unknown variable '{name}'")
        value = expanded(known[name])
        print(value if "n" in self.flags else f"{name}: {value}")


def sysrc(words):
    return Sysrc(words).run()


# ── service ──────────────────────────────────────────────────────────────────────────────────────────────────

VERBS = ("start", "stop", "restart", "status", "reload", "check", "rcvar", "enabled", "poll")
PREFIXES = ("one", "force", "fast", "quiet")
SERVED = {
    "pf": ("start", "stop", "restart", "status", "reload", "check", "resync"),
    "jail": ("start", "stop", "restart", "status"),
    "netif": ("start", "stop", "restart", "cloneup", "clonedown"),
    "routing": ("start", "stop", "restart"),
    "devfs": ("start", "restart"),
    "rctl": ("start", "stop", "reload"),
}
EXTRA = {
    "netif": "cloneup|clonedown|clear|vnetup|vnetdown",
    "routing": "options|static",
    "syslogd": "reload|status|poll",
}
ALWAYS = ("netif", "routing", "devfs", "syslogd", "rctl", "hostname", "sysctl", "kld", "newsyslog", "local")


def split_verb(word):
    for prefix in PREFIXES:
        if word.startswith(prefix) and word != prefix:
            return prefix, word[len(prefix) :]
    return "", word


def service(words):
    words = list(words)
    if words[:1] == ["-j"]:
        jail = find_jail(load(), words[1])
        if jail is None:
            raise Failure(f'jexec: jail "{words[1]}" not found')
        os.execvp("jexec", ["jexec", jail["name"], "service", *words[2:]])
    if words[:1] in (["-e"], ["-r"], ["-l"]):
        return listed(words[0])
    if len(words) < 2:
        raise Failure("usage: service [-j <jail name or id>] [-v] [-E var=value] <rc.d script> start|stop|etc.")
    name, (prefix, verb) = words[0], split_verb(words[1])
    local = f"/usr/local/etc/rc.d/{name}"
    if os.access(local, os.X_OK):
        os.execv(local, [local, *words[1:]])
    if name not in BASE:
        print(f"{name} does not exist in /etc/rc.d or the local startup")
        print("directories (/usr/local/etc/rc.d), or is not executable")
        return 1
    check_conf(CONF, status=2, tail="")
    return base(name, prefix, verb, words[2:])


def listed(letter):
    conf = effective([CONF, CONF + ".local"])
    for name in BASE:
        if letter != "-e" or name in ALWAYS or conf.get(f"{name}_enable", "NO").upper() == "YES":
            print(f"/etc/rc.d/{name}")
    folder = "/usr/local/etc/rc.d"
    for name in sorted(os.listdir(folder)) if os.path.isdir(folder) else ():
        print(f"{folder}/{name}")
    return 0


def base(name, prefix, verb, rest):
    conf = effective([CONF, CONF + ".local"])
    known = (*SERVED.get(name, ("start", "stop", "restart", "status", "reload", "configtest")), "rcvar", "enabled")
    if verb not in known:
        raise Failure(f"/etc/rc.d/{name}: unknown directive '{verb}'.\n{usage(name)}")
    enabled = name in ALWAYS or conf.get(f"{name}_enable", "NO").upper() == "YES"
    if verb == "enabled":
        return 0 if enabled else 1
    if not enabled and prefix not in ("one", "force") and verb != "rcvar":
        print(
            f"Cannot '{verb}' {name}. Set {name}_enable to YES in /etc/rc.conf or use 'one{verb}' instead of '{verb}'."
        )
        return 0
    special = SPECIAL.get((name, verb))
    if special:
        return special(conf, rest) or 0
    return plain(name, verb)


def usage(name):
    words = "start|stop|restart|rcvar|enable|disable|delete|enabled|describe|extracommands"
    return f"Usage: /etc/rc.d/{name} [fast|force|one|quiet]({words}|{EXTRA.get(name, 'status|poll')})"


def plain(name, verb):
    """A daemon of the base: its name is in the list of the host or of the jail."""
    with changing() as state:
        jail = jail_of(state, here())
        running = [p["command"].split("/")[-1].split()[0] for p in jail["processes"]] if jail else state["services"]
        pids = {name: 499, "cron": 1707}
        if verb == "status":
            if name not in running:
                raise Failure(f"{name} is not running.")
            pid = next((p["pid"] for p in jail["processes"] if name in p["command"]), 0) if jail else pids[name]
            print(f"{name} is running as pid {pid}.")
        elif verb in ("start", "restart") and not jail:
            print(f"Starting {name}.")
            state["services"] = [s for s in state["services"] if s != name] + [name]
        elif verb == "stop" and not jail:
            state["services"] = [s for s in state["services"] if s != name]
            print(f"Stopping {name}.")
        elif verb in ("reload", "configtest") and name == "sshd":
            print("Performing sanity check on sshd configuration.")
    return 0


def call(*words):
    """Another stand-in, in its own process: (status, what it said on stderr)."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.dup2(write, 2)
        os.execvp(words[0], list(words))
    os.close(write)
    said = b""
    while True:
        piece = os.read(read, 65536)
        if not piece:
            break
        said += piece
    os.close(read)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), said.decode()


def say(text):
    print(text, flush=True)


# ── pf ───────────────────────────────────────────────────────────────────────────────────────────────────────


def pf_start(conf, rest):
    rules = conf["pf_rules"]
    if not os.path.exists(rules):
        raise Failure(f"/etc/rc.d/pf: WARNING: {rules} is not readable.")
    with changing() as state:
        state["modules"] += ["pf"] * ("pf" not in state["modules"])
    say("Enabling pf.")
    # It begins with -F all, so a broken file leaves no rules at all, and pf is enabled all the same.
    call("pfctl", "-F", "all")
    status, said = call("pfctl", "-f", rules)
    if status:
        sys.stderr.write(f"{said}/etc/rc.d/pf: WARNING: Unable to load {rules}.\n")
    if not load()["pf"]["enabled"]:
        call("pfctl", "-eq")


def pf_stop(conf, rest):
    if "pf" not in load()["modules"]:
        complain("pfctl: /dev/pf: No such file or directory")
    elif load()["pf"]["enabled"]:
        say("Disabling pf.")
        call("pfctl", "-dq")


def pf_status(conf, rest):
    if "pf" in load()["modules"]:
        os.execvp("pfctl", ["pfctl", "-s", "info"])
    print("pf.ko is not loaded")
    return 1


def pf_check(conf, rest):
    say("Checking pf rules.")
    os.execvp("pfctl", ["pfctl", "-nf", conf["pf_rules"]])


def pf_reload(conf, rest):
    say("Reloading pf rules.")
    status, said = call("pfctl", "-nf", conf["pf_rules"])
    if status:
        raise Failure(said.rstrip("\n"))
    os.execvp("pfctl", ["pfctl", "-f", conf["pf_rules"]])


def pf_restart(conf, rest):
    pf_stop(conf, rest)
    pf_start(conf, rest)


# ── jail ─────────────────────────────────────────────────────────────────────────────────────────────────────


def conf_of(name):
    for path in (f"/etc/jail.{name}.conf", f"/etc/jail.conf.d/{name}.conf", "/etc/jail.conf"):
        if os.path.exists(path):
            return path
    return None


def jail_start(conf, rest):
    sys.stdout.write("Starting jails:")
    for name in rest or conf["jail_list"].split():
        path = conf_of(name)
        if path is None:
            sys.stdout.flush()
            complain(
                f"/etc/rc.d/jail: WARNING: Invalid configuration for {name}  "
                f"(no jail.conf, no hostname, or no path).   Jail {name} was ignored."
            )
            continue
        sys.stdout.flush()
        status, said = quietly("jail", "-f", path, "-c", name)
        sys.stdout.write(f' cannot start jail  "{name}": \n{said}' if status else f" {name}")
    print(".")


def quietly(*words):
    """rc.d/jail keeps what jail says in a file, and shows it when the start failed."""
    out = os.dup(1)
    null = os.open("/dev/null", os.O_WRONLY)
    os.dup2(null, 1)
    status, said = call(*words)
    os.dup2(out, 1)
    return status, said


def jail_stop(conf, rest):
    sys.stdout.write("Stopping jails:")
    sys.stdout.flush()
    for name in rest or [jail["name"] for jail in reversed(load()["jails"])]:
        if find_jail(load(), name) is None:
            continue
        path = conf_of(name)
        quietly("jail", *(("-f", path) if path else ()), "-r", name)
        sys.stdout.write(f" {name}")
    print(".", flush=True)


def jail_status(conf, rest):
    jls(["-N"])


def jail_restart(conf, rest):
    jail_stop(conf, rest)
    jail_start(conf, rest)


# ── the rest ─────────────────────────────────────────────────────────────────────────────────────────────────


def routing_restart(conf, rest):
    """The host's way out is gone for a moment: scripts should not do this."""
    gateway = conf["defaultrouter"]
    lines = [("host 127.0.0.1", "lo0"), ("net default", gateway), ("host ::1", "lo0")]
    lines += [(f"net {place}", "::1") for place in ("fe80::", "ff02::", "::ffff:0.0.0.0", "::0.0.0.0")]
    for verb in ("delete", "add"):
        for what, through in lines:
            print(f"{verb} {what}: gateway {through}")


def clone_up(conf, rest):
    """Skips an interface that is there by its first name, so after a renaming it would make it again."""
    made = []
    for name in conf["cloned_interfaces"].split():
        state = load()
        if any(i["name"] == name for i in state["interfaces"]):
            continue
        if call("ifconfig", name, "create")[0] == 0:
            made.append(name)
    if made:
        print(f"Created clone interfaces: {' '.join(made)}.")


def netif_start(conf, rest):
    for name in rest:
        new = conf.get(f"ifconfig_{name}_name")
        if new:
            os.waitpid(os.posix_spawnp("ifconfig", ["ifconfig", name, "name", new], os.environ), 0)
        for suffix, words in (("", []), ("_ipv6", [])):
            value = conf.get(f"ifconfig_{name}{suffix}")
            if value:
                call("ifconfig", name, *words, *value.split(), *(["up"] if not suffix else []))
    say(f"Starting Network: {' '.join(rest)}.")
    for name in rest:
        os.waitpid(os.posix_spawnp("ifconfig", ["ifconfig", name], os.environ), 0)


def netif_stop(conf, rest):
    with changing() as state:
        for interface in state["interfaces"]:
            if interface["name"] in rest:
                interface |= {"addresses": [], "up": False}
    say(f"Stopping Network: {' '.join(rest)}.")
    for name in rest:
        os.waitpid(os.posix_spawnp("ifconfig", ["ifconfig", name], os.environ), 0)


def devfs_restart(conf, rest):
    """/etc/devfs.rules: [name=number] and `add` lines; a $name stands for a number."""
    numbers = {
        "devfsrules_hide_all": "1",
        "devfsrules_unhide_basic": "2",
        "devfsrules_unhide_login": "3",
        "devfsrules_jail": "4",
        "devfsrules_jail_vnet": "5",
    }
    if not os.path.exists("/etc/devfs.rules"):
        return
    with open("/etc/devfs.rules") as file, changing() as state:
        number = None
        for line in (raw.split("#")[0].strip() for raw in file):
            if line.startswith("["):
                name, _, number = line.strip("[]").partition("=")
                numbers[name] = number
                state["devfs"][number] = []
            elif line.startswith("add ") and number:
                words = [numbers.get(w[1:], w) if w.startswith("$") else w for w in line.split()[1:]]
                state["devfs"][number].append(" ".join(words))


def rctl_stop(conf, rest):
    with changing() as state:
        state["rctl"] = []


SPECIAL = {
    ("pf", "start"): pf_start,
    ("pf", "stop"): pf_stop,
    ("pf", "restart"): pf_restart,
    ("pf", "status"): pf_status,
    ("pf", "check"): pf_check,
    ("pf", "reload"): pf_reload,
    ("jail", "start"): jail_start,
    ("jail", "stop"): jail_stop,
    ("jail", "restart"): jail_restart,
    ("jail", "status"): jail_status,
    ("routing", "restart"): routing_restart,
    ("netif", "cloneup"): clone_up,
    ("netif", "start"): netif_start,
    ("netif", "stop"): netif_stop,
    ("devfs", "restart"): devfs_restart,
    ("devfs", "start"): devfs_restart,
    ("rctl", "stop"): rctl_stop,
}


# ── rcorder, pw ──────────────────────────────────────────────────────────────────────────────────────────────


def rcorder(words):
    """By PROVIDE, REQUIRE and BEFORE; files without them keep their place."""
    files = [w for w in words if not w.startswith("-")]
    provides, needs = {}, {path: set() for path in files}
    heads = {path: keywords(path) for path in files}
    for path, head in heads.items():
        for name in head["PROVIDE"]:
            provides[name] = path
    for path, head in heads.items():
        needs[path] |= {provides[n] for n in head["REQUIRE"] if n in provides}
        for name in head["BEFORE"]:
            if name in provides:
                needs[provides[name]].add(path)
    done = []

    def visit(path, above=()):
        if path in above:
            complain(f"rcorder: Circular dependency on file `{path}'.")
            return
        for other in sorted(needs[path] - set(done)):
            visit(other, (*above, path))
        if path not in done:
            done.append(path)

    for path in files:
        visit(path)
    print("\n".join(done))
    return 0


def keywords(path):
    found = {"PROVIDE": [], "REQUIRE": [], "BEFORE": [], "KEYWORD": []}
    with open(path) as file:
        for line in file:
            key, _, value = line.removeprefix("# ").partition(":")
            if line.startswith("# ") and key in found:
                found[key] += value.split()
    return found


def pw(words):
    """user and group: add, mod, del, show; -R or -V for a tree that is not the host's."""
    words = list(words)
    root = ""
    while words and words[0] in ("-R", "-V"):
        root = words[1] if words[0] == "-R" else ""
        words = words[2:]
    verb = words.pop(0)
    if words and not words[0].startswith("-") and verb in ("user", "group"):
        verb += words.pop(0)
    name = words.pop(0) if words and not words[0].startswith("-") else ""
    options = {}
    while words:
        key = words.pop(0)
        options[key] = words.pop(0) if words and not words[0].startswith("-") else ""
    return PW[verb](root, name or options.get("-n", ""), options)


def entries(root, file):
    return [line.split(":") for line in lines_of(f"{root}/etc/{file}")]


def save(root, file, lines):
    os.makedirs(f"{root}/etc", exist_ok=True)
    with open(f"{root}/etc/{file}", "w") as out:
        out.write("".join(":".join(fields) + "\n" for fields in lines))


def user_add(root, name, options):
    users = entries(root, "master.passwd")
    if any(u[0] == name for u in users):
        raise Failure(f"pw: login name `{name}' already exists", 65)
    uid = options.get("-u") or str(max([1000, *(int(u[2]) for u in users if 1000 < int(u[2]) < 60000)]) + 1)
    if any(u[2] == uid for u in users) and "-o" not in options:
        raise Failure(f"pw: uid `{uid}' has already been allocated", 65)
    groups = entries(root, "group")
    gid = options.get("-g", uid)
    gid = next((g[2] for g in groups if g[0] == gid), gid)
    if not any(g[2] == gid for g in groups):
        save(root, "group", [*groups, [name, "*", gid, ""]])
    shell, home = options.get("-s", "/bin/sh"), options.get("-d", f"/home/{name}")
    fields = [name, "*", uid, gid, "", "0", "0", options.get("-c", "User &"), home, shell]
    save(root, "master.passwd", [*users, fields])
    passwd = [[*u[:4], *u[7:]] for u in [*users, fields] if len(u) == 10]
    save(root, "passwd", [[u[0], "*", *u[2:]] for u in passwd])
    if "-m" in options:
        os.makedirs(root + home, exist_ok=True)
    return 0


def user_del(root, name, options):
    users = entries(root, "master.passwd")
    if not any(u[0] == name for u in users):
        raise Failure(f"pw: no such user `{name}'", 67)
    save(root, "master.passwd", [u for u in users if u[0] != name])
    save(root, "passwd", [u for u in entries(root, "passwd") if u[0] != name])
    save(root, "group", [g for g in entries(root, "group") if g[0] != name])
    return 0


def user_show(root, name, options):
    for fields in entries(root, "master.passwd"):
        if fields[0] == name:
            print(":".join(fields))
            return 0
    raise Failure(f"pw: no such user `{name}'", 67)


def group_add(root, name, options):
    groups = entries(root, "group")
    if any(g[0] == name for g in groups):
        raise Failure(f"pw: group name `{name}' already exists", 65)
    gid = options.get("-g") or str(max([1000, *(int(g[2]) for g in groups if 1000 < int(g[2]) < 60000)]) + 1)
    save(root, "group", [*groups, [name, "*", gid, options.get("-M", "")]])
    return 0


def group_show(root, name, options):
    for fields in entries(root, "group"):
        if fields[0] == name:
            print(f"{fields[0]}:*:{fields[2]}:{fields[3]}")
            return 0
    raise Failure(f"pw: unknown group `{name}'", 67)


def group_del(root, name, options):
    groups = entries(root, "group")
    if not any(g[0] == name for g in groups):
        raise Failure(f"pw: unknown group `{name}'", 67)
    save(root, "group", [g for g in groups if g[0] != name])
    return 0


PW = {
    "useradd": user_add,
    "userdel": user_del,
    "usershow": user_show,
    "groupadd": group_add,
    "groupshow": group_show,
    "groupdel": group_del,
    "usermod": lambda root, name, options: user_show(root, name, options) and 0,
    "groupmod": lambda root, name, options: 0,
    "lock": user_show,
}
COMMANDS = {"service": service, "sysrc": sysrc, "rcorder": rcorder, "pw": pw}
