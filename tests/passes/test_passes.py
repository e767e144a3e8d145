"""What a pass is given by what the status knows, beside what it is asked."""

from __future__ import annotations

from dataclasses import replace

import ryaml

from fake import specs
from reconciler import __version__
from reconciler.model import Fleet
from reconciler.passes import newcomer, still_taken
from reconciler.render import known

A = replace(specs.spec(specs.jail("acme--www", 1)), name="a")
B = replace(specs.spec(specs.jail("kiln--www", 2)), name="b")
FLEET = Fleet({"a": A, "b": B})


def told(jail: str, host: str, *addresses: str) -> dict[str, bytes]:
    """The status file of one jail."""
    customer, _, name = jail.partition("--")
    status = {"host": host, "address": addresses[0], "further": list(addresses[1:])}
    return {f"customers/{customer}/jails/{name}.yaml": ryaml.dumps({"status": status}).encode()}


def waiting(host: str, files: dict[str, bytes], fleet: Fleet = FLEET) -> list[str]:
    return [f"{f.owner}: {f.reason}" for f in still_taken(fleet, host, known.addresses(files))]


ADDRESS = specs.address(2).partition("/")[0]


def test_a_jail_waits_for_the_address_that_another_host_has_still() -> None:
    told_of = f"{ADDRESS} is still acme/www's on host a: it waits for that to let go"
    assert waiting("b", told("acme--www", "a", ADDRESS)) == [f"kiln--www: {told_of}"]
    assert waiting("b", told("acme--www", "a", "2001:db8::9", ADDRESS)) == [f"kiln--www: {told_of}"]


def test_nobody_waits_for_their_own_address_nor_for_one_of_the_same_host() -> None:
    assert waiting("b", told("kiln--www", "b", ADDRESS)) == []
    assert waiting("b", told("acme--www", "b", ADDRESS)) == []
    assert waiting("a", told("acme--www", "a", ADDRESS)) == []


def test_nobody_waits_for_a_host_that_left_the_repository() -> None:
    assert waiting("b", told("acme--www", "gone", ADDRESS)) == []


def test_private_addresses_are_on_many_hosts() -> None:
    nic = specs.private_nic("kiln--www", 2)
    fleet = Fleet({"a": A, "b": replace(B, parts=(replace(specs.jail("kiln--www", 2), nic=nic),))})
    private = nic.private.partition("/")[0]
    assert private
    assert waiting("b", told("acme--www", "a", private), fleet) == []


def test_a_version_is_new_where_another_one_was_at_work() -> None:
    def host(version: str) -> bytes:
        return ryaml.dumps({"status": {"reconciler": version}}).encode()

    assert newcomer(host("0.0.1")) == __version__
    assert newcomer(host(__version__)) == newcomer(host("")) == newcomer(None) == ""
