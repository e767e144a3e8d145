"""pfctl: rulesets, tables, anchors and states, as far as a script can tell.

In: words, files of rules. Out: what pfctl says; pf in the state. A ruleset is checked roughly: quotes and braces in
balance, known words at the beginnings of lines, macros defined, sections in order, files of tables there. `-sr` prints
the lines as they were written, macros put in, not in the kernel's own words, but for anchors, translations and rates;
packets and counters are none.
"""

import sys
import time

from .commands import complain, getopt
from .state import Failure, changing, here, load, names, packed, resolve, visible

SECTIONS = {
    "set": 1,
    "scrub": 2,
    "match": 2,
    "altq": 3,
    "queue": 3,
    "nat": 4,
    "rdr": 4,
    "binat": 4,
    "no": 4,
    "nat-anchor": 4,
    "rdr-anchor": 4,
    "binat-anchor": 4,
    "pass": 5,
    "block": 5,
    "antispoof": 5,
    "anchor": 5,
}
FREE = ("table", "load", "include")
"""They may stand anywhere."""
ORDER = "Rules must be in order: options, normalization, queueing, translation, filtering"
SERVICES = names(
    """ssh http https http-alt domain smtp imap imaps pop3 ntp submission ftp postgresql mysql snmp syslog"""
)
NO_ALTQ = "No ALTQ support in kernel\nALTQ related functions disabled"
COUNTERS = names("""match bad-offset fragment short normalize memory bad-timestamp congestion ip-option proto-cksum
    state-mismatch state-insert state-limit src-limit synproxy map-failed""")


# ── rulesets ─────────────────────────────────────────────────────────────────────────────────────────────────


class Rules:
    """A ruleset that was read: tables, translation and filter rules, macros put in; `faults` are what pfctl says."""

    def __init__(self, name, text):
        self.name = name
        self.faults = []
        self.macros = {}
        self.tables = {}
        self.options = []
        self.nat = []
        self.rules = []
        self.section = 0
        for number, line in logical(text):
            if self.faults:
                break
            self.statement(number, line)
        if not self.faults and text and not text.endswith("\n"):
            self.fault(text.count("\n") + 1, "syntax error")

    def fault(self, number, text):
        self.faults.append(f"{self.name}:{number}: {text}")

    def statement(self, number, line):
        words = tokens(line)
        if words is None:
            return self.fault(number, "syntax error")
        if len(words) > 2 and words[1] == "=" and words[0].replace("_", "a").isalnum():
            self.macros[words[0]] = " ".join(w.strip('"') for w in words[2:])
            return None
        for word in words:
            name = word[1:].partition(":")[0]
            if word.startswith("$") and name not in self.macros:
                self.fault(number, f"macro '{name}' not defined")
                return self.fault(number, "syntax error")
        line = self.put_in(line)
        words = tokens(line) or []
        if words[0] not in SECTIONS and words[0] not in FREE:
            return self.fault(number, "syntax error")
        return self.keep(number, line, words)

    def put_in(self, line):
        for name in sorted(self.macros, key=len, reverse=True):
            line = line.replace("$" + name, self.macros[name])
        return line

    def keep(self, number, line, words):
        first = words[0]
        section = SECTIONS.get(first, 0)
        if section and section < self.section:
            return self.fault(number, ORDER)
        self.section = max(section, self.section)
        if first == "table":
            return self.table(number, line, words)
        if first in ("pass", "block", "match", "nat", "rdr"):
            self.check_rule(number, words)
        shown = " ".join(line.split())
        if first.endswith("anchor") and not {"all", "from", "to"} & set(words):
            # print_fromto in pfctl_parser.c: what says nothing of addresses is for all
            shown += " all"
        if first in ("nat", "rdr") and "->" not in words:
            return self.fault(number, "translation rule requires '-> address'")
        if section == 4:
            self.nat += printed().translations(words, shown)
        elif first == "set":
            self.options.append(shown)
        elif section:
            self.rules.append(printed().with_rate(shown) if "max-src-conn-rate" in words else shown)
        return None

    def table(self, number, line, words):
        name = words[1].strip("<>") if len(words) > 1 and words[1].startswith("<") else ""
        if not name:
            return self.fault(number, "syntax error")
        if len(name) > 31:
            return self.fault(number, "table name too long, max 31 chars")
        table = {"flags": [w for w in words if w in ("persist", "const", "counters")], "addresses": None}
        if "file" in words:
            path = words[words.index("file") + 1].strip('"')
            try:
                table["addresses"] = addresses_of(resolve(load(), path))
            except OSError as error:
                return self.fault(number, f'cannot load "{path}": {error.strerror}')
        if "{" in line:
            inner = line[line.index("{") + 1 : line.rindex("}")].replace(",", " ").split()
            table["addresses"] = (table["addresses"] or []) + inner
        for address in table["addresses"] or ():
            if not is_address(address) and address not in names_of_interfaces():
                complain(f"no IP address found for {address}")
                return self.fault(number, "could not parse host specification")
        self.tables[name] = table
        return None

    def check_rule(self, number, words):
        for at, word in enumerate(words):
            before = words[at - 1] if at else ""
            if before in ("from", "to") and plain_name(word) and word not in names_of_interfaces():
                complain(f"no IP address found for {word}")
                return self.fault(number, "could not parse host specification")
            if before == "port" and word.isalpha() and word not in SERVICES:
                return self.fault(number, f"unknown port {word}")
            if before == "label" and len(word.strip('"')) > 63:
                return self.fault(number, "rule label too long (max 63 chars)")
        return None


def printed():
    """Only for those who need it: `re` doubles the time that a command takes."""
    from . import pfprinted

    return pfprinted


def plain_name(word):
    return (
        word not in ("any", "port", "all", "no-route", "urpf-failed", "route", "self")
        and word[0].isalpha()
        and not is_address(word)
    )


def names_of_interfaces():
    names = {i["name"] for i in visible(load(), 0)}
    return names | {name + part for name in names for part in (":network", ":0", ":broadcast", ":peer")} | {"self"}


def is_address(word):
    text, _, length = word.lstrip("!").partition("/")
    family = "inet6" if ":" in text else "inet"
    return packed(family, text) is not None and (not length or length.isdigit())


def logical(text):
    """(number of its last line, statement): comments away, backslashes and open braces joined."""
    held, number = "", 0
    for line in text.split("\n"):
        number += 1
        held += without_comment(line)
        if held.endswith("\\"):
            held = held[:-1] + " "
            continue
        if held.count("{") > held.count("}") and number < text.count("\n"):
            held += " "
            continue
        if held.strip():
            yield number, held.strip()
        held = ""


def without_comment(line):
    quoted = False
    for at, character in enumerate(line):
        if character == '"':
            quoted = not quoted
        elif character == "#" and not quoted:
            return line[:at]
    return line


def tokens(line):
    """Words, with quoted strings and <tables> whole; None when quotes or braces do not match."""
    found, at = [], 0
    while at < len(line):
        character = line[at]
        if character in " \t,":
            at += 1
            continue
        if character in '"<' and line.find('"' if character == '"' else ">", at + 1) > 0:
            end = line.index('"' if character == '"' else ">", at + 1) + 1
        elif character == '"':
            return None
        elif character in "{}()=":
            end = at + 1
        else:
            end = next((i for i in range(at, len(line)) if line[i] in ' \t,{}()="'), len(line))
        found.append(line[at:end])
        at = max(end, at + 1)
    return found if found.count("{") == found.count("}") and found.count("(") == found.count(")") else None


def addresses_of(path):
    with open(path) as file:
        return [word for line in file for word in line.split("#")[0].split()]


def read_rules(file, options):
    name = "stdin" if file == "-" else file
    if file == "-":
        text = sys.stdin.read()
    else:
        try:
            with open(file) as opened:
                text = opened.read()
        except OSError as error:
            raise Failure(
                f"pfctl: {file}: {error.strerror}\npfctl: cannot open the main config file!: {error.strerror}"
            ) from None
    macros = "".join(f'{d.partition("=")[0]} = "{d.partition("=")[2]}"\n' for d in options.get("D", ()))
    return Rules(name, text) if not macros else Rules(name, macros + text)


# ── the kernel's side ────────────────────────────────────────────────────────────────────────────────────────


def device(state):
    if "pf" not in state["modules"]:
        raise Failure("pfctl: /dev/pf: No such file or directory")
    if here():
        raise Failure("pfctl: /dev/pf: No such file or directory")


def put(state, rules, anchor):
    """One transaction, tables included; a table that is defined without addresses keeps its own. With -a it is that of
    the anchor, without options and scrub (pfctl.c, main: loadopt), and leaves the main ruleset as it is, and the other
    way round; an anchor is there as soon as it is named (pf_ruleset.c, pf_kanchor_setup).

    Tables of the rules before stay until these are freed (pf_ioctl.c, pf_unlink_rule and pf_free_rule): here, until
    they were listed once.
    """
    pf = state["pf"]
    home = pf["anchors"].setdefault(anchor, new_anchor()) if anchor else pf
    home |= {"rules": [r for r in rules.rules if not anchor or not r.startswith("scrub")], "nat": rules.nat}
    if not anchor:
        pf["options"] = rules.options
    kept = {n: t for n, t in home["tables"].items() if "persist" in t["flags"] and n not in rules.tables}
    kept |= left_behind(home, {*rules.tables, *kept})
    for name, table in rules.tables.items():
        old = home["tables"].get(name, {"addresses": []})["addresses"]
        given = old if table["addresses"] is None else table["addresses"]
        since = {address: at for address, at in times(home["tables"].get(name, {})).items() if address in given}
        kept[name] = {"flags": table["flags"], "addresses": in_order(given), "since": since}
    home["tables"] = kept
    settle_anchors(pf)


def new_anchor():
    return {"rules": [], "nat": [], "tables": {}}


def settle_anchors(pf):
    """Those that are named are there; those that nobody names are, as long as anything is in them
    (pf_ruleset.c, pf_remove_if_empty_kruleset)."""
    named = {tokens(rule)[1].strip('"') for rule in [*pf["nat"], *pf["rules"]] if "anchor " in rule.partition('"')[0]}
    full = {name: one for name, one in pf["anchors"].items() if name in named or any(one.values())}
    pf["anchors"] = {name: new_anchor() for name in named if "*" not in name} | full


def left_behind(pf, staying):
    """The tables without `persist`, when the rules that name them go: marked, and still there."""
    return {n: t | {"leaving": True} for n, t in pf["tables"].items() if n not in staying}


def times(table):
    """Address → when it came."""
    return table.get("since", {})


def in_order(addresses):
    def key(address):
        text = address.lstrip("!").partition("/")[0]
        return ":" in text, packed("inet6" if ":" in text else "inet", text) or b""

    return sorted(dict.fromkeys(addresses), key=key)


def load_rules(options):
    rules = read_rules(options["f"], options)
    for fault in rules.faults:
        complain(fault)
    if rules.faults:
        quiet = "n" in options or (rules.faults[-1].endswith("syntax error") and options["f"] == "-" and "n" in options)
        raise Failure("" if quiet else "pfctl: Syntax error in config file: pf rules not loaded")
    if "n" in options:
        if "v" in options:
            print("\n".join([*rules.options, *rules.nat, *rules.rules]))
        return
    with changing() as state:
        device(state)
        put(state, rules, options.get("a"))


# ── what is shown ────────────────────────────────────────────────────────────────────────────────────────────


def anchor_of(state, options):
    name = options.get("a")
    if not name:
        return state["pf"]
    if name not in state["pf"]["anchors"]:
        raise Failure("pfctl: DIOCGETRULES: Invalid argument", 0)
    return state["pf"]["anchors"][name]


def info(state):
    pf = state["pf"]
    elapsed = int(time.time()) - pf.get("since", 0) if pf["enabled"] else 0
    status = f"Enabled for 0 days 00:{elapsed // 60 % 60:02d}:{elapsed % 60:02d}" if pf["enabled"] else "Disabled"
    print(f"Status: {status:<37} Debug: Urgent\n\nState Table                          Total             Rate")
    print(f"  current entries              {len(pf.get('states', ())):>11}               ")
    for name in ("searches", "inserts", "removals"):
        print(f"  {name:<28} {0:>11}            0.0/s")
    print("Counters")
    for name in COUNTERS:
        print(f"  {name:<28} {0:>11}            0.0/s")


def show_rules(state, options, key):
    for number, rule in enumerate(anchor_of(state, options)[key]):
        print(f"@{number} {rule}" if options.get("v", 0) > 1 else rule)
        if "v" in options:
            print("  [ Evaluations: 0         Packets: 0         Bytes: 0           States: 0     ]")
            print("  [ Inserted: uid 0 pid 2121 State Creations: 0     ]")


def label_of(rule):
    words = tokens(rule)
    return words[words.index("label") + 1].strip('"') if "label" in words else None


def show_labels(state, options):
    for rule in anchor_of(state, options)["rules"]:
        label = label_of(rule)
        if label:
            print(f"{label} 0 0 0 0 0 0 0 0")


def show_anchors(state, options):
    under = options.get("a")
    for name in sorted(state["pf"]["anchors"]):
        if not under or name.startswith(under + "/"):
            print(f"  {name}")


def show_tables(state, options):
    home = anchor_of(state, options)
    for name in sorted(home["tables"]):
        print(name)
    home["tables"] = {n: t for n, t in home["tables"].items() if not t.get("leaving")}


def show_interfaces(state, options):
    groups = {group for i in visible(state, 0) for group in i["groups"]}
    print("\n".join(sorted({"all", *groups, *(i["name"] for i in visible(state, 0))})))


def show_states(state, options):
    for one in state["pf"].get("states", ()):
        print(one["text"])


def show_memory(state, options):
    for name, limit in (("states", 100000), ("src-nodes", 10000), ("frags", 5000), ("table-entries", 200000)):
        print(f"{name:<13} hard limit {limit:>8}")


def show_all(state, options):
    print("TRANSLATION RULES:")
    show_rules(state, options, "nat")
    print("\nFILTER RULES:")
    show_rules(state, options, "rules")
    print("\nINFO:")
    info(state)


SHOWN = {
    "rules": lambda state, options: show_rules(state, options, "rules"),
    "nat": lambda state, options: show_rules(state, options, "nat"),
    "info": lambda state, options: info(state),
    "labels": show_labels,
    "Anchors": show_anchors,
    "Tables": show_tables,
    "Interfaces": show_interfaces,
    "states": show_states,
    "memory": show_memory,
    "all": show_all,
    "Sources": lambda state, options: None,
    "queue": lambda state, options: None,
    "Running": lambda state, options: None,
}


def whole(word, table):
    """pfctl takes any beginning of these words; the first in the table wins."""
    for name in table:
        if name.startswith(word):
            return table[name]
    raise Failure(f"pfctl: Unknown show modifier '{word}'")


# ── tables ───────────────────────────────────────────────────────────────────────────────────────────────────


def table_command(state, options, words):
    verb, name = options["T"], options.get("t", "")
    pf, anchor = state["pf"], options.get("a")
    if anchor and verb in ("add", "replace"):
        pf["anchors"].setdefault(anchor, new_anchor())
    tables = (pf["anchors"].get(anchor, new_anchor()) if anchor else pf)["tables"]
    if name not in tables and verb not in ("add", "replace"):
        # pfctl's own errno is gone by then.
        raise Failure("pfctl: Unknown error: -1." if verb == "show" else "pfctl: Table does not exist.", 255)
    addresses = words if verb == "expire" else given(words, options)
    return TABLE[verb](tables, name, addresses, options)


def given(words, options):
    for word in words:
        if not is_address(word):
            complain(f"no IP address found for {word}")
            raise Failure("", 255)
    return list(words) + (addresses_of(options["f"]) if options.get("f") else [])


def writable(tables, name):
    table = tables.setdefault(name, {"flags": ["persist"], "addresses": []})
    if "const" in table["flags"]:
        raise Failure("pfctl: Operation not permitted.", 255)
    return table


def table_show(tables, name, addresses, options):
    for address in tables[name]["addresses"]:
        print(f"   {address}")
        if "v" in options:
            print(f"\tCleared:     {time.strftime('%a %b %e %H:%M:%S %Y')}")
    return 0


def table_add(tables, name, addresses, options):
    table = writable(tables, name)
    new = [a for a in dict.fromkeys(addresses) if a not in table["addresses"]]
    table["addresses"] = in_order(table["addresses"] + new)
    table["since"] = times(table) | dict.fromkeys(new, int(time.time()))
    return said(options, f"{len(new)}/{len(addresses)} addresses added.")


def table_delete(tables, name, addresses, options):
    table = writable(tables, name)
    gone = [a for a in addresses if a in table["addresses"]]
    table["addresses"] = [a for a in table["addresses"] if a not in gone]
    return said(options, f"{len(gone)}/{len(addresses)} addresses deleted.")


def table_replace(tables, name, addresses, options):
    table = writable(tables, name)
    old, table["addresses"] = table["addresses"], in_order(addresses)
    new = [a for a in table["addresses"] if a not in old]
    gone = [a for a in old if a not in table["addresses"]]
    lines = [f"{len(new)} addresses added."] * bool(new) + [f"{len(gone)} addresses deleted."] * bool(gone)
    return said(options, "\n".join(lines or ["no changes."]))


def table_flush(tables, name, addresses, options):
    table = writable(tables, name)
    count, table["addresses"] = len(table["addresses"]), []
    return said(options, f"{count} addresses deleted.")


def table_kill(tables, name, addresses, options):
    del tables[name]
    return said(options, "1 table deleted.")


def table_expire(tables, name, addresses, options):
    table = writable(tables, name)
    seconds, now = int(addresses[0]), int(time.time())
    gone = [a for a in table["addresses"] if now - times(table).get(a, now) > seconds]
    count, table["addresses"] = len(table["addresses"]), [a for a in table["addresses"] if a not in gone]
    return said(options, f"{len(gone)}/{count} addresses expired.")


def table_test(tables, name, addresses, options):
    found = [a for a in addresses if any(inside(a, entry) for entry in tables[name]["addresses"])]
    said(options, f"{len(found)}/{len(addresses)} addresses match.")
    return 0 if len(found) == len(addresses) else 2


def inside(address, entry):
    text, _, length = entry.partition("/")
    family = "inet6" if ":" in text else "inet"
    one, other = packed(family, address), packed(family, text)
    if one is None:
        return False
    bits = len(other) * 8
    shift = bits - int(length or bits)
    return int.from_bytes(one, "big") >> shift == int.from_bytes(other, "big") >> shift


def said(options, text):
    if "q" not in options:
        complain(text)
    return 0


TABLE = {
    "show": table_show,
    "add": table_add,
    "delete": table_delete,
    "replace": table_replace,
    "flush": table_flush,
    "kill": table_kill,
    "expire": table_expire,
    "test": table_test,
    "zero": lambda tables, name, addresses, options: said(options, "0/0 addresses have been cleared."),
}


# ── the command ──────────────────────────────────────────────────────────────────────────────────────────────


def enable(state, on):
    device(state)
    if state["pf"]["enabled"] == on:
        raise Failure("pfctl: pf already enabled" if on else "pfctl: pf not enabled")
    state["pf"] |= {"enabled": on, "since": int(time.time())}
    complain("pf enabled" if on else "pf disabled")


def flush(state, what, options):
    """`-F all` with -a clears what an anchor has, and no more; without it, nothing that is in anchors (pfctl.c)."""
    pf = state["pf"]
    home = pf["anchors"].setdefault(options["a"], new_anchor()) if options.get("a") else pf
    lines = []
    if what in ("all", "rules"):
        home["rules"] = []
        home["tables"] |= left_behind(home, {n for n, t in home["tables"].items() if "persist" in t["flags"]})
        lines.append("rules cleared")
    if what in ("all", "nat"):
        home["nat"] = []
        lines.append("nat cleared")
    if what in ("all", "Tables"):
        lines.append(f"{len(home['tables'])} tables deleted.")
        home["tables"] = {}
    settle_anchors(pf)
    if options.get("a") and what == "all":
        return said(options, "\n".join(lines))
    if what in ("all", "states"):
        lines.append(f"{len(pf.get('states', ()))} states cleared")
        pf["states"] = []
    if what in ("all", "Sources"):
        lines.append("source tracking entries cleared")
    if what in ("all", "info"):
        lines.append("pf: statistics cleared")
    if what in ("all", "osfp") and what != "all":
        lines.append("OS fingerprints cleared")
    if what in ("all", "Reset"):
        lines.append("pf: interface flags reset")
    return said(options, "\n".join(lines))


def kill_states(state, options):
    """`-k label -k X` or addresses; the state of a test is {"text", "label", "source"}."""
    first, second = (options["k"] + [""])[:2]
    states = state["pf"].get("states", [])
    if first == "label":
        gone = [s for s in states if s.get("label") == second]
    else:
        gone = [s for s in states if inside(s.get("source", "0.0.0.0"), first) or first in ("0.0.0.0/0", "::/0")]
    state["pf"]["states"] = [s for s in states if s not in gone]
    state["pf"]["killed"].append([first, second])
    whence = "" if first == "label" else " from 1 sources and 0 destinations"
    return said(options, f"killed {len(gone)} states{whence}")


def pfctl(words):
    options, rest = parse(words)
    if "n" in options or ("f" in options and "T" not in options):
        if "n" not in options:
            device(load())
        load_rules(options)
    with changing() as state:
        if "n" in options:
            return 0
        device(state)
        if "v" in options:
            complain(NO_ALTQ)
        if "T" in options:
            return table_command(state, options, rest)
        if "F" in options:
            flush(
                state,
                next(
                    n
                    for n in ("all", "rules", "nat", "states", "Sources", "info", "Tables", "osfp", "queue", "Reset")
                    if n.startswith(options["F"])
                ),
                options,
            )
        if "k" in options or "K" in options:
            kill_states(state, options | {"k": options.get("k") or options["K"]})
        for letter, on in (("e", True), ("d", False)):
            if letter in options:
                enable(state, on)
        if "s" in options:
            whole(options["s"], SHOWN)(state, options)
    return 0


def parse(words):
    """-k, -K, -D and -v may come more than once."""
    repeated = {"k": [], "K": [], "D": []}
    kept = []
    words = list(words)
    verbose = 0
    while words:
        word = words.pop(0)
        if word in ("-k", "-K", "-D"):
            repeated[word[1]].append(words.pop(0))
            continue
        if word.startswith("-") and word[1:].replace("v", "").replace("q", "") == "" and len(word) > 1:
            verbose += word.count("v")
        elif word.startswith("-") and "v" in word and word.partition("f")[0].lstrip("-").replace("v", "").isalpha():
            verbose += word.partition("s")[0].partition("f")[0].count("v")
        kept.append(word)
    options, rest = getopt(kept, "a:AdD:eF:f:ghi:K:k:mMnNOo:Pp:qRrs:t:T:vx:z", "usage: pfctl", "pfctl")
    if "v" in options:
        options["v"] = max(verbose, 1)
    return options | {letter: values for letter, values in repeated.items() if values}, rest


COMMANDS = {"pfctl": pfctl}
