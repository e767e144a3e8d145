"""The administrator takes pf over: our rules move into an anchor of theirs, hold there as before, and move back.

Their ruleset comes by standard input: `/etc/pf.conf` stays what it was. It makes no states, so that no connection that
is older than it hangs.
"""

from __future__ import annotations

from .company import DB, NAME, WEB_JAIL, WEB_MOVED, Company, words
from .company import HOST as DOCUMENT
from .host import Host
from .look import difference
from .traffic import opens, page

THEIRS = """
pfctl -f - <<'END'
nat-anchor "reconciler"
rdr-anchor "reconciler"
anchor "reconciler"
pass all no state
END
"""


def walled(host: Host) -> None:
    done = page(host, WEB_MOVED, 8080)
    assert done.code == 0, str(done)
    assert page(host, DB, 5432, WEB_JAIL).code == 0
    done = opens(host, WEB_MOVED, 8081)
    assert done.code == 1, f"nobody publishes this port: {done}"


def test_the_anchor_is_loaded_before_anybody_names_it_and_the_ruleset_of_before_holds(
    host: Host, town: Company
) -> None:
    town.amend(DOCUMENT, firewall="anchor")
    town.push("pf is the administrator's now")
    done = town.run("apply", NAME)
    assert done.code == 1 and "not in force" in done.out, str(done)
    assert "lab--web" in host.run("pfctl -sr").out and "lab--web" in host.run("pfctl -a reconciler -sr").out
    walled(host)


def test_the_administrators_ruleset_comes_and_jails_are_walled_as_before(host: Host, town: Company) -> None:
    host.run(THEIRS)
    walled(host)
    town.carry_out(town.plan())
    shown = host.run("pfctl -sr; pfctl -sn").out
    assert "lab--web" not in shown and 'anchor "reconciler" all' in shown, shown
    walled(host)
    town.nothing_to_do()


def test_what_becomes_of_the_anchor_by_hand_is_mended(host: Host, town: Company) -> None:
    for hand in ("pfctl -a reconciler -F rules", "echo 'pass all' | pfctl -a reconciler -f -"):
        host.run(hand)
        planned = town.plan()
        assert "firewall rules" in words(planned), words(planned)
        town.carry_out(planned)
        walled(host)
    town.nothing_to_do()


def test_a_ruleset_that_no_longer_names_the_anchor_is_told(host: Host, town: Company) -> None:
    host.run("echo 'pass all no state' | pfctl -f -")
    done = town.run("plan", NAME)
    assert done.code == 1 and 'anchor "reconciler"' in done.out, str(done)
    host.run(THEIRS)
    town.nothing_to_do()


def test_only_who_adopts_the_ruleset_in_force_has_it_replaced_by_ours(
    host: Host, town: Company, settled: dict[str, str]
) -> None:
    town.amend(DOCUMENT, firewall=None)
    town.push("pf is the reconciler's again")
    done = town.run("apply", NAME)
    assert done.code == 1 and "somebody else made it" in done.out, str(done)
    done = town.run("apply", NAME, "--adopt")
    assert done.code == 0, str(done)
    walled(host)
    town.nothing_to_do()
    assert difference(settled, host.look(), "modules") == ""
