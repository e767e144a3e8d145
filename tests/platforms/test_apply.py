"""What an apply writes for itself when there is no room: it ends there, and what was there before is as it was.

The functions of apply.sh in a folder, with sh and the tools of this machine; a file that is a link to /dev/full takes
nothing.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from reconciler.platforms.steps import APPLY

SURROUNDINGS = """
ETC=$1/etc STATE=$1/state WORK=$1/work
INVENTORY=$STATE/inventory TRANSACTIONS=$STATE/transactions
lock() { :; }
token() { echo known; }
decode() { base64 -d; }
written() { :; }
detached() { :; }
"""
INVENTORY = "# serial 7\n000001\tfile/1 /etc/x\tacme--www\t\t\t\n000002\tfile/1 /etc/y\t\t\t\t\n"
FULL = {
    # what finds no room: what is called, and what must be as it was
    "state/inventory.before": ("guarded=yes; begin known <$1/new", "state/inventory"),
    "state/inventory.new": ("begin known <$1/new", "state/inventory"),
    "state/inventory.new ": ("(set -e; own 'file/1 /etc/x' another)", "state/inventory"),
    "state/inventory.new  ": ("(set -e; disown 'file/1 /etc/x')", "state/inventory"),
    "state/refused.new": ("(set -e; no_longer_refused two)", "state/refused"),
    "etc/file.new~": ("(set -e; echo aGVsbG8= | put $ETC/file 0644 0:0)", "etc/file"),
}


@pytest.fixture
def host(tmp_path: Path) -> Path:
    for folder in ("etc", "state", "work"):
        (tmp_path / folder).mkdir()
    (tmp_path / "state/inventory").write_text(INVENTORY)
    (tmp_path / "state/refused").write_text("one\ntwo\nthree\n")
    (tmp_path / "etc/file").write_text("before\n")
    (tmp_path / "new").write_text("000001\tfile/1 /etc/z\t\t\t\t\n")
    return tmp_path


def run(host: Path, script: str) -> subprocess.CompletedProcess[str]:
    command = ["sh", "-c", APPLY + SURROUNDINGS + script, "sh", str(host)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)


@pytest.mark.parametrize("name", FULL)
def test_what_finds_no_room_fails_and_leaves_what_was_there(host: Path, name: str) -> None:
    script, kept = FULL[name]
    before = (host / kept).read_bytes()
    (host / name.strip()).symlink_to("/dev/full")
    done = run(host, script)
    assert done.returncode != 0
    assert "No space left on device" in done.stderr
    assert (host / kept).read_bytes() == before


@pytest.mark.parametrize("name", FULL)
def test_what_finds_room_is_done(host: Path, name: str) -> None:
    script, changed = FULL[name]
    before = (host / changed).read_bytes()
    done = run(host, script)
    assert done.returncode == 0, done.stderr
    assert (host / changed).read_bytes() != before


ARM = "echo kept >$STATE/inventory.before; printf '%s\\n' $ETC/file $ETC/none | arm 1 5 three 8<$ETC/file"


@pytest.mark.parametrize("name", ["script", "refused", "wanted", "files"])
def test_nothing_is_armed_of_which_the_way_back_does_not_lie_ready(host: Path, name: str) -> None:
    new = f"$TRANSACTIONS/new/{name}"
    full = f'mkdir() {{ command mkdir "$@"; [ ! -d "$TRANSACTIONS/new" ] || ln -s /dev/full "{new}"; }}\n'
    done = run(host, full + ARM)
    assert done.returncode != 0
    assert "armed" not in done.stdout
    assert not list((host / "state/transactions").glob("*.armed"))


def test_nothing_is_armed_when_one_line_of_many_found_no_room(host: Path) -> None:
    done = run(host, 'printf() { case $3 in */file) return 1 ;; esac; command printf "$@"; }\n' + ARM)
    assert done.returncode != 0
    assert not list((host / "state/transactions").glob("*.armed"))


def test_what_is_armed_has_all_that_it_takes_to_go_back(host: Path) -> None:
    assert run(host, ARM).stdout.startswith("armed\t7-")
    (armed,) = (host / "state/transactions").iterdir()
    assert {path.name for path in armed.iterdir()} == {"script", "inventory", "refused", "wanted", "files"}
    (kept,) = (host / "etc").glob("before.*")
    assert (kept / "1").read_text() == "before\n"


def test_who_reads_a_file_again_is_told_before_it_is_another(host: Path) -> None:
    told = 'written() { cat "$1" >"$STATE/told"; }\n'
    assert run(host, told + "echo YWZ0ZXIK | put $ETC/file 0644 0:0").returncode == 0
    assert (host / "state/told").read_text() == "before\n"
    assert (host / "etc/file").read_text() == "after\n"
