"""The first pages of the story: a bare host gets what it needs before any jail comes. Each test is a step, in order."""

from __future__ import annotations

from .company import GATEWAY, NAME, SWITCH, Company, words
from .host import Host
from .look import difference
from .traffic import theirs


def test_the_machine_is_a_freebsd_that_can_have_jails_with_networks_of_their_own(host: Host) -> None:
    told = host.out("uname -s; id -u; sysctl -n security.jail.jailed kern.features.vimage kern.osreldate").split()
    assert told[:4] == ["FreeBSD", "0", "0", "1"], f"system, uid, jailed, vimage, release: {told}"
    assert int(told[4]) >= 1300000, str(told)


def test_its_base_has_the_programs_that_these_tests_call(host: Host) -> None:
    wanted = "nc ping ifconfig jexec jls jail pfctl rctl devfs sha256 netstat timeout awk mount kldload daemon"
    assert host.run(f"for name in {wanted}; do command -v $name >/dev/null || echo $name; done").out.split() == []


def test_the_repository_is_in_order(company: Company) -> None:
    done = company.run("validate", str(company.clone))
    assert done.code == 0, str(done)


def test_a_plan_is_shown_and_nothing_changes(host: Host, company: Company, handmade: dict[str, str]) -> None:
    done = company.run("plan", NAME)
    assert done.code == 2 and f"switch {SWITCH}" in done.out and "Traceback" not in done.err, str(done)
    assert company.run("plan", NAME).out == done.out
    assert difference(handmade, host.look()) == ""
    assert host.out("cat /var/lib/reconciler/inventory 2>/dev/null || :") == ""


def test_the_first_apply_makes_the_host_ready_for_jails(host: Host, company: Company) -> None:
    done = company.run("apply", NAME)
    assert done.code == 0 and "done " in done.out, str(done)
    switch = host.run(f"ifconfig {SWITCH}").out
    assert f"inet6 {GATEWAY} prefixlen 64" in switch and "<UP," in switch, switch
    assert host.run("sysctl -n net.inet6.ip6.forwarding").out.strip() == "1"


def test_the_firewall_is_on_and_lets_a_new_connection_of_ours_in(host: Host, company: Company) -> None:
    rules = host.run("pfctl -si | head -n 1; pfctl -sr")
    assert rules.out.startswith("Status: Enabled") and "block" in rules.out, str(rules)


def test_it_comes_back_at_a_boot(host: Host, company: Company) -> None:
    hook = host.run("ls -l /usr/local/etc/rc.d/reconciler; sh -n /usr/local/etc/rc.d/reconciler")
    assert hook.out.startswith("-r") and "x" in hook.out[:4], str(hook)
    ordered = host.run("rcorder /etc/rc.d/* /usr/local/etc/rc.d/reconciler 2>&1 | grep reconciler")
    assert ordered.out.split() == ["/usr/local/etc/rc.d/reconciler"], str(ordered)


def test_a_second_pass_plans_nothing_for_the_host(company: Company) -> None:
    company.nothing_to_do()
    done = company.run("apply", NAME)
    assert done.code == 0 and f"host {NAME}: as it should be" in done.out, str(done)


def test_what_is_not_ours_was_left_alone(host: Host, handmade: dict[str, str], alone: dict[str, str]) -> None:
    assert difference(theirs(handmade), theirs(alone)) == ""


def test_a_hold_file_of_the_administrators_is_obeyed(host: Host, company: Company) -> None:
    host.run("echo 'trying something, Ada' >/etc/reconciler/hold")
    try:
        done = company.run("plan", NAME)
        assert "on hold" in done.out and "trying something, Ada" in done.out, str(done)
    finally:
        host.run("rm -f /etc/reconciler/hold")
    assert words(company.plan()) == ""
