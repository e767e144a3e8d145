"""The stand-in of doas judges as Debian's does, which is of the same family as FreeBSD's."""

import subprocess
from pathlib import Path

import pytest

from .doas import ACCOUNT
from .host import Host, why_not

pytestmark = [
    pytest.mark.skipif(why_not() is not None, reason=str(why_not())),
    pytest.mark.skipif(not Path("/usr/bin/doas").exists(), reason="needs Debian's opendoas"),
]
LAST = "permit nopass root as root cmd /bin/sh\ndeny root as root cmd /bin/sh\n"
CASES = {
    "our rule": ("permit nopass root as root cmd /bin/sh\n", "/bin/sh -c id", "permit nopass"),
    "another command": ("permit nopass root as root cmd /bin/sh\n", "id", "deny"),
    "another way to write it": ("permit nopass root as root cmd /bin/sh\n", "sh -c id", "deny"),
    "another target": ("permit nopass root as root cmd /bin/sh\n", "-u daemon /bin/sh", "deny"),
    "somebody else's": ("permit nopass daemon as root cmd /bin/sh\n", "/bin/sh", "deny"),
    "with a password": ("permit root # may\n", "/bin/sh", "permit"),
    "no arguments": ("permit nopass root cmd /bin/sh args\n", "/bin/sh", "permit nopass"),
    "arguments where none may be": ("permit nopass root cmd /bin/sh args\n", "/bin/sh -c", "deny"),
    "these arguments": ("permit keepenv root cmd /bin/sh args -c id\n", "/bin/sh -c id", "permit"),
    "other arguments": ("permit nopass root cmd /bin/sh args -c id\n", "/bin/sh -c date", "deny"),
    "the last one": (LAST, "/bin/sh", "deny"),
    "none": ("", "/bin/sh", "deny"),
    "no line break": ("permit nopass root", "/bin/sh", "doas: syntax error at line 1"),
    "no rule": ("permit nopass root\nallow root\n", "/bin/sh", "doas: syntax error at line 2"),
}


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Host:
    one = Host(tmp_path_factory.mktemp("doas"))
    one.install_doas("permit nopass reconciler as root cmd /bin/sh\n")
    return one


def test_it_judges_as_debians(host: Host, tmp_path: Path) -> None:
    asked = ""
    for number, (rules, words, _) in enumerate(CASES.values()):
        host.write(f"/tmp/{number}.conf", rules)
        (tmp_path / f"{number}.conf").write_text(rules)
        asked += f"doas -C $folder/{number}.conf {words} 2>&1; echo $?\n"
    debians = subprocess.run(["sh", "-c", f"folder={tmp_path}\n{asked}"], capture_output=True, text=True).stdout
    assert host.run(f"PATH=/usr/local/bin folder=/tmp\n{asked}").stdout.decode() == debians
    assert dict(zip(CASES, debians.splitlines()[::2], strict=True)) == {name: case[2] for name, case in CASES.items()}


@pytest.mark.parametrize(
    ("rules", "says"),
    [
        ("permit nopass reconciler as root cmd /bin/sh\n", "root-/root-reconciler-"),
        ("permit reconciler\n", "doas: Authorization required"),
        ("", "doas: Operation not permitted"),
    ],
)
def test_it_becomes_the_command_or_says_why_not(host: Host, rules: str, says: str) -> None:
    host.install_doas(rules)
    script = "exec /usr/local/bin/doas -n /bin/sh -c 'echo $USER-$HOME-$DOAS_USER-$LEAK; exit 3'"
    done = host.run(script, env={ACCOUNT: "reconciler", "LEAK": "1"})
    assert (done.stdout + done.stderr).decode() == f"{says}\n"
    assert done.returncode == (3 if "-" in says else 1)


def test_a_file_that_others_may_write_to_is_not_believed(host: Host) -> None:
    host.install_doas("permit nopass reconciler\n")
    host.path("/usr/local/etc/doas.conf").chmod(0o666)
    done = host.run("/usr/local/bin/doas -n /bin/sh", env={ACCOUNT: "reconciler"})
    assert done.stderr == b"doas: /usr/local/etc/doas.conf is writable by group or other\n"
    host.path("/usr/local/etc/doas.conf").unlink()
    done = host.run("/usr/local/bin/doas -n /bin/sh", env={ACCOUNT: "reconciler"})
    assert done.stderr == b"doas: doas is not enabled, /usr/local/etc/doas.conf: No such file or directory\n"
