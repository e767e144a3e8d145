"""What a jail is made of, seen from inside by its own processes and from outside by the host's other users.

The system and the application are read-only and show nothing of the host's; the data is the customer's and stays; the
users of a jail are nobody outside of it.
"""

from __future__ import annotations

import re
import shutil
import stat
import time
from pathlib import Path

import pytest

from reconciler.platforms import PLATFORMS

from .test_network import room
from .town import APP, BWEB, FILES, ROOT, SPY, WEB, Town, shell

HOSTILE = 'it\'s "quoted" $(touch /data/pwned) `touch /data/pwned` ${HOME} %n %% \\ * ; & | < > ~ # ! ünï çödé 日本 \\n'


def unit(jail: str) -> str:
    return f"reconciler-jail-{jail}"


def started(town: Town, jail: str) -> str:
    """Changes with every start."""
    return town.host_of(jail).run(f"systemctl show -p ExecMainStartTimestampMonotonic {unit(jail)}").stdout


@pytest.mark.parametrize("jail", [WEB, ROOT])
def test_the_system_and_the_application_cannot_be_written_to(town: Town, jail: str) -> None:
    for path in ("/usr/x", "/usr/bin/x", "/etc/x", "/app/x", "/release/x", "/x", "/bin/x", "/etc/alternatives/x"):
        code, out = town.attempt(jail, f"touch {path}")
        assert (code, "Read-only" in out or "denied" in out) == (1, True), out
    for mount in ("/usr", "/app", "/", "/etc/alternatives"):
        code, out = town.attempt(jail, f"mount -o remount,bind,rw {mount}")
        assert code != 0, out


def test_the_system_is_the_hosts_usr_and_nothing_else_of_the_hosts(town: Town) -> None:
    town["a"].run("echo mine >/etc/mine; echo mine >/root/mine; echo mine >/var/mine; echo mine >/srv/mine")
    seen = town.inside(ROOT, "ls -A /etc /root /var /run /run/host /home /srv /mnt /opt /boot 2>/dev/null; true")
    assert not [word for word in ("mine", "ssh", "shadow") if word in seen]
    assert town.inside(ROOT, "cat /etc/passwd").count("\n") == 3
    assert town.inside(ROOT, "ls /usr/bin").split() == town["a"].run("ls /usr/bin").stdout.split()
    assert "reconciler" not in town.inside(ROOT, "ls -R /run /var 2>/dev/null; true")
    assert town.inside(ROOT, "ls /dev/vda /dev/mem /dev/kmsg /dev/fuse /dev/loop-control 2>/dev/null; true") == ""


def test_a_release_is_there_and_read_only(town: Town, tmp_path: Path) -> None:
    (tmp_path / "release").mkdir()
    (tmp_path / "release/page").write_text("one\n")
    digest = town.garage.pack(tmp_path / "release")
    town.red("web", release={"archive": "file:///srv/archives/release.tar", "digest": digest})
    town.converge("a")
    town.ready(WEB)
    assert town.inside(WEB, "cat /release/page") == "one\n"
    assert town.attempt(WEB, "touch /release/page")[0] != 0
    assert "/release ext4 ro," in town.inside(WEB, "cut -d ' ' -f 2-4 /proc/mounts")


def test_defaults_are_copied_once_and_a_new_blueprint_leaves_the_customers_edit(town: Town, tmp_path: Path) -> None:
    assert town.inside(BWEB, "cat /config/settings.conf") == "colour = red\n"
    town.inside(BWEB, "echo 'colour = mine' >/config/settings.conf; echo kept >/data/kept")
    new = tmp_path / "tool"
    shutil.copytree(FILES / "tool", new)
    (new / "config/settings.conf").write_text("colour = blue\n")
    (new / "version").write_text("2\n")
    (new / "config/more.conf").write_text("more\n")
    digest = town.garage.pack(new)
    town.edit("blueprints/tool.yaml", source={"archive": "file:///srv/archives/tool.tar", "digest": digest})
    before = started(town, BWEB)
    town.converge("b")
    town.ready(BWEB)
    assert started(town, BWEB) != before
    assert town.inside(BWEB, "cat /app/version /config/settings.conf /data/kept") == "2\ncolour = mine\nkept\n"
    assert "more" not in town.inside(BWEB, "ls /config")
    town.host_of(BWEB).run(f"systemctl restart {unit(BWEB)}")
    town.ready(BWEB)
    assert town.inside(BWEB, "cat /config/settings.conf /data/kept") == "colour = mine\nkept\n"
    town.garage.pack(FILES / "tool")


def test_data_is_stored_as_the_jail_sees_it_where_nobody_else_can_go(town: Town) -> None:
    town.inside(WEB, "echo x >/data/mine; chmod 666 /data/mine")
    town.inside(ROOT, "echo x >/data/roots; chmod 666 /data/roots")
    assert (town.home(WEB) / "data/data/mine").stat().st_uid == 1000
    assert (town.home(ROOT) / "data/data/roots").stat().st_uid == 0
    for folder in (town.home(WEB), town.home(WEB).parent):
        found = folder.stat()
        assert (stat.S_IMODE(found.st_mode), found.st_uid) == (0o700, 0), folder
    path = f"/var/lib/reconciler/jails/{WEB}/data/data/mine"
    for user in (1000, 65534):
        done = town["a"].run(f"setpriv --reuid={user} --regid={user} --clear-groups cat {path}", check=False)
        assert done.returncode != 0
        assert "denied" in done.stderr


def test_every_jail_has_users_of_its_own_and_its_root_is_nobody_outside(town: Town) -> None:
    first = {}
    for jail in (WEB, APP, ROOT, SPY):
        inside, outside, length = town.inside(jail, "cat /proc/self/uid_map").split()
        assert (inside, length) == ("0", "65536")
        first[jail] = int(outside)
    assert min(first.values()) >= 1 << 16
    assert len({number >> 16 for number in first.values()}) == len(first)
    pid = town["a"].run(f"machinectl show {ROOT} -p Leader --value").stdout.strip()
    assert town["a"].run(f"stat -c %u /proc/{pid}").stdout.strip() == str(first[ROOT])


@pytest.mark.parametrize("jail", [WEB, ROOT])
def test_a_jail_cannot_mount_nor_make_devices_modules_or_namespaces(town: Town, jail: str) -> None:
    for command in (
        "mount -t tmpfs none /tmp",
        "mount --bind /tmp /var",
        "umount /config",
        "mknod /tmp/null c 1 3",
        "mknod /data/disk b 254 0",
        "unshare --user true",
        "unshare --user --map-root-user --mount mount -t tmpfs none /tmp",
        "unshare --mount true",
        "unshare --net true",
        "nsenter -t 1 -m true",
        "python3 -c 'import ctypes, os; l = ctypes.CDLL(None, use_errno=True);"
        ' r = l.syscall(313, 0, b"", 0); os._exit(r == -1 and ctypes.get_errno() == 1)\'',  # finit_module
        "dmesg",
        "date -s 2020-01-01",
    ):
        code, out = town.attempt(jail, command)
        assert code != 0, (command, out)
    kernel = ("kernel/core_pattern", "kernel/hostname", "vm/overcommit_memory", "net/ipv6/conf/all/forwarding")
    for path in (*kernel, "user/max_user_namespaces"):
        code, out = town.attempt(jail, f"echo 1 >/proc/sys/{path}")
        assert code != 0, path
        assert re.search("Read-only|denied", out), out


def test_a_jail_sees_no_process_but_its_own(town: Town) -> None:
    names = town.inside(ROOT, "cat /proc/[0-9]*/comm").split()
    assert set(names) <= {"(sd-stubinit)", "python3", "sh", "cat"}, names


def test_abstract_sockets_of_the_host_and_of_other_jails_are_out_of_reach(town: Town) -> None:
    listen = 'import socket, time; s = socket.socket(1); s.bind("\\0door"); s.listen(); time.sleep(30)'
    town["a"].run(f"systemd-run --quiet --unit=door /usr/bin/python3 -c {shell(listen)}")
    connect = 'import socket; socket.socket(1).connect("\\0door")'
    try:
        town["a"].run(
            f"for i in 1 2 3 4 5 6 7 8; do python3 -c {shell(connect)} 2>/dev/null && exit; sleep 0.1; done; exit 1"
        )
        code, out = town.attempt(ROOT, f"python3 -c {shell(connect)}")
        assert code == 1
        assert "refused" in out
    finally:
        town["a"].run("systemctl stop door")
    assert room(town, ROOT).exists()


def test_a_setuid_program_in_data_has_no_power(town: Town) -> None:
    """Not in the jail (no new privileges), and outside nobody but root gets to it."""
    town.inside(ROOT, "cp /usr/bin/id /data/id; chmod 4755 /data/id")
    file = town.home(ROOT) / "data/data/id"
    assert stat.S_IMODE(file.stat().st_mode) == 0o4755
    path = f"/var/lib/reconciler/jails/{ROOT}/data/data/id"
    # by way of a shell: setpriv itself still has root's powers when it looks for its program
    done = town["a"].run(f"setpriv --reuid=1000 --regid=1000 --clear-groups sh -c {path}", check=False)
    assert done.returncode != 0
    assert "denied" in done.stderr
    as_app = "setpriv --reuid=1000 --regid=1000 --clear-groups /data/id -u"
    assert town.inside(ROOT, f"chmod 755 /data; {as_app}") == "1000\n"


def test_a_secret_is_for_the_application_alone_and_a_new_one_restarts_the_jail(town: Town) -> None:
    town.secret("red", "token", b"one 'two' $three\n")
    town.red("web", secrets=["token"])
    town.converge("a")
    town.ready(WEB)
    assert town.inside(WEB, "cat /run/secrets/token; id -u") == "one 'two' $three\n1000\n"
    assert town.attempt(WEB, "echo x >/run/secrets/token")[0] != 0
    path = f"/var/lib/reconciler/jails/{WEB}/secrets/token"
    assert town["a"].run(f"stat -c '%a %u' {path}").stdout == "400 1000\n"
    for user in (1000, 65534):
        assert town["a"].run(f"setpriv --reuid={user} --regid={user} --clear-groups cat {path}", check=False).returncode
    assert "'two'" not in town["a"].run(f"systemctl cat {unit(WEB)}; systemctl show {unit(WEB)}; ps axeww").stdout
    before = started(town, WEB)
    town.secret("red", "token", b"changed\n")
    report = town.converge("a")["a"]
    assert "changed" not in repr(report)
    town.ready(WEB)
    assert started(town, WEB) != before
    assert town.inside(WEB, "cat /run/secrets/token") == "changed\n"
    town.red("web", secrets=None)
    town.converge("a")
    town.ready(WEB)
    assert town.attempt(WEB, "cat /run/secrets/token")[0] != 0
    assert town["a"].run(f"ls {path}", check=False).returncode != 0


def test_parameters_arrive_as_they_were_written(town: Town) -> None:
    town.red("app", parameters={"TEXT": HOSTILE})
    town.converge("a")
    town.ready(APP)
    assert town.inside(APP, "printenv TEXT") == HOSTILE + "\n"
    assert town.inside(APP, "printenv JAIL_NAME JAIL_ADDRESS").split() == ["app", town.address_of(APP)]
    assert "pwned" not in town.inside(APP, "ls /data")


def test_the_logs_are_what_the_application_printed(town: Town) -> None:
    remote = town.wire("a").remote
    for _ in range(20):
        text = b"".join(remote.stream(PLATFORMS["linux"].logs(WEB, False))).decode()
        if "web starts" in text:
            break
        time.sleep(0.1)
    assert "web starts" in text
    assert "app starts" not in text
