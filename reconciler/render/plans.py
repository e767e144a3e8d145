"""Plans and Reports for a terminal, a program, and a comment on a pull request."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping

from reconciler.model import Change, Report

SIGNS = {"create": "+", "update": "~", "remove": "-", "retain": "-", "release": "~"}
COMMENT = 60_000
"""Characters of a Markdown plan; GitHub takes 65,536 in a comment."""


def text(reports: Iterable[Report]) -> str:
    return "\n".join(line for report in reports for line in report_lines(report)) + "\n"


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
        return f"{len(report.failures) + len(report.conflicts)} failed, {len(report.done)} done"
    if report.pending:
        return f"{len(report.pending)} changes pending"
    return f"{len(report.done)} changes done" if report.done else "as it should be"


def as_json(reports: Iterable[Report]) -> str:
    return json.dumps({"hosts": [report_value(report) for report in reports]}, indent=2) + "\n"


def report_value(report: Report) -> dict[str, object]:
    return {
        "host": report.host,
        "summary": summary(report),
        "ready": report.ready,
        "plan": report.plan,
        "done": [change_value(change) for change in report.done],
        "pending": [change_value(change) for change in report.pending],
        "failures": [{"owner": f.owner, "reason": f.reason} for f in (*report.conflicts, *report.failures)],
        "degraded": dict(report.degraded),
    }


def change_value(change: Change) -> dict[str, str]:
    value = {"action": change.action, "key": change.key, "owner": change.owner, "words": change.words}
    return value | {k: v for k, v in (("disrupts", change.disrupts), ("diff", change.diff)) if v}


def markdown(reports: Iterable[Report]) -> str:
    whole = "\n".join(line for report in reports for line in markdown_lines(report)) + "\n"
    return whole if len(whole) <= COMMENT else whole[:COMMENT] + "\n```\n\n… and more: run `reconciler plan`.\n"


def markdown_lines(report: Report) -> Iterator[str]:
    yield f"### Host {report.host}: {summary(report)}\n"
    for change in report.pending:
        disrupts = f" (**disrupts: {change.disrupts}**)" if change.disrupts else ""
        yield f"- `{SIGNS[change.action]}` {escaped(change.words)}{disrupts}"
    for failure in (*report.conflicts, *report.failures):
        yield f"- ⚠ {failure.owner or report.host}: {escaped(failure.reason)}"
    diffs = "".join(change.diff for change in report.pending)
    if diffs:
        fence = "`" * max(3, longest_run(diffs) + 1)
        yield f"\n<details><summary>Files</summary>\n\n{fence}diff\n{diffs.rstrip()}\n{fence}\n</details>"
    if report.plan:
        yield f"\nPlan `{report.plan}`"


def escaped(words: str) -> str:
    """No markup of a customer's: what could be a tag, a link, a mention or the end of a table's cell is taken apart."""
    return "".join(f"\\{c}" if c in "\\`*_{}[]<>|#@!" else c for c in words).replace("\n", " ")


def longest_run(value: str) -> int:
    longest = run = 0
    for character in value:
        run = run + 1 if character == "`" else 0
        longest = max(longest, run)
    return longest


FORMATS: Mapping[str, Callable[[Iterable[Report]], str]] = {"text": text, "json": as_json, "markdown": markdown}
