"""What a host's network and firewall were before an apply that was not confirmed, on the stand-in.

Nobody waits there: `daemon` starts nothing. What would be called is called by who comes back, or by the boot.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from reconciler.reconcile import Answering, endpoints

from .village import Village

OURS = "find /etc/reconciler /usr/local/etc/rc.d -type f | sort | xargs sha256; sed 1d /var/lib/reconciler/inventory"
LOOK = f"{OURS}; pfctl -sr; pfctl -sn; ifconfig -a; sysctl net.inet6.ip6.forwarding; jls -N"
WAITED = """for left in /var/lib/reconciler/transactions/*.armed; do
    name=${left##*/}
    sh $left/script revert ${name%.armed}
done"""
"""What is called when the time is over."""
POLICY = """apiVersion: reconciler.hosting/v1
kind: FirewallPolicy
metadata:
  name: edge
spec:
  in:
    - description: Figures
      ports: [9100]
"""


@pytest.fixture
def village(standing: Village, tmp_path: Path) -> Village:
    return standing.copied(tmp_path / "copy")


def once() -> Answering:
    """A jail that answers before, and not after."""
    answers = iter([frozenset])
    return lambda endpoints: next(answers, lambda _: frozenset())(endpoints)


def stricter(village: Village) -> None:
    """A wall around the host itself, and another switch."""
    (village.documents / "policies").mkdir()
    (village.documents / "policies/edge.yaml").write_text(POLICY)
    village.edit("hosts/a.yaml", "    - name: xbridge", "    - name: xbridge\n    - name: second0")
    village.edit("hosts/a.yaml", "spec:", "spec:\n  policy: edge")


def test_what_a_jail_no_longer_answers_after_is_taken_back(village: Village) -> None:
    assert endpoints(village.spec, ())
    before = village.type(LOOK)
    stricter(village)
    report = village.apply(answering=once())
    assert "jails that answered before it did not any more" in report.failures[0].reason
    assert village.type(LOOK) == before
    village.converge()
    assert "second0" in village.type("ifconfig -l")


def test_a_first_apply_that_is_taken_back_leaves_nothing(tmp_path: Path) -> None:
    fresh = Village(tmp_path / "fresh")
    fresh.host.loosen()
    look = "pfctl -sr 2>/dev/null; ifconfig -l; find /etc/reconciler /usr/local/etc/rc.d -type f; jls -N"
    before = fresh.type(look)
    assert fresh.apply_and_be_cut_off().unreachable
    assert fresh.type(look) != before
    fresh.type(WAITED)
    assert fresh.type(look) == before


def test_what_nobody_confirmed_is_gone_after_a_restart_and_is_not_tried_again(village: Village) -> None:
    inventory, rules = village.type(OURS), village.type("pfctl -sr")
    stricter(village)
    report = village.apply_and_be_cut_off()
    assert "it takes back by itself what cut it off" in report.unreachable
    assert village.type("pfctl -sr") != rules
    village.host.reboot()
    village.type("/bin/sh /etc/reconciler/up.sh network && /bin/sh /etc/reconciler/up.sh jails")
    assert village.type(OURS) == inventory
    assert village.type("pfctl -sr") == rules
    assert "second0" not in village.type("ifconfig -l")
    again = village.apply_and_be_cut_off()
    assert again.refusal.startswith("this network and firewall have cut the host off before")
    village.converge()
    assert "second0" in village.type("ifconfig -l")


def waiting(village: Village) -> list[str]:
    """How long each of those waits that would take something back, in the order in which they began to."""
    shown = village.type("ps -ww -J 0 -o command= || :").splitlines()
    return [line.split()[-1] for line in shown if " wait_for " in line]


def test_a_minute_to_confirm_begins_when_the_work_is_done(village: Village) -> None:
    """An emulated host took longer than that for its first apply, and took it back half-way."""
    before = waiting(village)
    stricter(village)
    assert village.apply_killed(1).unreachable
    assert waiting(village) == [*before, "300"]
    village.converge()
    assert waiting(village) == [*before, "300", "300", "60"]
    assert not list(village.host.path("/var/lib/reconciler/transactions").iterdir())


def test_work_ends_and_says_so_when_somebody_takes_it_back(village: Village) -> None:
    stricter(village)
    report = village.apply_overtaken(1)
    assert "it took too long, and is taken back" in report.unreachable, report
    village.converge()


INTERRUPTED = """for left in /var/lib/reconciler/transactions/*.armed; do
    name=${left##*/} name=${name%.armed}
    mv $left ${left%.armed}.reverting
    while read -r was path; do
        [ $was = - ] || { mv /etc/reconciler/before.$name/$was $path; break; }
    done <${left%.armed}.reverting/files
done"""
"""A take-back that put back one file before the power went."""


def test_a_take_back_that_was_interrupted_is_finished_at_boot(village: Village) -> None:
    ours, rules = village.type(OURS), village.type("pfctl -sr")
    stricter(village)
    village.apply_and_be_cut_off()
    village.type(INTERRUPTED)
    village.host.reboot()
    village.type("/bin/sh /etc/reconciler/up.sh network")
    assert village.type(OURS) == ours
    assert village.type("pfctl -sr") == rules


def test_a_take_back_that_was_interrupted_is_finished_by_the_next_pass(village: Village) -> None:
    stricter(village)
    village.apply_and_be_cut_off()
    village.type(INTERRUPTED)
    assert "second0" in village.type("ifconfig -l")
    report = village.look()
    assert not report.ready
    village.edit("hosts/a.yaml", "\n    - name: second0", "")
    village.edit("hosts/a.yaml", "\n  policy: edge", "")
    village.converge()
    assert "second0" not in village.type("ifconfig -l")
    assert not list(village.host.path("/var/lib/reconciler/transactions").iterdir())
