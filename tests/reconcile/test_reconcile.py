"""One pass, from what was asked of it to its Report: who holds it back, what is left out, what is told."""

from __future__ import annotations

from dataclasses import replace
from datetime import date

import pytest

from fake import FakeHost, specs
from reconciler.model import HEALTH, Change, Circumstances, File, Guard, HostSpec, Owned, Report, Switch
from reconciler.platforms import PLATFORMS
from reconciler.platforms.files import ETC
from reconciler.platforms.linux.paths import unit
from reconciler.platforms.steps import INCOMING, Call
from reconciler.reconcile import Pass, endpoints, reconcile

GIVEN = Circumstances(date(2024, 2, 20))
EMPTY = specs.spec()
WWW = specs.spec(specs.jail("acme--www"))
CHANGE = Change("update", "port/1 acme--www", "acme--www", "change it")
MANY = specs.spec(*(specs.jail(id) for id in specs.IDS))


def run(spec: HostSpec, host: FakeHost, **asked: object) -> Report:
    return reconcile(spec, host, host.stock, Pass(**{"given": GIVEN, **asked}))  # type: ignore[arg-type]


# ── the pass itself ──────────────────────────────────────────────────────────────────────────────────────────


def test_a_pass_does_what_is_needed_and_says_what_it_did() -> None:
    report = run(WWW, FakeHost())
    assert report.ready
    assert [change.words for change in report.done][-1] == "create jail acme--www"
    assert report.manifest == PLATFORMS["linux"].lower(WWW).digest


def test_a_second_pass_finds_nothing_and_asks_the_host_for_nothing() -> None:
    host = FakeHost()
    run(WWW, host)
    report = run(WWW, host)
    assert (report.done, report.ready) == ((), True)
    assert host.applies == 2  # the first pass's: its network and firewall, then the rest


def test_a_pass_that_only_looks_changes_nothing_and_tells_what_is_pending() -> None:
    host = FakeHost()
    report = run(WWW, host, apply=False)
    assert host.applies == 0
    assert report.pending[-1].words == "create jail acme--www"
    assert not report.ready
    assert len(report.plan) == 16


def test_removed_data_is_told_with_its_day() -> None:
    host = FakeHost()
    run(WWW, host)
    (kept,) = run(specs.spec(), host).retained
    assert (kept.jail, kept.until) == ("acme--www", "2024-03-05")
    assert run(specs.spec(), host).retained == (kept,)


def test_retained_data_goes_when_its_day_has_passed_and_an_approval_names_it() -> None:
    host, home = FakeHost(), "/var/lib/reconciler/jails/acme--www"
    run(WWW, host)
    (kept,) = run(EMPTY, host).retained
    late = replace(GIVEN, today=date(2024, 3, 6))
    for given in (late, replace(GIVEN, approved=frozenset({kept.purge}))):
        assert run(EMPTY, host, given=given).retained == (kept,)
        assert host.machine.below(home)
    report = run(EMPTY, host, given=replace(late, approved=frozenset({kept.purge})))
    assert [change.action for change in report.done] == ["purge"]
    assert (report.ready, report.retained, host.machine.below(home)) == (True, (), [])
    assert not [owned for owned in host.machine.inventory if owned.owner]


def test_a_purge_that_fails_is_told_and_the_data_stays_known() -> None:
    host = FakeHost()
    run(WWW, host)
    (kept,) = run(EMPTY, host).retained
    host.machine.unretain("/var/lib/reconciler/jails/acme--www")
    given = Circumstances(date(2024, 3, 6), approved=frozenset({kept.purge}))
    report = run(EMPTY, host, given=given)
    assert [(f.owner, "does not say 2024-03-05" in f.reason) for f in report.failures] == [("acme--www", True)]
    assert report.retained == (kept,)
    assert host.machine.below("/var/lib/reconciler/jails/acme--www/data")


@pytest.mark.parametrize("shares", [True, False])
def test_a_snapshot_is_promised_where_storage_can_and_only_before_something_else_runs(shares: bool) -> None:
    host, home = FakeHost(), "/var/lib/reconciler/jails/acme--www"
    host.machine.shares = shares
    assert {change.disrupts for change in run(WWW, host).done} == {""}
    first = ", snapshot first" if shares else ""
    again = run(specs.spec(specs.jail("acme--www", restart=1)), host)
    assert [change.disrupts for change in again.done if change.disrupts] == [f"restart of jail acme--www{first}"]
    assert any(path.startswith(f"{home}/snapshots/") for path in host.machine.files) == shares
    host.machine.processes[unit("acme--www")].lost = True
    mended = run(specs.spec(specs.jail("acme--www", restart=1)), host)
    assert [change.disrupts for change in mended.done if change.disrupts] == ["restart of jail acme--www"]


# ── taken back ───────────────────────────────────────────────────────────────────────────────────────────────


def test_what_cuts_the_host_off_is_taken_back_and_told_and_no_jail_is_touched() -> None:
    host = FakeHost()
    host.goes_back, host.cut_off = True, "cannot reach it"
    report = run(WWW, host)
    assert [failure.reason for failure in report.failures] == ["network and firewall were taken back: cannot reach it"]
    assert (report.done, host.applies, host.machine.processes, host.machine.inventory) == ((), 1, {}, ())


def test_what_has_cut_the_host_off_is_not_tried_again_until_the_documents_differ_or_somebody_says_so() -> None:
    host = FakeHost()
    host.goes_back, host.cut_off = True, "cannot reach it"
    run(WWW, host)
    host.cut_off = ""
    another_jail = run(MANY, host)
    assert another_jail.refusal.startswith("this network and firewall have cut the host off before")
    assert host.applies == 1
    opened = replace(WWW, parts=(*WWW.parts, specs.rule("", "in", 22)))
    assert run(opened, host).ready
    host.machine.refused.add(PLATFORMS["linux"].lower(WWW).ground)
    held = run(WWW, host)
    assert held.refusal
    assert run(WWW, host, digest=held.plan, given=replace(GIVEN, reviewed=True)).ready


def test_jails_that_answered_before_have_to_answer_after_the_network_and_the_firewall_have_changed() -> None:
    published = replace(WWW, parts=(*WWW.parts, specs.rule("acme--www", "in", 80)))
    host = FakeHost()
    assert run(published, host).ready
    published = replace(published, parts=(*published.parts, specs.rule("", "in", 22)))
    (endpoint,) = endpoints(published, ())
    answers = iter([frozenset({endpoint}), frozenset()])
    asked: list[frozenset[tuple[str, int]]] = []

    def answering(those: frozenset[tuple[str, int]]) -> frozenset[tuple[str, int]]:
        asked.append(those)
        return next(answers)

    host.goes_back = True
    report = run(published, host, answering=answering)
    assert [failure.reason for failure in report.failures] == [
        "network and firewall were taken back: jails that answered before it did not any more"
    ]
    assert asked == [frozenset({endpoint})] * 2


def test_one_customer_who_falls_silent_among_others_takes_nothing_back() -> None:
    spec = specs.spec(specs.jail("acme--www"), specs.jail("uirig--www", 1))
    spec = replace(spec, parts=(*spec.parts, specs.rule("acme--www"), specs.rule("uirig--www")))
    host = FakeHost()
    assert run(spec, host).ready
    later = replace(spec, parts=(*spec.parts, specs.rule("", "in", 22)))
    both = frozenset(endpoints(later, ()))
    assert len(both) == 2
    answers = iter([both, frozenset(sorted(both)[:1])])
    assert run(later, host, answering=lambda those: next(answers)).ready


def test_a_jail_to_which_something_else_happens_need_not_answer() -> None:
    change = replace(CHANGE, owner="acme--www")
    published = replace(WWW, parts=(*WWW.parts, specs.rule("acme--www")))
    assert len(endpoints(published, ())) == 1
    assert endpoints(published, [change]) == {}
    address = next(iter(endpoints(published, ())))[0]
    gives_up = replace(
        CHANGE, owner="acme--old", before=Owned("port/1 acme--old", "acme--old", 0, "", frozenset({f"{address}/128"}))
    )
    assert endpoints(published, [gives_up]) == {}


def test_an_apply_that_nobody_has_confirmed_is_taken_over_by_the_next_pass() -> None:
    host = FakeHost()
    run(WWW, host)
    host.machine.armed = True
    assert run(WWW, host).ready
    assert not host.machine.armed
    assert host.applies == 3


# ── held back ────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_host_that_changed_since_the_look_is_looked_at_again() -> None:
    host = FakeHost()
    another = iter([True, False, False])
    host.meanwhile = lambda: host.machine.write_inventory([]) if next(another) else None
    report = run(WWW, host)
    assert report.ready
    assert host.applies == 2


def test_a_host_that_keeps_changing_is_left_for_later() -> None:
    host = FakeHost()
    host.meanwhile = lambda: host.machine.write_inventory([])
    report = run(WWW, host)
    assert report.refusal == "the host kept changing while it was looked at: is another reconciler at work?"
    assert not host.machine.processes


def test_a_host_that_another_apply_has_locked_is_left_for_later() -> None:
    host = FakeHost()
    host.busy = True
    assert run(WWW, host).refusal == "another apply holds the host's lock"
    assert not host.machine.inventory


def test_the_hold_file_stops_everything_and_its_words_are_told() -> None:
    host = FakeHost()
    host.machine.put(File(f"{ETC}/hold", b"repairing the disk"))
    report = run(WWW, host)
    assert report.hold == "since 2024-01-01: repairing the disk"
    assert (host.applies, report.ready, len(report.pending) > 1) == (0, False, True)


def test_a_hold_file_that_appears_after_the_look_stops_it_too() -> None:
    host = FakeHost()
    host.meanwhile = lambda: host.machine.put(File(f"{ETC}/hold", b"wait"))
    assert run(WWW, host).hold == "since 2024-01-01: wait"
    assert host.applies == 0


def test_a_host_without_the_commands_we_need_is_not_touched() -> None:
    host = FakeHost()
    host.machine.commands.remove("nft")
    report = run(WWW, host)
    assert report.refusal == "the command nft is missing on the host"
    assert host.applies == 0


def test_a_bridge_never_takes_the_interface_that_the_host_is_reached_on() -> None:
    host = FakeHost()
    host.machine.interfaces["", "eth1"].addresses.add("2001:db8::a/64")
    bridged = specs.spec(specs.jail("acme--www"), switches=[Switch("sw0", False, "eth1")])
    assert run(bridged, host).refusal.startswith("eth1 carries 2001:db8::a/64")
    assert host.applies == 0


@pytest.mark.parametrize("fuse", [0, 1, 20])
def test_a_host_that_goes_away_is_told_and_not_raised(fuse: int) -> None:
    host = FakeHost()
    host.fuse = fuse
    report = run(WWW, host)
    assert (report.unreachable, report.ready) == ("the host went away", False)


# ── guards and digests ───────────────────────────────────────────────────────────────────────────────────────


def test_a_plan_that_takes_too_much_down_waits_for_somebody_to_read_it() -> None:
    host = FakeHost()
    run(MANY, host)
    refused = run(WWW, host)
    assert refused.refusal.startswith("4 of 5 jails would be removed or restarted at once, more than 30 %")
    assert len(host.machine.processes) == 5
    released = run(WWW, host, given=replace(GIVEN, reviewed=True), digest=refused.plan)
    assert released.ready
    assert set(host.machine.processes) == {unit("acme--www")}


def test_an_approval_releases_what_waits_for_it_beside_what_else_differs_by_then() -> None:
    host = FakeHost()
    run(MANY, host)
    held = run(WWW, host)
    host.machine.kernel = b""
    released = run(WWW, host, given=replace(GIVEN, approved=frozenset({held.approval})))
    assert released.ready
    assert set(host.machine.processes) == {unit("acme--www")}


def test_the_digest_of_another_plan_releases_nothing() -> None:
    host = FakeHost()
    run(MANY, host)
    seen = run(WWW, host).plan
    report = run(specs.spec(), host, given=replace(GIVEN, reviewed=True), digest=seen)
    assert f"not {seen}: look at it again" in report.refusal
    assert len(host.machine.processes) == 5


def test_a_digest_with_nothing_left_to_do_says_so() -> None:
    host = FakeHost()
    run(WWW, host)
    report = run(WWW, host, digest="0123456789abcdef")
    assert "0123456789abcdef: look at it again" in report.refusal


def test_a_suspended_host_is_looked_at_and_left_as_it_is() -> None:
    host = FakeHost()
    report = run(replace(WWW, suspended="hosts/a.yaml"), host)
    assert report.hold == "by `suspend` in hosts/a.yaml"
    assert report.pending
    assert not report.ready
    assert not host.machine.processes


def test_a_host_with_jails_of_a_frozen_customer_is_left_as_it_is() -> None:
    host = FakeHost()
    run(WWW, host)
    report = run(specs.spec(), host, given=replace(GIVEN, frozen=frozenset({"acme"}), guard=Guard(100, 100)))
    assert report.refusal == "no good commit is known of acme, which has jails here: nothing is changed"
    assert set(host.machine.processes) == {unit("acme--www")}


# ── archives ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_an_archive_that_cannot_be_had_leaves_out_its_jail_and_no_other() -> None:
    host = FakeHost()
    host.unavailable = {"b" * 64}
    spec = specs.spec(specs.jail("acme--www", release=specs.archive("b")), specs.jail("uirig--www"))
    report = run(spec, host)
    assert [(failure.key, failure.reason) for failure in report.failures] == [
        (f"tree/1 {'b' * 64}", "https://files.example/b.tar cannot be had")
    ]
    assert set(host.machine.processes) == {unit("uirig--www")}
    assert "acme--www" not in {owned.owner for owned in host.machine.inventory}
    host.unavailable = set()
    assert run(spec, host).ready
    assert len(host.machine.processes) == 2


def test_a_new_release_that_cannot_be_had_leaves_the_old_one_running() -> None:
    host = FakeHost()
    old = specs.spec(specs.jail("acme--www", release=specs.archive("b")))
    run(old, host)
    before = host.machine.processes[unit("acme--www")]
    host.unavailable = {"c" * 64}
    report = run(specs.spec(specs.jail("acme--www", release=specs.archive("c"))), host)
    assert not report.ready
    assert host.machine.processes[unit("acme--www")] is before
    assert run(old, host).ready


def test_who_waits_for_the_address_of_a_jail_without_its_archive_waits_as_well() -> None:
    host = FakeHost()
    run(specs.spec(specs.jail("acme--www", 7)), host)
    host.unavailable = {"c" * 64}
    moved, taker = specs.jail("acme--www", 8, release=specs.archive("c")), specs.jail("uirig--www", 7)
    run(specs.spec(moved, taker), host)
    assert host.machine.interfaces["acme--www", "eth0"].addresses == {specs.address(7)}
    assert ("uirig--www", "eth0") not in host.machine.interfaces
    host.unavailable = set()
    assert run(specs.spec(moved, taker), host).ready


def test_archives_that_were_sent_do_not_stay_beside_what_was_unpacked() -> None:
    host = FakeHost()
    run(specs.RICH, host)
    assert [path for path in host.machine.files if path.startswith(f"{INCOMING}/")] == []
    assert len([path for path in host.machine.files if path.endswith("/unpacked")]) == 2


# ── secrets ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_secret_reaches_its_file_and_nothing_that_people_read() -> None:
    host = FakeHost()
    report = run(specs.RICH, host)
    (path,) = [path for path in host.machine.files if path.endswith("/secrets/password")]
    assert host.machine.files[path].content == b"hunter2"
    assert (host.machine.files[path].mode, "hunter2" in repr(report)) == (0o400, False)


# ── restarts for health ──────────────────────────────────────────────────────────────────────────────────────


def test_a_jail_that_is_unwell_is_restarted_once_and_nothing_is_left_to_do() -> None:
    host = FakeHost()
    run(WWW, host)
    before = host.machine.processes[unit("acme--www")]
    report = run(WWW, host, given=replace(GIVEN, unwell={"acme--www": "tcp :80 does not answer"}))
    assert [change.words for change in report.done] == ["restart jail acme--www: tcp :80 does not answer"]
    assert (report.ready, report.pending) == (True, ())
    assert host.machine.processes[unit("acme--www")] is not before
    assert run(WWW, host).done == ()


@pytest.mark.parametrize("platform", PLATFORMS)
def test_every_platform_restarts_a_jail_for_its_health(platform: str) -> None:
    spec = replace(WWW, platform=platform)
    resource = next(r for r in PLATFORMS[platform].lower(spec).resources if r.type == "jail/1")
    differences = ((HEALTH, "it is unwell", "well"),)
    change = Change("update", resource.key, "acme--www", "", resource.disrupts[HEALTH], resource, differences)
    steps = PLATFORMS[platform].commands(change)
    assert [step.function for step in steps if isinstance(step, Call)] == ["machine"]
    assert "restart" in steps[-1].words  # type: ignore[union-attr]
    assert HEALTH not in resource.state
