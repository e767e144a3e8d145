"""What a plan says, in which order, and what it holds back: manifests and observations in, words out.

Resources here are of no platform: a key, a state, claims. What steps do with a plan is in `tests/reconcile`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import date
from typing import Any

import pytest

from fake import specs
from reconciler.model import HEALTH, Change, File, Guard, Manifest, Observation, Owned, Plan, Resource, Secret
from reconciler.plan import Circumstances, inventory, plan, retained
from reconciler.platforms import PLATFORMS
from reconciler.platforms.files import file_state
from reconciler.platforms.steps import settled

TODAY = date(2024, 2, 20)
GIVEN = Circumstances(TODAY)


def thing(key: str, owner: str = "", **fields: Any) -> Resource:
    return Resource(key, owner, **{"state": {"is": "right"}, "words": key, **fields})


def port(owner: str, address: str) -> Resource:
    return thing(f"port/1 {owner}", owner, state={"address": address}, claims=frozenset({address}))


def jail(number: int, runs: str = "now") -> Resource:
    owner = f"acme--{number}"
    return thing(
        f"jail/1 {owner}", owner, state={"runs": runs}, disrupts=dict.fromkeys(("runs", HEALTH), f"restart of {owner}")
    )


def wanted(*resources: Resource) -> Manifest:
    return Manifest("a", resources, "digest")


def entries(*resources: Resource) -> tuple[Owned, ...]:
    return tuple(Owned(r.key, r.owner, n, "", r.claims, r.undo) for n, r in enumerate(resources))


def seen(*resources: Resource, **fields: Any) -> Observation:
    """A host on which these are as they were wanted, and ours."""
    states = {r.key: r.state for r in resources}
    return Observation(**{"states": states, "present": frozenset(states), "inventory": entries(*resources), **fields})


def spoken(planned: Plan) -> list[str]:
    return [f"{change.action} {change.key}" for change in planned.changes]


def made(before: Iterable[Resource], after: Iterable[Resource], given: Circumstances = GIVEN) -> Plan:
    return plan(wanted(*after), seen(*before), given)


# ── order ────────────────────────────────────────────────────────────────────────────────────────────────────

SWITCH, TREE = thing("switch/1 sw0"), thing("tree/1 abc")
A = [thing("data/1 acme--a", "acme--a"), port("acme--a", "::a"), thing("jail/1 acme--a", "acme--a")]
B = [thing("data/1 acme--b", "acme--b"), port("acme--b", "::b"), thing("jail/1 acme--b", "acme--b")]


def test_what_is_as_wanted_needs_nothing() -> None:
    assert made([SWITCH, *A], [SWITCH, *A]).changes == ()


def test_things_are_made_in_the_manifests_order() -> None:
    assert spoken(made([], [SWITCH, *A])) == [
        "create switch/1 sw0",
        "create data/1 acme--a",
        "create port/1 acme--a",
        "create jail/1 acme--a",
    ]


def test_a_removed_jail_goes_first_and_backwards_and_what_the_host_no_longer_needs_goes_last() -> None:
    assert spoken(made([SWITCH, TREE, *A], [SWITCH, *B])) == [
        "remove jail/1 acme--a",
        "remove port/1 acme--a",
        "retain data/1 acme--a",
        "create data/1 acme--b",
        "create port/1 acme--b",
        "create jail/1 acme--b",
        "remove tree/1 abc",
    ]


def test_what_a_jail_that_stays_no_longer_needs_goes_last() -> None:
    secret = thing("secret/1 acme--a/key", "acme--a")
    assert spoken(made([secret, *A], [*A, *B]))[-1] == "remove secret/1 acme--a/key"


def test_positions_in_the_inventory_decide_and_not_the_order_of_its_lines() -> None:
    entries = seen(*A).inventory
    shuffled = Observation({}, inventory=(entries[2], entries[0], entries[1]))
    assert spoken(plan(wanted(), shuffled, GIVEN)) == [
        "remove jail/1 acme--a",
        "remove port/1 acme--a",
        "retain data/1 acme--a",
    ]


# ── claims ───────────────────────────────────────────────────────────────────────────────────────────────────


def test_an_address_is_released_before_it_is_taken() -> None:
    planned = made([port("x--a", "::1"), port("x--b", "::2")], [port("x--a", "::2"), port("x--b", "::3")])
    assert spoken(planned) == ["update port/1 x--b", "update port/1 x--a"]
    assert [change.waits for change in planned.changes] == [frozenset(), {"x--b"}]


def test_three_in_a_chain_move_from_its_end() -> None:
    before = [port("x--a", "::1"), port("x--b", "::2"), port("x--c", "::3")]
    after = [port("x--a", "::2"), port("x--b", "::3"), port("x--c", "::4")]
    assert spoken(made(before, after)) == ["update port/1 x--c", "update port/1 x--b", "update port/1 x--a"]


def test_a_new_jail_takes_the_address_of_one_that_moves_and_of_one_that_goes() -> None:
    planned = made([port("x--b", "::1"), port("x--c", "::2")], [port("x--a", "::1"), port("x--b", "::2")])
    assert spoken(planned) == ["remove port/1 x--c", "update port/1 x--b", "create port/1 x--a"]


def test_what_holds_a_wanted_claim_goes_early_even_if_its_jail_stays() -> None:
    cable, other = (thing(f"cable/1 {n}", "x--a", claims=frozenset({"x--a/c0"})) for n in "12")
    host = thing("jail/1 x--a", "x--a")
    assert spoken(made([cable, host], [other, host])) == ["remove cable/1 1", "create cable/1 2"]


def test_two_who_exchange_addresses_are_left_alone_and_others_go_on() -> None:
    before = [port("x--a", "::1"), port("x--b", "::2"), port("x--c", "::3")]
    after = [port("x--a", "::2"), port("x--b", "::1"), port("x--c", "::4")]
    planned = made(before, after)
    assert spoken(planned) == ["update port/1 x--c"]
    assert [failure.owner for failure in planned.conflicts] == ["x--a", "x--b"]
    assert "in two commits" in planned.conflicts[0].reason


def test_who_waits_for_somebody_that_is_left_alone_is_left_alone_too() -> None:
    before = [port("x--a", "::1"), port("x--b", "::2"), port("x--c", "::3")]
    after = [port("x--a", "::2"), port("x--b", "::3"), port("x--c", "::4")]
    planned = made(before, after, replace(GIVEN, untouched=frozenset({"x--b"})))
    assert spoken(planned) == ["update port/1 x--c"]
    assert [(failure.owner, failure.reason) for failure in planned.conflicts] == [
        ("x--a", "change port/1 x--a: address ::1 → ::2: x--b has the address, interface or port still")
    ]


# ── what is not ours ─────────────────────────────────────────────────────────────────────────────────────────


def test_what_exists_under_our_key_and_is_not_ours_is_a_conflict_of_its_owner_alone() -> None:
    host = seen(SWITCH, inventory=seen(SWITCH).inventory, present=frozenset({SWITCH.key, "jail/1 acme--a"}))
    planned = plan(wanted(SWITCH, *A, *B), host, GIVEN)
    assert [(conflict.owner, conflict.key) for conflict in planned.conflicts] == [("acme--a", "jail/1 acme--a")]
    assert {change.owner for change in planned.changes} == {"acme--b"}
    assert planned.untouched == {"acme--a"}
    assert {owned.owner for owned in inventory(wanted(SWITCH, *A, *B), host, planned)} == {"", "acme--b"}


def test_a_conflict_of_the_hosts_own_stops_the_whole_host() -> None:
    planned = plan(wanted(SWITCH, *A), Observation({}, present=frozenset({SWITCH.key})), GIVEN)
    assert [conflict.owner for conflict in planned.conflicts] == [""]
    assert planned.changes == ()


def test_what_is_in_the_way_of_a_jail_leaves_it_as_it_is_also_when_adopting() -> None:
    host = seen(SWITCH, *A, obstacles={B[0].key: "files lie there"})
    planned = plan(wanted(SWITCH, *A[:2], *B), host, replace(GIVEN, adopt=True))
    assert [(f.owner, f.reason) for f in planned.conflicts] == [("acme--b", "files lie there")]
    assert spoken(planned) == ["remove jail/1 acme--a"]


def test_a_dataset_is_let_go_and_not_removed() -> None:
    dataset = thing("dataset/1 tank/acme--a", "acme--a")
    planned = made([SWITCH, dataset, *A], [SWITCH])
    assert [c.words for c in planned.changes][-1] == "leave dataset tank/acme--a as it is"
    assert spoken(planned)[-2:] == ["retain data/1 acme--a", "release dataset/1 tank/acme--a"]


def test_adopting_takes_it_for_ours() -> None:
    host = seen(SWITCH, *A, inventory=())
    planned = plan(wanted(SWITCH, *A), host, replace(GIVEN, adopt=True))
    assert (planned.conflicts, planned.changes) == ((), ())
    assert inventory(wanted(SWITCH, *A), host, planned) == seen(SWITCH, *A).inventory


def test_owners_that_are_left_as_they_are_keep_what_is_in_the_inventory() -> None:
    planned = made(A, [*B], replace(GIVEN, untouched=frozenset({"acme--a"})))
    assert {change.owner for change in planned.changes} == {"acme--b"}
    assert {owned.key for owned in inventory(wanted(*B), seen(*A), planned)} == {r.key for r in (*A, *B)}


# ── guards ───────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("jails", "touched", "refused"),
    [(2, 2, False), (3, 3, True), (9, 3, True), (10, 3, False), (10, 4, True), (11, 4, True), (14, 4, False)],
)
@pytest.mark.parametrize("how", ["removed", "restarted"])
def test_more_than_30_percent_and_at_least_3_jails_at_once_are_refused(
    jails: int, touched: int, refused: bool, how: str
) -> None:
    before = [jail(number) for number in range(jails)]
    after = before[touched:] if how == "removed" else [*(jail(n, "anew") for n in range(touched)), *before[touched:]]
    assert bool(made(before, after).refusal) == refused
    assert made(before, after, replace(GIVEN, reviewed=True)).refusal == ""


def test_the_platform_sets_the_guards_numbers() -> None:
    before = [jail(number) for number in range(10)]
    strict = replace(GIVEN, guard=Guard(percent=5, minimum=1))
    assert made(before, before[1:], strict).refusal.startswith("1 of 10 jails would be removed or restarted at once")
    assert made(before, before[5:], replace(GIVEN, guard=Guard(percent=50, minimum=1))).refusal == ""


def removing(count: int, *others: Resource, given: Circumstances = GIVEN) -> Plan:
    """The plan for a host of ten jails that loses so many, where others are to be as well."""
    before = [jail(number) for number in range(10)]
    return made(before, [*before[count:], *others], given)


def test_an_approval_of_what_the_guard_holds_back_lets_it_go() -> None:
    held = removing(4)
    assert f"commit approvals/{held.approval}.yaml" in held.refusal
    released = removing(4, given=replace(GIVEN, approved=frozenset({held.approval})))
    assert (released.refusal, released.approval) == ("", "")
    assert released.changes == held.changes


def test_a_removal_waits_when_too_many_of_the_whole_fleet_go() -> None:
    given = replace(GIVEN, vanishing=frozenset({"acme--0", "kiln--1", "kiln--2"}))
    held = removing(2, given=given)
    assert held.refusal.startswith("3 jails of the fleet would be removed at once, more than 30 %: review the plan")
    assert removing(2, given=replace(given, approved=frozenset({held.approval}))).refusal == ""
    before = [jail(number) for number in range(10)]
    assert made(before, [jail(0, "anew"), *before[1:]], given).refusal == ""


def test_an_approval_still_fits_when_something_else_differs() -> None:
    given = replace(GIVEN, approved=frozenset({removing(4).approval}))
    assert removing(4, thing("switch/1 s"), jail(11), given=given).refusal == ""


def test_an_approval_of_some_jails_lets_no_others_go() -> None:
    given = replace(GIVEN, approved=frozenset({removing(4).approval}))
    assert removing(5, given=given).refusal.startswith("5 of 10 jails")


def test_what_is_left_of_approved_changes_goes_too() -> None:
    """The first half was done when the apply was killed."""
    held = removing(8)
    before = [jail(number) for number in range(4, 10)]
    rest = made(before, before[4:], replace(GIVEN, released=frozenset(held.held)))
    assert (rest.refusal, len(rest.changes)) == ("", 4)
    assert made(before, before[5:], replace(GIVEN, released=frozenset(held.held))).refusal.startswith("5 of 6 jails")


def test_a_new_version_of_the_reconciler_only_plans_where_it_would_disrupt() -> None:
    given, before = replace(GIVEN, newcomer="2.0"), [jail(number) for number in range(10)]
    held = made(before, [jail(0, "anew"), *before[1:]], given)
    assert held.refusal.startswith("reconciler 2.0 is new to this host, and would stop or restart 1 of its jails")
    assert held.refusal.endswith(f"approvals/{held.approval}.yaml or run `reconciler apply HOST --digest D`")
    other = made(before, before[1:], given)
    assert other.approval == held.approval
    assert made(before, before[1:], replace(given, approved=frozenset({held.approval}))).refusal == ""
    assert made(before, before[1:], replace(given, reviewed=True)).refusal == ""
    assert made(before, [*before, SWITCH], given).refusal == ""


def test_an_approval_holds_for_what_was_there_and_what_is_to_become_of_it() -> None:
    before = [jail(number) for number in range(5)]
    approvals = {made(before, [jail(number, anew) for number in range(5)]).approval for anew in ("one", "other")}
    later = made([jail(number, "then") for number in range(5)], [jail(number, "one") for number in range(5)]).approval
    assert len({*approvals, later, removing(5).approval}) == 4


def test_what_was_taken_back_has_no_approval_but_its_digest() -> None:
    before = seen(jail(1), refused=frozenset({"digest"}))
    planned = plan(wanted(jail(1, "anew")), before, GIVEN)
    assert planned.refusal.startswith("this network and firewall have cut the host off before")
    assert planned.approval == ""


def test_new_jails_are_never_refused() -> None:
    assert made([], [jail(number) for number in range(50)]).refusal == ""


def test_a_jail_that_does_not_run_is_started_without_asking_the_guard() -> None:
    jails = [jail(number) for number in range(5)]
    stopped = replace(seen(*jails), states={})
    planned = plan(wanted(*jails), stopped, GIVEN)
    assert len(planned.changes) == 5
    assert (planned.refusal, {change.disrupts for change in planned.changes}) == ("", {""})


def test_a_refused_plan_still_says_what_it_would_do() -> None:
    before = [jail(number) for number in range(5)]
    assert len(made(before, []).changes) == 5


# ── frozen customers ─────────────────────────────────────────────────────────────────────────────────────────


def test_a_host_that_has_anything_of_a_frozen_customer_is_left_as_it_is() -> None:
    frozen = replace(GIVEN, frozen=frozenset({"acme", "kiln"}), reviewed=True)
    refusal = made(A, [], frozen).refusal
    assert refusal == "no good commit is known of acme, which has jails here: nothing is changed"
    assert made([], B, replace(GIVEN, frozen=frozenset({"kiln"}))).refusal == ""


# ── data ─────────────────────────────────────────────────────────────────────────────────────────────────────


def done(planned: Plan, manifest: Manifest, observation: Observation) -> tuple[Owned, ...]:
    """The inventory after all of it was carried out."""
    kept = {owned.key: owned for owned in inventory(manifest, observation, planned)}
    for change in planned.changes:
        after = settled(change, kept.pop(change.key, None))
        kept |= {change.key: after} if after else {}
    return tuple(kept.values())


def test_a_removed_jail_keeps_its_data_for_14_days_and_is_told_until_when() -> None:
    planned = made(A, [])
    assert "data of acme--a" in planned.changes[-1].words
    assert "until 2024-03-05" in planned.changes[-1].words
    left = done(planned, wanted(), seen(*A))
    assert [(owned.key, owned.retained) for owned in left] == [("data/1 acme--a", "2024-03-05")]


def test_retained_data_stays_as_it_is_from_then_on() -> None:
    left = done(made(A, []), wanted(), seen(*A))
    later = plan(wanted(), Observation({}, inventory=left), replace(GIVEN, today=date(2030, 1, 1)))
    assert later.changes == ()


def test_a_jail_that_comes_back_gets_its_data_back() -> None:
    left = done(made(A, []), wanted(), seen(*A))
    host = Observation({A[0].key: A[0].state}, frozenset({A[0].key}), left)
    planned = plan(wanted(*A), host, GIVEN)
    assert planned.conflicts == ()
    assert planned.changes[0].words == "bring back data/1 acme--a, as it was left"
    assert {owned.retained for owned in done(planned, wanted(*A), host)} == {""}


def test_a_jail_that_comes_back_to_nothing_is_not_told_that_its_data_does() -> None:
    """Somebody has taken it away, or it was being deleted when the apply was killed."""
    data = thing("data/1 acme--a", "acme--a", state={"/storage": "there", "/a": "there"}, undo="/a")
    host = Observation({data.key: {"/storage": "there"}}, inventory=(replace(*entries(data), retained="2024-03-05"),))
    assert plan(wanted(data), host, GIVEN).changes[0].words == "create data/1 acme--a"


DATA = thing("data/1 acme--a", "acme--a", undo="/storage/jails/acme--a")
KEPT = replace(*entries(DATA), retained="2024-03-05")
OVER = date(2024, 3, 6)


def ended(today: date, *owned: Owned, approved: Iterable[str] = (), there: Manifest | None = None) -> Plan:
    """What is to become of a host on which there is only what is kept."""
    given = Circumstances(today, approved=frozenset(approved))
    return plan(there or wanted(), Observation({}, inventory=owned), given)


def test_data_is_deleted_when_its_day_has_passed_and_an_approval_names_it() -> None:
    (kept,) = retained("a", [KEPT])
    planned = ended(OVER, KEPT, approved=[kept.purge])
    words = f"delete the data of acme--a, kept until 2024-03-05, approved by {kept.purge}"
    assert [(c.action, c.words, c.before) for c in planned.changes] == [("purge", words, KEPT)]
    assert done(planned, wanted(), Observation({}, inventory=(KEPT,))) == ()


def test_no_data_is_deleted_too_early_or_without_its_approval() -> None:
    (kept,) = retained("a", [KEPT])
    assert ended(date(2024, 3, 5), KEPT, approved=[kept.purge]).changes == ()
    assert ended(date(2099, 1, 1), KEPT).changes == ()
    assert (
        plan(wanted(), Observation({}, inventory=(KEPT,)), Circumstances(OVER, reviewed=True, adopt=True)).changes == ()
    )


@pytest.mark.parametrize(
    "other",
    [
        replace(KEPT, retained="2024-03-04"),
        replace(KEPT, undo="/other/jails/acme--a"),
        replace(KEPT, key="data/1 acme--b"),
    ],
    ids=["an earlier life", "another place", "another jail"],
)
def test_an_approval_names_one_life_of_one_jail_in_one_place(other: Owned) -> None:
    (approved,) = retained("a", [other])
    assert ended(OVER, KEPT, approved=[approved.purge, *(kept.purge for kept in retained("b", [KEPT]))]).changes == ()


def test_of_a_jail_that_is_back_nothing_is_deleted_however_it_was_approved() -> None:
    (kept,) = retained("a", [KEPT])
    assert spoken(ended(OVER, KEPT, approved=[kept.purge], there=wanted(DATA))) == ["create data/1 acme--a"]
    assert spoken(ended(OVER, KEPT, approved=[kept.purge], there=wanted(jail(1), A[2]))) == [
        "create jail/1 acme--1",
        "create jail/1 acme--a",
    ]


def test_only_what_is_retained_is_ever_deleted() -> None:
    lives = replace(KEPT, retained="")
    planned = ended(OVER, lives, approved=[kept.purge for kept in retained("a", [KEPT, replace(lives, retained="x")])])
    assert spoken(planned) == ["retain data/1 acme--a"]


def test_deleting_comes_last_and_takes_no_jail_down() -> None:
    many = [replace(KEPT, key=f"data/1 acme--{n}", owner=f"acme--{n}") for n in range(9)]
    approved = [kept.purge for kept in retained("a", many)]
    planned = ended(OVER, *many, *entries(TREE), approved=approved, there=wanted(SWITCH))
    assert (planned.refusal, planned.approval) == ("", "")
    assert spoken(planned) == ["create switch/1 sw0", "remove tree/1 abc", *(f"purge {one.key}" for one in many)]


def test_until_a_change_is_done_the_inventory_knows_what_was_there_before() -> None:
    before = replace(port("x--a", "::1"), undo="give ::1 back")
    after = replace(port("x--a", "::2"), undo="give ::2 back")
    planned = made([before], [after])
    (during,) = inventory(wanted(after), seen(before), planned)
    assert (during.undo, during.claims) == ("give ::1 back", {"::1", "::2"})
    assert done(planned, wanted(after), seen(before)) == seen(after).inventory


# ── words ────────────────────────────────────────────────────────────────────────────────────────────────────

CONF = File("/etc/app.conf", b"one\ntwo\n")


def test_a_change_says_what_is_and_what_should_be() -> None:
    now = replace(seen(jail(1)), states={"jail/1 acme--1": {"runs": "", "memory": "1Mi"}})
    want = replace(jail(1), state={"runs": "", "memory": "2Mi", "cpu": "50%"}, words="jail acme--1")
    (change,) = plan(wanted(want), now, GIVEN).changes
    assert change.words == "change jail acme--1: memory 1Mi → 2Mi; cpu missing → 50%"
    assert change.differences == (("memory", "1Mi", "2Mi"), ("cpu", "", "50%"))
    assert change.disrupts == ""


@pytest.mark.parametrize(
    ("is_now", "words"),
    [
        (None, "/etc/app.conf is missing"),
        ("0600 0:0 {sha}", "/etc/app.conf is 0600 0:0, not 0644 0:0"),
        ("0644 0:0 another", "/etc/app.conf differs"),
    ],
)
def test_a_file_is_told_by_its_access_and_its_diff(is_now: str | None, words: str) -> None:
    sha = file_state(CONF)[CONF.path].rpartition(" ")[2]
    wants = thing("file/1 x", state={**file_state(CONF), "is": "right"}, files=(CONF,))
    states = {"file/1 x": {"is": "right", **({CONF.path: is_now.format(sha=sha)} if is_now else {})}}
    (change,) = plan(wanted(wants), replace(seen(wants), states=states), GIVEN).changes
    assert change.words == f"change file/1 x: {words}"


def test_a_diff_shows_what_somebody_changed() -> None:
    wants = thing("file/1 x", state=file_state(CONF), files=(CONF,))
    host = replace(seen(wants), states={"file/1 x": {CONF.path: "0644 0:0 x"}}, contents={CONF.path: "one\nthree\n"})
    (change,) = plan(wanted(wants), host, GIVEN).changes
    assert change.diff.splitlines()[2:] == ["@@ -1,2 +1,2 @@", " one", "-three", "+two"]


def test_only_what_ran_is_disturbed() -> None:
    assert made([jail(1)], [jail(1, "anew")]).changes[0].disrupts == "restart of acme--1"
    assert made([], [jail(1)]).changes[0].disrupts == ""
    assert made([jail(1)], []).changes[0].disrupts == "jail acme--1 stops"


# ── secrets ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_secret_appears_nowhere_in_a_plan() -> None:
    with_secret = specs.spec(specs.jail("acme--db", secrets=(specs.secret("password", "hunter2"),)))
    manifest = PLATFORMS["linux"].lower(with_secret)
    owned = entries(*manifest.resources)
    secrets = [f.path for r in manifest.resources for f in r.files if isinstance(f.content, Secret)]
    contents = dict.fromkeys(secrets, "hunter1\n")
    states = {r.key: dict.fromkeys(r.state, "other") for r in manifest.resources}
    planned = plan(manifest, Observation(states, frozenset(states), owned, contents=contents), GIVEN)
    change = next(change for change in planned.changes if change.key.startswith("secret/"))
    assert change.differences
    assert (len(secrets), change.diff) == (1, "")
    assert "hunter" not in repr(planned)


def test_two_secrets_of_one_value_have_two_digests() -> None:
    one, other = (File("/x", Secret(b"hunter2", salt)) for salt in ("acme/one", "acme/two"))
    assert file_state(one) != file_state(other)
    assert file_state(one) != file_state(File("/x", b"hunter2"))


# ── the digest ───────────────────────────────────────────────────────────────────────────────────────────────


def test_the_digest_is_the_same_for_the_same_changes_and_another_for_any_other() -> None:
    before, after = [SWITCH, *A], [SWITCH, *B]
    digest = made(before, after).digest
    assert made(before, after).digest == digest
    assert made(before, after, replace(GIVEN, today=date(2024, 2, 21))).digest == digest
    others = [
        made(before, before),
        made(before, [SWITCH]),
        made([*before, TREE], after),
        made(before, [SWITCH, *B[:2], replace(B[2], state={"is": "otherwise"})]),
        plan(replace(wanted(*after), host="b"), seen(*before), GIVEN),
    ]
    assert len({digest, *(other.digest for other in others)}) == 6


def test_a_change_is_named_by_all_that_it_does() -> None:
    change = Change("update", "jail/1 acme--a", "acme--a", "words")
    assert change == replace(change)
    assert made([jail(1)], [jail(1, "anew")]).digest != made([jail(1)], [jail(1, "later")]).digest


# ── restarts for health ──────────────────────────────────────────────────────────────────────────────────────

UNWELL = {"acme--1": "http :80 answers 500, 3 times in a row"}
TEN = [jail(number) for number in range(10)]


def test_a_jail_that_is_as_it_should_be_and_unwell_is_restarted_and_the_plan_says_why() -> None:
    planned = made(TEN, TEN, replace(GIVEN, unwell=UNWELL))
    (change,) = planned.changes
    assert change.words == "restart jail/1 acme--1: http :80 answers 500, 3 times in a row"
    assert (change.action, change.disrupts) == ("update", "restart of acme--1")
    assert inventory(wanted(*TEN), seen(*TEN), planned) == seen(*TEN).inventory


def test_what_changes_a_jail_anyway_comes_first() -> None:
    (change,) = made(TEN, [TEN[0], jail(1, "anew"), *TEN[2:]], replace(GIVEN, unwell=UNWELL)).changes
    assert change.words == "change jail/1 acme--1: runs now → anew"


def test_on_a_host_on_hold_or_refused_nobody_is_restarted() -> None:
    for held in ({"hold": "since today"}, {"refusals": ("no nft",)}):
        assert plan(wanted(*TEN), seen(*TEN, **held), replace(GIVEN, unwell=UNWELL)).changes == ()


def test_restarts_never_trip_a_guard_nor_go_along_with_what_does() -> None:
    many = {f"acme--{number}": "it is unwell" for number in range(4)}
    planned = made(TEN, TEN, replace(GIVEN, unwell=many))
    assert (planned.changes, planned.refusal) == ((), "")
    held = made(TEN, TEN[4:], replace(GIVEN, unwell={"acme--9": "it is unwell"}))
    assert [change.action for change in held.changes] == ["remove"] * 4
    assert held.refusal


def test_a_jail_that_is_not_ours_or_not_there_yet_is_not_restarted() -> None:
    unwell = replace(GIVEN, unwell=UNWELL)
    assert [change.action for change in made([], TEN[1:2], unwell).changes] == ["create"]
    foreign = plan(wanted(TEN[1]), seen(TEN[1], inventory=()), unwell)
    assert foreign.changes == ()
