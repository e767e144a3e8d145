"""Problems for a terminal, for a program, and for GitHub's annotations."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict

from reconciler.model import Problem


def text(problems: Iterable[Problem]) -> str:
    return "".join(f"{line(problem)}\n" for problem in problems)


def line(problem: Problem) -> str:
    """`path:line:column: message`, and how to mend it on a line of its own."""
    hint = f"\n    {shown(problem.hint)}" if problem.hint else ""
    return f"{shown(problem.path)}:{max(problem.line, 1)}:{max(problem.column, 1)}: {shown(problem.message)}{hint}"


def shown(words: str) -> str:
    """Printable and on one line, whatever bytes git has in a path."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in words)


def as_json(problems: Iterable[Problem]) -> str:
    listed = [{k: v for k, v in asdict(p).items() if k != "pointer"} for p in problems]
    return json.dumps({"problems": listed}, indent=2) + "\n"


def github(problems: Iterable[Problem]) -> str:
    """Workflow commands (docs.github.com, "Setting an error message"); % and line ends are escaped as they want it."""
    return "".join(
        f"::error file={escaped(p.path, ',:')},line={max(p.line, 1)},col={max(p.column, 1)}::"
        f"{escaped(f'{p.message}. {p.hint}' if p.hint else p.message)}\n"
        for p in problems
    )


def escaped(value: str, more: str = "") -> str:
    encodable = value.encode("utf-8", "backslashreplace").decode()
    return "".join(f"%{ord(c):02X}" if c in "%\r\n" + more else c for c in encodable)


FORMATS: Mapping[str, Callable[[Iterable[Problem]], str]] = {"text": text, "json": as_json, "github": github}
