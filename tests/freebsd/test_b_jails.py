"""Two jails move in: planned, made, and looked at with the host's own tools."""

from __future__ import annotations

import pytest

from .company import (
    DB,
    DB_JAIL,
    DB_NIC,
    HOME,
    JAILS,
    NAME,
    SWITCH,
    WEB,
    WEB_JAIL,
    WEB_NIC,
    Company,
    disrupted,
    touched,
    words,
)
from .host import Host
from .look import difference, listed
from .traffic import theirs

BOTH = pytest.mark.parametrize(("jail", "name"), [(WEB_JAIL, "web"), (DB_JAIL, "db")], ids=["web", "db"])


def test_the_plan_shows_both_jails_and_nothing_changes(host: Host, company: Company, alone: dict[str, str]) -> None:
    for name, spec in JAILS.items():
        company.jail(name, spec)
    company.push("Two jails move in")
    planned = company.plan()
    assert "create jail lab--web" in words(planned) and "create jail lab--db" in words(planned), words(planned)
    assert "cable from lab--web to lab--db" in words(planned), words(planned)
    assert disrupted(planned) == set()
    assert {"lab--web", "lab--db"} <= touched(planned)
    assert difference(alone, host.look()) == ""


def test_an_apply_makes_both_jails(company: Company) -> None:
    done = company.run("apply", NAME)
    assert done.code == 0, str(done)
    assert "done create jail lab--web" in done.out and "done create jail lab--db" in done.out, str(done)
    company.moved_in = True


def test_a_second_pass_plans_nothing(town: Company) -> None:
    town.nothing_to_do()


@BOTH
def test_a_jail_runs_with_a_network_of_its_own_and_may_have_no_children(
    host: Host, town: Company, jail: str, name: str
) -> None:
    done = host.run(f"jls -j {jail} host.hostname vnet children.max children.cur dying")
    hostname, vnet, most, children, dying = done.out.split()
    assert hostname.partition(".")[0] == name, str(done)
    assert (vnet, most, children, dying) == ("new", "0", "0", "false"), str(done)


@BOTH
def test_the_application_runs_as_nobody_special(host: Host, town: Company, jail: str, name: str) -> None:
    done = host.run(f"ps -J {jail} -o uid,args")
    serving = [line.split()[0] for line in done.out.splitlines() if "/app/serve" in line]
    assert serving and set(serving) == {"1000"}, str(done)


def test_what_is_shared_cannot_be_written_to_and_what_is_the_jails_own_can(host: Host, town: Company) -> None:
    shared = "/app /bin /lib /libexec /sbin /usr/bin /usr/lib"
    done = host.run(
        f"jexec {WEB_JAIL} sh -c 'for d in {shared}; do touch $d/x && {{ echo wrote to $d; rm $d/x; }}; done;"
        " for d in /data /config; do touch $d/x && rm $d/x || echo no $d; done'"
    )
    assert done.out == "" and "Read-only" in done.err, str(done)


def test_the_defaults_of_the_blueprint_were_copied_to_its_configuration(host: Host, town: Company) -> None:
    done = host.run(f"jexec {WEB_JAIL} ls -ln /config/page; jexec {WEB_JAIL} cat /config/page")
    assert "the page of the blueprint" in done.out and " 1000 " in done.out, str(done)


def test_a_jail_sees_no_device_that_is_not_meant_for_it(host: Host, town: Company) -> None:
    done = host.run(f"jexec {WEB_JAIL} ls /dev")
    devices = set(done.out.split())
    assert {"null", "zero", "random", "urandom", "fd", "stdin"} <= devices, str(done)
    assert not devices & {"pf", "mem", "kmem", "io", "pci", "geom.ctl", "gpt", "devctl", "ada0", "da0", "vtbd0"}, str(
        done
    )


def test_both_are_on_the_switch_and_the_cable_is_in_them_only(host: Host, town: Company) -> None:
    switch = host.run(f"ifconfig {SWITCH}").out
    assert f"member: {WEB_NIC} " in switch and f"member: {DB_NIC} " in switch, switch
    look = host.look()
    assert {"web_db", "db_web"} & set(listed(look["interfaces"])) == set(), look["interfaces"]
    for jail, cable, address in ((WEB_JAIL, "web_db", WEB), (DB_JAIL, "db_web", DB)):
        seen = look[f"inside {jail}"]
        assert f"{cable}: " in seen and f"inet6 {address} prefixlen" in seen, seen
    assert "byhand" not in look[f"inside {WEB_JAIL}"]


@BOTH
def test_its_data_lies_where_the_administrator_expects_it(host: Host, town: Company, jail: str, name: str) -> None:
    done = host.run(f"cat {HOME}/lab--{name}/data/data/starts; stat -f %Lp {HOME}")
    assert done.out.split()[0].isdigit() and done.out.split()[-1] == "700", str(done)


def test_limits_are_in_the_kernel(host: Host, town: Company, racct: bool) -> None:
    if not racct:
        pytest.skip("kern.racct.enable is 0 on this host: see the next test")
    rules = host.run("rctl").out
    for jail in (WEB_JAIL, DB_JAIL):
        assert f"jail:{jail}:maxproc:deny=40\n" in rules, rules
        assert f"jail:{jail}:vmemoryuse:deny={1 << 30}\n" in rules, rules


def test_a_kernel_that_cannot_limit_is_told(host: Host, town: Company, racct: bool) -> None:
    if racct:
        pytest.skip("kern.racct.enable is 1 on this host: see the test before")
    told = town.run("plan", NAME).out + town.status("README.md") + town.status("customers/lab/jails/web.yaml")
    assert "racct" in told, told


def test_a_jail_gets_no_more_processes_than_its_limit(host: Host, town: Company, racct: bool) -> None:
    if not racct:
        pytest.skip("kern.racct.enable is 0 on this host")
    # they sleep longer than it takes a slow host to start sixty
    script = "n=0; while [ $n -lt 60 ]; do sleep 45 & n=$((n + 1)); done; echo all of them"
    done = host.run(f"jexec {WEB_JAIL} sh -c '{script}'", check=False)
    assert "all of them" not in done.out and "fork" in done.err.lower(), str(done)
    host.run(f"pkill -j $(jls -j {WEB_JAIL} jid) -f '^sleep 45' || :")
    assert host.run(f"jls -j {WEB_JAIL} jid", check=False).code == 0


def test_the_status_branch_says_that_they_run(town: Company, racct: bool) -> None:
    if not racct:
        pytest.skip("kern.racct.enable is 0 on this host, and the status says that instead")
    assert "2 of 2 jails are ready, 1 of 1 hosts" in town.status("README.md")
    shop = town.status("customers/lab/jails/web.yaml")
    assert f"[{WEB}]:8080/tcp" in shop and "as it should be" in shop, shop


def test_the_log_of_a_jail_is_shown(town: Company) -> None:
    done = town.run("logs", "lab/web")
    assert done.code == 0 and "started, on ports 8080 8081" in done.out, str(done)


def test_what_is_not_ours_is_as_it_was(host: Host, town: Company, handmade: dict[str, str]) -> None:
    assert difference(theirs(handmade), theirs(host.look())) == ""
