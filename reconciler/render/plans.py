"""Plans and Reports for a terminal, a program, and a comment on a pull request."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping

from reconciler.model import Change, Report

SIGNS = {"create": "+", "update": "~", "remove": "-", "retain": "-", "release": "~", "purge": "-"}
COMMENT = 60_000
"""Characters of a Markdown plan; GitHub takes 65,536 in a comment."""


def text(reports: Iterable[Report]) -> str:
    return "".join(f"{printable(line)}\n" for report in reports for line in report_lines(report))


def printable(words: str) -> str:
    """One line, and nothing in it that a terminal or a CI service would take for a command."""
    return "".join(c if c.isprintable() or c == "\t" else repr(c)[1:-1] for c in words)


def report_lines(report: Report) -> Iterator[str]:
    yield f"host {report.host}: {summary(report)}"
    for change in report.done:
        yield f"  done {change.words}"
    for change in report.pending:
        yield from change_lines(change)
    for failure in (*report.conflicts, *report.failures):
        yield f"  ! {failure.owner or report.host}: {failure.reason}"
    for owner, why in report.degraded:
        yield f"  ! {owner}: {why}"
    if report.plan:
        yield f"  plan {report.plan}"


def change_lines(change: Change) -> Iterator[str]:
    yield f"  {SIGNS[change.action]} {change.words}"
    if change.disrupts:
        yield f"      disrupts: {change.disrupts}"
    for line in change.diff.splitlines():
        yield f"      {line}"


def summary(report: Report) -> str:
    """One line that says how it stands, the most urgent thing first."""
    if report.unreachable:
        return f"unreachable: {report.unreachable}"
    if report.hold:
        return f"on hold {report.hold}"
    if report.refusal:
        return f"refused: {report.refusal}"
    if report.failures or report.conflicts:
        failed = f"{len(report.failures) + len(report.conflicts)} failed"
        return f"{failed}, {len(report.done)} done" if report.done else failed
    if report.pending:
        return f"{changes(len(report.pending))} pending"
    return f"{changes(len(report.done))} done" if report.done else "as it should be"


def changes(count: int) -> str:
    return "1 change" if count == 1 else f"{count} changes"


def as_json(reports: Iterable[Report]) -> str:
    return json.dumps({"hosts": [report_value(report) for report in reports]}, indent=2) + "\n"


def report_value(report: Report) -> dict[str, object]:
    return {
        "host": report.host,
        "summary": summary(report),
        "ready": report.ready,
        "plan": report.plan,
        "unreachable": report.unreachable,
        "hold": report.hold,
        "refusal": report.refusal,
        "approval": report.approval,
        "done": [change_value(change) for change in report.done],
        "pending": [change_value(change) for change in report.pending],
        "failures": [{"owner": f.owner, "reason": f.reason} for f in (*report.conflicts, *report.failures)],
        "degraded": dict(report.degraded),
    }


def change_value(change: Change) -> dict[str, str]:
    value = {"action": change.action, "key": change.key, "owner": change.owner, "words": change.words}
    return value | {k: v for k, v in (("disrupts", change.disrupts), ("diff", change.diff)) if v}


def markdown(reports: Iterable[Report]) -> str:
    """Too long for a comment: first without the files, then cut at the end of a line."""
    reports = list(reports)
    whole = joined(reports, files=True)
    if len(whole) <= COMMENT:
        return whole
    short = joined(reports, files=False)
    return short[: short.rfind("\n", 0, COMMENT) + 1] + "\n… and more: run `reconciler plan`.\n"


def joined(reports: Iterable[Report], files: bool) -> str:
    return "".join(f"{line}\n" for report in reports for line in markdown_lines(report, files))


def markdown_lines(report: Report, files: bool) -> Iterator[str]:
    yield f"### Host {report.host}: {escaped(summary(report))}\n"
    for change in report.pending:
        disrupts = f" (**disrupts: {escaped(change.disrupts)}**)" if change.disrupts else ""
        yield f"- `{SIGNS[change.action]}` {escaped(change.words)}{disrupts}"
    for failure in (*report.conflicts, *report.failures):
        yield f"- ⚠ {failure.owner or report.host}: {escaped(failure.reason)}"
    diffs = "".join(change.diff for change in report.pending)
    if diffs and files:
        fence = "`" * max(3, longest_run(diffs) + 1)
        yield f"\n<details><summary>Files</summary>\n\n{fence}diff\n{diffs.rstrip()}\n{fence}\n</details>"
    if report.plan:
        yield f"\nPlan `{report.plan}`\n"


NO_LINK = {"@": "@&#8203;", "#": "#&#8203;"}
"""Forges look for mentions after Markdown is done, so a backslash does not help (cmark-gfm issue 181)."""


def escaped(words: str) -> str:
    """No markup of a customer's: what could be a tag, a link, a mention or the end of a table's cell is taken apart."""
    plain = "".join(c if c.isprintable() else " " for c in words)
    return "".join(NO_LINK.get(c, f"\\{c}" if c in "\\`*_{}[]<>|!&~" else c) for c in plain)


def longest_run(value: str) -> int:
    longest = run = 0
    for character in value:
        run = run + 1 if character == "`" else 0
        longest = max(longest, run)
    return longest


FORMATS: Mapping[str, Callable[[Iterable[Report]], str]] = {"text": text, "json": as_json, "markdown": markdown}
