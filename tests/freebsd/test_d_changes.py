"""What somebody writes in a document is planned, and nothing else is; only what has to be is disturbed; data stays."""

from __future__ import annotations

import pytest

from .company import (
    DB,
    DB_JAIL,
    HOME,
    JAILS,
    NAME,
    WEB,
    WEB_JAIL,
    WEB_MOVED,
    Company,
    disrupted,
    touched,
    words,
)
from .host import Host
from .traffic import HAND, opens, page


def starts(host: Host, jail: str) -> int:
    """How often its application was started, by its own book."""
    return int(host.out(f"wc -l <{HOME}/{jail}/data/data/starts"))


def jid(host: Host, jail: str) -> str:
    """The kernel's number: another one after the jail was made anew."""
    return host.out(f"jls -j {jail} jid")


def test_data_survives_a_restart(host: Host, town: Company) -> None:
    host.run(f"jexec {WEB_JAIL} sh -c 'echo kept >/data/kept; echo a page of our own >/config/page'")
    before, other, number = starts(host, "lab--web"), starts(host, "lab--db"), jid(host, DB_JAIL)
    town.edit("web", restart=1)
    planned = town.settle("Restart web once")
    assert touched(planned) == {"lab--web"} == disrupted(planned), str(planned)
    assert "a page of our own\njail web" in page(host, WEB, 8080).out
    assert host.out(f"jexec {WEB_JAIL} cat /data/kept") == "kept"
    assert starts(host, "lab--web") == before + 1
    assert (starts(host, "lab--db"), jid(host, DB_JAIL)) == (other, number)
    town.nothing_to_do()


def test_a_limit_is_changed_without_a_restart(host: Host, town: Company, racct: bool) -> None:
    before, number = starts(host, "lab--web"), jid(host, WEB_JAIL)
    town.edit("web", limits={"memory": "768Mi", "processes": 50})
    planned = town.settle("More processes, less memory")
    assert touched(planned) == {"lab--web"} and disrupted(planned) == set(), str(planned)
    # where the kernel does not limit there is nothing but the file that can differ
    told = ("processes 40 → 50", "memory 1024Mi → 768Mi") if racct else (f"{WEB_JAIL}.limits differs",)
    assert all(text in words(planned) for text in told), words(planned)
    assert (starts(host, "lab--web"), jid(host, WEB_JAIL)) == (before, number)
    if racct:
        rules = host.run("rctl").out
        assert f"jail:{WEB_JAIL}:maxproc:deny=50\n" in rules, rules
        assert f"jail:{WEB_JAIL}:vmemoryuse:deny={768 << 20}\n" in rules, rules
        assert f"jail:{WEB_JAIL}:maxproc:deny=40\n" not in rules, rules
        assert f"jail:{DB_JAIL}:maxproc:deny=40\n" in rules, rules


def test_a_port_is_published_and_nothing_else_changes(host: Host, town: Company) -> None:
    assert opens(host, DB, 8081, HAND).code == 1
    before = starts(host, "lab--web"), starts(host, "lab--db")
    town.edit("db", publish=[*JAILS["db"]["publish"], {"port": 8081}])
    planned = town.settle("db publishes 8081")
    assert disrupted(planned) == set() and touched(planned) <= {"", "lab--db"}, str(planned)
    assert not [change for change in planned["pending"] if change["key"].startswith("jail/")], str(planned)
    assert page(host, DB, 8081, HAND).code == 0
    assert (starts(host, "lab--web"), starts(host, "lab--db")) == before


def test_a_port_that_is_published_no_longer_is_closed_also_to_who_is_in(host: Host, town: Company) -> None:
    """A state of pf's outlives a reload of the rules, and the connection itself by a minute."""
    town.edit("db", publish=JAILS["db"]["publish"])
    town.push("db publishes 8081 no longer")
    planned = town.plan()
    assert disrupted(planned) == set(), str(planned)
    assert page(host, DB, 8081, HAND).code == 0
    town.carry_out(planned)
    states = [line for line in host.run("pfctl -ss").out.splitlines() if f"{DB}[8081]" in line]
    assert not states, str(states)
    done = opens(host, DB, 8081, HAND)
    assert done.code == 1, str(done)


def test_a_parameter_is_changed_by_a_restart_of_its_jail_alone(host: Host, town: Company) -> None:
    before = starts(host, "lab--db")
    town.edit("web", parameters={"TEXT": "second $(id) 'quoted' \"twice\" \\n"})
    planned = town.settle("Another text")
    assert touched(planned) == {"lab--web"} == disrupted(planned), str(planned)
    assert "text second $(id) 'quoted' \"twice\" \\n" in page(host, WEB, 8080).out
    assert starts(host, "lab--db") == before


def test_a_jail_gets_another_address(host: Host, town: Company) -> None:
    before = starts(host, "lab--db")
    town.edit("web", address=WEB_MOVED)
    planned = town.settle("web moves to another address")
    assert disrupted(planned) == {"lab--web"}, str(planned)
    assert WEB_MOVED in words(planned), words(planned)
    assert page(host, WEB_MOVED, 8080).code == 0
    assert opens(host, WEB, 8080).code == 1
    # the rule that lets web in knows its new address
    assert page(host, DB, 5432, WEB_JAIL).code == 0
    assert starts(host, "lab--db") == before
    town.nothing_to_do()


def test_a_host_that_walls_itself_in_reaches_of_its_jails_what_they_publish(host: Host, town: Company) -> None:
    """Without a policy a host may reach everything. ssh must go on; if it does not, pf is turned off after a while."""
    assert page(host, DB, 5432).code == 0
    host.run("(sleep 1801 && pfctl -d) >/dev/null 2>&1 &")
    town.wall([{"ports": [7777]}])
    planned = town.settle("The host reaches nothing but port 7777")
    assert disrupted(planned) == set() and touched(planned) == {""}, words(planned)
    try:
        assert page(host, WEB_MOVED, 8080).code == 0
        done = opens(host, DB, 5432)
        assert done.code == 1, f"the host reaches db's port 5432, which is for web: {done}"
        assert page(host, DB, 5432, WEB_JAIL).code == 0
    finally:
        town.wall(None)
        town.settle("The host may reach everything again")
        host.run("pkill -f '^sleep 1801'; :")
    assert page(host, DB, 5432).code == 0


def test_an_archive_that_is_not_what_its_digest_says_stops_nothing_that_runs(host: Host, town: Company) -> None:
    path = town.clone / "blueprints/page.yaml"
    good = path.read_text()
    path.write_text(good.replace(town.digest, f"sha256:{'0' * 64}"))
    town.push("A wrong digest")
    try:
        done = town.run("apply", NAME)
        assert done.code == 1, str(done)
        assert page(host, WEB_MOVED, 8080).code == 0
    finally:
        path.write_text(good)
        town.push("The right digest")
    assert town.run("apply", NAME).code == 0
    town.nothing_to_do()


@pytest.mark.parametrize("jail", ["web", "db"])
def test_all_that_was_written_before_is_there_still(host: Host, town: Company, jail: str) -> None:
    assert starts(host, f"lab--{jail}") >= 1
    assert host.out(f"cat {HOME}/lab--web/data/data/kept") == "kept"
