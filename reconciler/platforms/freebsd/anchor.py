"""Our anchor in the administrator's pf.conf: what has to name it, and what must not stand before it.

In: a HostSpec, or what a probe printed of the ruleset in force. Out: the Resource, and in words what only the
administrator may change. Nothing of theirs is loaded, flushed or enabled by us: without their lines, or with pf off,
our rules are not in force, however well they were loaded. Sources: pf.conf(5), ANCHORS; pfctl_parser.c, print_rule.
Must not know what our rules say.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator

from reconciler.model import File, HostSpec, Manifest, Owned, Resource
from reconciler.platforms.files import ETC, file_digest, file_state
from reconciler.platforms.freebsd import firewall
from reconciler.platforms.freebsd.paths import ANCHOR

FILE = f"{ETC}/pf.anchor"
KEY = f"anchor/1 {ANCHOR}"
WHOLE = "ruleset/1 pf"
LINES = tuple(f'{kind} "{ANCHOR}"' for kind in ("nat-anchor", "rdr-anchor", "anchor"))
"""In the order of pf.conf(5); pfctl prints each with ` all` behind it."""


def resource(spec: HostSpec) -> Resource:
    file = File(FILE, firewall.anchored(spec), 0o600)
    state = {**file_state(file), "kernel": file_digest(file)}
    return Resource(KEY, "", state, (file,), "firewall rules", undo=file.path)


def named(printed: Collection[str]) -> bool:
    return all(f"{line} all" in printed for line in LINES)


def refusals(
    manifest: Manifest, inventory: Iterable[Owned], printed: Collection[str], before: Iterable[str], pf: str
) -> Iterator[str]:
    """`printed`: lines of the ruleset in force that name our anchor; `before`: rules that let packets pass it by.

    While a ruleset of our own is in force it is no reason to stop: the anchor is loaded, and fails, and so its rules
    are there in the moment in which the administrator's ruleset comes.
    """
    if KEY not in {resource.key for resource in manifest.resources}:
        return
    if not named(printed):
        if WHOLE not in {owned.key for owned in inventory}:
            yield f"{unnamed(printed)}. Until then no jail is walled, and nothing is changed here"
    elif pf != "Enabled":
        yield "pf is not enabled: pf_enable=YES in rc.conf and `service pf start` are the administrator's to do"
    else:
        yield from (passed_by(rule) for rule in before)


def unnamed(printed: Collection[str]) -> str:
    lines = ", ".join(f"`{line}`" for line in LINES if f"{line} all" not in printed)
    return (
        f"the pf rules in force do not name our anchor: add {lines} to /etc/pf.conf, the last one before every "
        "`pass quick` there, and load it (`pfctl -f /etc/pf.conf`)"
    )


def passed_by(rule: str) -> str:
    return f"jails are not walled from what this rule lets pass: `{rule}`. Put `{LINES[-1]}` before it in /etc/pf.conf"
