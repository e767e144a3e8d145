"""The jails move out, one and then all; their data stays. What is left at the end is what the host itself needs."""

from __future__ import annotations

from .company import (
    DB,
    DB_JAIL,
    DB_NIC,
    HOME,
    JAILS,
    NAME,
    WEB_JAIL,
    WEB_MOVED,
    WEB_NIC,
    Company,
    disrupted,
    words,
)
from .host import Host
from .look import difference, listed
from .sweep import sweep
from .test_d_changes import jid, starts
from .traffic import HAND, opens, page, theirs


def gone(host: Host, jail: str, *nics: str) -> None:
    assert host.run(f"jls -j {jail} jid", check=False).code != 0
    look = host.look()
    assert not set(nics) & set(listed(look["interfaces"])), look["interfaces"]
    assert jail not in look["mounts"] and jail not in look["limits"], str(look)
    assert f"{HOME}/{jail.replace('__', '--')}/" not in look["mounts"], look["mounts"]


def test_one_jail_goes_and_the_other_runs_on(host: Host, town: Company) -> None:
    before = starts(host, "lab--web"), jid(host, WEB_JAIL)
    town.remove("db")
    town.edit("web", links=None, after=None)
    planned = town.settle("db moves out")
    assert "keep the data of lab--db" in words(planned), words(planned)
    assert disrupted(planned) <= {"lab--db"}, str(planned)
    gone(host, DB_JAIL, DB_NIC, "db_web", "web_db")
    assert page(host, WEB_MOVED, 8080).code == 0
    assert (starts(host, "lab--web"), jid(host, WEB_JAIL)) == before
    assert opens(host, DB, 5432).code == 1
    assert "web_db" not in host.run(f"jexec {WEB_JAIL} ifconfig -l").out.split()
    town.nothing_to_do()


def test_its_data_is_kept_and_the_status_says_so(host: Host, town: Company) -> None:
    assert host.out(f"wc -l <{HOME}/lab--db/data/data/starts").isdigit()
    told = town.status(f"hosts/{NAME}.yaml")
    assert "lab--db" in told and "retained" in told, told


def test_it_comes_back_to_its_data(host: Host, town: Company) -> None:
    before = starts(host, "lab--db")
    town.jail("db", JAILS["db"])
    town.edit("web", links=JAILS["web"]["links"], after=["db"])
    planned = town.settle("db moves in again")
    assert "bring back data of lab--db" in words(planned), words(planned)
    assert page(host, DB, 5432, WEB_JAIL).code == 0
    assert starts(host, "lab--db") == before + 1


def test_an_emptied_customer_is_held_by_the_guard_until_somebody_has_read_the_plan(host: Host, town: Company) -> None:
    before = starts(host, "lab--web"), starts(host, "lab--db")
    town.remove("web", "db")
    town.push("Everybody moves out, or somebody deleted too much")
    done = town.run("apply", NAME)
    assert done.code == 1 and "2 of 2 jails would be removed" in done.out, str(done)
    assert page(host, WEB_MOVED, 8080).code == 0
    assert (starts(host, "lab--web"), starts(host, "lab--db")) == before
    planned = town.plan(refused=True)
    assert disrupted(planned) == {"lab--web", "lab--db"}, str(planned)
    town.carry_out(planned)
    gone(host, WEB_JAIL, WEB_NIC, "web_db")
    gone(host, DB_JAIL, DB_NIC, "db_web")
    town.nothing_to_do()


def test_without_jails_the_host_is_as_it_was_before_they_came(
    host: Host, town: Company, alone: dict[str, str], handmade: dict[str, str]
) -> None:
    look = host.look()
    assert difference(theirs(handmade), theirs(look)) == ""
    assert difference(alone, look, "modules") == ""
    left = host.run(r"find -x /var/lib/reconciler -type f ! -path '*/data/*' ! -path '*/config/*'").out.split()
    assert not [path for path in left if not path.endswith(("/inventory", "/owner", "/retained", "/firewall.stamp"))], (
        left
    )


def test_swept_the_host_is_bare_again(host: Host, bare: dict[str, str]) -> None:
    """The sweep is the tests' own; what the reconciler made must be of a kind that can be found and taken away."""
    done = sweep(host)
    assert done.code == 0 and ("swept" in done.out or "nothing to sweep" in done.out), str(done)
    look = host.look()
    assert HAND not in look["jails"]
    assert difference(bare, look, "modules", "modes") == ""  # modules stay loaded
