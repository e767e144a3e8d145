"""What a guard holds back, and what lets it go: plans of resources of no platform, as in `test_plan`."""

from __future__ import annotations

from dataclasses import replace

import pytest

from reconciler.model import Circumstances, Guard, Plan, Resource
from reconciler.plan import plan

from .test_plan import GIVEN, SWITCH, A, B, jail, made, seen, thing, wanted


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
