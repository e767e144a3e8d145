"""Passes over a pretended FreeBSD host: what is made, found, mended, kept and taken away."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

import rules
from bsd.host import why_not
from reconciler.model import Report
from reconciler.platforms import PLATFORMS, asking

from .village import Village

pytestmark = pytest.mark.skipif(why_not() is not None, reason=why_not() or "")

CASES = Path(__file__).parents[2] / "cases" / "platforms" / "freebsd"
HOME = "/var/lib/reconciler/jails/acme--www"
MINE = "ifconfig jxs7kwkgqky"


@pytest.fixture
def village(standing: Village, tmp_path: Path) -> Village:
    """Each test has a copy of its own."""
    return standing.copied(tmp_path / "village")


@pytest.fixture
def strict(standing: Village, tmp_path: Path) -> Village:
    return standing.copied(tmp_path / "copy", strict=True)


def told(report: Report) -> str:
    return "; ".join(change.words for change in report.done)


def disrupted(report: Report) -> set[str]:
    return {change.disrupts for change in report.done} - {""}


# ── what is there after a first apply ────────────────────────────────────────────────────────────────────────


def test_both_jails_run_with_what_they_are_held_to(standing: Village) -> None:
    shown = standing.type("jls -n name vnet securelevel enforce_statfs children.max devfs_ruleset allow.set_hostname")
    held = "vnet=new securelevel=2 enforce_statfs=2 children.max=0 devfs_ruleset=7547 allow.noset_hostname"
    assert shown.splitlines() == [f"name=acme__db {held}", f"name=acme__www {held}"]


def test_a_jail_has_its_address_its_way_out_and_its_end_of_the_cable(standing: Village) -> None:
    inside = standing.type("jexec acme__www ifconfig; jexec acme__www netstat -rn -f inet6")
    assert "inet6 2001:db8:ca00:1::d7b7:4047 prefixlen 128" in inside
    assert "inet 10.0.4.30 netmask 0xffffff00" in inside
    assert "fe80::1%" in next(line for line in inside.splitlines() if line.startswith("default"))


def test_the_host_knows_its_jails_which_lie_in_no_prefix_of_its_own(standing: Village) -> None:
    inner = standing.type("jexec acme__www ifconfig | awk '$1 == \"ether\" { print $2; exit }'").strip()
    known = standing.type("ndp -an").splitlines()
    assert [line.split()[1] for line in known if line.startswith("2001:db8:ca00:1::d7b7:4047 ")] == [inner]


def test_the_command_is_kept_up_and_asked_to_be_nobody_in_particular(standing: Village) -> None:
    assert "daemon: acme--www[" in standing.type("ps -axww -J acme__www -o command")


def test_commands_of_checks_run_in_their_jail_and_end_in_time(standing: Village) -> None:
    jails = {jail.id: jail for jail in standing.spec.jails}
    www, gone = jails["acme--www"], replace(jails["acme--db"], id="acme--gone")
    scripts = (('[ "$JAIL_NAME" = www ]', 20), ("exit 3", 20), ("sleep 60", 1))
    shell = [(www, ("/bin/sh", "-c", text), seconds) for text, seconds in scripts]
    text = asking.script(PLATFORMS["freebsd"], [*shell, (gone, ("/bin/true",), 20)], 60)
    done = standing.host.run(text)
    assert asking.statuses(done.stdout) == {0: 0, 1: 3, 2: 124, 3: 125}, done.stderr


def test_rules_of_rctl_stand_for_the_limits(standing: Village) -> None:
    assert "jail:acme__www:vmemoryuse:deny=268435456" in standing.type("rctl")


def test_nothing_of_ours_is_in_the_administrators_files(standing: Village) -> None:
    assert "reconciler" not in standing.host.read("/etc/rc.conf")
    assert not standing.host.path("/etc/jail.conf").exists()


def test_after_a_restart_the_boot_hook_alone_brings_everything_back(village: Village) -> None:
    village.host.reboot()
    assert not village.look().ready
    village.type("/bin/sh /etc/reconciler/up.sh network && /bin/sh /etc/reconciler/up.sh jails")
    report = village.look()
    assert report.ready, [change.words for change in report.pending]


def test_rules_that_do_not_load_at_boot_let_no_jail_start(village: Village) -> None:
    village.host.reboot()
    village.host.write("/etc/reconciler/pf.conf", "pass all\nnonsense\n")
    village.host.path("/var/lib/reconciler/firewall.stamp").unlink()
    assert village.host.run("/bin/sh /etc/reconciler/up.sh network").returncode != 0
    village.host.run("/bin/sh /etc/reconciler/up.sh jails")
    assert village.type("jls -q name") == ""
    village.converge()


# ── what somebody changes by hand ────────────────────────────────────────────────────────────────────────────

DRIFT = {
    "a-port-is-destroyed": ("ifconfig ngx_a destroy", "network interface of acme--www"),
    "a-port-leaves-its-switch": ("ifconfig xbridge deletem ngx_a", "switch none → xbridge"),
    "a-port-sees-its-neighbours": ("ifconfig xbridge -private ngx_a", "private no → yes"),
    "a-port-is-down": ("ifconfig ngx_a down", "up no → yes"),
    "the-switch-is-destroyed": ("ifconfig xbridge destroy", "change switch xbridge: up missing"),
    "the-gateway-is-gone": ("ifconfig xbridge inet6 fe80::1%xbridge delete", "change switch xbridge"),
    "a-jails-address-is-gone": (
        "jexec acme__www ifconfig $(jexec acme__www ifconfig -l | tr ' ' '\\n' | grep ^e) "
        "inet6 2001:db8:ca00:1::d7b7:4047 delete",
        "addresses",
    ),
    "a-jails-way-out-is-gone": ("jexec acme__www route -q delete -inet6 default", "routes missing → default fe80::1"),
    "the-way-to-a-jail-is-gone": ("route -q delete -inet6 -host 2001:db8:ca00:1::d7b7:4047", "host routes"),
    "a-cable-is-pulled": ("ifconfig www_db_a -vnet acme__www && ifconfig www_db_a destroy", "cable from acme--www"),
    "a-jail-is-removed": ("jail -R acme__www", "change jail acme--www: runs missing"),
    "a-jail-gets-more-than-it-should": ("jail -m name=acme__www enforce_statfs=1", "settings"),
    "a-jail-may-more-than-it-should": (
        "jail -m name=acme__www allow.mlock allow.mount",
        "grants allow.mount mlock → none",
    ),
    "a-command-is-ended": ("pkill -j acme__www daemon", "application not kept up → kept up"),
    "a-limit-is-taken-away": ("rctl -r jail:acme__www", "memory infinity → 256Mi"),
    "a-layer-is-unmounted": (f"umount -f {HOME}/live/app", "mounts not whole → whole"),
    "the-devices-are-unmounted": (f"umount -f {HOME}/live/dev", "mounts not whole → whole"),
    "rules-are-flushed": ("pfctl -F rules", "kernel missing"),
    "rules-are-others": ("echo 'pass all' | pfctl -f -", "kernel changed by hand"),
    "a-table-of-the-rules-lets-more-in": (
        # pf refuses to add to a const table: whoever loads the same rules again can
        "sed '/^table <t_/s/{ /{ 2001:db8:bad::1, /' /etc/reconciler/pf.conf >/tmp/mine && "
        "! cmp -s /tmp/mine /etc/reconciler/pf.conf && pfctl -f /tmp/mine",
        "kernel changed by hand",
    ),
    "pf-is-off": ("pfctl -d", "enabled no → yes"),
    "a-setting-of-the-kernel-is-another": ("sysctl net.inet6.ip6.forwarding=0", "value 0 → 1"),
    "tenants-see-more-devices": ("devfs rule -s 7547 add path mem unhide", "devfs ruleset 7547"),
    "a-file-of-ours-is-edited": ("echo '# mine' >>/etc/reconciler/jails/acme__www.conf", "acme__www.conf differs"),
    "a-file-of-ours-is-gone": ("rm /etc/reconciler/network/20-acme__www", "20-acme__www is missing"),
    "the-boot-hook-is-gone": ("rm /usr/local/etc/rc.d/reconciler", "create file /usr/local/etc/rc.d/reconciler"),
    "the-accounts-tables-are-gone": (f"rm {HOME}/root.accounts", "accounts missing"),
    "an-unpacked-tree-is-edited": (
        "for tree in /var/lib/reconciler/trees/aaaa*/; do echo x >>$tree/start; done",
        "files of",
    ),
}


TOGETHER = {
    "links": (
        "a-port-sees-its-neighbours",
        "the-gateway-is-gone",
        "a-jails-way-out-is-gone",
        "the-way-to-a-jail-is-gone",
        "a-limit-is-taken-away",
        "tenants-see-more-devices",
    ),
    "ports": (
        "a-port-leaves-its-switch",
        "a-port-is-down",
        "a-jails-address-is-gone",
        "a-cable-is-pulled",
        "a-jail-gets-more-than-it-should",
        "a-jail-may-more-than-it-should",
        "rules-are-others",
    ),
    "broken": ("a-port-is-destroyed", "the-switch-is-destroyed", "rules-are-flushed", "the-boot-hook-is-gone"),
    "layers": (
        "a-layer-is-unmounted",
        "the-accounts-tables-are-gone",
        "an-unpacked-tree-is-edited",
        "a-file-of-ours-is-edited",
        "pf-is-off",
    ),
    "running": ("a-command-is-ended", "a-setting-of-the-kernel-is-another", "a-file-of-ours-is-gone"),
    "removed": ("a-jail-is-removed",),
    "devices": ("the-devices-are-unmounted", "a-table-of-the-rules-lets-more-in"),
}
"""What is told apart although it happens at once: a pass over a pretended host takes seconds."""


@pytest.mark.parametrize("names", TOGETHER.values(), ids=TOGETHER.keys())
def test_what_is_changed_by_hand_is_found_told_and_mended(strict: Village, names: tuple[str, ...]) -> None:
    for name in names:
        strict.type(DRIFT[name][0])
    words = told(strict.converge())
    assert [name for name in names if DRIFT[name][1] not in words] == []


def test_every_change_by_hand_is_tried() -> None:
    assert sorted(name for names in TOGETHER.values() for name in names) == sorted(DRIFT)


def test_a_jail_whose_processes_were_all_killed_is_started_on_clean_ground(village: Village) -> None:
    village.host.die("acme__www")
    assert "change jail acme--www" in told(village.converge())


def test_an_account_that_doas_makes_root_mends_what_root_mends(village: Village) -> None:
    village.host.install_doas(f"{rules.DOAS}\n")
    village.type("pfctl -d; rctl -r jail:acme__www")
    report = village.apply_as_account()
    assert report.ready, report
    assert "enabled no → yes" in told(report) and "memory infinity → 256Mi" in told(report)
    village.host.install_doas("")
    assert "doas: Operation not permitted" in village.apply_as_account().unreachable


# ── what the documents change ────────────────────────────────────────────────────────────────────────────────


def test_limits_grants_and_the_time_to_end_change_while_the_jail_runs(strict: Village) -> None:
    jid = strict.type("jls -j acme__www jid")
    strict.edit("customers/acme/jails/www.yaml", "spec:\n", "spec:\n  limits: {memory: 512Mi, openFiles: 512}\n")
    strict.edit("blueprints/web.yaml", "spec:\n", "spec:\n  grants: [mlock, debug]\n  stopTimeout: 60\n")
    report = strict.converge()
    assert "grants none → debug mlock; memory 256Mi → 512Mi; open files infinity → 512" in told(report)
    assert not disrupted(report)
    assert strict.type("jls -j acme__www jid") == jid
    rules = strict.type("rctl")
    assert "jail:acme__www:vmemoryuse:deny=536870912" in rules and "jail:acme__www:openfiles:deny=512" in rules
    may = strict.type("jls -j acme__www -n allow.mlock allow.unprivileged_proc_debug allow.chflags allow.quotas")
    assert may == "allow.mlock allow.unprivileged_proc_debug allow.nochflags allow.noquotas\n"


def test_an_address_changes_and_the_old_one_is_forgotten(strict: Village) -> None:
    strict.edit("customers/acme/jails/www.yaml", "spec:\n", "spec:\n  address: 2001:db8:ca00:1::99\n")
    broken = {"connections of jail acme--www break", "restart of jail acme--www"}  # it is told its address at its start
    assert disrupted(strict.converge()) == broken
    assert "d7b7:4047" not in strict.type("netstat -rn -f inet6; jexec acme__www ifconfig")


def test_a_link_is_added_while_both_jails_run(village: Village) -> None:
    jids = village.type("jls jid")
    link = """  links:
    - to: www
      nic: db_www_a
      address: 10.0.5.40/24
      peerNic: db_www_b
      peerAddress: 10.0.5.30/24
"""
    file = village.documents / "customers/acme/jails/db.yaml"
    file.write_text(file.read_text() + link)
    village.converge()
    assert village.type("jls jid") == jids
    assert "inet 10.0.5.30" in village.type("jexec acme__www ifconfig")


def test_a_jail_joins_a_segment_on_a_vlan_while_it_runs_and_leaves_it_again(strict: Village) -> None:
    jids = strict.type("jls jid")
    file, host = strict.documents / "customers/acme/jails/db.yaml", strict.documents / "hosts/a.yaml"
    alone, plain = file.read_text(), host.read_text()
    host.write_text(f"{plain}    - name: ibridge\n      uplink: vtnet0\n      vlan: 2222\n")
    file.write_text(f"{alone}  interfaces:\n    - switch: ibridge\n      nic: ipg_a\n      address: 192.168.56.40/24\n")
    strict.converge()
    assert "inet 192.168.56.40" in strict.type("jexec acme__db ifconfig")
    assert "vlan: 2222 vlanproto: 802.1q vlanpcp: 0 parent interface: vtnet0" in strict.type("ifconfig vtnet0_2222")
    members = strict.type("ifconfig ibridge | awk '/member:/ { print $2 }'")
    assert sorted(members.split()) == ["ipg_a", "vtnet0_2222"]
    strict.type("ifconfig vtnet0_2222 destroy; ifconfig ipg_a destroy")
    again = told(strict.converge())
    assert "VLAN 2222 of vtnet0" in again and "network interface ipg_a of acme--db" in again
    file.write_text(alone)
    host.write_text(plain)
    strict.converge()
    assert not {"ipg_a", "vtnet0_2222", "ibridge"} & set(strict.type("ifconfig -l").split())
    assert strict.type("jls jid") == jids


SPIPED = "/usr/local/bin/spiped"


def begin_tunnel(village: Village) -> None:
    case = CASES / "a-tunnel-added" / "repository"
    shutil.copytree(case, village.documents, dirs_exist_ok=True)
    village.host.write(SPIPED, "#!/bin/sh\n", 0o755)


def pipes(village: Village) -> list[str]:
    """What runs of spiped in the jail, as ps(1) shows it."""
    shown = village.type("ps -axww -J acme__www -o command")
    return [line for line in shown.splitlines() if "tunnel" in line and "spiped" in line]


def test_a_tunnel_begins_in_a_jail_that_runs_and_goes_again(strict: Village) -> None:
    jids = strict.type("jls jid")
    begin_tunnel(strict)
    strict.converge()
    far = "-t [2001:db8:ca00:1::baf2:171f]:5433"
    assert [line.partition(" -k ")[0] for line in pipes(strict)] == [
        f"/etc/tunnels/acme--far/spiped -F -e -s [::1]:5432 {far}"
    ]
    assert strict.type(f"stat -f '%Sp %u' {HOME}/root/etc/tunnels/acme--far/key").strip() == "-r-------- 1001"
    (strict.documents / "customers/acme/tunnels/far.yaml").unlink()
    strict.converge()
    assert pipes(strict) == []
    assert not strict.host.path("/etc/reconciler/tunnels/acme--far").exists()
    assert not strict.host.path(f"{HOME}/root/etc/tunnels/acme--far").exists()
    assert strict.type("jls jid") == jids


@pytest.mark.parametrize(
    ("by_hand", "difference"),
    [
        ("pkill -j acme__www -f '^daemon: tunnel '", "runs missing"),
        (f"echo upgraded >>{SPIPED}", "program another → the host's"),
        (f"echo x >>{HOME}/root/etc/tunnels/acme--far/key", "key differs"),
        ("sed -i '' s/5433/5434/ /etc/reconciler/tunnels/acme--far", "/etc/reconciler/tunnels/acme--far differs"),
    ],
    ids=["ended", "upgraded", "another key", "edited"],
)
def test_what_somebody_does_to_a_tunnel_is_found_and_mended(strict: Village, by_hand: str, difference: str) -> None:
    begin_tunnel(strict)
    strict.converge()
    strict.type(by_hand)
    report = strict.converge()
    assert "change tunnel acme--far in acme--www" in told(report) and difference in told(report)
    assert disrupted(report) == set()
    assert len(pipes(strict)) == 1


def test_a_tunnel_whose_spiped_keeps_ending_is_told(village: Village) -> None:
    begin_tunnel(village)
    village.converge()
    village.type("pkill -j acme__www -f '^/etc/tunnels/'")
    report = village.look()
    assert report.ready
    assert report.degraded == (("acme--www", "tunnel acme--far keeps ending: `reconciler logs` says why"),)


def test_a_tunnel_is_not_started_anew_because_somebody_in_the_jail_takes_its_name(village: Village) -> None:
    begin_tunnel(village)
    village.converge()
    village.type("jexec acme__www daemon -r -t 'tunnel acme--far <b>0000' sleep 9")
    assert village.look().ready
    village.type("pkill -f '^daemon: tunnel acme--far [0-9a-f]'")
    assert "runs another →" in "; ".join(change.words for change in village.look().pending)


def test_a_tunnel_comes_back_with_its_jail(village: Village) -> None:
    begin_tunnel(village)
    village.converge()
    village.type("jail -f /etc/reconciler/jails/acme__www.conf -rc acme__www")
    assert len(pipes(village)) == 1
    report = village.look()
    assert report.ready, [change.words for change in report.pending]


def test_a_host_without_spiped_says_what_to_install_and_its_jails_run(village: Village) -> None:
    begin_tunnel(village)
    village.host.path(SPIPED).unlink()
    village.edit("customers/acme/jails/www.yaml", "spec:\n", "spec:\n  restart: 1\n")
    report = village.apply()
    assert [(f.owner, f.reason.strip()) for f in report.failures] == [
        ("acme--www", "spiped is not installed on this host: pkg install spiped")
    ]
    assert [change.key for change in report.pending] == ["tunnel/1 acme--far"]


CARD = "  nics: {xnic: vtnet0}\n  uplink: xnic\n"
BOOT = "/bin/sh /etc/reconciler/up.sh network && /bin/sh /etc/reconciler/up.sh jails"


def card(village: Village) -> str:
    """Its names, its address and the interface of the way out."""
    named = village.type("ifconfig -l").split()
    return " ".join(
        [
            *(name for name in ("xnic", "vtnet0") if name in named),
            village.type("ifconfig -a | awk '/inet 10.0.2.15/ { print $2 }'").strip(),
            village.type("route -n get -inet default | awk '/interface:/ { print $2 }'").strip(),
        ]
    )


def test_a_network_card_gets_a_name_while_it_is_used_and_keeps_its_address_and_routes(village: Village) -> None:
    assert card(village) == "vtnet0 10.0.2.15 vtnet0"
    switch = "    - name: ibridge\n      uplink: xnic\n      vlan: 2222\n"
    host = village.documents / "hosts/a.yaml"
    plain = host.read_text()
    host.write_text(f"{plain}{switch}{CARD}")
    assert "name xnic of network card vtnet0" in told(village.converge())
    assert card(village) == "xnic 10.0.2.15 xnic"
    assert "parent interface: xnic" in village.type("ifconfig xnic_2222")
    village.type("ifconfig xnic name vtnet0")
    assert "name xnic of network card vtnet0" in told(village.converge())
    village.host.reboot()
    village.type(BOOT)
    assert card(village) == "xnic 10.0.2.15 xnic"
    assert "parent interface: xnic" in village.type("ifconfig xnic_2222")
    assert village.look().ready
    host.write_text(plain)
    village.converge()
    assert card(village) == "xnic 10.0.2.15 xnic"
    village.host.reboot()
    village.type(BOOT)
    assert card(village) == "vtnet0 10.0.2.15 vtnet0"


def test_a_card_that_is_not_there_is_told(village: Village) -> None:
    village.edit("hosts/a.yaml", "  switches:\n", "  nics: {xnic: em0}\n  switches:\n")
    reason = "the host has neither xnic nor em0; a name that a card was given before stays until the next boot"
    assert [(f.key, f.reason.strip()) for f in village.apply().failures] == [("nic/1 xnic", reason)]
    assert village.type("jls -q name").split() == ["acme__db", "acme__www"]
    village.type("ifconfig bridge create name xnic; ifconfig bridge create name em0")
    assert [f.reason.strip() for f in village.apply().failures] == ["the host has both xnic and em0"]


def test_raising_restart_restarts_that_jail_alone(village: Village) -> None:
    other = village.type("jls -j acme__db jid")
    village.edit("customers/acme/jails/www.yaml", "spec:\n", "spec:\n  restart: 1\n")
    assert disrupted(village.converge()) == {"restart of jail acme--www"}
    assert village.type("jls -j acme__db jid") == other


def test_a_port_no_longer_published_is_gone_from_the_rules(village: Village) -> None:
    assert " port 443 " in village.host.read("/etc/reconciler/pf.conf")
    village.edit("customers/acme/jails/www.yaml", "    - port: 443\n", "")
    assert "firewall rules" in told(village.converge())
    assert " port 443 " not in village.host.read("/etc/reconciler/pf.conf")


def test_a_jail_is_removed_with_its_traces_and_its_data_is_kept(village: Village) -> None:
    other = village.type("jls -j acme__db jid")
    (village.documents / "customers/acme/jails/www.yaml").unlink()
    village.edit("customers/acme/jails/db.yaml", "      from: [www]\n", "")
    report = village.converge()
    assert "keep the data of acme--www, until 2026-12-05 at least" in told(report)
    assert village.type("jls -q name") == "acme__db\n"
    assert village.type("jls -j acme__db jid") == other
    assert "ngx_a" not in village.type("ifconfig -l")
    assert HOME not in village.type("mount -p")
    assert "acme__www" not in village.type("rctl")
    assert village.host.path(f"{HOME}/data/data").is_dir()


def test_what_is_not_ours_survives_everything(village: Village) -> None:
    village.type("ifconfig bridge create name theirs && ifconfig theirs inet 10.9.9.1/24")
    village.type("rctl -a user:root:maxproc:log=9")
    village.host.write("/etc/reconciler/mine.txt", "mine\n")
    for jail in ("www", "db"):
        (village.documents / f"customers/acme/jails/{jail}.yaml").unlink()
    village.converge()
    assert "10.9.9.1" in village.type("ifconfig theirs")
    assert "user:root" in village.type("rctl")
    assert village.host.read("/etc/reconciler/mine.txt") == "mine\n"


def test_rules_that_somebody_else_loaded_are_not_replaced(tmp_path: Path) -> None:
    village = Village(tmp_path / "village")
    village.type("kldload pf && echo 'pass in proto tcp to port 22' | pfctl -f - && pfctl -q -e")
    report = village.apply()
    assert "firewall rules exists on the host, but not in our inventory" in report.conflicts[0].reason
    assert village.type("ifconfig -g bridge") == ""


def test_limits_that_the_kernel_does_not_count_are_told_and_not_asked_for_again(village: Village) -> None:
    with village.host.changing() as state:
        state["sysctls"]["kern.racct.enable"] = "0"
        state["rctl"] = []
    report = village.look()
    assert "kern.racct.enable is off" in dict(report.degraded)["acme--www"]
    assert report.ready


# ── one at a time, and killed ────────────────────────────────────────────────────────────────────────────────


def test_an_apply_waits_for_the_lock_of_another_and_says_so(village: Village) -> None:
    lock = village.host.run("mkdir -p /var/run/reconciler; (lockf -k /var/run/reconciler/lock sleep 3 &); sleep 0.3")
    assert lock.returncode == 0
    village.type("ifconfig xbridge -private ngx_a")
    assert "private no → yes" in told(village.converge())


KILLS = os.environ.get("RECONCILER_KILLS") == "all"


def test_a_first_apply_that_is_killed_goes_on_where_it_was(standing: Village, tmp_path: Path) -> None:
    """In its middle; with RECONCILER_KILLS=all at every one."""
    for at in range(1, standing.steps + 1) if KILLS else (standing.steps * 2 // 3,):
        village = Village(tmp_path / str(at))
        village.host.loosen()
        assert "status" in village.apply_killed(at).unreachable
        village.converge()
        assert village.type("jls -q name") == "acme__db\nacme__www\n", at
