"""What runs now is what comes back after a restart, without us: the hosts are turned off and on again.

`restart` pulls the plug. The firewall has to be in force before any jail is, and a pass afterwards finds nothing to do.
"""

from __future__ import annotations

from collections.abc import Callable

from lab import Host

from .test_drift import LOOK, answers
from .test_kill import BETWEEN, KILLED, happening, small, works
from .world import World, page

SETTLED = "systemctl is-system-running --wait"


def monotonic(host: Host, unit: str, what: str) -> int:
    return int(host.run(f"systemctl show {unit} -P {what}TimestampMonotonic").stdout)


def test_restarted_hosts_are_the_same_and_a_pass_finds_nothing_to_do(world: World) -> None:
    before = {name: host.run(LOOK).stdout for name, host in world.hosts.items()}
    for host in world.hosts.values():
        host.restart()
    answers(world)
    for name, host in world.hosts.items():
        host.run(SETTLED, check=False)
        assert not world.words(name)
        assert host.run(LOOK).stdout == before[name]


def test_the_firewall_is_in_force_before_the_network_and_that_before_any_jail(world: World) -> None:
    for name, host in world.hosts.items():
        host.restart()
        host.run(SETTLED, check=False)
        firewall = monotonic(host, "reconciler-firewall", "ActiveEnter")
        network = monotonic(host, "reconciler-network", "ExecMainStart")
        assert 0 < firewall < network
        for jail in world.fleet.hosts[name].jails:
            start = monotonic(host, f"reconciler-jail-{jail.id}", "ExecMainStart")
            assert monotonic(host, "reconciler-network", "ActiveEnter") < start


def test_the_firewall_is_loaded_before_ssh_lets_anybody_in(world: World) -> None:
    host = world["a"]
    host.restart()
    assert "table inet reconciler" in host.run("nft list tables").stdout


def test_a_firewall_that_failed_to_load_at_boot_is_found_and_mended(world: World) -> None:
    host = world["a"]
    drop = "/etc/systemd/system/reconciler-firewall.service.d"
    host.run(f"mkdir {drop}; printf '[Service]\\nExecStartPre=/bin/false\\n' >{drop}/fails.conf")
    host.restart()
    host.run(SETTLED, check=False)
    assert "failed" in host.run("systemctl is-active reconciler-firewall", check=False).stdout
    assert "firewall rules: kernel missing" in world.words("a")
    report = world.reconcile("a")
    assert report.ready, [(c.words, c.differences) for c in report.pending]
    assert "table inet reconciler" in host.run("nft list tables").stdout
    answers(world)
    host.run(f"rm -r {drop}; systemctl daemon-reload")
    host.restart()
    answers(world)
    assert not world.words("a")


def test_jails_stay_dark_when_the_firewall_failed_to_load_at_boot(world: World) -> None:
    """Closed rather than open: no rule, no jail."""
    host = world["a"]
    host.run("echo nonsense >/etc/reconciler/firewall.nft")
    host.restart()
    host.run(SETTLED, check=False)
    assert "jails0" not in host.run("ip -br link").stdout
    report = world.reconcile("a")
    assert report.ready, [(c.words, c.differences) for c in report.pending]
    answers(world)


def test_a_cable_file_that_is_broken_at_boot_keeps_nobody_else_dark(world: World) -> None:
    host = world["a"]
    host.run("for cable in /etc/reconciler/network/30-*; do echo false >$cable; done")
    host.restart()
    assert "ACME" in page(world.address("a", "acme--www"))
    assert "cable from acme--shop to acme--db" in world.words("a")
    assert world.reconcile("a").ready
    answers(world)


def test_a_host_that_restarts_while_an_apply_runs_comes_back_and_is_finished(spare: Callable[[str], World]) -> None:
    world = spare("a")
    small(world)
    for at in (3, 150, 150, 100, 60):
        with happening(world, {at: KILLED}, BETWEEN):
            assert world.reconcile("a").unreachable
        world["a"].restart()
    report = world.reconcile("a")
    assert report.ready, [(c.words, c.differences) for c in report.pending]
    works(world, "Anvils")


def test_a_removed_jail_stays_away_after_a_restart(world: World) -> None:
    world.remove("customers/kiln/jails/www.yaml", "customers/kiln/sites/www.yaml")
    world.converge("a")
    world["a"].restart()
    world["a"].run(SETTLED, check=False)
    look = "machinectl list --no-legend; ip netns; ip -br link; systemctl list-units --all; nft list ruleset"
    assert "kiln" not in world["a"].run(look).stdout
    assert not world.words("a")
