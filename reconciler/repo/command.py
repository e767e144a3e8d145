"""Runs git, through GitPython, which nothing else imports.

In: arguments, bytes for its standard input, a bound in seconds. Out: its status, output and complaint. No call
prompts, waits for ever, leaves a process behind, or says a URL's credentials. Two surroundings: somebody's
repository, with git's own checks and the user's configuration, and our caches, where neither the machine's
configuration nor the user's, nor variables of a surrounding git hook, mean anything. Must not know: what the commands
are for.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any, Literal
from urllib.parse import unquote, urlsplit

import git

from reconciler.model import Trouble

LOCAL = 120.0
"""Seconds for a command that asks no other machine; the slowest, on 100,000 files, takes two."""
_PIECE = 1 << 20

_QUIET = {
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_ASKPASS": "",
    "SSH_ASKPASS_REQUIRE": "never",
    "GIT_OPTIONAL_LOCKS": "0",
    "GIT_LITERAL_PATHSPECS": "1",
    "GIT_NO_REPLACE_OBJECTS": "1",
}


class GitFailure(Trouble):
    """Git could not do it; the message says what to do, and holds no secret."""


@dataclass(frozen=True, slots=True)
class Done:
    status: int
    out: bytes
    err: bytes

    @property
    def text(self) -> str:
        return os.fsdecode(self.out).strip()


class Git:
    """Git in one folder and one environment."""

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        self._git = git.Git(os.fspath(folder))
        self._git.update_environment(**_QUIET, **environment)

    def run(self, *arguments: str, feed: bytes = b"", seconds: float = LOCAL) -> Done:
        """A failing command is a `Done` with its status; GitFailure only when git is missing or too slow."""
        running = self._start(arguments)
        process: subprocess.Popen[bytes] = running.proc  # `running` ends the process when it is collected
        try:
            out, err = process.communicate(feed, timeout=seconds)
        except subprocess.TimeoutExpired:
            raise GitFailure(
                f"git {arguments[0]} took longer than {seconds:g} s: is the network or the disk slow?"
            ) from None
        finally:
            if process.returncode is None:
                _stop(process)
        return Done(process.returncode, out, err)

    def stream(self, *arguments: str, feed: bytes) -> Iterator[bytes]:
        """The output while it comes; a command that fails says less than was asked for.

        By way of a file: git writes to a pipe in pieces of 4 KB, and to wake up for each takes longer than git itself.
        What there is can be worked on while git goes on: 10,000 documents are loaded in 15 % less time.
        """
        with TemporaryFile() as asked, TemporaryFile() as answer:
            asked.write(feed)
            asked.seek(0)
            environment = {**os.environ, **self._git.environment()}
            process = subprocess.Popen(
                ["git", *arguments],
                cwd=self._git.working_dir,
                env=environment,
                stdin=asked,
                stdout=answer,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
            try:
                yield from _growing(answer.fileno(), process)
            finally:
                if process.returncode is None:
                    _stop(process)

    def _start(self, arguments: Iterable[str]) -> Any:
        """In a session of its own: git has no terminal to ask on, and its ssh can be stopped together with it."""
        command = ["git", *arguments]
        try:
            return self._git.execute(command, istream=subprocess.PIPE, as_process=True, start_new_session=True)
        except git.GitCommandNotFound:
            raise GitFailure("git is not installed: install it (2.36 or later)") from None


def _growing(file: int, process: subprocess.Popen[bytes]) -> Iterator[bytes]:
    """What a process writes into a file until it ends; read by position, because the two share an offset."""
    at, deadline = 0, time.monotonic() + LOCAL
    while True:
        ended = process.poll() is not None  # asked before reading, so that nothing is written in between
        data = os.pread(file, _PIECE, at)
        at += len(data)
        if data:
            yield data
        elif ended:
            return
        elif time.monotonic() > deadline:
            raise GitFailure(f"git took longer than {LOCAL:g} s: is the disk slow?")
        else:
            time.sleep(0.001)


def _stop(process: subprocess.Popen[bytes]) -> None:
    """SIGTERM first, on which git removes its lock files. GitPython's own time-out kills at once, and needs `ps`."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.communicate(timeout=3)
            return


def surrounding(path: Path) -> tuple[Git, Path]:
    """The repository that `path` is in, and its top folder; git's check of who owns it is left in force."""
    try:
        with git.Repo(path, search_parent_directories=True) as repo:
            top = Path(repo.working_tree_dir or repo.git_dir)
    except (git.InvalidGitRepositoryError, git.NoSuchPathError):
        raise GitFailure(f"{path} is not in a git repository") from None
    return Git(top, {}), top


def cache(folder: Path, url: str, settings: Iterable[tuple[str, str]], surroundings: Mapping[str, str]) -> Git:
    """A bare repository of ours at `folder`, whose remote `origin` is `url`: never on disk, it may hold a password."""
    configuration = _settings([("remote.origin.url", url), *_CACHE, *settings])
    return Git(folder.parent, {**_isolated(folder), **configuration, **surroundings})


def lay_out(folder: Path) -> None:
    """An empty bare repository (gitrepository-layout(5)); `git init` minds a hook's variables and templates."""
    for name in ("objects", "refs"):
        (folder / name).mkdir(parents=True)
    (folder / "config").write_text("[core]\n\trepositoryformatversion = 0\n\tbare = true\n")
    (folder / "HEAD").write_text("ref: refs/heads/none\n")


def trust(file: Path) -> None:
    """Writes a GIT_CONFIG_GLOBAL that opens everybody's repositories, for a cache and its one remote only.

    A remote on this machine may belong to a user of its own (git-config(1), safe.directory): the operator trusts it by
    configuring it.
    """
    file.write_text("[safe]\n\tdirectory = *\n")


_CACHE = (
    ("core.hooksPath", os.devnull),
    ("gc.autoDetach", "false"),
    ("http.followRedirects", "false"),
)


def network(protocols: Iterable[str], ssh_command: str | None) -> dict[str, str]:
    """Which protocols git may speak, and how it calls ssh: never asking anything."""
    return {
        "GIT_ALLOW_PROTOCOL": ":".join(protocols),
        "GIT_SSH_COMMAND": ssh_command or "ssh -o BatchMode=yes -o ConnectTimeout=20",
    }


def _isolated(folder: Path) -> dict[str, str]:
    """Variables of a hook that we may run in would lead git elsewhere; GitPython can set them but not drop them."""
    return {
        "GIT_DIR": str(folder),
        "GIT_COMMON_DIR": str(folder),
        "GIT_OBJECT_DIRECTORY": str(folder / "objects"),
        "GIT_ALTERNATE_OBJECT_DIRECTORIES": "",
        "GIT_NAMESPACE": "",
        "GIT_CONFIG_PARAMETERS": "",
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_ATTR_NOSYSTEM": "1",
    }


def _settings(pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Configuration by environment (git-config(1), GIT_CONFIG_COUNT)."""
    numbered = list(enumerate(pairs))
    keys = {f"GIT_CONFIG_KEY_{i}": key for i, (key, _) in numbered}
    values = {f"GIT_CONFIG_VALUE_{i}": value for i, (_, value) in numbered}
    return {"GIT_CONFIG_COUNT": str(len(numbered)), **keys, **values}


def plain(url: str) -> str:
    """The URL without user, password and query."""
    return re.sub(r"(?<=://)[^/\s]*@|\?.*", "", url)


def complaint(done: Done, url: str = "") -> str:
    """What git said, in one line that is safe to show: no credentials, nothing unprintable, at most 300 characters."""
    lines = done.err.decode(errors="replace").splitlines()
    telling = [line for line in lines if line.startswith(("fatal:", "error:", "remote:"))] or lines
    words = _without_secrets("; ".join(line.strip() for line in telling), url)
    return "".join(c for c in words if c.isprintable())[:300] or f"git ended with status {done.status}"


def pushed(done: Done, url: str) -> tuple[Literal["landed", "lost", "away"], str]:
    """What became of one ref's push, and why. By the porcelain flags of git-push(1): "!" is a refused ref; without a
    line there was no answer."""
    lines = [line for line in done.out.decode(errors="replace").splitlines() if line[1:2] == "\t"]
    refused = [line.split("\t")[-1] for line in lines if line[0] == "!"]
    if refused:
        return "lost", refused[0]
    return ("away", complaint(done, url)) if done.status else ("landed", "")


def _without_secrets(words: str, url: str) -> str:
    user, _, password = urlsplit(url).netloc.rpartition("@")[0].partition(":") if "://" in url else ("", "", "")
    token = password or (user if url.startswith("http") else "")
    words = words.replace(url, plain(url)) if url else words
    for secret in filter(None, (token, unquote(token))):
        words = words.replace(secret, "***")
    return re.sub(r"(?<=://)[^/\s]*@", "", words)
