"""From a document and what a host says to a plan and its steps: `tests/cases/platforms/freebsd/`, a folder a sentence.

`base/` is a small company whose one host is as it should be: `repository/`, and `probe.txt`, what its probe printed.
Each other folder says what is different: `repository/` (files that differ, `gone.txt`: those that are not there),
`silent.txt` (regular expressions: lines of the probe that are missing) and `says.txt` (lines that it printed instead).
`plan.txt` is what people read, `steps.txt` what is done, without the contents of files. `{…}` in a probe stands for a
digest of the base's own manifest. Recorded outputs are of a real 13.2; cases `invented-…` are built by hand.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from datetime import date
from pathlib import Path

import pytest

from reconciler.model import Change, HostSpec, Manifest, Plan
from reconciler.plan import Circumstances, plan
from reconciler.platforms import PLATFORMS
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


def said(case: Path) -> bytes:
    """What the probe printed in this case."""
    text = (BASE / "probe.txt").read_text()
    silent = case / "silent.txt"
    for pattern in silent.read_text().splitlines() if silent.exists() else ():
        left = "".join(line for line in text.splitlines(keepends=True) if not re.search(pattern, line))
        assert left != text, f"no line of the probe is like {pattern}"
        text = left
    text += (case / "says.txt").read_text() if (case / "says.txt").exists() else ""
    for name, digest in digests(FREEBSD.lower(host(BASE / "repository"))).items():
        text = text.replace(f"{{{name}}}", digest)
    return text.encode()


def planned(case: Path, repository: Path) -> Plan:
    manifest = FREEBSD.lower(host(repository))
    return plan(manifest, FREEBSD.parse(said(case), manifest), Circumstances(TODAY, reviewed=True))


def told(case: Path, repository: Path) -> str:
    manifest = FREEBSD.lower(host(repository))
    seen = FREEBSD.parse(said(case), manifest)
    made = planned(case, repository)
    lines = [line for change in made.changes for line in change_lines(change)]
    lines += [f"  ! {failure.owner or 'host'}: {failure.reason}" for failure in made.conflicts]
    lines += [f"  ! {owner}: {why}" for owner, why in sorted(seen.degraded.items())]
    lines += [f"refused: {reason}" for reason in filter(None, (made.refusal, *seen.refusals))]
    return "".join(f"{line.rstrip()}\n" for line in lines) or "nothing to do\n"


def steps(changes: tuple[Change, ...]) -> Iterator[str]:
    for change in changes:
        yield f"{change.action} {change.key}\n"
        yield from (f"    {shown(step)}\n" for step in FREEBSD.commands(change))


def shown(step: Step) -> str:
    text = render(step).replace("\x1f", "␟")
    return text.partition(" <<")[0] if isinstance(step, Put) else text


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_case(case: Path, tmp_path: Path) -> None:
    repository = changed(case, tmp_path)
    assert told(case, repository) == (case / "plan.txt").read_text()
    done = "".join(steps(planned(case, repository).changes))
    assert done == ((case / "steps.txt").read_text() if (case / "steps.txt").exists() else "")
