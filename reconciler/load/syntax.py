"""Words for what the parser found: where ryaml stops, and YAML that it lets pass and that means nothing here.

In: text that ryaml rejects, and its message. Out: Problems in words that tell a customer what to type. ryaml stops at
the first mistake; keys that are there twice are all told. Must not know: schemas.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from ruamel.yaml.nodes import Node, ScalarNode

from reconciler.load.positions import line_column, mappings, mark, tagged, tree
from reconciler.load.words import MOST, printable, shown
from reconciler.model import Problem

INDENT = "check the indentation: keys that belong together begin in the same column"
QUOTE = "put the text in quotes"
BEGINS = 'text that begins with : is put in quotes, such as "::/0"; a comma or bracket too many is removed'
SYNTAX = (
    # (a part of ryaml's message, the words, how to mend, whether the place is where the thing began)
    ("recursion limit exceeded", "lists or mappings are nested too deeply here", "at most 128 levels", False),
    ("repetition limit exceeded", "the aliases (*name) unfold to far too much", "write out what they stand for", False),
    ("invalid type: integer", "this number is too large", "if it is text, put it in quotes", False),
    ("invalid value", "the tag in front of this does not fit it", "remove the tag (!!…)", False),
    ("unknown anchor", "nothing above is called by this alias", "text that begins with * has to be in quotes", False),
    ("while scanning an alias", "text cannot begin with * unless it is in quotes", QUOTE, True),
    ("while scanning an anchor", "text cannot begin with & unless it is in quotes", QUOTE, True),
    ("escape", "this \\ and what follows mean nothing in double quotes", "use single quotes", False),
    ("a quoted scalar", "the quotes around this text do not end", "close the quotes", True),
    ("expected ',' or ']'", "the list that begins here is not closed", "write the missing ] or comma", True),
    ("expected ',' or '}'", "the mapping that begins here is not closed", "write the missing } or comma", True),
    ("mapping values are not allowed", "a colon and a space cannot be here", f"{QUOTE}, or {INDENT}", False),
    ("block sequence entries are not allowed", "a list item (-) cannot begin here", INDENT, False),
    ("did not find expected node content", "nothing that can be read begins here", BEGINS, False),
    ("cannot start any token", "this character cannot begin a text", QUOTE, False),
    ("could not find expected ':'", "this line is neither `key: value` nor part of the text above", INDENT, True),
    ("did not find expected key", "this line does not fit to those above", INDENT, False),
    ("did not find expected '-'", "this line does not fit to the list above", INDENT, False),
    ("found a tab", "a tab is where only spaces may be", "indent with spaces", False),
    ("unhashable", "a key has to be text, not a list or a mapping", "write it as `key: value`", False),
    ("duplicate entry", "a key is there twice", "remove one of the two", False),
)
CONTROL = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
PLACE = re.compile(r" at line (\d+) column (\d+)")


def unparsed(path: str, text: str, message: str) -> tuple[Problem, ...]:
    """What ryaml rejects; it stops at the first mistake, except that all doubled or odd keys are told."""
    if "control characters" in message:
        return (_control(path, text),)
    if "more than one document" in message:
        return (_second(path, text),)
    if told := _keys(path, text):
        return told
    words, hint, began = next(
        ((words, hint, began) for part, words, hint, began in SYNTAX if part in message),
        (f"this is not YAML: {printable(message)}", "", False),
    )
    found = [(int(line), int(column)) for line, column in PLACE.findall(message)] or [(1, 1)]
    line, column = _inside(text, *found[-1 if began else 0])
    if _character(text, line, column) == "\t":
        words, hint = "a tab is where only spaces may be", "indent with spaces"
    return (Problem(path, line, column, words, hint),)


def _inside(text: str, line: int, column: int) -> tuple[int, int]:
    """ryaml points at the end of the file for what is not closed, and a key may look like a place."""
    return min(line, text.count("\n") + 1), max(1, min(column, len(text)))


def _character(text: str, line: int, column: int) -> str:
    lines = text.split("\n")
    return lines[line - 1][column - 1 : column] if line <= len(lines) else ""


def _control(path: str, text: str) -> Problem:
    match = CONTROL.search(text)
    offset = match.start() if match else 0
    what = f"a control character (code {ord(text[offset])}) is in this file"
    return Problem(path, *line_column(text, offset), what, "remove it; perhaps this is not a text file")


def _second(path: str, text: str) -> Problem:
    """Where content is followed by `---`; else something follows a list, a mapping or a text that has ended."""
    if match := re.compile(r"^[ \t]*[^\s#%-].*?^(---)(?=\s|$)", re.MULTILINE | re.DOTALL).search(text):
        hint = "write one document a file; remove this line, or move what follows to a file of its own"
        return Problem(path, *line_column(text, match.start(1)), "a second document begins here", hint)
    return Problem(path, 1, 1, "something follows where the document has ended", INDENT)


def undecodable(path: str, data: bytes, offset: int) -> Problem:
    line, begin = data.count(b"\n", 0, offset) + 1, data.rfind(b"\n", 0, offset) + 1
    column = len(data[begin:offset].decode("utf-8", "replace")) + 1
    return Problem(path, line, column, "this file is not UTF-8", "save it as UTF-8 in your editor")


def _keys(path: str, text: str) -> tuple[Problem, ...]:
    """Keys that are there twice, or are lists and mappings themselves."""
    problems = []
    for pairs in mappings(tree(text)):
        first: dict[tuple[str, str], Node] = {}
        for key, _ in pairs:
            if not isinstance(key, ScalarNode):
                message, hint = "a key has to be text, not a list or a mapping", "write it as `key: value`"
                problems.append(Problem(path, *mark(key), message, hint))
            elif (before := first.setdefault((str(key.tag), key.value), key)) is not key:
                message = f"the key {shown(key.value)} is there twice; it is in line {mark(before)[0]} already"
                problems.append(Problem(path, *mark(key), message, "remove one of the two"))
    return tuple(sorted(problems)[:MOST])


TAG = re.compile(r"(?:^|[\s\[{,:])!")


def tags(path: str, text: str) -> Iterator[Problem]:
    """Explicit tags: ryaml ignores most of them, and what does nothing is not accepted."""
    for tag, line, column in tagged(text) if TAG.search(text) else ():
        words = f"the tag {printable(tag.replace('tag:yaml.org,2002:', '!!'))} means nothing here"
        yield Problem(path, line, column, words, "remove it")
