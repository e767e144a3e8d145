"""The command line as people type it, on real repositories, without hosts: words, formats, exit codes."""

from __future__ import annotations

import json
import os
import pty
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import click
import pytest

from reconciler.cli import main

PROJECT = Path(__file__).parents[2]
IDENTITY = {f"GIT_{who}_{what}": "ada@example.org" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
ENVIRONMENT = {k: v for k, v in os.environ.items() if not k.startswith(("RECONCILER_", "GIT_"))} | IDENTITY
ENVIRONMENT |= {"PYTHONPATH": str(PROJECT), "GIT_CONFIG_GLOBAL": os.devnull, "NO_COLOR": "1"}
MISTAKE = "customers/uirig/jails/www.yaml"
TOLD = f"{MISTAKE}:7:3: there is no blueprint ngimx\n    did you mean nginx?\n"
Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    """The sample as a repository with one commit, and a mistake in the next, which is on the branch `broken`."""
    folder = tmp_path / "repo"
    shutil.copytree(PROJECT / "sample-repo", folder)
    git(folder, "init", "-q", "-b", "main")
    commit(folder, "The sample")
    git(folder, "checkout", "-q", "-b", "broken")
    document = folder / MISTAKE
    document.write_text(document.read_text().replace("blueprint: nginx", "blueprint: ngimx"))
    commit(folder, "A letter too many")
    git(folder, "checkout", "-q", "main")
    return folder


@pytest.fixture
def run(repo: Path, tmp_path: Path) -> Run:
    """`reconciler WORDS` in the repository; `config` is the configuration's text."""

    def reconciler(*words: str, folder: Path = repo, config: str = "", **environment: str) -> object:
        if config:
            (tmp_path / "reconciler.toml").write_text(config)
            words = ("--config", str(tmp_path / "reconciler.toml"), *words)
        return subprocess.run(
            [sys.executable, "-m", "reconciler", *words],
            cwd=folder,
            env=ENVIRONMENT | environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    return reconciler


@pytest.fixture
def config(repo: Path, tmp_path: Path) -> str:
    """Of a reconciler whose hosts cannot be reached: nobody listens on their port here."""
    for name, port in (("a", 9), ("b", 10)):
        path = repo / f"hosts/{name}.yaml"
        path.write_text(re.sub("address: .*", f"address: ::1\n    port: {port}", path.read_text()))
    commit(repo, "Nobody is at home")
    return f'[source]\nurl = "{repo}"\n[daemon]\ncache = "{tmp_path}/cache"\n[ssh]\nkey = "{tmp_path}/key"\n'


def git(folder: Path, *words: str) -> str:
    done = subprocess.run(["git", "-C", folder, *words], env=ENVIRONMENT, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def commit(folder: Path, subject: str) -> str:
    git(folder, "add", "-A")
    git(folder, "commit", "-q", "--allow-empty", "-m", subject)
    return git(folder, "rev-parse", "HEAD")


# ── validate ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_directory_in_order(run: Run) -> None:
    done = run("validate")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "no problems\n")
    assert run("validate", str(PROJECT / "sample-repo"), folder=Path("/")).returncode == 0


def test_a_directory_is_read_as_it_is_on_disk(run: Run, repo: Path) -> None:
    document = repo / MISTAKE
    document.write_text(document.read_text().replace("blueprint: nginx", "blueprint: ngimx"))
    done = run("validate", ".")
    assert (done.returncode, done.stdout, done.stderr) == (1, TOLD, "1 problem\n")
    assert run("validate", "HEAD").returncode == 0


def test_a_revision(run: Run, repo: Path) -> None:
    for revision in ("refs/heads/broken", git(repo, "rev-parse", "broken")[:8]):
        done = run("validate", revision, folder=repo / "hosts")
        assert (done.returncode, done.stdout) == (1, TOLD)


def test_all_problems_at_once(run: Run, repo: Path) -> None:
    (repo / "hosts/a.yaml").write_text("kind: [\n")
    (repo / "customers/kiln/jails/www.yaml").write_text("a: b\na: c\n")
    (repo / "customers/acme/jails/new.yml").write_text("")
    (repo / "customers/acme/jails/link.yaml").symlink_to("/etc/passwd")
    done = run("validate")
    paths = {line.partition(":")[0] for line in done.stdout.splitlines() if not line.startswith(" ")}
    assert {"hosts/a.yaml", "customers/kiln/jails/www.yaml", "customers/acme/jails/link.yaml"} <= paths
    assert "root:" not in done.stdout
    assert re.fullmatch(r"\d+ problems\n", done.stderr)


def test_problems_as_json(run: Run) -> None:
    done = run("validate", "broken", "--format", "json")
    assert done.returncode == 1
    assert json.loads(done.stdout) == {
        "problems": [
            {
                "path": MISTAKE,
                "line": 7,
                "column": 3,
                "message": "there is no blueprint ngimx",
                "hint": "did you mean nginx?",
            }
        ]
    }
    assert json.loads(run("validate", "--format", "json").stdout) == {"problems": []}


def test_problems_as_annotations(run: Run) -> None:
    done = run("validate", "broken", "--format", "github")
    assert done.stdout == f"::error file={MISTAKE},line=7,col=3::there is no blueprint ngimx. did you mean nginx?\n"


def test_an_empty_tree_is_not_in_order(run: Run, tmp_path: Path, repo: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert run("validate", str(tmp_path / "empty")).returncode == 1
    git(repo, "checkout", "-q", "--orphan", "nothing")
    git(repo, "rm", "-rqf", ".")
    commit(repo, "Nothing")
    assert run("validate", "nothing").returncode == 1


def test_what_is_neither_directory_nor_revision(run: Run, tmp_path: Path) -> None:
    done = run("validate", "nowhere")
    assert done.returncode == 1
    assert "has no commit 'nowhere'" in done.stderr
    done = run("validate", "hosts/a.yaml")
    assert done.returncode == 1
    assert "hosts/a.yaml is a file" in done.stderr
    done = run("validate", "HEAD", folder=tmp_path)
    assert done.returncode == 1
    assert "not in a git repository" in done.stderr
    for hostile in ("--output=x", "-x"):
        assert run("validate", "--", hostile).returncode == 1


# ── plan, apply ──────────────────────────────────────────────────────────────────────────────────────────────


def test_hosts_that_cannot_be_reached(run: Run, config: str) -> None:
    done = run("plan", config=config)
    assert done.returncode == 1
    assert "host a: unreachable: cannot reach [::1]:9" in done.stdout
    assert "host b: unreachable" in done.stdout
    assert "Traceback" not in done.stderr
    assert "host a: unreachable" in done.stderr


def test_a_plan_writes_no_status_and_an_apply_does(run: Run, config: str, repo: Path) -> None:
    assert run("plan", config=config).returncode == 1
    assert git(repo, "branch", "--list", "status/*") == ""
    assert run("apply", "a", config=config).returncode == 1
    page = git(repo, "show", "status/main:README.md")
    assert "**Unreachable**" in page
    assert run("apply", "a", config=config).returncode == 1
    assert git(repo, "rev-list", "--count", "status/main") == "1"
    trailers = git(repo, "log", "-1", "--format=%(trailers)", "status/main").splitlines()
    assert trailers[:2] == [f"Applied-Revision: {git(repo, 'rev-parse', 'main')}", "Instance: main"]


def test_plans_as_json_and_markdown(run: Run, config: str) -> None:
    hosts = json.loads(run("plan", "b", "--format", "json", config=config).stdout)["hosts"]
    assert [(h["host"], h["ready"]) for h in hosts] == [("b", False)]
    assert "cannot reach" in hosts[0]["unreachable"]
    assert run("plan", "b", "--format", "markdown", config=config).stdout.startswith("### Host b: unreachable")


def test_problems_of_the_newest_commit_are_told(run: Run, config: str, repo: Path) -> None:
    git(repo, "merge", "-q", "--no-edit", "broken")
    done = run("plan", config=config)
    assert TOLD in done.stderr
    assert "customer uirig is held at" in done.stderr
    assert done.returncode == 1
    done = run("plan", "--against", "main~1", config=config)
    assert "ngimx" not in done.stderr


def test_no_good_commit_at_all(run: Run, config: str, repo: Path) -> None:
    git(repo, "checkout", "-q", "--orphan", "nothing")
    git(repo, "rm", "-rqf", ".")
    commit(repo, "Nothing")
    git(repo, "branch", "-f", "main", "nothing")
    for command in ("plan", "apply"):
        done = run(command, config=config)
        assert done.returncode == 1
        assert "no commit without problems" in done.stderr
        assert done.stdout == ""


def test_unknown_hosts_and_revisions(run: Run, config: str) -> None:
    done = run("plan", "c", config=config)
    assert (done.returncode, "there is no host c; there is a, b" in done.stderr) == (1, True)
    done = run("plan", "--against", "nowhere", config=config)
    assert (done.returncode, "has no commit 'nowhere'" in done.stderr) == (1, True)
    done = run("logs", "acme/nothing", config=config)
    assert (done.returncode, "there is no jail acme/nothing" in done.stderr) == (1, True)


def test_what_is_for_one_host(run: Run, config: str) -> None:
    for words in (("--adopt",), ("--digest", "d", "a", "b")):
        done = run("apply", *words, config=config)
        assert (done.returncode, "are for one host" in done.stderr) == (1, True)


def test_logs_of_a_host_that_cannot_be_reached(run: Run, config: str) -> None:
    done = run("logs", "acme/shop", config=config)
    assert (done.returncode, "cannot reach [::1]:9" in done.stderr) == (1, True)


def test_progress_on_a_terminal_and_lines_elsewhere(run: Run, config: str, tmp_path: Path, repo: Path) -> None:
    plain = run("plan", config=config).stderr
    assert "\x1b" not in plain
    assert re.findall("^host .: unreachable", plain, re.MULTILINE)
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "reconciler", "--config", str(tmp_path / "reconciler.toml"), "plan"]
    environment = {**ENVIRONMENT, "TERM": "xterm", "COLUMNS": "200"}
    with subprocess.Popen(command, cwd=repo, env=environment, stdout=subprocess.DEVNULL, stderr=theirs) as process:
        os.close(theirs)
        shown = everything(ours)
        assert process.wait(60) == 1
    assert "\x1b[?25l" in shown  # the cursor is hidden while a bar is shown
    assert "hosts" in shown
    assert "100%" in shown
    assert "host a: unreachable" in shown


def everything(terminal: int) -> str:
    told = b""
    while True:
        try:
            chunk = os.read(terminal, 4096)
        except OSError:  # Linux says EIO when the other side is closed
            chunk = b""
        if not chunk:
            os.close(terminal)
            return told.decode()
        told += chunk


# ── configuration, help ──────────────────────────────────────────────────────────────────────────────────────


def test_mistakes_of_the_configuration(run: Run) -> None:
    done = run("run")
    assert (done.returncode, "set source.url in reconciler.toml" in done.stderr) == (1, True)
    done = run("logs", "x", config="[source]\nulr = 'x'\n")
    assert (done.returncode, "there is no key source.ulr" in done.stderr) == (1, True)
    done = run("--config", "/nowhere.toml", "apply")
    assert (done.returncode, "/nowhere.toml cannot be read" in done.stderr) == (1, True)


def test_a_repository_that_is_not_there(run: Run, tmp_path: Path) -> None:
    config = f'[source]\nurl = "{tmp_path}/nowhere.git"\n[daemon]\ncache = "{tmp_path}/cache"\n'
    done = run("plan", config=config)
    assert done.returncode == 1
    assert "cannot reach" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_cache_that_cannot_be_written(run: Run, repo: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    config = f'[source]\nurl = "{repo}"\n[daemon]\ncache = "{tmp_path}/file"\n'
    done = run("plan", config=config)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("web", "words"),
    [
        ("listen = 'x'", "web.listen is 'x'"),
        ("listen = '[2001:db8::1]:8470'", "web.listen is '[2001:db8::1]:8470'"),
        ("secret = '/nowhere/secret'", "web.secret is /nowhere/secret: No such file"),
    ],
)
def test_mistakes_of_the_web_side(web: str, words: str, run: Run, config: str) -> None:
    done = run("run", config=f"{config}[web]\n{web}\n")
    assert done.returncode == 1
    assert words in done.stderr
    assert "Traceback" not in done.stderr


def test_the_environment_configures_too(run: Run, repo: Path, tmp_path: Path) -> None:
    found = run("plan", "c", RECONCILER_SOURCE_URL=str(repo), RECONCILER_DAEMON_CACHE=str(tmp_path / "cache"))
    assert "there is no host c" in found.stderr
    (repo / "reconciler.toml").write_text(f'[source]\nurl = "{repo}"\n[daemon]\ncache = "{tmp_path}/cache"\n')
    assert "there is no host c" in run("plan", "c").stderr
    elsewhere = run("plan", "c", RECONCILER_CONFIG=str(repo / "reconciler.toml"), folder=tmp_path)
    assert "there is no host c" in elsewhere.stderr


def test_words_that_are_not_understood_are_no_pending_changes(run: Run) -> None:
    for words in (("paln",), ("plan", "--format", "xml")):
        assert run(*words).returncode == 1


def test_help_names_every_command_and_option(run: Run) -> None:
    told = run("--help").stdout
    assert set(main.commands) == {"apply", "logs", "pack", "plan", "run", "validate"}
    for name, command in main.commands.items():
        assert re.search(rf"^  {name} +\w", told, re.MULTILINE)
        page = run(name, "-h").stdout
        assert page.startswith(f"Usage: python -m reconciler {name}")
        for parameter in command.params:
            if isinstance(parameter, click.Option):
                assert parameter.opts[-1] in page
    assert re.fullmatch(r".*, version \d+\.\d+.*\n", run("--version").stdout)


def test_the_same_files_pack_to_the_same_digest(run: Run, repo: Path, tmp_path: Path) -> None:
    first = run("pack", str(repo / "files/app"), str(tmp_path / "one.tar"))
    os.utime(repo / "files/app/serve.py", (0, 0))
    second = run("pack", str(repo / "files/app"), str(tmp_path / "two.tar"))
    assert first.returncode == 0
    assert first.stdout == second.stdout
    assert first.stdout.removeprefix("digest: ").strip() in (repo / "blueprints/app.yaml").read_text()
