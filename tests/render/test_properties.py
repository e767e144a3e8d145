"""Whatever customers, hosts and git have in their words: pages keep their form, and a state has one rendering."""

from __future__ import annotations

import json
import re
import shutil
from base64 import b64encode
from dataclasses import replace
from datetime import date
from pathlib import Path
from urllib.parse import unquote

import ryaml
from hypothesis import given
from hypothesis import strategies as st

from reconciler import age
from reconciler.model import Circumstances, Failure, Observation, Problem, Report, Secret
from reconciler.plan import plan
from reconciler.platforms import PLATFORMS
from reconciler.render import known, plans, problems, status
from reconciler.repo import WorkTree
from reconciler.revision import Compiler

from .pieces import FIRST, SECOND, THIRD, after, change, fleet, host, mistake, report, standing

A, B = host("a", "acme--db", "acme--www"), host("b", "uirig--www")
BOTH = fleet(A, B)
PROJECT = Path(__file__).parents[2]
NASTY = [
    "|",
    "`",
    "```",
    "<b>",
    "\n",
    "\r",
    "::error::",
    "%0A",
    "@all",
    "#1",
    "\\",
    "\x1b[2J",
    "\u2028",
    "- ",
    "x",
    "](",
]
hostile = st.lists(st.sampled_from(NASTY) | st.text(max_size=3), max_size=8).map("".join)


# ── hostile words ────────────────────────────────────────────────────────────────────────────────────────────


def troubled(words: str) -> Report:
    pending = (change(words, "acme--www", disrupts=words, diff=f"-{words}\n+{words}\n"),)
    return report(A, pending=pending, failures=(Failure("acme--db", "", words),), plan="0123456789abcdef")


@given(hostile)
def test_markdown_of_a_plan_keeps_its_form(words: str) -> None:
    page = plans.markdown([troubled(words), report(B)])
    fence = re.search(r"^(`{3,})diff$", page, re.MULTILINE)
    assert fence is not None
    before, _, rest = page.partition(f"{fence[0]}\n")
    files, _, rest = rest.partition(f"\n{fence[1]}\n")
    assert "`" * len(fence[1]) not in files
    assert len(before.splitlines()) == 7, before
    assert len(rest.splitlines()) == 6, rest
    assert not re.search(r"(?<!\\)[<|]", before.replace("<details><summary>Files</summary>", ""))
    assert not re.search(r"@(?!&#8203;)", before)


@given(hostile)
def test_each_line_of_a_plan_is_one_line(words: str) -> None:
    lines = plans.text([replace(troubled(words), pending=(change(words),))]).split("\n")
    assert len(lines) == 5
    assert all(line.replace("\t", "").isprintable() for line in lines)


@given(hostile)
def test_json_of_a_plan_says_it_exactly(words: str) -> None:
    read = json.loads(plans.as_json([troubled(words)]))
    assert read["hosts"][0]["pending"][0]["words"] == words
    assert read["hosts"][0]["failures"][0]["reason"] == words


@given(hostile, st.text(max_size=5))
def test_an_annotation_is_one_command_that_says_it_exactly(words: str, path: str) -> None:
    page = problems.github([Problem(path, 1, 2, words), Problem("x.yaml", 3, 4, "m", words)])
    lines = page.removesuffix("\n").split("\n")
    assert len(lines) == 2
    assert "\r" not in page
    found = re.fullmatch(r"::error file=([^,:]*),line=1,col=2::(.*)", lines[0], re.DOTALL)
    assert found is not None
    sayable = words.encode("utf-8", "backslashreplace").decode()
    assert unquote(found[2]) == sayable


@given(hostile, hostile)
def test_each_problem_is_a_line_and_its_hint_another(message: str, hint: str) -> None:
    lines = problems.text([Problem("a\n.yaml", 1, 2, message, hint)]).removesuffix("\n").split("\n")
    assert len(lines) == (2 if hint else 1)
    assert all(line.isprintable() for line in lines)


@given(hostile)
def test_the_status_keeps_its_form(words: str) -> None:
    found = (mistake("customers/acme/jails/www.yaml", words, words),)
    held = {"customers/acme": FIRST}
    b = report(B, unreachable=words or "gone")
    files = after(standing(BOTH, troubled(words), b, commit=SECOND, mounts=held, problems=found))
    page = files.pop("README.md").decode()
    rows = [line for line in page.split("\n") if line.startswith("|")]
    assert len(rows) == 2 + 2 + 2 + 3 + 2 + 3
    assert {len(re.findall(r"(?<!\\)(?:\\\\)*\|", row)) for row in rows} == {5}
    assert page.count("```") == 2
    for data in files.values():
        assert ryaml.loads(data.decode())["apiVersion"] == "reconciler.hosting/v1"


def test_a_comment_is_never_too_long() -> None:
    pending = tuple(change(f"change file {n} {'x' * 80}", diff=f"+{'y' * 80}\n") for n in range(500))
    page = plans.markdown([report(A, pending=pending)])
    assert len(page) <= plans.COMMENT + 100
    assert "yyy" not in page
    assert page.count("- `~`") == 500
    page = plans.markdown([report(A, pending=pending * 10)])
    assert len(page) <= plans.COMMENT + 100
    assert page.endswith("x\n\n… and more: run `reconciler plan`.\n")


# ── secrets ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_secrets_are_in_no_rendering(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    shutil.copy(PROJECT / "tests/lab/keys/acme.key", tmp_path)
    compiled = Compiler().compile(WorkTree(PROJECT / "sample-repo"))
    spec = age.opened(compiled.fleet.hosts["a"], age.Identities(tmp_path)).spec
    manifest = PLATFORMS["linux"].lower(spec)
    opened = [s.opened.value for j in spec.jails for s in j.secrets if s.opened]
    assert opened
    assert any(isinstance(f.content, Secret) for r in manifest.resources for f in r.files)
    everything = {f.path: "what was there\n" for r in manifest.resources for f in r.files}
    wrong = {r.key: dict.fromkeys(r.state, "f 0644 0:0 0000") for r in manifest.resources}
    for seen in (Observation({}), Observation(wrong, contents=everything)):
        planned = plan(manifest, seen, Circumstances(date(2026, 1, 31), reviewed=True, adopt=True))
        assert len(planned.changes) == len(manifest.resources)
        given = Report("a", manifest.digest, pending=planned.changes, plan=planned.digest)
        pages = [form([given]) for form in plans.FORMATS.values()]
        pages += [data.decode() for data in after(standing(compiled.fleet, given)).values()]
        for secret in opened:
            words = secret.decode().strip()
            assert not [page for page in pages if words in page or b64encode(secret).decode() in page]


# ── same state, same bytes ───────────────────────────────────────────────────────────────────────────────────


def test_the_same_standing_twice_changes_nothing() -> None:
    for now in (
        standing(BOTH, report(A), report(B)),
        standing(BOTH, troubled("words"), report(B, unreachable="timed out"), commit=SECOND),
        standing(BOTH, report(A, done=(change("create jail acme--db"),)), report(B)),
        standing(None, head=SECOND, problems=(mistake("platform.yaml", "missing"),)),
    ):
        files = after(now)
        assert status.files(now, files) == {}


def test_what_was_done_is_no_state() -> None:
    files = after(standing(BOTH, report(A, done=(change("mend the firewall"),)), report(B)))
    assert status.files(standing(BOTH, report(A), report(B)), files) == {}


def test_only_the_order_of_reports_differs() -> None:
    assert after(standing(BOTH, report(A), report(B))) == after(standing(BOTH, report(B), report(A)))


# ── which revision ───────────────────────────────────────────────────────────────────────────────────────────


def value(files: dict[str, bytes], path: str, key: str) -> object:
    return ryaml.loads(files[path].decode())["status"].get(key)


def test_a_revision_moves_only_with_what_it_changed() -> None:
    files = after(standing(BOTH, report(A), report(B)))
    later = report(A, "1 acme--www=2")
    changed = after(standing(BOTH, later, report(B), commit=SECOND), files)
    assert value(changed, "customers/acme/jails/www.yaml", "appliedRevision") == SECOND
    assert value(changed, "hosts/a.yaml", "appliedRevision") == SECOND
    for path in ("customers/acme/jails/db.yaml", "customers/uirig/jails/www.yaml", "hosts/b.yaml"):
        assert changed[path] == files[path]


def test_what_is_not_applied_yet_says_so() -> None:
    files = after(standing(BOTH, report(A), report(B)))
    waiting = report(A, "1 acme--www=2", pending=(change("change jail acme--www", "acme--www"),))
    changed = after(standing(BOTH, waiting, report(B), commit=SECOND), files)
    path = "customers/acme/jails/www.yaml"
    assert value(changed, path, "appliedRevision") == FIRST
    assert value(changed, path, "observedRevision") == SECOND
    done = after(standing(BOTH, report(A, "1 acme--www=2"), report(B), commit=THIRD), changed)
    assert value(done, path, "appliedRevision") == THIRD
    assert value(done, path, "observedRevision") is None


def test_coming_back_to_what_was_applied_is_no_new_revision() -> None:
    files = after(standing(BOTH, report(A), report(B)))
    down = standing(BOTH, report(A, unreachable="timed out"), report(B), commit=SECOND)
    back = standing(BOTH, report(A), report(B), commit=SECOND)
    again = after(back, after(down, files))
    assert value(again, "hosts/a.yaml", "appliedRevision") == FIRST
    assert {p: d for p, d in again.items() if p != "README.md"} == {p: d for p, d in files.items() if p != "README.md"}


# ── of what there is no news ─────────────────────────────────────────────────────────────────────────────────


def test_hosts_without_a_report_keep_their_files_and_rows() -> None:
    files = after(standing(BOTH, report(A), report(B, unreachable="timed out")))
    assert status.files(standing(BOTH, report(A)), files) == {}
    assert status.files(standing(BOTH), files) == {}
    page = after(standing(BOTH, report(A), commit=SECOND), files)["README.md"].decode()
    assert "[uirig/www]" in page
    assert "[b](hosts/b.yaml)" in page


def test_files_of_removed_jails_go_and_nothing_else() -> None:
    files = after(standing(BOTH, report(A), report(B)))
    smaller = host("a", "acme--db")
    gone = {p for p, d in status.files(standing(fleet(smaller, B), report(smaller), report(B)), files).items() if not d}
    assert gone == {"customers/acme/jails/www.yaml"}


def test_a_jail_that_is_to_go_has_its_file_until_it_is_gone() -> None:
    files = after(standing(BOTH, report(A), report(B)))
    smaller, path = host("a", "acme--db"), "customers/acme/jails/www.yaml"
    pending = (change("remove jail acme--www", "acme--www", action="remove"),)
    for waiting in (
        report(smaller, pending=pending, refusal="too much at once"),
        report(smaller, pending=pending, hold="since today"),
        report(smaller, unreachable="timed out"),
        report(smaller, failures=(Failure("acme--www", "", "does not stop"),)),
    ):
        assert after(standing(fleet(smaller, B), waiting, report(B)), files)[path] == files[path]


def test_a_host_that_left_the_repository_leaves_the_status() -> None:
    files = after(standing(BOTH, report(A), report(B)))
    changed = status.files(standing(fleet(A), report(A)), files)
    assert {p for p, d in changed.items() if d is None} == {"hosts/b.yaml", "customers/uirig/jails/www.yaml"}


def test_jails_of_a_customer_without_a_good_commit_keep_their_files() -> None:
    files = after(standing(BOTH, report(A), report(B)))
    empty = host("b")
    now = standing(
        fleet(A, empty, frozen=frozenset({"uirig"})), report(A), report(empty), mounts={"customers/uirig": None}
    )
    kept = after(now, files)
    assert kept["customers/uirig/jails/www.yaml"] == files["customers/uirig/jails/www.yaml"]
    assert known.placed(kept)["uirig--www"] == "b"


def test_without_a_good_commit_everything_keeps_its_file() -> None:
    files = after(standing(BOTH, report(A), report(B)))
    now = standing(None, head=SECOND, problems=(mistake("platform.yaml", "it is missing"),))
    assert status.files(now, files).keys() == {"README.md"}


@given(st.sampled_from(["hosts/b.yaml", "customers/uirig/jails/www.yaml"]), st.binary(max_size=40))
def test_files_that_somebody_else_wrote_into_are_mended(path: str, data: bytes) -> None:
    files = after(standing(BOTH, report(A), report(B)))
    damaged = {**files, path: data, "notes.txt": b"mine"}
    partly = after(standing(BOTH, report(A)), damaged)
    assert "README.md" in partly
    mended = after(standing(BOTH, report(A), report(B)), damaged)
    assert mended == files


def test_conditions_of_any_shape_are_survived() -> None:
    files = after(standing(BOTH, report(A), report(B)))
    for conditions in ("x", [], [1], [{}], {"a": 1}, [{"status": 1, "reason": [], "message": None}]):
        data = ryaml.dumps({"status": {"host": "b", "conditions": conditions}}).encode()
        assert "Unknown" in after(standing(BOTH, report(A)), {**files, "hosts/b.yaml": data})["README.md"].decode()


def test_what_is_placed_where() -> None:
    files = after(standing(BOTH, report(A), report(B)))
    assert known.placed(files) == {"acme--db": "a", "acme--www": "a", "uirig--www": "b"}
