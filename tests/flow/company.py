"""A hosting company in a folder: a bare repository made from sample-repo, a clone to work in, a configuration.

In: the lab with its hosts. Out: commits as people make them, the command line as people run it, the daemon, and pages
as visitors see them. Nothing here calls the product's functions but `pack`: all goes through git and the CLI.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import rules
from lab import Host, Lab
from lab.sample import sample_lab

PROJECT = Path(__file__).parents[2]
SAMPLE = PROJECT / "sample-repo"
IDENTITY = {
    "GIT_AUTHOR_NAME": "Ada",
    "GIT_AUTHOR_EMAIL": "ada@example.org",
    "GIT_COMMITTER_NAME": "Ada",
    "GIT_COMMITTER_EMAIL": "ada@example.org",
}
COMMAND = (sys.executable, "-m", "reconciler")
WEB = "http://[::1]:8470"


class Company:
    def __init__(self, folder: Path, lab: Lab, hosts: dict[str, Host], without_root: Collection[str] = ()) -> None:
        """`without_root`: hosts on which root may not log in."""
        self.folder, self.lab, self.hosts, self.without_root = folder, lab, hosts, without_root
        self.remote, self.clone = folder / "config.git", folder / "clone"
        self.archives, self.config = folder / "archives", folder / "reconciler.toml"
        self.cache = folder / "cache"
        self.environment = {**os.environ, **IDENTITY, "PYTHONPATH": str(PROJECT), "NO_COLOR": "1"}
        self._furnish()

    # ── git, as people use it ────────────────────────────────────────────────────────────────────────────────

    def git(self, *words: str, folder: Path | None = None) -> str:
        command = ["git", "-C", str(folder or self.clone), *words]
        done = subprocess.run(command, env=self.environment, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, f"{' '.join(words)}: {done.stderr}{done.stdout}"
        return done.stdout

    def write(self, path: str, text: str) -> None:
        (self.clone / path).parent.mkdir(parents=True, exist_ok=True)
        (self.clone / path).write_text(text)

    def change(self, path: str, old: str, new: str) -> None:
        text = (self.clone / path).read_text()
        assert old in text, f"{old!r} is not in {path}"
        self.write(path, text.replace(old, new, 1))

    def push(self, subject: str) -> str:
        """Commits all there is and pushes it; the commit."""
        self.git("add", "-A")
        self.git("commit", "-qm", subject)
        self.git("push", "-q", "-u", "origin", "main")
        return self.git("rev-parse", "HEAD").strip()

    def status(self, path: str, branch: str = "status/main") -> str:
        """A file of the status branch; "" when it is not there."""
        command = ["git", "-C", str(self.remote), "show", f"{branch}:{path}"]
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False).stdout

    def status_commits(self) -> list[str]:
        """Subjects, newest first."""
        command = ["git", "-C", str(self.remote), "log", "--format=%s", "status/main"]
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False).stdout.splitlines()

    # ── the product, as people run it ────────────────────────────────────────────────────────────────────────

    def run(self, *words: str, timeout: float = 240) -> subprocess.CompletedProcess[str]:
        """`reconciler WORDS`, in the clone."""
        command = [*COMMAND, "--config", str(self.config), *words]
        return subprocess.run(
            command, cwd=self.clone, env=self.environment, capture_output=True, text=True, timeout=timeout, check=False
        )

    @contextmanager
    def daemon(self, config: Path | None = None, command: Sequence[str] = COMMAND) -> Iterator[subprocess.Popen[bytes]]:
        """`reconciler run`; ended by SIGTERM, and by force when that does not do."""
        with (self.folder / "daemon.log").open("ab") as log:
            words = [*command, "--config", str(config or self.config), "run"]
            process = subprocess.Popen(words, env=self.environment, stdout=log, stderr=log)
            try:
                yield process
            finally:
                process.terminate()
                try:
                    process.wait(90)
                finally:
                    process.kill()
                    process.wait()

    @property
    def log(self) -> str:
        return (self.folder / "daemon.log").read_text()

    # ── setting up ───────────────────────────────────────────────────────────────────────────────────────────

    def _furnish(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self._pack()
        (self.folder / "webhook.secret").write_text("a secret of the forge and the reconciler\n")
        keys = self.folder / "keys"
        keys.mkdir(mode=0o700)
        shutil.copy(PROJECT / "tests/lab/keys/acme.key", keys)
        shutil.copytree(SAMPLE, self.clone)
        for name, host in self.hosts.items():
            path = self.clone / f"hosts/{name}.yaml"
            user = f"\n    user: {rules.ACCOUNT}" if name in self.without_root else ""
            path.write_text(re.sub(r"hostKey: .*", f"hostKey: {host.host_key}{user}", path.read_text()))
        for path in [*self.clone.glob("blueprints/*.yaml"), *self.clone.glob("customers/*/jails/*.yaml")]:
            path.write_text(path.read_text().replace("/srv/archives", str(self.archives)))
        self._begin_repository()
        self.config.write_text(CONFIG.format(company=self))

    def _pack(self) -> None:
        from reconciler.packing import pack

        self.archives.mkdir()
        for tree in sorted((SAMPLE / "files").iterdir()):
            pack(tree, self.archives / f"{tree.name}.tar")

    def _begin_repository(self) -> None:
        self.git("init", "-q", "--bare", "-b", "main", str(self.remote), folder=self.folder)
        self.git("init", "-q", "-b", "main")
        self.git("remote", "add", "origin", str(self.remote))
        self.push("The sample")


CONFIG = """\
[source]
url = "{company.remote}"
poll = 5

[ssh]
key = "{company.lab.key}"

[secrets]
keys = "{company.folder}/keys"

[fetch]
files = "{company.archives}"

[web]
listen = "[::1]:8470"
secret = "{company.folder}/webhook.secret"

[daemon]
cache = "{company.cache}"
drift = 3
"""


@contextmanager
def founded(folder: Path, without_root: Collection[str] = ()) -> Iterator[Company]:
    """A company with two hosts that are up and empty."""
    with Lab(folder / "lab") as lab:
        hosts = sample_lab(lab)
        lab.up()
        for name in without_root:
            rules.close_root(hosts[name])
        yield Company(folder / "company", lab, hosts, without_root)


def until(question: str, answer: object, timeout: float = 60) -> None:
    """Waits until `answer()` is true; what was asked is the error."""
    assert callable(answer)
    deadline = time.monotonic() + timeout
    while not answer():
        assert time.monotonic() < deadline, f"not within {timeout} s: {question}"
        time.sleep(0.1)


def web(path: str, data: bytes | None = None, at: str = WEB, **headers: str) -> tuple[int, str]:
    """Status and text of the daemon's answer; 0 when nobody answers."""
    request = urllib.request.Request(at + path, data, {k.replace("_", "-"): v for k, v in headers.items()})
    try:
        with urllib.request.urlopen(request, timeout=5) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()
    except OSError:
        return 0, ""
