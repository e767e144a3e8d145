"""A pretended host keeps to itself, remembers, and has what FreeBSD has and no more."""

from pathlib import Path

import pytest

from .host import Host, why_not

pytestmark = pytest.mark.skipif(why_not() is not None, reason=str(why_not()))
JAIL = (
    'web { path = "/jails/web"; vnet; vnet.interface = "e0b"; persist; exec.prestart = "%s"; exec.poststop = "%s"; }\n'
)


@pytest.fixture
def host(tmp_path: Path) -> Host:
    one = Host(tmp_path)
    one.path("/jails/web/etc").mkdir(parents=True)
    return one


def said(host: Host, script: str) -> str:
    done = host.run(script)
    return (done.stdout + done.stderr).decode()


def test_files_and_state_last_from_one_run_to_the_next(host: Host) -> None:
    host.run("echo kept >/var/lib/reconciler/x; ifconfig bridge create name vm")
    assert said(host, "cat /var/lib/reconciler/x; ifconfig -l") == "kept\nvtnet0 lo0 vm\n"


def test_nothing_of_the_machine_can_be_written(host: Host, tmp_path: Path) -> None:
    assert host.run(f"touch /.machine/bin/x || touch {tmp_path}/x").returncode != 0


@pytest.mark.parametrize("name", ["base64", "flock", "ip", "nft", "systemctl", "bash", "perl", "sha256sum", "zfs"])
def test_what_freebsd_has_not_is_not_found(host: Host, name: str) -> None:
    done = host.run(f"command -v {name} || {name}")
    assert done.returncode == 127
    assert done.stderr.endswith(f"{name}: not found\n".encode())


def test_a_jail_that_cannot_take_its_interface_leaves_nothing_behind(host: Host) -> None:
    host.write("/etc/jail.conf", JAIL % ("true", "true"))
    assert host.run("jail -c web").returncode == 1
    assert host.state()["jails"] == []


def test_a_jail_has_its_own_files_and_its_own_interfaces(host: Host) -> None:
    up = "ifconfig epair0 create; ifconfig epair0b name e0b"
    host.write("/etc/jail.conf", JAIL % (up, "ifconfig epair0a destroy"))
    assert host.run("jail -c web").returncode == 0
    host.run("jexec web sh -c 'echo inside >/etc/motd; ifconfig e0b inet6 2001:db8::2/64'")
    assert host.read("/jails/web/etc/motd") == "inside\n"
    assert not host.path("/etc/motd").exists()
    assert "2001:db8::2" in said(host, "jexec web ifconfig e0b")
    assert said(host, "ifconfig e0b") == "ifconfig: interface e0b does not exist\n"


def test_a_nullfs_mount_shows_its_source_inside_the_jail(host: Host) -> None:
    host.write("/srv/data/x", "data\n")
    host.path("/jails/web/data").mkdir()
    host.write(
        "/etc/jail.conf", 'web { path = "/jails/web"; persist; mount = "/srv/data /jails/web/data nullfs rw 0 0"; }\n'
    )
    assert said(host, "jail -qc web; jexec web cat /data/x") == "data\n"


def test_a_jail_in_which_nothing_runs_is_gone(host: Host) -> None:
    host.write("/etc/jail.conf", 'web { path = "/jails/web"; exec.start = "true"; }\n')
    assert said(host, "jail -c web; jls name") == "web: created\n"


def test_a_jail_can_be_told_to_linger(host: Host) -> None:
    host.write("/etc/jail.conf", 'web { path = "/jails/web"; persist; }\n')
    with host.changing() as state:
        state["linger"].append("web")
    assert said(host, "jail -qc web; jail -qr web; jls -N name; jls -d name dying") == "web true\n"


def test_a_death_leaves_interfaces_and_mounts(host: Host) -> None:
    up = "ifconfig epair0 create; ifconfig epair0b name e0b"
    host.write("/etc/jail.conf", JAIL % (up, "true"))
    host.run("jail -c web")
    host.die("web")
    assert said(host, "ifconfig -l") == "vtnet0 lo0 epair0a e0b\n"


def test_a_private_member_is_shown_as_such(host: Host) -> None:
    host.run("ifconfig bridge create; ifconfig epair create; ifconfig bridge0 addm epair0a private epair0a")
    assert "flags=943<LEARNING,DISCOVER,PRIVATE,AUTOEDGE,AUTOPTP>" in said(host, "ifconfig bridge0")


def test_a_gateway_may_be_one_that_a_route_of_its_own_leads_to(host: Host) -> None:
    host.run("route delete default; ifconfig epair create; ifconfig epair0a inet 10.0.2.20/32")
    assert host.run("route -n add default 169.254.1.1").returncode != 0
    script = "route -q add -inet -host 169.254.1.1 -interface epair0a; route -q add -inet default 169.254.1.1"
    assert host.run(script).returncode == 0
    assert "gateway: 169.254.1.1" in said(host, "route -n get default")


def test_j_of_ifconfig_came_with_13_3(tmp_path: Path) -> None:
    host = Host(tmp_path, "13.3-RELEASE")
    host.path("/jails/web").mkdir()
    assert said(host, "jail -qc name=web path=/jails/web vnet persist; ifconfig -j web -l") == "lo0\n"


RULES = """\
table <bad>
nat on "vtnet0" inet from { 10.0.2.0/24, 10.0.3.0/24 } to any tag translated -> ("vtnet0:0")
rdr on "vtnet0" inet proto tcp from any to ("vtnet0") port 8443 tag translated -> 10.0.2.20 port 443
pass in quick proto tcp from any to any port 443 keep state (if-bound, max-src-conn-rate 9/10, overload <bad> flush)
"""
PRINTED = """\
nat on vtnet0 inet from 10.0.2.0/24 to any tag translated -> (vtnet0:0)
nat on vtnet0 inet from 10.0.3.0/24 to any tag translated -> (vtnet0:0)
rdr on vtnet0 inet proto tcp from any to (vtnet0) port = 8443 tag translated -> 10.0.2.20 port 443
"""


def test_translations_and_rates_are_printed_as_the_kernel_has_them(host: Host) -> None:
    host.write("/etc/rules", RULES)
    assert host.run("kldload pf; pfctl -q -f /etc/rules").returncode == 0
    assert said(host, "pfctl -sn") == PRINTED
    state = "(source-track rule, max-src-conn-rate 9/10, overload <bad> flush, if-bound, src.track 10)"
    assert said(host, "pfctl -sr").endswith(f"keep state {state}\n")


def test_what_the_kernel_put_into_a_table_stays_when_rules_are_loaded_until_it_expires(host: Host) -> None:
    host.write("/etc/rules", RULES)
    host.run("kldload pf; pfctl -q -f /etc/rules; pfctl -q -t bad -T add 192.0.2.9; pfctl -q -f /etc/rules")
    assert said(host, "pfctl -t bad -T show") == "   192.0.2.9\n"
    assert said(host, "pfctl -t bad -T expire 60") == "0/1 addresses expired.\n"
    assert said(host, "sleep 1.1; pfctl -t bad -T expire 0") == "1/1 addresses expired.\n"
    assert said(host, "pfctl -t bad -T show") == ""
