"""The cases of `tests/cases/render/`: a function each, named as the folder, giving the files of that folder.

`UPDATE=1 python -m pytest tests/render` writes the folders anew: read the difference before you commit it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from reconciler.model import Ahead, Failure, Lost, Report, Retained, Rollout, Site
from reconciler.render import plans, problems, status

from .pieces import FIRST, SECOND, after, change, fleet, host, mistake, report, standing

Built = dict[str, bytes]
CASES: dict[str, Callable[[], Built]] = {}


def case(build: Callable[[], Built]) -> Callable[[], Built]:
    CASES[build.__name__.replace("_", "-")] = build
    return build


def every_format(*reports: Report) -> Built:
    names = {"text": "plan.txt", "json": "plan.json", "markdown": "plan.md"}
    return {name: plans.FORMATS[form](reports).encode() for form, name in names.items()}


A = host("a", "acme--db", "acme--www", "kiln--www")
B = host("b", "uirig--www")
DIFF = "--- /etc/site.conf\n+++ /etc/site.conf\n@@ -1 +1 @@\n-listen 80;\n+listen 8080;\n"
SITE = Site("acme", "www", ("acme.example", "www.acme.example"), (("acme--www", "2001:db8::a:2", 80),))


# ── plans ────────────────────────────────────────────────────────────────────────────────────────────────────


@case
def a_plan_of_every_kind_of_change() -> Built:
    return every_format(
        report(
            A,
            pending=(
                change("remove jail acme--old", "acme--old", action="remove", disrupts="jail acme--old stops"),
                change("keep the data of acme--old until 2026-02-14", "acme--old", action="retain"),
                change("create jail acme--db", "acme--db", action="create"),
                change("delete the data of acme--older, approved by h0", "acme--older", action="purge"),
                change("change jail acme--www: runs differs", "acme--www", disrupts="restart of jail www", diff=DIFF),
            ),
            plan="0123456789abcdef",
        ),
        report(B),
    )


@case
def nothing_to_do() -> Built:
    return every_format(report(A), report(B))


@case
def what_a_guard_refuses_has_its_numbers() -> Built:
    pending = tuple(change(f"remove jail acme--{n}", f"acme--{n}", action="remove") for n in "abc")
    name = "h0123456789abcde"
    refusal = (
        "3 of 5 jails would be removed or restarted at once, more than 30 %: "
        f"review the plan, and commit approvals/{name}.yaml"
    )
    return every_format(report(A, pending=pending, plan="0123456789abcdef", refusal=refusal, approval=name))


@case
def hosts_that_cannot_be_worked_on() -> Built:
    return every_format(
        report(A, unreachable="cannot reach [2001:db8:ffff::a]:22: timed out"),
        report(B, hold="since yesterday: disk is being replaced", pending=(change("create jail uirig--www"),)),
    )


@case
def what_was_done_and_what_failed() -> Built:
    return every_format(
        report(
            A,
            done=(change("create jail acme--db", "acme--db"),),
            pending=(change("create jail acme--www", "acme--www", action="create"),),
            failures=(Failure("acme--www", "jail/1 acme--www", "unit failed: no such file"),),
            conflicts=(Failure("", "file/1 /etc/x", "file /etc/x exists on the host, but not in our inventory"),),
            degraded=(("kiln--www", "its command ended 3 times"),),
        )
    )


@case
def hostile_words_in_a_plan() -> Built:
    words = "| `tick` <img src=x> [link](http://x) @everyone #1 &#64;all **bold**\n## heading\n::error::x\x1b[31m"
    return every_format(
        report(
            A,
            pending=(change(words, "acme--www", disrupts="restart of @jail", diff="+```\n+````\n+</details>\n"),),
            failures=(Failure("acme--www", "", words),),
        )
    )


# ── problems ─────────────────────────────────────────────────────────────────────────────────────────────────


@case
def problems_in_every_format() -> Built:
    found = (
        mistake("customers/acme/jails/www.yaml", "there is no blueprint ngimx", "did you mean nginx?"),
        mistake("hosts/a,b:c.yaml", "100% wrong\n::error::injected\r\nand %0A", line=0),
        mistake("customers/acme/jails/\udce9\x1b[2J.yaml", "a name is letters and digits"),
    )
    names = {"text": "problems.txt", "json": "problems.json", "github": "problems.github"}
    return {name: problems.FORMATS[form](found).encode() for form, name in names.items()}


# ── the status branch ────────────────────────────────────────────────────────────────────────────────────────


@case
def the_first_look() -> Built:
    return after(standing(fleet(A, B, sites=(SITE,)), report(A), report(B)))


@case
def a_host_in_trouble() -> Built:
    before = after(standing(fleet(A, B), report(A), report(B)))
    wrong = report(
        A,
        "1 acme--www=2",
        pending=(change("change jail acme--www: memory 128Mi → 256Mi", "acme--www"),),
        plan="0123456789abcdef",
        failures=(Failure("acme--www", "jail/1 acme--www", "unit failed | <b>why</b>"),),
        degraded=(("kiln--www", "its command ended 3 times"),),
        retained=(Retained("acme--old", "2026-02-14", "h0123456789abcde"),),
    )
    unreachable = report(B, unreachable="cannot reach [2001:db8:ffff::b]:22: timed out")
    return after(standing(fleet(A, B), wrong, unreachable, commit=SECOND), before)


@case
def jails_that_are_unwell_or_starting() -> Built:
    """Also where nobody may ask, and where many are ill at the same time."""
    ailing = (("acme--db", "tcp :6379 does not answer, 3 times in a row; restarted once, which has not helped yet"),)
    starting, unchecked = (("acme--www", "http :80 answers 503"),), (("kiln--www", "sshd makes no connections"),)
    ill = report(A, ailing=ailing, starting=starting, unchecked=unchecked)
    many = report(B, ailing=(("", "3 of 3 jails that have checks fail them at the same time"), ("uirig--www", "ill")))
    return after(standing(fleet(A, B), ill, many))


@case
def hosts_that_wait_for_somebody() -> Built:
    pending = (change("change jail acme--www: memory 128Mi → 256Mi", "acme--www"), change("change file x"))
    held = report(A, hold="since 2026-01-30: disk is being replaced", pending=pending)
    theirs = (Failure("", "file/1 /etc/x", "file /etc/x exists on the host, but not in our inventory"),)
    foreign = report(B, conflicts=theirs, pending=(change("change jail uirig--www: runs differs", "uirig--www"),))
    return after(standing(fleet(A, B), held, foreign))


@case
def a_customer_who_is_held() -> Built:
    found = (mistake("customers/acme/jails/www.yaml", "there is no blueprint ```ngimx", "did you mean nginx?"),)
    return after(
        standing(fleet(A, B), report(A), report(B), commit=SECOND, mounts={"customers/acme": FIRST}, problems=found)
    )


@case
def a_mistake_of_staff_holds_everything() -> Built:
    found = (mistake("hosts/a.yaml", "there is no location cma", "did you mean cam?"),)
    return after(standing(fleet(A, B), report(A), report(B), head=SECOND, problems=found))


@case
def no_good_commit_at_all() -> Built:
    before = after(standing(fleet(A, B), report(A), report(B)))
    found = (mistake("platform.yaml", "it is missing"),)
    return after(standing(None, head=SECOND, problems=found), before)


@case
def a_change_that_goes_in_waves() -> Built:
    """By a new version of the reconciler, which host a has not let work yet."""
    before = after(standing(fleet(A, B), report(A, version="0.1.0"), report(B, version="0.1.0")))
    ahead = {"a": Ahead(SECOND, frozenset({"acme--db"}))}
    waits = ("a acme/www: nginx | exited 1",)
    rollout = Rollout(FIRST, ahead, SECOND, waits=waits, left=("b",), approval="h0123456789abcde")
    looked = standing(fleet(A, B), report(A), report(B, version="0.2.0"), commit=SECOND, rollout=rollout)
    return after(looked, before)


@case
def too_much_of_the_fleet_goes_at_once() -> Built:
    lost = Lost(frozenset({"acme--db", "acme--www", "kiln--www"}), 4)
    going = replace(fleet(A, B), vanishing=lost.jails, lost=lost)
    held = report(A, refusal="3 jails of the fleet would be removed", approval="h0123456789abcde", held=("d1", "d2"))
    return after(standing(going, held, report(B)))


@case
def a_jail_that_is_suspended() -> Built:
    """It goes on being told as it was made, whatever is wanted of it by now."""
    before = after(standing(fleet(A), report(A)))
    still = replace(fleet(A), suspended={"acme--www": "customers/acme/customer.yaml"})
    return after(standing(still, report(A, "1 acme--www=2"), commit=SECOND), before)


@case
def what_the_commits_say() -> Built:
    first = standing(fleet(A, B), report(A, done=(change("create jail acme--db"),)), report(B))
    looked = standing(fleet(A, B), report(A), report(B), commit=SECOND)
    nowhere = standing(None, head=SECOND)
    messages = [
        status.message(first, {"README.md", "hosts/a.yaml"}, {}, {"0123456789abcdef"}),
        status.message(looked, {"README.md"}, {}),
        status.message(looked, {"README.md", *(f"customers/acme/jails/j{n}.yaml" for n in range(5))}, {}),
        status.message(nowhere, {"README.md"}, {}),
    ]
    return {"messages.txt": "----\n".join(messages).encode()}
