"""Data of jails that are gone: plans of resources of no platform, as in `test_plan`."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import date

import pytest

from reconciler.model import Circumstances, Manifest, Observation, Owned, Plan
from reconciler.plan import inventory, plan
from reconciler.platforms.steps import settled
from reconciler.retention import retained

from .test_plan import GIVEN, SWITCH, TREE, A, entries, jail, made, port, seen, spoken, thing, wanted


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
