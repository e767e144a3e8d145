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
from reconciler.model import (
    HEALTH,
    Change,
    Circumstances,
    File,
    Manifest,
    Observation,
    Owned,
    Plan,
    Resource,
    Secret,
)
from reconciler.plan import inventory, plan
from reconciler.platforms import PLATFORMS
from reconciler.platforms.files import file_state

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
