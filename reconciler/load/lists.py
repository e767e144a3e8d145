"""A list of addresses, as scripts fetch them: one address or prefix a line, `#` begins a comment.

In: a path where lists live, and bytes. Out: a ListFile with each prefix once, as the rules of firewalls write them, or
Problems with their places. How an address is spelt is not held against whoever publishes it; that something else was
meant than is written is (an address with a length that is not its network's). Must not know: who names the list.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from ipaddress import IPv4Network, IPv6Network
from itertools import islice

from reconciler.load.files import folder_name, misnamed
from reconciler.load.formats import written
from reconciler.load.positions import BOM
from reconciler.load.syntax import undecodable
from reconciler.load.words import MOST, Finding, shown
from reconciler.model import ListFile, Problem
from reconciler.schemas import customer_of

LARGEST = 4 << 20
"""Bytes of a list: the largest file that is read at all."""
ENTRIES = 50_000
"""Of a list: pf takes at most 65,535 addresses of a table (pf(4), net.pf.request_maxcount), and holds 200,000 in all
(pf.conf(5), table-entries), where the old ones stay beside the new until those are loaded."""
LIST_NAME = ("FirewallPolicy", "properties", "spec", "properties", "block", "items")
ENTRY = re.compile(r"[0-9A-Fa-f:.]+(?:/[0-9]{1,3})?")
FORM = "write one address or prefix a line, such as 192.0.2.7 or 2001:db8::/32; # begins a comment"


def listed(path: str, name: str, data: bytes) -> ListFile | tuple[Problem, ...]:
    if len(data) > LARGEST:
        message = f"this list is {len(data):,} bytes long; at most {LARGEST:,} are accepted"
        return (Problem(path, 1, 1, message, "make two lists of it"),)
    try:
        text = data.decode().removeprefix(BOM)
    except UnicodeDecodeError as error:
        return (undecodable(path, data, error.start),)
    customer = customer_of(path)
    if findings := [*folder_name(customer), *_misnamed(name)]:
        return tuple(Problem(path, 1, 1, finding.message, finding.hint) for finding in findings)
    found = dict[str, None]()
    problems = tuple(_read(path, text, found))
    return _told(problems) or ListFile(path, customer, name, tuple(found))


def _misnamed(name: str) -> Iterator[Finding]:
    if name == "any":
        yield Finding((), "a list cannot be called any", "that is everybody where a list is named")
    yield from misnamed("a list", name, LIST_NAME)


def _read(path: str, text: str, found: dict[str, None]) -> Iterator[Problem]:
    """What is wrong; all else is put into `found`."""
    entries = ((number, line) for number, line in enumerate(text.split("\n"), 1) if _entry(line))
    for number, line in islice(entries, ENTRIES):
        entry = _entry(line)
        try:
            found[_prefix(entry)] = None
        except ValueError:
            yield Problem(path, number, line.index(entry) + 1, *_wrong(entry))
    for number, _ in islice(entries, 1):
        message = f"this list has more than {ENTRIES:,} entries"
        yield Problem(path, number, 1, message, "make two lists of it, or write shorter prefixes")


def _entry(line: str) -> str:
    return line.partition("#")[0].strip(" \t\r")


def _prefix(entry: str) -> str:
    """A plain address is a prefix of its own. ValueError for anything else, and for an address with a length."""
    if not ENTRY.fullmatch(entry):
        raise ValueError(entry)  # to Python 192.0.2.0/255.255.255.0 is one as well
    return written(_network(entry))


def _network(entry: str, strict: bool = True) -> IPv6Network | IPv4Network:
    """ip_network would try IPv4 first, and take four times as long for IPv6."""
    return IPv6Network(entry, strict) if ":" in entry else IPv4Network(entry, strict)


def _wrong(entry: str) -> tuple[str, str]:
    """(message, hint)"""
    try:
        right = written(_network(entry, strict=False))
    except ValueError:
        return f"{shown(entry)} is no address and no prefix", FORM
    return f"{shown(entry)} is no prefix", f"write {right}, or {entry.partition('/')[0]} for that address alone"


def _told(problems: tuple[Problem, ...]) -> tuple[Problem, ...]:
    """The first of them, and how many more there are, at the place of the next."""
    if len(problems) <= MOST:
        return problems
    rest = problems[MOST]
    message = f"there are {len(problems) - MOST:,} more problems in this file, from here on"
    return (*problems[:MOST], Problem(rest.path, rest.line, rest.column, message))
