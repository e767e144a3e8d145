"""What is read back from the status branch."""

from __future__ import annotations

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


def test_a_file_is_read_once_for_as_long_as_it_is_there() -> None:
    data = b"status: {host: a}"
    first = known.status_of(data)
    known.forget_others({"customers/acme/jails/www.yaml": data})
    assert known.status_of(data) is first
    known.forget_others({})
    assert known.status_of(data) == first
    assert known.status_of(data) is not first
