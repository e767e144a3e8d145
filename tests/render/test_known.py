"""What is read back from the status branch."""

from __future__ import annotations

import ryaml

from reconciler.model import Ahead, Lost, Rollout
from reconciler.render import known


def jail(revision: str) -> bytes:
    return f"kind: JailStatus\nstatus:\n  host: a\n  appliedRevision: {revision}\n".encode()


FILES = {
    "README.md": b"# Fleet\n",
    "customers/acme/jails/db.yaml": jail("abc1"),
    "customers/acme/jails/shop.yaml": jail("def2"),
    "customers/acme/jails/www.yaml": jail("abc1"),
    "customers/acme/jails/damaged.yaml": b"status: [",
    "customers/acme/jails/new.yaml": jail('""'),
    "customers/acme2/jails/www.yaml": jail("fff3"),
    "hosts/a.yaml": jail("eee4"),
}


def test_the_commits_that_a_customers_jails_are_made_from() -> None:
    assert known.applied(FILES, "acme") == ("abc1", "def2")
    assert known.applied(FILES, "nobody") == ()


def test_the_host_that_a_jail_is_on() -> None:
    assert known.placed(FILES)["acme--db"] == "a"


def told(**status: object) -> bytes:
    return ryaml.dumps({"status": status}).encode()


def test_what_waited_for_an_approval_that_is_there_now() -> None:
    file = told(approval="h1", held=["c1", "c2"])
    assert known.held(file, {"h1", "h2"}) == {"c1", "c2"}
    assert known.held(file, {"h2"}) == known.held(None, {"h1"}) == frozenset()


def test_how_far_a_rollout_was() -> None:
    ahead = {"a": {"revision": "c2", "unwell": ["acme--www"]}, "b": {"revision": "c2"}, "c": "?"}
    file = told(revision="c1", target="c2", failed="", ahead=ahead, waits=["a burns"])
    expected = Rollout("c1", {"a": Ahead("c2", frozenset({"acme--www"})), "b": Ahead("c2")}, "c2")
    assert known.rollout({"rollout.yaml": file}) == expected
    assert known.rollout({}) is known.rollout({"rollout.yaml": b"status: ["}) is None


def test_who_is_not_well() -> None:
    fine, ill = told(host="a", conditions=[{"status": "True"}]), told(host="a", conditions=[{"status": "False"}])
    files = {"customers/acme/jails/db.yaml": fine, "customers/acme/jails/www.yaml": ill, "hosts/a.yaml": ill}
    assert known.unwell(files) == {"a": {"", "acme--www"}}
    assert known.unwell({"hosts/a.yaml": fine, "README.md": ill}) == {}


def test_who_was_lost_at_once() -> None:
    assert known.lost({"guard.yaml": told(lost=["acme--1"], of=3)}) == Lost(frozenset({"acme--1"}), 3)
    assert known.lost({"guard.yaml": told(lost="?", of=3)}) is None


def test_a_file_is_read_once_for_as_long_as_it_is_there() -> None:
    data = b"status: {host: a}"
    first = known.status_of(data)
    known.forget_others({"customers/acme/jails/www.yaml": data})
    assert known.status_of(data) is first
    known.forget_others({})
    assert known.status_of(data) == first
    assert known.status_of(data) is not first
