"""Whose turn it is: hosts that are no more than a name and a location, which a change of staff's moves.

`Fleet of lon` is what the newest documents want, all else stands in `cam`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest

from reconciler.model import Ahead, Change, Failure, Fleet, HostSpec, Jail, Nic, Report, Rollout, Ssh, Waves
from reconciler.rollout import Observer, Situation, Verdict, advance, approval_of, trouble, wanted

NAMES = tuple("abcdefghij")
WELL, OPEN, FAILED = Verdict("well"), Verdict("open", "waits for nginx"), Verdict("failed", "waits for nginx")


def spec(name: str, location: str = "cam", canary: bool = False) -> HostSpec:
    return HostSpec(name, "linux", location, Ssh("::1", 22, "key"), "/srv", (), canary=canary)


def fleet(location: str, names: tuple[str, ...] = NAMES, canaries: str = "", waves: Waves | None = None) -> Fleet:
    hosts = {name: spec(name, location, name in canaries) for name in names}
    return Fleet(hosts, waves=waves or Waves(shares=(10, 50)))


def situation(
    verdicts: Mapping[str, Verdict] | Verdict = WELL,
    canaries: str = "",
    waves: Waves | None = None,
    target: str = "new",
) -> Situation:
    """The newest documents want lon, those before cam."""
    told = verdicts

    def verdict(host: str, has: Ahead) -> Verdict:
        return told if isinstance(told, Verdict) else told.get(host, WELL)

    older = {"old": fleet("cam").hosts, "between": fleet("ely").hosts}
    return Situation(target, fleet("lon", canaries=canaries, waves=waves), older, verdict)


def having(state: Rollout, target: str = "new") -> str:
    """The hosts that have the newest documents."""
    everybody = "".join(NAMES) if state.revision == target else ""
    return everybody or "".join(sorted(host for host, has in state.ahead.items() if has.revision == target))


def waves(at: Situation, state: Rollout | None = None) -> list[str]:
    """Who has it after each step, until nothing happens any more."""
    state, found = state or Rollout("old"), [""]
    while having(state) != "".join(NAMES) or found[-1] != having(state):
        state = advance(state, at)
        if having(state) == found[-1]:
            break
        found.append(having(state))
    return found[1:]


# ── waves ────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_change_of_many_hosts_goes_to_a_share_of_them_then_to_more_then_to_all() -> None:
    assert waves(situation()) == ["a", "abcde", "abcdefghij"]


def test_canaries_come_first() -> None:
    assert waves(situation(canaries="cg")) == ["cg", "abcdg", "abcdefghij"]


def test_a_change_of_few_hosts_goes_to_all_of_them_at_once() -> None:
    at = replace(
        situation(OPEN), newest=replace(fleet("lon"), hosts={n: spec(n, "lon" if n in "ab" else "cam") for n in NAMES})
    )
    assert advance(Rollout("old"), at) == Rollout("new")


def test_a_wave_waits_until_every_host_of_the_one_before_is_well() -> None:
    state = advance(Rollout("old"), situation(OPEN))
    assert having(state) == "a"
    assert state.waits == ("a waits for nginx",)
    assert state.left == tuple("bcdefghij")
    again = advance(state, situation(OPEN))
    assert again == state
    assert having(advance(state, situation({"a": WELL}))) == "abcde"


def test_who_falls_ill_later_stops_the_next_wave_too() -> None:
    state = Rollout("old", {name: Ahead("new") for name in "abcde"}, "new")
    assert having(advance(state, situation({"a": OPEN}))) == "abcde"


def test_it_ends_when_the_last_wave_is_well() -> None:
    state = Rollout("old", {name: Ahead("new") for name in NAMES}, "new")
    assert advance(state, situation({"j": OPEN})).waits == ("j waits for nginx",)
    assert advance(state, situation()) == Rollout("new")


def test_what_touches_no_host_is_through_at_once() -> None:
    at = replace(situation(), newest=fleet("cam"))
    assert advance(Rollout("old"), at) == Rollout("new")


def test_hosts_that_it_does_not_touch_are_in_no_wave() -> None:
    hosts = {name: spec(name, "lon" if name in "efghij" else "cam") for name in NAMES}
    at = replace(situation(), newest=replace(fleet("lon"), hosts=hosts))
    assert waves(at) == ["e", "efg", "".join(NAMES)]


def test_hosts_that_were_not_well_come_last_and_are_not_waited_for() -> None:
    at = replace(situation({"a": OPEN}, canaries="a"), unwell={"a": frozenset({""})})
    assert waves(at)[:2] == ["b", "bcdef"]


def test_a_new_commit_of_staffs_begins_with_the_canaries_again() -> None:
    state = Rollout("old", {name: Ahead("between") for name in "abc"}, "between")
    after = advance(state, situation(OPEN))
    assert after.ahead == {"a": Ahead("new"), "b": Ahead("between"), "c": Ahead("between")}
    assert [spec.location for spec in wanted(after, situation(), {}).hosts.values()] == ["lon", "ely", "ely"] + [
        "cam"
    ] * 7


def test_going_back_to_what_all_others_have_goes_to_all_at_once() -> None:
    state = Rollout("old", {"a": Ahead("new")}, "new", waits=("a is not well",))
    assert advance(state, situation(OPEN, target="old")) == Rollout("old")


def test_an_approval_lets_it_go_to_all_at_once() -> None:
    state = advance(Rollout("old"), situation(FAILED))
    assert state.approval == approval_of("new")
    assert advance(state, replace(situation(FAILED), released=True)) == Rollout("new")


# ── rolling back ─────────────────────────────────────────────────────────────────────────────────────────────

BACK = Waves(shares=(10, 50), roll_back=True)


def test_it_stops_where_it_has_failed() -> None:
    state = advance(Rollout("old", {"a": Ahead("new")}, "new"), situation(FAILED))
    assert (having(state), state.failed) == ("a", "")


def test_where_it_is_declared_all_go_back_and_it_is_not_tried_again() -> None:
    at = situation({"b": FAILED}, waves=BACK)
    state = advance(Rollout("old", {name: Ahead("new") for name in "abcde"}, "new"), at)
    assert (having(state), state.failed, state.waits) == ("", "new", ("rolled back, because b waits for nginx",))
    assert {spec.location for spec in wanted(state, at, {}).hosts.values()} == {"cam"}
    again = advance(state, at)
    assert (having(again), again.failed) == ("", "new")


def test_mended_documents_are_tried_after_a_rollback() -> None:
    state = Rollout("old", failed="between", target="between")
    assert having(advance(state, situation(waves=BACK))) == "a"


def test_what_was_rolled_back_can_be_approved_of() -> None:
    state = Rollout("old", failed="new", target="new")
    assert advance(state, replace(situation(waves=BACK), released=True)) == Rollout("new")


# ── windows ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_host_whose_window_is_closed_holds_up_the_waves_after_it() -> None:
    closed = replace(situation(), closed=lambda host: "waits for its window" if host == "a" else "")
    state = advance(Rollout("old"), closed)
    assert (having(state), state.waits) == ("", ("a waits for its window",))
    assert waves(situation(), state) == ["a", "abcde", "abcdefghij"]


def test_of_few_hosts_only_the_closed_ones_wait() -> None:
    hosts = {name: spec(name, "lon" if name in "ab" else "cam") for name in NAMES}
    at = replace(
        situation(OPEN), newest=replace(fleet("lon"), hosts=hosts), closed=lambda h: "waits" if h == "a" else ""
    )
    state = advance(Rollout("old"), at)
    assert (having(state), state.left) == ("b", ("a",))
    assert advance(state, replace(at, closed=lambda h: "")) == Rollout("new")


def test_an_approval_waits_for_no_window() -> None:
    closed = replace(situation(), closed=lambda host: "waits for its window", released=True)
    assert advance(Rollout("old"), closed) == Rollout("new")


# ── what is wanted of a host meanwhile ───────────────────────────────────────────────────────────────────────


def jail(id: str) -> Jail:
    nic = Nic("j1", "sw0", "02:00:00:00:00:01", ("2001:db8::1/64",), ())
    return Jail(
        id,
        id.partition("--")[0],
        id.partition("--")[2],
        nic,
        "nginx",
        None,
        None,
        (),
        False,
        "",
        (),
        (),
        (),
        None,
        (),
        1,
        1,
        (),
        (),
        (),
    )  # type: ignore[arg-type]


def test_how_a_host_is_reached_and_whether_it_is_left_alone_is_true_at_once() -> None:
    hosts = dict(fleet("lon").hosts)
    hosts["j"] = replace(hosts["j"], ssh=Ssh("::2", 22, "other"), suspended="hosts/j.yaml")
    at = replace(situation(OPEN), newest=replace(fleet("lon"), hosts=hosts))
    found = wanted(advance(Rollout("old"), at), at, {}).hosts["j"]
    assert (found.location, found.ssh.address, found.suspended) == ("cam", "::2", "hosts/j.yaml")


def test_a_new_host_has_the_newest_at_once() -> None:
    newest = fleet("lon", (*NAMES, "z"))
    at = replace(situation(OPEN), newest=newest)
    assert wanted(advance(Rollout("old"), at), at, {}).hosts["z"] is newest.hosts["z"]


def test_older_documents_never_take_a_jail_away_that_stands() -> None:
    hosts = dict(fleet("lon").hosts)
    hosts |= {name: replace(hosts[name], parts=(jail("acme--www"),)) for name in "ij"}
    at = replace(situation(OPEN), newest=replace(fleet("lon"), hosts=hosts))
    found = wanted(advance(Rollout("old"), at), at, {"acme--www": "j", "acme--gone": "i"}).hosts
    assert (found["i"].location, found["j"].location) == ("cam", "lon")


# ── how a host is ────────────────────────────────────────────────────────────────────────────────────────────

DONE = Change("update", "jail/1 acme--www", "acme--www", "change jail acme--www")
PENDING = replace(DONE, words="restart jail acme--www")


@pytest.mark.parametrize(
    ("report", "why"),
    [
        (Report("a", ""), ""),
        (None, "has not been looked at since"),
        (Report("a", "", done=(DONE,)), "has only just been changed"),
        (Report("a", "", unreachable="timed out"), "is not well: timed out"),
        (Report("a", "", refusal="too many"), "is not well: too many"),
        (Report("a", "", hold="by hand"), "is not well: by hand"),
        (Report("a", "", pending=(PENDING,)), "acme/www: waits: restart jail acme--www"),
        (Report("a", "", degraded=(("acme--www", "ends at once"),)), "acme/www: ends at once"),
        (Report("a", "", ailing=(("acme--www", "http :80 answers 500"),)), "acme/www: http :80 answers 500"),
        (Report("a", "", starting=(("acme--www", "http :80"),)), "acme/www: http :80"),
        (Report("a", "", ailing=(("", "3 jails fail at once"),)), "is not well: 3 jails fail at once"),
        (Report("a", "", failures=(Failure("acme--www", "", "no space"),)), "acme/www: no space"),
        (Report("a", "", failures=(Failure("", "", "taken back"),)), "is not well: taken back"),
    ],
)
def test_a_host_is_well_when_nothing_is_wrong_at_a_second_look(report: Report | None, why: str) -> None:
    assert trouble(report, frozenset()) == why


def test_a_jail_that_was_broken_before_says_nothing_about_the_change() -> None:
    broken = Report("a", "", degraded=(("acme--www", "ends at once"),))
    assert trouble(broken, frozenset({"acme--www"})) == ""
    assert trouble(replace(broken, failures=(Failure("kiln--www", "", "no space"),)), frozenset({"acme--www"})) != ""
    assert trouble(Report("a", "", unreachable="timed out"), frozenset({""})) == ""


def test_well_is_who_has_been_for_the_pause_and_failed_who_is_not_by_the_deadline() -> None:
    observer, has, given = Observer(), Ahead("new"), Waves(pause=30, deadline=900)
    good, bad = Report("a", ""), Report("a", "", unreachable="timed out")

    def state(report: Report, now: float) -> str:
        return observer.verdict("a", has, report, given, now).state

    assert [state(bad, 0), state(bad, 900), state(bad, 901)] == ["open", "open", "failed"]
    assert [state(good, 1000), state(good, 1029), state(good, 1030)] == ["open", "open", "well"]
    assert [state(bad, 1031), state(good, 1032), state(good, 1061)] == ["failed", "open", "open"]
    assert observer.verdict("a", Ahead("newer"), bad, given, 2000).state == "open"
