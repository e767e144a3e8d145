"""From a document and what a host says to a plan and its steps: `tests/cases/platforms/freebsd/`, a folder a sentence.

`base/` is a small company whose one host is as it should be: `repository/`, and `probe.txt`, what its probe printed.
Each other folder says what is different: `repository/` (files that differ, `gone.txt`: those that are not there),
`silent.txt` (regular expressions: lines of the probe that are missing), `says.txt` (lines that it printed instead),
`edited.txt` (path, what stood there, what stands there now, between tabs: files of ours that somebody has changed) and
`approved.txt` (names of approvals that are valid).
The host has the base's files: what a case's own documents want otherwise, the probe found different. `plan.txt` is what
people read, `steps.txt` what is done, without the contents of files; digests that change with our own scripts are `…`.
Where both say what should be and `bug.txt` what is instead, the case fails as long as the bug is there.
`{…}` in a probe stands for a digest of the base's own manifest, or of the case's where the base has none. Recorded
outputs are of a real 13.2; cases `invented-…` are built by hand.
"""

from __future__ import annotations

import re
import shutil
from base64 import b64encode
from collections.abc import Iterator
from dataclasses import replace
from datetime import date
from pathlib import Path

import pytest

from reconciler.model import Circumstances, HostSpec, Manifest, Observation, Plan
from reconciler.plan import plan
from reconciler.platforms import PLATFORMS
from reconciler.platforms.files import digest
from reconciler.platforms.freebsd.jail import changeable
from reconciler.platforms.steps import Put, Step, render
from reconciler.render.plans import change_lines
from reconciler.repo import WorkTree
from reconciler.revision import Compiler

HERE = Path(__file__).parents[2] / "cases" / "platforms" / "freebsd"
BASE = HERE / "base"
CASES = sorted(path for path in HERE.iterdir() if path != BASE)
FREEBSD = PLATFORMS["freebsd"]
TODAY = date(2026, 11, 21)


def host(repository: Path) -> HostSpec:
    compiled = Compiler().compile(WorkTree(repository))
    assert not compiled.problems, compiled.all_problems
    return compiled.fleet.hosts["a"]


def changed(case: Path, folder: Path) -> Path:
    shutil.copytree(BASE / "repository", folder, dirs_exist_ok=True)
    if (case / "repository").exists():
        shutil.copytree(case / "repository", folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("gone.txt"))
    gone = case / "repository" / "gone.txt"
    for line in gone.read_text().split() if gone.exists() else ():
        (folder / line).unlink()
    return folder


def digests(manifest: Manifest) -> dict[str, str]:
    """What stands between braces in a probe: what a jail was started as, which rules are loaded."""
    found = {}
    for resource in manifest.resources:
        for attribute in ("runs", "kernel"):
            if attribute in resource.state:
                found[f"{attribute} {resource.name}"] = resource.state[attribute]
    return found


def said(case: Path, wanted: Manifest) -> bytes:
    """What the probe printed in this case, asked for all that is wanted."""
    base = FREEBSD.lower(host(BASE / "repository"))
    text = (BASE / "probe.txt").read_text()
    for pattern in lines(case / "silent.txt"):
        left = "".join(line for line in text.splitlines(keepends=True) if not re.search(pattern, line))
        assert left != text, f"no line of the probe is like {pattern}"
        text = left
    text += "".join(f"{line}\n" for line in lines(case / "says.txt"))
    there = {fields[1] for fields in map(str.split, text.splitlines()) if fields[0] == "file"}
    text += "".join(line for path, line in differing(case, base, wanted) if path in there)
    for name, value in (digests(wanted) | digests(base)).items():
        text = text.replace(f"{{{name}}}", value)
    return text.encode()


def lines(file: Path) -> list[str]:
    return file.read_text().splitlines() if file.exists() else []


def contents(manifest: Manifest) -> dict[str, bytes]:
    found = {file.path: file.content for resource in manifest.resources for file in resource.files if file.kind == "f"}
    return {path: content for path, content in found.items() if isinstance(content, bytes)}


def differing(case: Path, base: Manifest, wanted: Manifest) -> Iterator[tuple[str, str]]:
    """The probe's lines about files: a host has what it was given last, and what somebody made of it."""
    found, files = contents(base), contents(wanted)
    for path, was, is_now in (line.split("\t") for line in lines(case / "edited.txt")):
        assert was.encode() in found[path], f"{was} is not in {path}"
        found[path] = found[path].replace(was.encode(), is_now.encode())
    for path, content in found.items():
        if path in files and files[path] != content:
            yield path, f"bad\t{path}\t{digest(content)}\t{b64encode(content).decode()}\n"


def told(made: Plan, seen: Observation) -> str:
    """Without the rules in pf's own words: `tests/cases/pf` has those."""
    changes = (replace(c, diff="") if c.key.startswith("ruleset/") else c for c in made.changes)
    told = [line for change in changes for line in change_lines(change)]
    told += [f"  ! {failure.owner or 'host'}: {failure.reason}" for failure in made.conflicts]
    told += [f"  ! {owner}: {why}" for owner, why in sorted(seen.degraded.items())]
    told += [f"refused: {reason}" for reason in filter(None, (made.refusal, *seen.refusals))]
    told += [f"on hold {seen.hold}"] if seen.hold else []
    return without_digests("".join(f"{line.rstrip()}\n" for line in told)) or "nothing to do\n"


def steps(made: Plan, seen: Observation) -> str:
    said: list[str] = []
    for change in () if made.refusal or seen.refusals or seen.hold else made.changes:
        after = f" after {' and '.join(sorted(change.waits))}" if change.waits else ""
        said.append(f"{change.action} {change.key}{after}")
        said += [f"    {shown(step)}" for step in FREEBSD.commands(change)]
    return without_digests("".join(f"{line}\n" for line in said))


def shown(step: Step) -> str:
    text = render(step).replace("\x1f", "␟").replace(" ".join(changeable("none", "")), "SETTING...")
    return text.partition(" <<")[0] if isinstance(step, Put) else text


def without_digests(text: str) -> str:
    """Those of files and of what a jail was started as change with our own scripts; those of archives are `aaaa…`."""
    text = re.sub(r"\b([0-9a-f])\1{63}\b", r"\1\1\1\1…", text)
    text = re.sub(r"(?m)^(    snapshot \S+) [0-9a-f]{12}$", r"\1 …", text)
    return re.sub(r"\b([0-9a-f]{64}|[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12})\b", "…", text)


def bugs(case: Path) -> list[pytest.MarkDecorator]:
    return [pytest.mark.xfail(reason=" ".join(lines(case / "bug.txt")), strict=True)] if lines(case / "bug.txt") else []


@pytest.mark.parametrize("case", [pytest.param(case, id=case.name, marks=bugs(case)) for case in CASES])
def test_case(case: Path, tmp_path: Path) -> None:
    wanted = FREEBSD.lower(host(changed(case, tmp_path)))
    seen = FREEBSD.parse(said(case, wanted), wanted)
    approved = frozenset(lines(case / "approved.txt"))
    made = plan(wanted, seen, Circumstances(TODAY, reviewed=True, approved=approved))
    assert told(made, seen) == (case / "plan.txt").read_text()
    assert steps(made, seen) == "".join(f"{line}\n" for line in lines(case / "steps.txt"))
