"""Real repositories on disk: bare remotes, also by file:// URLs. Only `git` itself prepares and judges them."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
import subprocess
import tarfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from reconciler.passes import commit_archive
from reconciler.repo import LIMIT, GitFailure, Mirror, Repository, Snapshot, Unread, WorkTree, archive
from reconciler.repo import mirror as mirror_module
from reconciler.repo.command import Done, complaint, plain

STATUS = "status/main"
IDENTITY = ("-c", "user.name=t", "-c", "user.email=t@t", "-c", "commit.gpgSign=false")


def git(folder: Path, *arguments: str, feed: bytes = b"") -> str:
    command = ["git", "-C", str(folder), *IDENTITY, *arguments]
    return os.fsdecode(subprocess.run(command, input=feed, check=True, stdout=subprocess.PIPE).stdout).strip()


def commit(work: Path, files: dict[str, str], message: str = "change") -> str:
    for path, text in files.items():
        (work / path).parent.mkdir(parents=True, exist_ok=True)
        (work / path).write_text(text)
    git(work, "add", "-A")
    git(work, "commit", "-qm", message, "--allow-empty")
    return git(work, "rev-parse", "HEAD")


def contents(snapshot: Snapshot) -> dict[str, bytes | Unread]:
    return dict(snapshot.read(snapshot.entries))


@pytest.fixture
def remote(tmp_path: Path) -> Path:
    git(tmp_path, "init", "-q", "--bare", "-b", "main", "remote.git")
    return tmp_path / "remote.git"


@pytest.fixture
def work(tmp_path: Path, remote: Path) -> Path:
    git(tmp_path, "clone", "-q", str(remote), "work")
    git(tmp_path / "work", "checkout", "-qB", "main")
    commit(tmp_path / "work", {"platform.yaml": "kind: Platform\n"}, "first")
    git(tmp_path / "work", "push", "-q", "origin", "main")
    return tmp_path / "work"


def open_mirror(remote: Path, folder: Path) -> Mirror:
    return Mirror(f"file://{remote}", folder, "main", STATUS)


@pytest.fixture
def mirror(remote: Path, work: Path, tmp_path: Path) -> Mirror:
    return open_mirror(remote, tmp_path / "cache")


class Away:
    """The remote does not answer inside the block."""

    def __init__(self, remote: Path) -> None:
        self.remote, self.elsewhere = remote, remote.with_suffix(".away")

    def __enter__(self) -> None:
        self.remote.rename(self.elsewhere)

    def __exit__(self, *_: object) -> None:
        self.elsewhere.rename(self.remote)


def published(remote: Path) -> dict[str, str]:
    names = git(remote, "ls-tree", "-r", "-z", "--name-only", STATUS).split("\0")
    return {name: git(remote, "show", f"{STATUS}:{name}") for name in names if name}


def messages(remote: Path) -> list[str]:
    return git(remote, "log", "--format=%s", "--reverse", STATUS).splitlines()


# ── reading a repository ─────────────────────────────────────────────────────────────────────────────────────


def test_a_tree_lists_every_file_and_reads_them_in_the_order_asked_for(work: Path) -> None:
    sha = commit(work, {"hosts/a.yaml": "kind: Host\n", "hosts/b c.yaml": "b"})
    tree = Repository.open(work).tree(sha)
    assert sorted(tree.entries) == ["hosts/a.yaml", "hosts/b c.yaml", "platform.yaml"]
    assert list(tree.read(["platform.yaml", "hosts/a.yaml"])) == [
        ("platform.yaml", b"kind: Platform\n"),
        ("hosts/a.yaml", b"kind: Host\n"),
    ]
    assert list(tree.read([])) == []


def test_a_tree_below_a_folder_keeps_whole_paths_and_a_folder_that_is_not_there_is_empty(work: Path) -> None:
    sha = commit(work, {"customers/x/customer.yaml": "x", "customers/xy/customer.yaml": "xy"})
    repository = Repository.open(work)
    assert list(repository.tree(sha, "customers/x").entries) == ["customers/x/customer.yaml"]
    assert dict(repository.tree(sha, "customers/*").entries) == {}


def test_a_tree_known_before_leads_to_the_same_tree_as_listing_all_of_it(work: Path) -> None:
    repository = Repository.open(work)
    (work / "x.link").symlink_to("y")
    commits = [commit(work, {"customers/x/a": "1", "customers/x/b": "1", "z": "1"})]
    (work / "customers/x/b").unlink()
    (work / "x.link").unlink()
    commits.append(commit(work, {"customers/x/a": "2", "x.link": "a file now", "a/first\nline": "1"}))
    commits.append(commit(work, {}, "nothing changed"))
    for under in ("", "customers/x", "missing"):
        for old in commits:
            for new in commits:
                known = repository.tree(old, under)
                later = repository.tree(new, under, known)
                assert later == repository.tree(new, under)
                assert list(later.entries) == sorted(later.entries) == list(repository.tree(new, under).entries)
    gone = type(known)(repository, {"ghost": known.entries.get("z")}, "1" * 40)  # type: ignore[dict-item]
    assert repository.tree(new, known=gone) == repository.tree(new)
    assert repository.tree(new, known=repository.tree(old, "customers")) == repository.tree(new)


def test_entries_of_two_commits_are_read_through_one_tree(work: Path) -> None:
    old = commit(work, {"customers/x/jails/a.yaml": "old"})
    new = commit(work, {"customers/x/jails/a.yaml": "new", "hosts/a.yaml": "a"})
    repository = Repository.open(work)
    held = type(repository.tree(new))(
        repository, {**repository.tree(new).entries, **repository.tree(old, "customers/x").entries}
    )
    assert contents(held)["customers/x/jails/a.yaml"] == b"old"
    assert contents(held)["hosts/a.yaml"] == b"a"


@pytest.mark.parametrize("name", [b"with space", b"line\nfeed", b'tab\tand"quote\\', b"no utf-8 \xff\xfe", b" edges "])
def test_strange_file_names_survive_reading_and_publishing(
    work: Path, remote: Path, mirror: Mirror, name: bytes
) -> None:
    (work / os.fsdecode(name)).write_text("strange")
    sha = commit(work, {})
    tree = Repository.open(work).tree(sha)
    assert dict(tree.read([os.fsdecode(name)])) == {os.fsdecode(name): b"strange"}
    assert contents(WorkTree(work))[os.fsdecode(name)] == b"strange"
    assert Repository.open(work).history(sha, os.fsdecode(name)) == [sha]
    mirror.publish({os.fsdecode(name): b"status", "x": b""}, "strange")
    assert mirror.status_files() == {os.fsdecode(name): b"status", "x": b""}
    mirror.publish({os.fsdecode(name): None}, "gone")
    assert mirror.status_files() == {"x": b""}


def test_links_submodules_and_large_files_are_reported_and_not_read(work: Path) -> None:
    (work / "link.yaml").symlink_to("/etc/passwd")
    (work / "large.yaml").write_bytes(b"x" * (LIMIT + 1))
    (work / "limit.yaml").write_bytes(b"x" * LIMIT)
    git(work, "add", "-A")
    git(work, "update-index", "--add", "--cacheinfo", f"160000,{git(work, 'rev-parse', 'HEAD')},module")
    git(work, "commit", "-qm", "strange")
    read = contents(Repository.open(work).tree("HEAD"))
    assert read["link.yaml"] == Unread("a symbolic link: write the file itself")
    assert read["module"] == Unread("a submodule: copy its files")
    assert read["large.yaml"] == Unread(f"larger than 4 MiB ({LIMIT + 1} bytes)")
    assert read["limit.yaml"] == b"x" * LIMIT
    assert read["platform.yaml"] == b"kind: Platform\n"


def test_many_large_files_are_read_in_batches(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("reconciler.repo.repository._BATCH", 100)
    monkeypatch.setattr("reconciler.repo.repository.LIMIT", 90)
    sha = commit(work, {f"f{n}": f"{n}" * (60 + n * 5) for n in range(9)})
    read = contents(Repository.open(work).tree(sha))
    assert [path for path, content in read.items() if isinstance(content, Unread)] == ["f7", "f8"]
    assert {**contents(WorkTree(work)), "f7": read["f7"], "f8": read["f8"]} == read


def test_ten_thousand_files_are_read(tmp_path: Path, remote: Path) -> None:
    files = {f"customers/c{n // 50}/jails/j{n}.yaml": f"name: j{n}\n".encode() for n in range(10_000)}
    mirror = open_mirror(remote, tmp_path / "cache")
    sha = mirror.publish(files, "many")
    assert sha is not None
    assert contents(mirror.tree(sha)) == files
    assert mirror.publish(files, "many again") is None


def test_an_empty_repository_has_no_commit(tmp_path: Path, remote: Path) -> None:
    with pytest.raises(GitFailure, match="no commit 'HEAD'"):
        Repository.open(remote).resolve("HEAD")


def test_a_commit_without_files_is_an_empty_tree(work: Path) -> None:
    (work / "platform.yaml").unlink()
    assert contents(Repository.open(work).tree(commit(work, {}))) == {}


@pytest.mark.parametrize("revision", ["nothing", "--help", "-x", "", "a b", "0" * 40, "HEAD:platform.yaml"])
def test_a_revision_that_is_no_commit_is_named(work: Path, revision: str) -> None:
    with pytest.raises(GitFailure, match="has no commit") as failure:
        Repository.open(work).resolve(revision)
    assert repr(revision) in str(failure.value)


def test_branches_tags_and_abbreviations_resolve(work: Path) -> None:
    sha = git(work, "rev-parse", "HEAD")
    git(work, "tag", "-a", "-m", "t", "v1")
    repository = Repository.open(work)
    assert {repository.resolve(name) for name in ("main", "v1", sha[:10], sha, "HEAD")} == {sha}


def test_a_repository_opens_from_a_folder_inside_it_and_lists_its_whole_tree(work: Path) -> None:
    sha = commit(work, {"hosts/a.yaml": "a"})
    assert sorted(Repository.open(work / "hosts").tree(sha).entries) == ["hosts/a.yaml", "platform.yaml"]


@pytest.mark.parametrize("folder", ["plain", "missing"])
def test_a_folder_that_is_no_repository_says_so(tmp_path: Path, folder: str) -> None:
    (tmp_path / "plain").mkdir()
    with pytest.raises(GitFailure, match="not in a git repository"):
        Repository.open(tmp_path / folder)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_a_repository_of_another_user_says_how_to_trust_it(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("SUDO_UID", "GIT_CONFIG_GLOBAL"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("HOME", str(work))
    for path in (work, work / ".git"):
        os.chown(path, 65534, 65534)
    with pytest.raises(GitFailure, match=r"safe\.directory"):
        Repository.open(work)


def test_history_follows_first_parents_that_touched_the_path_newest_first(work: Path) -> None:
    first = git(work, "rev-parse", "HEAD")
    a1 = commit(work, {"hosts/a.yaml": "1"})
    git(work, "checkout", "-qb", "side")
    commit(work, {"hosts/a.yaml": "side"})
    git(work, "checkout", "-q", "main")
    commit(work, {"other": "1"})
    git(work, "merge", "-q", "--no-ff", "-m", "merge side", "side")
    merge = git(work, "rev-parse", "HEAD")
    repository = Repository.open(work)
    assert repository.history("main", "hosts/a.yaml") == [merge, a1]
    assert repository.history("main", limit=1) == [merge]
    assert repository.history("main")[-1] == first
    assert repository.history("main", "hosts/*") == []
    assert repository.subject("main") == "merge side"


def test_ancestry_counts_the_commit_itself_and_no_unknown_one(work: Path) -> None:
    old, new = git(work, "rev-parse", "HEAD"), commit(work, {"a": "1"})
    repository = Repository.open(work)
    assert repository.is_ancestor(old, new)
    assert repository.is_ancestor(new, new)
    assert not repository.is_ancestor(new, old)
    assert not repository.is_ancestor("1" * 40, new)
    with pytest.raises(GitFailure, match="no commit"):
        repository.is_ancestor(old, "1" * 40)


# ── reading a directory ──────────────────────────────────────────────────────────────────────────────────────


def test_a_work_tree_reads_like_the_commit_of_the_same_files(work: Path) -> None:
    (work / "link.yaml").symlink_to("platform.yaml")
    sha = commit(work, {"hosts/a.yaml": "a", "hosts/deep/b.yaml": "b"})
    tree, directory = Repository.open(work).tree(sha), WorkTree(work)
    assert contents(tree) == contents(directory)
    assert {p: e.mode for p, e in tree.entries.items()} == {p: e.mode for p, e in directory.entries.items()}


def test_a_work_tree_leaves_out_dot_directories_and_does_not_follow_links(tmp_path: Path) -> None:
    (tmp_path / ".git").mkdir()
    (tmp_path / ".git/config").write_text("secret")
    (tmp_path / "loop").symlink_to(tmp_path)
    assert contents(WorkTree(tmp_path)) == {"loop": Unread("a symbolic link: write the file itself")}


def test_a_work_tree_reports_what_it_cannot_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "large").write_bytes(b"x" * (LIMIT + 1))
    for name in ("gone", "swapped", "piped", "grown"):
        (tmp_path / name).write_text("x")
    directory = WorkTree(tmp_path)
    for name in ("gone", "swapped", "piped"):
        (tmp_path / name).unlink()
    (tmp_path / "swapped").symlink_to("/etc/passwd")
    os.mkfifo(tmp_path / "piped")
    (tmp_path / "grown").write_bytes(b"x" * (LIMIT + 1))
    read = contents(directory)
    assert read["fifo"] == read["piped"] == Unread("not a regular file")
    assert read["large"] == read["grown"] == Unread(f"larger than 4 MiB ({LIMIT + 1} bytes)")
    assert read["gone"] == Unread("unreadable: No such file or directory")
    assert isinstance(read["swapped"], Unread)


def test_a_directory_that_cannot_be_listed_is_an_entry(tmp_path: Path) -> None:
    missing = WorkTree(tmp_path / "missing")
    assert contents(missing) == {".": Unread("a directory that cannot be listed: check its permissions")}


# ── fetching ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_fetch_returns_the_commit_of_the_watched_branch(mirror: Mirror, work: Path) -> None:
    assert mirror.fetch() == git(work, "rev-parse", "HEAD")
    sha = commit(work, {"hosts/a.yaml": "a"})
    git(work, "push", "-q")
    assert mirror.fetch() == sha == mirror.fetch()
    assert contents(mirror.tree(sha))["hosts/a.yaml"] == b"a"
    assert mirror.resolve("main") == sha


def test_a_force_pushed_branch_is_followed_and_seen_not_to_descend(mirror: Mirror, work: Path) -> None:
    old = mirror.fetch()
    git(work, "commit", "-q", "--amend", "-m", "rewritten")
    git(work, "push", "-qf")
    new = mirror.fetch()
    assert new == git(work, "rev-parse", "HEAD")
    assert not mirror.is_ancestor(old, new)


def test_a_missing_branch_is_named(remote: Path, work: Path, tmp_path: Path) -> None:
    with pytest.raises(GitFailure, match="has no branch 'nothing': push it, or watch another one"):
        Mirror(f"file://{remote}", tmp_path / "cache", "nothing", STATUS).fetch()


def test_an_empty_remote_has_no_branch_to_watch_but_takes_a_status(remote: Path, tmp_path: Path) -> None:
    mirror = open_mirror(remote, tmp_path / "cache")
    with pytest.raises(GitFailure, match="has no branch 'main'"):
        mirror.fetch()
    assert mirror.status_files() == {}
    assert mirror.publish({"README.md": b"hello"}, "first")
    assert published(remote) == {"README.md": "hello"}


def test_a_remote_that_is_away_says_so_and_is_fetched_when_it_comes_back(
    mirror: Mirror, remote: Path, work: Path
) -> None:
    with Away(remote), pytest.raises(GitFailure, match="cannot reach"):
        mirror.fetch()
    assert mirror.fetch() == git(work, "rev-parse", "HEAD")


@pytest.mark.parametrize("name", ["--upload-pack=x", "a b", "a:b", "a*", ""])
def test_a_name_that_is_no_branch_is_refused(remote: Path, tmp_path: Path, name: str) -> None:
    with pytest.raises(GitFailure, match="not a branch name"):
        Mirror(f"file://{remote}", tmp_path, name, STATUS)


def test_a_protocol_that_runs_commands_is_refused(tmp_path: Path) -> None:
    with pytest.raises(GitFailure, match="cannot reach"):
        Mirror(f"ext::touch {tmp_path}/ran", tmp_path / "cache", "main", STATUS).fetch()
    assert not (tmp_path / "ran").exists()


def test_a_customers_commit_is_not_fetched_by_ssh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It would be with the reconciler's own key."""
    monkeypatch.setenv("GIT_SSH_COMMAND", f"touch {tmp_path}/ran;")
    with pytest.raises(GitFailure, match="'ssh' not allowed"):
        commit_archive("ssh://git.example.org/x.git", "a" * 40, tmp_path / "archives")
    assert not (tmp_path / "ran").exists()


def test_a_fetch_that_hangs_is_stopped_with_all_its_processes(tmp_path: Path) -> None:
    ssh = tmp_path / "ssh"
    ssh.write_text(f"#!/bin/sh\necho $$ > {tmp_path}/pid\nsleep 600\n")
    ssh.chmod(0o755)
    mirror = Mirror("ssh://nowhere/x.git", tmp_path / "cache", "main", STATUS, ssh_command=str(ssh), seconds=0.5)
    with pytest.raises(GitFailure, match=r"git fetch took longer than 0\.5 s"):
        mirror.fetch()
    pid = int((tmp_path / "pid").read_text())
    deadline = time.monotonic() + 5
    while _alive(pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not _alive(pid)


def _alive(pid: int) -> bool:
    """Running; a zombie that waits for the machine's init is not."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    status = Path(f"/proc/{pid}/stat")
    return not (status.exists() and status.read_text().rpartition(")")[2].split()[0] == "Z")


def test_the_cache_may_be_deleted_at_any_time(mirror: Mirror, work: Path, tmp_path: Path) -> None:
    sha = mirror.fetch()
    mirror.publish({"README.md": b"1"}, "one")
    shutil.rmtree(tmp_path / "cache")
    assert mirror.fetch() == sha
    assert mirror.status_files() == {"README.md": b"1"}
    shutil.rmtree(tmp_path / "cache")
    assert mirror.status_files() == {}
    assert mirror.publish({"README.md": b"1"}, "one again") is None
    assert mirror.publish({"README.md": b"2"}, "two")
    assert mirror.status_files() == {"README.md": b"2"}


def _remove_objects(cache: Path) -> None:
    for path in [*cache.glob("objects/??/*"), *cache.glob("objects/pack/*")]:
        path.unlink()


def _stale_lock(cache: Path) -> None:
    (cache / "refs/heads/main.lock").touch()


def _stale_lock_of_the_spool(cache: Path) -> None:
    (cache / "refs/spool").mkdir(exist_ok=True)
    (cache / "refs/spool/new.lock").touch()


def _truncate_head(cache: Path) -> None:
    (cache / "HEAD").write_text("")


def _empty_references(cache: Path) -> None:
    for path in cache.glob("refs/heads/*"):
        if path.is_file():
            path.write_text("")


@pytest.mark.parametrize(
    "harm", [_remove_objects, _stale_lock, _stale_lock_of_the_spool, _truncate_head, _empty_references]
)
def test_a_damaged_cache_is_made_anew(mirror: Mirror, work: Path, tmp_path: Path, harm) -> None:  # type: ignore[no-untyped-def]
    mirror.fetch()
    mirror.publish({"README.md": b"1"}, "one")
    sha = commit(work, {"hosts/a.yaml": "a"})
    git(work, "push", "-q")
    (cache,) = (tmp_path / "cache").glob("*.git")
    harm(cache)
    for _ in range(3):  # a failure in plain words is allowed, staying broken is not
        try:
            found = mirror.fetch()
            assert contents(mirror.tree(found))["hosts/a.yaml"] == b"a"
            break
        except GitFailure:
            found = ""
    assert found == sha
    assert mirror.publish({"README.md": b"2"}, "two")


def test_damage_found_while_reading_is_mended_by_the_next_fetch(mirror: Mirror, work: Path, tmp_path: Path) -> None:
    sha = mirror.fetch()
    tree = mirror.tree(sha)
    (cache,) = (tmp_path / "cache").glob("*.git")
    blob = tree.entries["platform.yaml"].sha
    (cache / "objects" / blob[:2] / blob[2:]).unlink()
    with pytest.raises(GitFailure, match="made anew at the next fetch"):
        contents(tree)
    assert contents(mirror.tree(mirror.fetch()))["platform.yaml"] == b"kind: Platform\n"


def test_the_users_configuration_and_a_surrounding_hook_do_not_matter(
    mirror: Mirror, work: Path, remote: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    evil = tmp_path / "evil"
    (evil / "hooks").mkdir(parents=True)
    for hook in ("pre-push", "reference-transaction", "pre-auto-gc"):
        (evil / "hooks" / hook).write_text("#!/bin/sh\nexit 1\n")
        (evil / "hooks" / hook).chmod(0o755)
    (evil / ".gitconfig").write_text(
        f"[core]\n\thooksPath = {evil}/hooks\n[commit]\n\tgpgSign = true\n[push]\n\tgpgSign = true\n"
        f'[init]\n\ttemplateDir = {evil}\n[url "file:///nowhere/"]\n\tinsteadOf = file://\n'
    )
    monkeypatch.setenv("HOME", str(evil))
    monkeypatch.setenv("GIT_DIR", str(work / ".git"))
    monkeypatch.setenv("GIT_INDEX_FILE", str(evil / "index"))
    monkeypatch.setenv("GIT_WORK_TREE", str(work))
    monkeypatch.setenv("GIT_CONFIG_PARAMETERS", "'push.gpgsign'='true'")
    fresh = open_mirror(remote, tmp_path / "other")
    for each in (mirror, fresh):
        sha = each.fetch()
        assert "platform.yaml" in each.tree(sha).entries
        assert each.publish({"README.md": str(each).encode()}, "a status")
    monkeypatch.undo()
    assert git(work, "branch", "--format=%(refname)") == "refs/heads/main"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_a_local_remote_of_another_user_is_fetched_and_published_to(
    mirror: Mirror, work: Path, remote: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SUDO_UID", raising=False)
    expected = git(work, "rev-parse", "HEAD")
    os.chown(remote, 65534, 65534)
    assert mirror.fetch() == expected
    assert mirror.publish({"README.md": b"1"}, "one")


# ── publishing ───────────────────────────────────────────────────────────────────────────────────────────────


def test_a_publish_is_an_orphan_commit_by_the_given_author(mirror: Mirror, remote: Path) -> None:
    sha = mirror.publish({"README.md": b"fleet\n", "hosts/a.yaml": b"ready\n"}, "a ready\n\nApplied-Revision: 1")
    assert published(remote) == {"README.md": "fleet", "hosts/a.yaml": "ready"}
    assert git(remote, "rev-list", STATUS) == sha
    expected = "reconciler <reconciler@localhost>|reconciler <reconciler@localhost>|1"
    assert git(remote, "log", "-1", "--format=%an <%ae>|%cn <%ce>|%(trailers:valueonly)", STATUS) == expected
    git(remote, "fsck", "--strict")


def test_another_author_may_be_given(remote: Path, work: Path, tmp_path: Path) -> None:
    mirror = Mirror(f"file://{remote}", tmp_path / "c", "main", STATUS, author="Ops ü <ops@example.org>")
    mirror.publish({"a": b""}, "x")
    assert git(remote, "log", "-1", "--format=%an <%ae>", STATUS) == "Ops ü <ops@example.org>"


def test_only_what_changed_is_committed_and_nothing_changed_is_no_commit(mirror: Mirror, remote: Path) -> None:
    first = mirror.publish({"a": b"1", "d/b": b"1"}, "first")
    assert mirror.publish({"a": b"1", "d/b": b"1", "missing": None}, "same") is None
    assert mirror.publish({}, "nothing") is None
    second = mirror.publish({"a": b"2", "d/b": b"1"}, "second")
    assert git(remote, "rev-list", STATUS).split() == [second, first]
    assert git(remote, "diff-tree", "-r", "--name-only", "--no-commit-id", str(second)) == "a"


def test_files_are_removed_and_give_way_to_directories_and_back(mirror: Mirror, remote: Path) -> None:
    mirror.publish({"a": b"file", "keep": b""}, "1")
    mirror.publish({"a/b": b"below", "a": None}, "2")
    assert published(remote) == {"a/b": "below", "keep": ""}
    mirror.publish({"a": b"file", "a/b": None}, "3")
    assert published(remote) == {"a": "file", "keep": ""}
    mirror.publish({"a": None, "keep": None}, "4")
    assert published(remote) == {}
    assert mirror.status_files() == {}


@pytest.mark.parametrize("path", ["", "/a", "a/", "a//b", "../a", "a/../b", ".", "a/.git/b", ".GIT", "a\0b"])
def test_a_path_that_git_cannot_hold_is_refused_before_anything_is_written(mirror: Mirror, path: str) -> None:
    with pytest.raises(GitFailure, match="cannot be the path"):
        mirror.publish({"good": b"", path: b""}, "bad")
    assert mirror.publish({"..a/.b/c.": b""}, "odd but good")
    assert mirror.status_files() == {"..a/.b/c.": b""}


def test_what_somebody_changed_by_hand_is_put_right(mirror: Mirror, work: Path, remote: Path) -> None:
    mirror.publish({"a": b"1"}, "first")
    git(work, "fetch", "-q", "origin", STATUS)
    git(work, "checkout", "-q", "FETCH_HEAD")
    git(work, "rm", "-q", "a")
    (work / "a").symlink_to("1")
    commit(work, {"theirs": "kept"}, "by hand")
    git(work, "push", "-q", "origin", f"HEAD:refs/heads/{STATUS}")
    mirror.fetch()
    assert mirror.publish({"a": b"1"}, "again")
    assert published(remote) == {"a": "1", "theirs": "kept"}
    assert git(remote, "ls-tree", STATUS, "a").startswith("100644")


def test_a_lost_race_is_won_on_the_new_tip(remote: Path, work: Path, tmp_path: Path) -> None:
    one, two = (open_mirror(remote, tmp_path / name) for name in ("one", "two"))
    one.publish({"a": b"0", "b": b"0"}, "both")
    two.fetch()
    one.publish({"a": b"1"}, "by one")
    assert two.publish({"b": b"2"}, "by two")
    assert published(remote) == {"a": "1", "b": "2"}
    assert messages(remote) == ["both", "by one", "by two"]
    assert one.publish({"b": b"2"}, "same as two") is None
    assert messages(remote) == ["both", "by one", "by two"]


def _publish_many(url: str, folder: Path, name: str) -> None:
    mirror = Mirror(url, folder, "main", STATUS)
    for n in range(5):
        mirror.publish({f"{name}/{n}": name.encode()}, f"{name} {n}")


@pytest.mark.parametrize("shared", [False, True], ids=["own caches", "one cache"])
@pytest.mark.parametrize("kind", [threading.Thread, multiprocessing.get_context("spawn").Process])
def test_concurrent_publishers_lose_nothing(remote: Path, work: Path, tmp_path: Path, kind, shared: bool) -> None:  # type: ignore[no-untyped-def]
    names = ["a", "b", "c"]
    writers = [
        kind(target=_publish_many, args=(f"file://{remote}", tmp_path / ("cache" if shared else name), name))
        for name in names
    ]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert published(remote) == {f"{name}/{n}": name for name in names for n in range(5)}
    assert sorted(messages(remote)) == sorted(f"{name} {n}" for name in names for n in range(5))
    assert git(remote, "rev-list", "--merges", STATUS) == ""


def test_what_a_remote_that_is_away_missed_goes_out_with_the_next_publish(mirror: Mirror, remote: Path) -> None:
    mirror.publish({"a": b"0", "old": b"0"}, "before")
    with Away(remote):
        with pytest.raises(GitFailure, match="The status is kept and pushed later"):
            mirror.publish({"a": b"1", "old": None}, "missed one")
        with pytest.raises(GitFailure, match="kept"):
            mirror.publish({"b": b"2"}, "missed two")
        assert mirror.status_files() == {"a": b"1", "b": b"2"}
    assert mirror.publish({"c": b"3"}, "after")
    assert published(remote) == {"a": "1", "b": "2", "c": "3"}
    assert messages(remote) == ["before", "missed one", "missed two", "after"]


def test_the_spool_goes_out_even_when_there_is_nothing_new(remote: Path, mirror: Mirror, tmp_path: Path) -> None:
    mirror.fetch()
    with Away(remote), pytest.raises(GitFailure):
        mirror.publish({"a": b"1"}, "missed")
    later = open_mirror(remote, tmp_path / "cache")  # another process, the same cache
    assert later.publish({}, "nothing") == git(remote, "rev-parse", STATUS)
    assert messages(remote) == ["missed"]


def test_a_spool_that_others_have_overtaken_is_written_again_on_their_tip(
    remote: Path, mirror: Mirror, tmp_path: Path
) -> None:
    mirror.publish({"a": b"0", "gone": b"0", "theirs": b"0"}, "before")
    with Away(remote):
        missed: list[dict[str, bytes | None]] = [{"a": b"1"}, {"b": b"2", "gone": None}, {"same": b"s"}]
        for n, files in enumerate(missed):
            with pytest.raises(GitFailure):
                mirror.publish(files, f"missed {n}")
    open_mirror(remote, tmp_path / "other").publish({"theirs": b"1", "same": b"s"}, "by another")
    mirror.fetch()
    assert mirror.status_files() == {"a": b"1", "b": b"2", "theirs": b"1", "same": b"s"}
    assert mirror.publish({"c": b"3"}, "after")
    assert published(remote) == {"a": "1", "b": "2", "c": "3", "theirs": "1", "same": "s"}
    assert messages(remote) == ["before", "by another", "missed 0", "missed 1", "after"]


def test_after_the_cache_was_deleted_while_the_remote_was_away_the_caller_publishes_afresh(
    remote: Path, mirror: Mirror, tmp_path: Path
) -> None:
    mirror.publish({"a": b"0", "old": b"0"}, "before")
    everything: dict[str, bytes | None] = {"a": b"1", "b": b"2", "old": None}
    with Away(remote):
        with pytest.raises(GitFailure):
            mirror.publish(everything, "missed")
        shutil.rmtree(tmp_path / "cache")
        with pytest.raises(GitFailure, match="cannot fetch"):
            mirror.publish(everything, "missed again")
    assert mirror.publish(everything, "afresh")
    assert published(remote) == {"a": "1", "b": "2"}
    assert messages(remote) == ["before", "afresh"]


def test_a_rewritten_status_branch_is_not_brought_back(remote: Path, mirror: Mirror, tmp_path: Path) -> None:
    mirror.publish({"a": b"0", "old": b"0"}, "long history")
    with Away(remote), pytest.raises(GitFailure):
        mirror.publish({"b": b"1"}, "missed")
    git(remote, "update-ref", "-d", f"refs/heads/{STATUS}")
    open_mirror(remote, tmp_path / "other").publish({"a": b"0"}, "squashed")
    assert mirror.publish({"c": b"2"}, "after")
    assert published(remote) == {"a": "0", "b": "1", "c": "2"}
    assert messages(remote) == ["squashed", "missed", "after"]


def test_a_deleted_status_branch_starts_again_with_what_is_published(remote: Path, mirror: Mirror) -> None:
    mirror.publish({"a": b"0"}, "before")
    git(remote, "update-ref", "-d", f"refs/heads/{STATUS}")
    mirror.fetch()
    assert mirror.status_files() == {}
    mirror.publish({"a": b"0"}, "again")
    assert messages(remote) == ["again"]


def test_a_push_that_the_remote_forbids_gives_up_with_the_remotes_reason(
    remote: Path, mirror: Mirror, monkeypatch: pytest.MonkeyPatch
) -> None:
    mirror.publish({"a": b"0"}, "before")
    hook = remote / "hooks/pre-receive"
    hook.write_text("#!/bin/sh\nexit 1\n")
    hook.chmod(0o755)
    with pytest.raises(GitFailure, match="pre-receive hook declined"):
        mirror.publish({"a": b"1"}, "refused")
    hook.unlink()
    assert mirror.publish({"b": b"2"}, "allowed")
    assert messages(remote) == ["before", "refused", "allowed"]


def test_a_writer_that_always_wins_is_told_of_after_a_bounded_number_of_races(
    remote: Path, mirror: Mirror, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mirror_module, "_TRIES", 3)
    monkeypatch.setattr(time, "sleep", lambda _: None)
    other = open_mirror(remote, tmp_path / "other")
    mirror.fetch()
    push, count = mirror._push, iter(range(100))

    def beaten(tip: str):  # type: ignore[no-untyped-def]
        other.publish({"other": str(next(count)).encode()}, "faster")
        return push(tip)

    monkeypatch.setattr(mirror, "_push", beaten)
    with pytest.raises(GitFailure, match="changed 3 times while pushing"):
        mirror.publish({"a": b"1"}, "mine")
    monkeypatch.setattr(mirror, "_push", push)
    assert mirror.publish({}, "")
    assert published(remote) == {"other": "2", "a": "1"}


def _publish_forever(url: str, folder: Path) -> None:
    mirror = Mirror(url, folder, "main", STATUS)
    for n in range(10_000):
        mirror.publish({f"d/{n % 7}": str(n).encode()}, str(n))


def test_a_killed_publisher_leaves_a_cache_that_works(remote: Path, work: Path, tmp_path: Path) -> None:
    for turn in range(4):
        victim = multiprocessing.get_context("spawn").Process(
            target=_publish_forever, args=(f"file://{remote}", tmp_path / "cache")
        )
        victim.start()
        time.sleep(0.6 + turn * 0.037)
        assert victim.pid is not None
        os.kill(victim.pid, signal.SIGKILL)
        victim.join()
        mirror = open_mirror(remote, tmp_path / "cache")
        mirror.fetch()
        mirror.publish({"turn": str(turn).encode()}, "after")
        assert published(remote)["turn"] == str(turn)


# ── archives ─────────────────────────────────────────────────────────────────────────────────────────────────


def names(tar: Path) -> dict[str, str]:
    with tarfile.open(tar) as opened:
        found = {m.name: opened.extractfile(m) for m in opened if m.isfile()}
        return {name: file.read().decode() for name, file in found.items() if file}


def test_an_archive_holds_exactly_the_files_of_the_commit(work: Path, tmp_path: Path) -> None:
    attributes = "*.txt export-subst ident filter=evil eol=crlf working-tree-encoding=UTF-16\nhidden export-ignore\n"
    files = {".gitattributes": attributes, "a.txt": "$Format:%H$ $Id$\n", "hidden": "seen"}
    sha = commit(work, {})
    for path, text in files.items():
        (work / path).write_text(text)
    shas = {path: git(work, "hash-object", "-w", "--no-filters", path) for path in files}
    for path, blob in shas.items():
        git(work, "update-index", "--add", "--cacheinfo", f"100644,{blob},{path}")
    git(work, "commit", "-qm", "attributes")
    sha = git(work, "rev-parse", "HEAD")
    tar = archive(f"file://{work}", sha, tmp_path / "archives", protocols=("file",))
    assert names(tar) == {**files, "platform.yaml": "kind: Platform\n"}
    assert [path.name for path in tar.parent.iterdir()] == [tar.name]


def test_an_archive_is_fetched_once_and_made_again_with_the_same_bytes(work: Path, tmp_path: Path) -> None:
    commit(work, {"a": "1"})
    sha = commit(work, {"a": "2"})
    url = f"file://{work}"
    tar = archive(url, sha, tmp_path / "archives", protocols=("file",))
    first = tar.read_bytes()
    tar.unlink()
    assert archive(url, sha, tmp_path / "archives", protocols=("file",)).read_bytes() == first
    shutil.rmtree(work)
    assert archive(url, sha, tmp_path / "archives", protocols=("file",)) == tar


def test_an_archive_of_a_commit_that_no_branch_ends_in_is_had(work: Path, tmp_path: Path) -> None:
    sha = git(work, "rev-parse", "HEAD")
    commit(work, {"a": "2"})
    assert names(archive(f"file://{work}", sha, tmp_path, protocols=("file",))) == {"platform.yaml": "kind: Platform\n"}


@pytest.mark.parametrize(
    ("url", "sha", "words"),
    [
        ("file://WORK", "HEAD", "not a whole commit id"),
        ("file://WORK", "--output=/x", "not a whole commit id"),
        ("file://WORK", "1" * 40, "git fetch of file://WORK failed"),
        ("file://WORK/nothing", "1" * 40, "git fetch of file://WORK/nothing failed"),
        ("ext::touch WORK/ran", "1" * 40, "transport 'ext' not allowed"),
        ("--upload-pack=touch WORK/ran", "1" * 40, "git fetch"),
    ],
)
def test_an_archive_that_cannot_be_had_says_why(work: Path, tmp_path: Path, url: str, sha: str, words: str) -> None:
    with pytest.raises(GitFailure) as failure:
        archive(url.replace("WORK", str(work)), sha, tmp_path / "archives", protocols=("file",))
    assert words.replace("WORK", str(work)) in str(failure.value)
    assert not (work / "ran").exists()
    assert not list((tmp_path / "archives").glob("*/*"))


def test_files_of_this_machine_are_no_source_unless_allowed(work: Path, tmp_path: Path) -> None:
    with pytest.raises(GitFailure, match="transport 'file' not allowed"):
        archive(f"file://{work}", git(work, "rev-parse", "HEAD"), tmp_path / "archives")


def test_the_id_of_a_tag_does_not_pin(work: Path, tmp_path: Path) -> None:
    git(work, "tag", "-a", "-m", "t", "v1")
    with pytest.raises(GitFailure, match="is not a commit"):
        archive(f"file://{work}", git(work, "rev-parse", "v1"), tmp_path / "archives", protocols=("file",))


def test_a_tree_with_names_that_leave_it_is_no_archive(work: Path, tmp_path: Path) -> None:
    blob = git(work, "hash-object", "-w", "--stdin", feed=b"x")
    inner = git(work, "mktree", feed=f"100644 blob {blob}\tx\n".encode())
    outer = git(work, "mktree", feed=f"040000 tree {inner}\t..\n".encode())
    sha = git(work, "commit-tree", "-m", "evil", outer)
    git(work, "branch", "evil", sha)
    with pytest.raises(GitFailure, match="invalid path"):
        archive(f"file://{work}", sha, tmp_path / "archives", protocols=("file",))


# ── words ────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://user:pa@ss@example.org/x.git?token=1", "https://example.org/x.git"),
        ("https://token@example.org/x.git", "https://example.org/x.git"),
        ("ssh://git@example.org:22/x.git", "ssh://example.org:22/x.git"),
        ("git@example.org:x.git", "git@example.org:x.git"),
        ("/srv/x@y.git", "/srv/x@y.git"),
    ],
)
def test_an_url_is_shown_without_credentials(url: str, expected: str) -> None:
    assert plain(url) == expected


def test_what_git_says_is_shown_without_credentials_and_control_characters() -> None:
    url = "https://bob:s%21cret@example.org/x.git"
    said = b"noise\nfatal: unable to access 'https://bob:s%21cret@example.org/x.git/': bad s!cret s%21cret\x1b[31m\n"
    words = complaint(Done(128, b"", said), url)
    assert words == "fatal: unable to access 'https://example.org/x.git/': bad *** ***[31m"


def test_no_failure_and_no_file_of_the_cache_holds_the_password(tmp_path: Path) -> None:
    mirror = Mirror("https://bob:s3cret@127.0.0.1:1/x.git", tmp_path / "cache", "main", STATUS)
    attempts: list[Callable[[], object]] = [mirror.fetch, lambda: mirror.publish({"a": b""}, "x")]
    for attempt in attempts:
        with pytest.raises(GitFailure) as failure:
            attempt()
        assert "s3cret" not in str(failure.value)
        assert "127.0.0.1:1/x.git" in str(failure.value)
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and b"s3cret" in path.read_bytes()]
