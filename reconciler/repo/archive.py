"""One commit of somebody else's repository as a tar file, for sources that are pinned to a commit.

In: a URL and a commit that a customer may have written, and a folder that may be deleted at any time. Out: a file
with exactly the commit's files; nothing of the repository is run, and its attributes change nothing. Must not know:
how it is unpacked, and that the names in it are still hostile.
"""

from __future__ import annotations

import hashlib
import re
import tempfile
from collections.abc import Iterable
from pathlib import Path

from reconciler.repo.command import Git, GitFailure, cache, complaint, lay_out, network, plain

_PLAIN = "* !export-ignore !export-subst !filter !ident !text !eol !crlf !working-tree-encoding\n"
"""info/attributes, which outranks the commit's own: same commit, same bytes."""


def archive(
    url: str,
    commit: str,
    folder: Path,
    protocols: Iterable[str] = ("https",),
    ssh_command: str | None = None,
    seconds: float = 120,
) -> Path:
    """A tar below `folder`; made once. GitFailure after `seconds`, or when the protocol is not allowed.

    Filed by URL as well as commit: whoever may not read a URL does not get what others fetched from it.
    """
    if not re.fullmatch(r"[0-9a-f]{40}", commit):
        raise GitFailure(f"{commit!r} is not a whole commit id: write all 40 digits")
    tar = folder / hashlib.sha256(url.encode()).hexdigest()[:16] / f"{commit}.tar"
    if not tar.exists():
        tar.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=tar.parent, prefix=".") as scratch:
            fresh = Path(scratch) / "git"
            _fetch(cache(fresh, url, (), network(protocols, ssh_command)), fresh, url, commit, seconds)
            (fresh / "tar").replace(tar)
    return tar


def _fetch(git: Git, fresh: Path, url: str, commit: str, seconds: float) -> None:
    """Leaves the archive at `fresh`/tar."""
    lay_out(fresh)
    (fresh / "info").mkdir()
    (fresh / "info/attributes").write_text(_PLAIN)
    quietly = ("--quiet", "--no-tags", "--no-recurse-submodules", "--no-write-fetch-head", "--no-auto-maintenance")
    _do(git, url, "fetch", *quietly, "--depth=1", "origin", commit, seconds=seconds)
    if git.run("rev-parse", "--verify", "--quiet", commit + "^{commit}").text != commit:
        raise GitFailure(f"{commit} of {plain(url)} is not a commit: a tag's own id does not pin")
    _do(git, url, "archive", "--format=tar", f"--output={fresh / 'tar'}", commit, seconds=seconds)


def _do(git: Git, url: str, *arguments: str, seconds: float = 120) -> None:
    done = git.run(*arguments, seconds=seconds)
    if done.status:
        advice = "Check the URL, that the commit is there, and who may read it"
        raise GitFailure(f"git {arguments[0]} of {plain(url)} failed: {complaint(done, url)}. {advice}")
