"""Which jails are unwell, and which are restarted when: answers and a clock in, Reports and restarts out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from fake import specs
from reconciler.health import Answer, questions
from reconciler.model import HEALTH, Change, Check, Failure, Guard, Health, Jail, Report, Resource
from reconciler.watch import Watch

GUARD = Guard()
PAGE = Check("http", 80)
WHY = "http :80 answers 500"
OFTEN = f"{WHY}, 3 times in a row"
PASSED = Report("a", "")


def jail(id: str = "acme--www", *checks: Check, **health: object) -> Jail:
    return replace(specs.jail(id, 1), health=Health(checks or (PAGE,), **health))  # type: ignore[arg-type]


WWW = jail()


def watching(*jails: Jail) -> Watch:
    """Since long, and all was well."""
    watch = Watch()
    watch.saw(jails, PASSED, 0)
    return watch


def hear(watch: Watch, verdict: str, now: float, *jails: Jail, why: str = WHY) -> None:
    asked = questions(jails or [WWW])
    watch.heard([Answer(question, verdict, why) for question in asked], now)  # type: ignore[arg-type]


def fail(watch: Watch, *times: float) -> list[Mapping[str, str]]:
    """What is to be restarted after each round."""
    found = []
    for now in times:
        hear(watch, "fails", now)
        found.append(watch.due(GUARD, now))
    return found


def done(*owners: str, action: str = "create", attribute: str = "runs") -> Report:
    changes = [
        Change(
            action,  # type: ignore[arg-type]
            f"jail/1 {owner}",
            owner,
            "",
            "restart",
            Resource(f"jail/1 {owner}", owner, {}),
            ((attribute, "was", "is"),),
        )
        for owner in owners
    ]
    return replace(PASSED, done=tuple(changes))


def restarted(watch: Watch, now: float) -> None:
    watch.saw([WWW], done("acme--www", action="update", attribute=HEALTH), now)


# ── failures in a row ────────────────────────────────────────────────────────────────────────────────────────


def test_what_fails_as_often_as_its_check_says_is_unwell_and_restarted() -> None:
    watch = watching(WWW)
    assert fail(watch, 10, 20, 30) == [{}, {}, {"acme--www": OFTEN}]
    assert watch.told(PASSED, GUARD).unwell == {"acme--www": OFTEN}


def test_a_success_in_between_begins_the_row_anew() -> None:
    watch = watching(WWW)
    fail(watch, 10, 20)
    hear(watch, "well", 30)
    assert fail(watch, 40, 50) == [{}, {}]
    assert watch.told(PASSED, GUARD).unwell == {}


def test_who_could_not_be_asked_has_neither_failed_nor_passed() -> None:
    watch = watching(WWW)
    fail(watch, 10, 20)
    hear(watch, "unasked", 30, why="sshd makes no connections")
    told = watch.told(PASSED, GUARD)
    assert (told.unwell, told.unchecked) == ({}, (("acme--www", "sshd makes no connections"),))
    assert fail(watch, 40) == [{"acme--www": OFTEN}]
    assert watch.told(PASSED, GUARD).unchecked == ()


def test_it_goes_on_being_told_in_the_same_words_until_it_is_well() -> None:
    watch = watching(WWW)
    fail(watch, *range(10, 100, 10))
    hear(watch, "fails", 100, why="http :80 does not answer in time")
    assert watch.told(PASSED, GUARD).ailing == (("acme--www", OFTEN),)
    hear(watch, "well", 110)
    assert watch.told(PASSED, GUARD).ailing == ()


def test_a_jail_whose_document_says_so_is_not_restarted() -> None:
    quiet = jail("acme--www", restart=False)
    watch = watching(quiet)
    for now in (10, 20, 30):
        hear(watch, "fails", now, quiet)
    assert (watch.due(GUARD, 30), set(watch.told(PASSED, GUARD).unwell)) == ({}, {"acme--www"})


def test_a_check_that_left_the_document_is_forgotten() -> None:
    watch = watching(WWW)
    fail(watch, 10, 20)
    other = jail("acme--www", Check("tcp", 80))
    watch.saw([other], PASSED, 25)
    assert watch.askable(PASSED, 25, 60) == [other]
    hear(watch, "well", 30, other)
    assert not watch.uneasy


# ── restarts ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_restarts_come_after_twice_as_long_each_time_up_to_an_hour() -> None:
    quick = jail("acme--www", start_timeout=1)
    watch = watching(quick)
    now, waits = 0.0, []
    for _ in range(9):
        begun = now
        while not watch.due(GUARD, now):
            now += 10
            hear(watch, "fails", now, quick)
        waits.append(round((now - begun) / 60))
        watch.saw([quick], done("acme--www", action="update", attribute=HEALTH), now)
    assert waits[1:] == [1, 2, 4, 8, 16, 32, 60, 60]


def test_a_jail_has_the_time_that_it_needs_to_start_between_two_restarts() -> None:
    watch = watching(WWW)
    fail(watch, 10, 20, 30)
    restarted(watch, 30)
    assert fail(watch, 60, 90, 120, 149)[-1] == {}
    assert fail(watch, 150) == [{"acme--www": OFTEN}]


def test_restarts_that_do_not_help_are_counted_until_it_was_well_for_as_long_as_the_wait() -> None:
    watch = watching(WWW)
    fail(watch, 10, 20, 30)
    restarted(watch, 30)
    assert watch.told(PASSED, GUARD).ailing == (("acme--www", f"{OFTEN}; restarted once, which has not helped yet"),)
    hear(watch, "well", 40)
    fail(watch, 50, 60, 70)
    assert "restarted once" in watch.told(PASSED, GUARD).unwell["acme--www"]
    hear(watch, "well", 80)
    hear(watch, "well", 80 + 120)
    fail(watch, 210, 220, 230)
    assert watch.told(PASSED, GUARD).unwell == {"acme--www": OFTEN}


def test_a_restart_that_failed_is_not_tried_again_at_once() -> None:
    watch = watching(WWW)
    fail(watch, 10, 20, 30)
    watch.saw([WWW], replace(PASSED, failures=(Failure("acme--www", "", "no such unit"),)), 31)
    assert watch.due(GUARD, 32) == {}
    assert fail(watch, 40, 50, 60)[-1] == {"acme--www": OFTEN}


def test_when_too_many_fail_at_once_none_is_restarted_and_the_host_is_told() -> None:
    jails = [jail(f"acme--{name}") for name in ("a", "b", "c", "d", "e", "f")]
    watch = watching(*jails)
    for now in (10, 20, 30):
        hear(watch, "fails", now, *jails[:2])
        hear(watch, "well", now, *jails[2:])
    assert set(watch.due(GUARD, 30)) == {"acme--a", "acme--b"}
    for now in (40, 50, 60):
        hear(watch, "fails", now, jails[2])
    told = watch.told(PASSED, GUARD)
    assert watch.due(GUARD, 60) == {}
    assert told.ailing[0] == ("", "3 of 6 jails that have checks fail them at the same time")
    assert set(told.unwell) == {"acme--a", "acme--b", "acme--c"}


# ── what begins ──────────────────────────────────────────────────────────────────────────────────────────────


def test_a_jail_that_was_changed_is_starting_until_all_its_checks_have_passed_once() -> None:
    both = jail("acme--www", PAGE, Check("tcp", 80))
    watch = Watch()
    watch.saw([both], done("acme--www"), 0)
    assert watch.told(PASSED, GUARD).starting == (("acme--www", "its checks are still to be asked"),)
    page, port = questions([both])
    watch.heard([Answer(page, "fails", WHY), Answer(port, "well")], 10)
    told = watch.told(PASSED, GUARD)
    assert (told.starting, told.unwell, watch.uneasy) == ((("acme--www", WHY),), {}, True)
    watch.heard([Answer(page, "well"), Answer(port, "well")], 20)
    assert (watch.told(PASSED, GUARD).starting, watch.uneasy) == ((), False)


def test_one_that_takes_too_long_is_unwell_and_then_restarted() -> None:
    watch = Watch()
    watch.saw([WWW], done("acme--www"), 0)
    assert fail(watch, 30, 60, 90, 119) == [{}] * 4
    assert watch.told(PASSED, GUARD).unwell == {}
    assert fail(watch, 120) == [{"acme--www": OFTEN}]
    told = watch.told(PASSED, GUARD)
    assert (told.starting, told.unwell) == ((), {"acme--www": f"{WHY}, 120 s after it was started"})


def test_who_cannot_be_asked_is_not_waited_for_for_ever() -> None:
    watch = Watch()
    watch.saw([WWW], done("acme--www"), 0)
    hear(watch, "unasked", 10)
    assert watch.told(PASSED, GUARD).starting
    hear(watch, "unasked", 130)
    assert not watch.told(PASSED, GUARD).starting


def test_jails_without_checks_are_never_told_of() -> None:
    watch = Watch()
    watch.saw([specs.jail("acme--www")], done("acme--www"), 0)
    assert watch.told(PASSED, GUARD) == PASSED


# ── who is asked ─────────────────────────────────────────────────────────────────────────────────────────────


def test_those_that_are_well_are_asked_once_a_period_and_others_each_time() -> None:
    calm, ill = jail("acme--a"), jail("acme--b")
    watch = watching(calm, ill)
    assert watch.askable(PASSED, 0, 60) == [calm, ill]
    hear(watch, "well", 10, calm)
    hear(watch, "fails", 10, ill)
    assert watch.askable(PASSED, 20, 60) == [ill]
    assert watch.askable(PASSED, 70, 60) == [calm, ill]


def test_a_jail_to_which_something_is_to_happen_is_not_asked() -> None:
    watch = watching(WWW)
    pending = replace(PASSED, pending=(Change("update", "root/1 acme--www", "acme--www", "change it"),))
    assert watch.askable(pending, 0, 60) == []


def test_of_a_host_that_cannot_be_reached_nothing_is_told() -> None:
    watch = watching(WWW)
    fail(watch, 10, 20, 30)
    assert watch.told(replace(PASSED, unreachable="timed out"), GUARD).unwell == {}
