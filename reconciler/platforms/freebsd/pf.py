"""Words of pf.conf.

In: names, numbers, addresses, a Jail. Out: each as a ruleset says it, and the tables that lists of addresses became.
What is no address is an error, and no name is more than a name. Source: pf.conf(5). Must not know rules.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from ipaddress import ip_address

from reconciler.model import Jail
from reconciler.platforms.addresses import unscoped
from reconciler.platforms.files import digest

SHORT = 32
"""Addresses of a table that are one line."""


class Groups:
    """Lists of addresses: one stands for itself, more are a table that is named after what it holds."""

    def __init__(self) -> None:
        self._tables: dict[str, list[str]] = {}
        self._named: dict[tuple[str, ...], str] = {}
        """A list may be long, and many rules may name it."""

    def __call__(self, listed: Iterable[str]) -> str:
        entries = tuple(dict.fromkeys(listed))
        if len(entries) == 1:
            return entries[0]
        if entries not in self._named:
            ordered = sorted(entries)
            self._named[entries] = f"t_{digest(' '.join(ordered).encode())[:16]}"
            self._tables[self._named[entries]] = ordered
        return f"<{self._named[entries]}>"

    def definitions(self) -> list[str]:
        return [f"table <{name}> const {below(entries)}" for name, entries in sorted(self._tables.items())]


def below(entries: Sequence[str]) -> str:
    """Many are a line each: a diff then shows which of them came and went."""
    return among(entries) if len(entries) <= SHORT else "{ \\\n" + ", \\\n".join(entries) + " }"


def among(entries: Sequence[str]) -> str:
    return entries[0] if len(entries) == 1 else f"{{ {', '.join(entries)} }}"


def numbers(values: Iterable[int]) -> str:
    return among([str(value) for value in values])


def families(listed: Sequence[str]) -> list[tuple[str, list[str]]]:
    six, four = [x for x in listed if ":" in x], [x for x in listed if ":" not in x]
    return [(family, found) for family, found in (("inet6", six), ("inet", four)) if found]


def addresses(jail: Jail) -> list[str]:
    return [plain(address) for address in jail.nic.addresses]


def plain(address: str) -> str:
    """As numbers say it: whatever else was written there is no address, and an error."""
    return str(ip_address(unscoped(address).partition("/")[0]))


def port(jail: Jail) -> str:
    return quoted(jail.nic.host_side)


def quoted(interface: str, modifier: str = "") -> str:
    """In quotes no name is a keyword, and none has more than a name may."""
    return '"' + re.sub(r"[^A-Za-z0-9_.-]", "?", interface)[:15] + modifier + '"'


def shown(id: str) -> str:
    """Neither quote, nor backslash, nor `$`: pfctl replaces `$if` and others in labels."""
    return re.sub(r"[^A-Za-z0-9_.-]", "?", id)[:50]
