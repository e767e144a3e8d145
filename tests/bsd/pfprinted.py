"""Translations and rates in the kernel's own words, as pfctl prints them.

In: words of a line, or the line. Out: lines. What is of no form that is known here stays as it was written.
"""

import re

TRANSLATION = re.compile(
    r"(?P<what>(?:nat|rdr)(?: pass)? on \S+ inet6?(?: proto \S+)?) from (?P<senders>\{.*?\}|\S+) to (?P<to>\S+)"
    r"(?: port (?P<port>\d+))?(?P<tag> tag \S+)? -> (?P<target>\S+)(?P<rest>.*)"
)
NAMED = {22: "ssh", 53: "domain", 80: "http", 123: "ntp", 443: "https", 465: "smtps", 8080: "http-alt"}


def translations(words, shown):
    """As the kernel has them, one for each sender; those of another form as they were written."""
    found = TRANSLATION.fullmatch(" ".join(word.strip('"') for word in words).replace("( ", "(").replace(" )", ")"))
    if not found:
        return [shown]
    port = f" port = {NAMED.get(int(found['port']), found['port'])}" if found["port"] else ""
    # more than one address may be behind the name (DYNIF_MULTIADDR in parse.y)
    turns = " round-robin" if re.search(r"\((?!.*\d:0\))", found["target"]) else ""
    target = f"{found['tag'] or ''} -> {found['target']}{found['rest']}{turns}"
    senders = found["senders"].strip("{ }").split()
    return [f"{found['what']} from {sender} to {found['to']}{port}{target}" for sender in senders]


def with_rate(shown):
    return re.sub(r"keep state \(([^)]*max-src-conn-rate[^)]*)\)", rated, shown)


def rated(found):
    """Options of states in pfctl's order, with those that a rate brings with it (pfctl_parser.c, print_rule)."""
    options = [option.strip() for option in found[1].split(",")]
    seconds = next(o.rpartition("/")[2] for o in options if o.startswith("max-src-conn-rate"))
    last = [option for option in ("if-bound", "sloppy") if option in options]
    kept = [option for option in options if option not in last]
    return f"keep state ({', '.join(['source-track rule', *kept, *last, f'src.track {seconds}'])})"
