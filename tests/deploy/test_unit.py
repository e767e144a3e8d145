"""The reconciler's own unit, deploy/reconciler.service: systemd understands it, and the daemon can do its work in it.

In the lab one host is both the reconciler's machine and the fleet: the daemon fetches by SSH, speaks SSH to its own
host, applies and publishes, as a user who may do nothing else.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

import pytest

from flow.company import until
from lab import Host, Lab, Nic

PROJECT = Path(__file__).parents[2]
SAMPLE, UNIT = PROJECT / "sample-repo", PROJECT / "deploy/reconciler.service"
ROUTER, ADDRESS = "2001:db8:ffff:ca::1", "2001:db8:ffff:ca::a"
PROGRAM = "/opt/reconciler/bin/reconciler"
analyze = pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd-analyze")
lab_only = pytest.mark.skipif(
    os.environ.get("RECONCILER_LAB") != "1" or os.geteuid() != 0, reason="needs the lab: tests/lab/enter.sh, and root"
)


# ── as it is written ─────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The unit with a program that is there."""
    unit = tmp_path / "reconciler.service"
    unit.write_text(UNIT.read_text().replace(PROGRAM, "/bin/true"))
    return unit


@analyze
def test_systemd_understands_every_line(copy: Path) -> None:
    done = subprocess.run(["systemd-analyze", "verify", copy], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert "reconciler.service" not in done.stderr


@analyze
def test_what_systemd_calls_its_exposure_stays_low(copy: Path) -> None:
    """In tenths of 10: 96 is a service without any of it. The network, which it needs, is the most of what is left."""
    command = ["systemd-analyze", "security", "--offline=yes", "--no-pager", "--threshold=18", copy]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


# ── as it runs ───────────────────────────────────────────────────────────────────────────────────────────────

START = """#!/bin/sh
export PYTHONHOME=/opt/python LD_LIBRARY_PATH=/opt/python/lib PYTHONPATH=/opt/project:/opt/packages
exec /opt/python/bin/python3 -m reconciler "$@"
"""
CONFIG = f"""\
[source]
url = "ssh://root@[{ADDRESS}]/srv/config.git"
key = "/etc/reconciler/ssh/id_ed25519"

[web]
listen = "[::1]:8470"
"""
FURNISH = """
useradd --system --home-dir /var/cache/reconciler reconciler
mkdir -p /etc/reconciler/ssh /etc/reconciler/keys
cat /run/key >/etc/reconciler/ssh/id_ed25519
rm /run/key
chown -R reconciler /etc/reconciler
chmod -R go= /etc/reconciler
git config --global --add safe.directory /srv/config.git
systemctl start reconciler
"""
QUESTION = "exec 3<>/dev/tcp/::1/8470; printf 'GET /{} HTTP/1.0\\r\\n\\r\\n' >&3; cat <&3"


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    with Lab(tmp_path_factory.mktemp("own")) as lab:
        lab.segment("cam", router=[f"{ROUTER}/64"])
        packages = Path(sysconfig.get_path("purelib"))
        shown = {"/opt/python": Path(sys.base_prefix), "/opt/packages": packages, "/opt/project": PROJECT}
        host = lab.host("a", {"eth0": Nic("cam", (f"{ADDRESS}/64",))}, [f"default via {ROUTER}"], shown=shown)
        put(host, PROGRAM, START, 0o755)
        put(host, "/etc/systemd/system/reconciler.service", UNIT.read_text())
        put(host, "/etc/reconciler/reconciler.toml", CONFIG)
        put(host, "/etc/ssh/ssh_known_hosts", f"{ADDRESS} {host.host_key}\n")
        # the line that docs/security.md recommends
        public = lab.key.with_suffix(".key.pub").read_text()
        put(host, "/root/.ssh/authorized_keys", f'restrict,from="{ADDRESS}" {public}')
        repository(host)
        lab.up()
        host.run("cat >/run/key", input=lab.key.read_text())
        host.run(FURNISH)
        yield host


def put(host: Host, path: str, text: str, mode: int = 0o644) -> None:
    """On the disk of a host that is not up yet."""
    place = host.folder / "upper" / path.lstrip("/")
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(text)
    place.chmod(mode)


def repository(host: Host) -> None:
    """A fleet of this one host, without customers, in a bare repository on its own disk."""
    clone, bare = host.folder / "clone", host.folder / "data/srv/config.git"
    ignored = shutil.ignore_patterns("customers", "b.yaml", "files", "README.md")
    shutil.copytree(SAMPLE, clone, ignore=ignored)
    document = clone / "hosts/a.yaml"
    document.write_text(re.sub(r"hostKey: .*", f"hostKey: {host.host_key}", document.read_text()))
    git = ["git", "-C", str(clone), "-c", "user.name=Ada", "-c", "user.email=ada@example.org"]
    for words in (["init", "-qb", "main"], ["add", "-A"], ["commit", "-qm", "One host"]):
        subprocess.run([*git, *words], check=True, timeout=60)
    subprocess.run(["git", "clone", "-q", "--bare", clone, bare], check=True, timeout=60)


def asked(host: Host, path: str) -> str:
    return host.run(QUESTION.format(path), check=False).stdout


def shown(host: Host, *properties: str) -> list[str]:
    return [host.run(f"systemctl show reconciler -p {name} --value").stdout.strip() for name in properties]


@lab_only
def test_it_works_as_its_own_user_who_is_not_root(host: Host) -> None:
    until("it answers", lambda: asked(host, "healthz").endswith("alive\n"), 20)
    pid, user = shown(host, "MainPID", "User")
    assert user == "reconciler"
    said = host.run(f"cat /proc/{pid}/status").stdout
    uids = re.search(r"^Uid:\s+(\d+)\s+(\d+)\s+(\d+)\s+(\d+)$", said, re.MULTILINE)
    assert uids and "0" not in uids.groups()
    assert re.search(r"^CapBnd:\s+0+$", said, re.MULTILINE)
    assert re.search(r"^NoNewPrivs:\s+1$", said, re.MULTILINE)
    assert re.search(r"^Seccomp:\s+2$", said, re.MULTILINE)


@lab_only
def test_it_fetches_applies_and_publishes_with_all_that_is_taken_from_it(host: Host) -> None:
    until("a pass over its host", lambda: asked(host, "readyz").endswith("ready\n"), 60)
    assert "table inet reconciler" in host.run("nft list ruleset").stdout
    branch = "git -C /srv/config.git show status/main:hosts/a.yaml"
    until("the status", lambda: "UpToDate" in host.run(branch, check=False).stdout, 30)
    assert shown(host, "NRestarts") == ["0"]


WRITABLE = r"""
find / \( -path /proc -o -path /dev -o -path /opt -o -path /usr -o -path /run/lab \) -prune \
    -o \( -type f -o -type d \) -writable -print -prune
"""


@lab_only
def test_it_can_write_to_its_cache_and_nowhere_else(host: Host) -> None:
    (pid,) = shown(host, "MainPID")
    as_it = f"nsenter -t {pid} -m setpriv --reuid reconciler --regid reconciler --clear-groups"
    # what it may not enter is an error to find
    found = host.run(f"{as_it} {WRITABLE.strip()}", check=False).stdout.split()
    assert sorted(found) == ["/tmp", "/var/cache/reconciler", "/var/tmp"]
