"""What differs, in words that a customer understands, and as the diffs that people read.

In: a Resource, the attributes that differ, what the host's files say. Out: text, without a word of any secret. Pure;
must not know what follows from a difference.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from difflib import unified_diff
from itertools import islice

from reconciler.model import File, Observation, Resource


def words(resource: Resource, differences: tuple[tuple[str, str, str], ...], new: bool, returns: bool) -> str:
    if returns:
        return f"bring back {resource.words}, as it was left"
    if new:
        return f"create {resource.words}"
    files = {file.path for file in resource.files}
    return f"change {resource.words}: {'; '.join(spoken(d, files) for d in differences)}"


def spoken(difference: tuple[str, str, str], files: set[str]) -> str:
    """A file's state is digests: what differs in it is told by the diff, and nothing at all of a secret."""
    attribute, was, want = difference
    if attribute not in files and short(want) != want:
        return f"{attribute} {'something else' if short(was) != was else short(was) or 'missing'}"
    if attribute not in files:
        return f"{attribute} {was or 'missing'} → {want}"
    if not was:
        return f"{attribute} is missing"
    if was.rpartition(" ")[0] != want.rpartition(" ")[0]:
        return f"{attribute} is {was.rpartition(' ')[0]}, not {want.rpartition(' ')[0]}"
    return f"{attribute} differs"


def short(value: str) -> str:
    """Digests are told apart by their first digits."""
    return re.sub(r"\b([0-9a-f]{8})(?:[0-9a-f]{24,}|(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})\b", r"\1", value)


def diffs(resource: Resource, differences: Iterable[tuple[str, str, str]], seen: Observation) -> Iterator[str]:
    differing = {attribute for attribute, _, _ in differences}
    for file in resource.files:
        if file.path in differing and file.path in seen.contents:
            yield from file_diff(file, seen.contents[file.path])


DIFF = 200
"""Lines of a file's diff that are shown: a new list of attackers has thousands."""
LONG = 5000
"""Lines of a file beyond which difflib takes seconds."""


def file_diff(file: File, was: str) -> Iterator[str]:
    if isinstance(file.content, bytes):
        before, after = was.splitlines(), file.content.decode("utf-8", "replace").splitlines()
        if max(len(before), len(after)) > LONG:
            lines = gone_and_new(before, after)
        else:
            lines = unified_diff(before, after, file.path, file.path, n=2, lineterm="")
        yield from (f"{line}\n" for line in islice(lines, DIFF))
        if rest := sum(1 for _ in lines):
            yield f"… and {rest} lines more\n"


def gone_and_new(before: list[str], after: list[str]) -> Iterator[str]:
    """Lines without their surroundings and wherever they stand."""
    had, has = set(before), set(after)
    yield from (f"-{line}" for line in before if line not in has)
    yield from (f"+{line}" for line in after if line not in had)
