"""In which stages a plan is applied: resources of no platform, as in `test_plan`."""

from __future__ import annotations

from collections.abc import Iterable

from reconciler.model import Resource
from reconciler.stages import Stage, stages

from .test_plan import SWITCH, TREE, A, made, thing

GROUND = {"switch/1", "ruleset/1"}
RULES = thing("ruleset/1 nft")


def in_stages(before: Iterable[Resource], after: Iterable[Resource]) -> list[tuple[bool, list[str]]]:
    found = stages(made(before, after).changes, GROUND)
    return [(stage.guarded, [f"{change.action} {change.key}" for change in stage.changes]) for stage in found]


def test_network_and_firewall_come_first_and_are_guarded_and_data_never_is() -> None:
    assert in_stages([], [SWITCH, TREE, RULES, *A]) == [
        (True, ["create switch/1 sw0", "create ruleset/1 nft"]),
        (False, ["create tree/1 abc", "create data/1 acme--a", "create port/1 acme--a", "create jail/1 acme--a"]),
    ]


def test_a_switch_goes_after_its_jails_and_is_guarded_too() -> None:
    assert in_stages([SWITCH, RULES, *A], [RULES]) == [
        (False, ["remove jail/1 acme--a", "remove port/1 acme--a", "retain data/1 acme--a"]),
        (True, ["remove switch/1 sw0"]),
    ]


def test_what_a_jail_that_goes_gives_up_is_there_for_a_switch() -> None:
    assert in_stages([RULES, *A], [SWITCH, RULES]) == [
        (False, ["remove jail/1 acme--a", "remove port/1 acme--a", "retain data/1 acme--a"]),
        (True, ["create switch/1 sw0"]),
    ]


def test_the_host_is_looked_at_after_the_last_stage_unless_that_has_to_be_confirmed_first() -> None:
    assert [stage.observed for stage in stages(made([], [SWITCH, *A]).changes, GROUND)] == [False, True]
    assert [stage.observed for stage in stages(made([], [SWITCH]).changes, GROUND)] == [False]


def test_a_plan_without_changes_is_one_stage_that_brings_the_inventory_up_to_date() -> None:
    assert stages((), GROUND) == (Stage((), final=True),)
