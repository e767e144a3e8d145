"""Where something is in a file: line and column, from 1, of what a pointer names.

In: text, and pointers. Out: places. ruamel.yaml finds them, and decides nothing: its time and its stack grow with
hostile input, so it sees nothing large or deep; in such files a place is guessed. Must not know: what is complained of.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from itertools import islice

from ruamel.yaml import YAML
from ruamel.yaml.nodes import MappingNode, Node, SequenceNode

from reconciler.model import Pointer, Problem

SCANNED, TOKENS = 256 << 10, 20_000
"""What ruamel is given at most, in characters and in (about) tokens: a second or so of its time."""
BOM = "\ufeff"
"""Accepted at the start: YAML 1.2 (5.2) allows it there, and editors on Windows write it without being asked."""


def locate(data: bytes, pointer: Pointer) -> tuple[int, int]:
    """Line and column, from 1, of the key or item that a pointer names, or of its nearest ancestor that is there."""
    return position(data.decode("utf-8", "replace").removeprefix(BOM), pointer, True)


def place(problem: Problem, data: bytes) -> Problem:
    """The Problem with its line and column; one that has them already stays as it is."""
    if problem.line:
        return problem
    line, column = locate(data, problem.pointer)
    return Problem(problem.path, line, column, problem.message, problem.hint, problem.pointer)


def position(text: str, pointer: Pointer, at_key: bool) -> tuple[int, int]:
    node = tree(text)
    if node is None:
        return line_column(text, _guess(text, pointer))
    key = node
    for step in pointer:
        below = _below(node, step)
        if below is None:
            break
        key, node = below
    return mark(key if at_key or not _has_own_place(key, node) else node)


def _below(node: Node, step: str | int) -> tuple[Node, Node] | None:
    """The key and the value that one step leads to; an item of a list is both."""
    if isinstance(node, MappingNode):
        return next(((key, value) for key, value in node.value if key.value == str(step)), None)
    if isinstance(node, SequenceNode) and isinstance(step, int) and step < len(node.value):
        return node.value[step], node.value[step]
    return None


def _has_own_place(key: Node, value: Node) -> bool:
    """Not so a block below its key, an empty value, or an alias, whose node is where its anchor is."""
    empty = value.start_mark.index == value.end_mark.index
    return not empty and value.start_mark.line == key.start_mark.line and value.start_mark.index >= key.start_mark.index


def mark(node: Node) -> tuple[int, int]:
    return node.start_mark.line + 1, node.start_mark.column + 1


def line_column(text: str, offset: int) -> tuple[int, int]:
    return text.count("\n", 0, offset) + 1, offset - text.rfind("\n", 0, offset)


def _small(text: str) -> bool:
    """Whether ruamel may look at it."""
    tokens = sum(text.count(sign) for sign in ("\n", ",", ": ", "- ", "? "))
    return len(text) <= SCANNED and tokens <= TOKENS and text.count("[") + text.count("{") <= TOKENS // 20


def _ruamel() -> YAML:
    yaml = YAML(typ="safe", pure=True)
    yaml.composer.warn_double_anchors = False  # legal YAML; nothing is to be printed about a customer's file
    return yaml


@lru_cache(maxsize=1)
def tree(text: str) -> Node | None:
    """ruamel's nodes, whose marks say where they are; aliases stay unexpanded. None where it cannot or may not look."""
    try:
        return _ruamel().compose(text) if _small(text) else None
    except Exception:  # it decides nothing: what it stumbles over is nobody's mistake
        return None


def mappings(root: Node | None) -> Iterator[list[tuple[Node, Node]]]:
    """The pairs of every mapping, each once, however often an alias leads there."""
    stack, seen = [root] if root else [], set[int]()
    while stack:
        node = stack.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        if isinstance(node, MappingNode):
            yield node.value
            stack.extend(part for pair in node.value for part in pair)
        elif isinstance(node, SequenceNode):
            stack.extend(node.value)


def tagged(text: str) -> Iterator[tuple[str, int, int]]:
    """Every explicit tag, its line and its column, as far as ruamel gets."""
    try:
        for event in _ruamel().parse(text) if _small(text) else ():
            if tag := getattr(event, "tag", None):
                yield str(tag), event.start_mark.line + 1, event.start_mark.column + 1
    except Exception:  # as in tree
        return


def _guess(text: str, pointer: Pointer) -> int:
    """Where a pointer probably leads in a file that ruamel may not look at: the next such key, the n-th line with -."""
    offset = 0
    for step in pointer:
        if isinstance(step, int):
            match = next(islice(re.compile(r"^[ \t]*- +()", re.MULTILINE).finditer(text, offset), step, None), None)
        else:
            match = re.compile(rf"(?<![\w.-])()[\"']?{re.escape(step)}[\"']?[ \t]*:(?=\s|$)").search(text, offset)
        if match is None:
            break
        offset = match.start(1)
    return offset
