"""A second pass after any change of the documents has nothing to do, and the change is there."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from .world import TODAY, World, opens, page

WWW = "customers/acme/jails/www.yaml"
SHOP = "customers/acme/jails/shop.yaml"
DB = "customers/acme/jails/db.yaml"
WWW_SITE = "customers/acme/sites/www.yaml"
BLOG = "customers/uirig/jails/blog.yaml"
BLOG_SITE = "customers/uirig/sites/blog.yaml"


def release(world: World, folder: Path, text: str) -> dict[str, str]:
    """ACME's pages with another text, packed."""
    shutil.copytree(world.repo / "files/acme-www", folder / "acme-2")
    (folder / "acme-2/index.html").write_text(text)
    digest = world.garage.pack(folder / "acme-2")
    return {"archive": "file:///srv/archives/acme-2.tar", "digest": digest}


def show(world: World, jail: str, *properties: str) -> str:
    return world["a"].run(f"systemctl show -P {' -P '.join(properties)} reconciler-jail-{jail}").stdout


def started(world: World, host: str, jail: str) -> str:
    return world[host].run(f"systemctl show -P ExecMainStartTimestampMonotonic reconciler-jail-{jail}").stdout


def test_a_second_pass_over_the_whole_sample_finds_nothing_to_do(world: World) -> None:
    for name in world.hosts:
        for _ in range(2):
            report = world.reconcile(name)
            assert report.ready
            assert not report.done


def test_a_jail_is_added_removed_and_brought_back_with_its_data(world: World) -> None:
    world.edit("customers/kiln/customer.yaml", quota={"jails": 2, "memory": "1Gi"})
    world.jail("kiln", "two", blueprint="nginx", host="a", publish=[{"port": 80}])
    world.converge("a")
    address = world.address("a", "kiln--two")
    assert "two is running" in page(address)
    world["a"].run("echo precious >/var/lib/reconciler/jails/kiln--two/data/data/index.html")
    document = world.document("customers/kiln/jails/two.yaml")
    world.remove("customers/kiln/jails/two.yaml")
    report = world.converge("a")["a"]
    until = (TODAY + timedelta(days=14)).isoformat()
    assert ("kiln--two", until) in [(kept.jail, kept.until) for kept in report.retained]
    assert not opens(address, 80)
    look = "ip netns; machinectl list --no-legend; find /etc; nft list ruleset"
    assert "kiln--two" not in world["a"].run(look).stdout
    world.write("customers/kiln/jails/two.yaml", document)
    report = world.converge("a")["a"]
    assert any("bring back" in change.words for change in report.done), report.done
    assert "kiln--two" not in [kept.jail for kept in report.retained]
    assert page(address) == "precious\n"


def link(spec: dict[str, object]) -> None:
    spec["links"] = [
        {"to": "db", "nic": "db0", "address": "10.77.9.1/30", "peerNic": "shop0", "peerAddress": "10.77.9.2/30"}
    ]


CHANGES: dict[str, tuple[str, Callable[[World], object], str]] = {
    "a parameter": ("a", lambda w: w.edit(SHOP, lambda s: s["parameters"].update(GREETING="Hi")), "acme--shop"),
    "a memory limit": ("a", lambda w: w.edit(WWW, limits={"memory": "200Mi"}), ""),
    "a limit of processes": ("a", lambda w: w.edit(DB, limits={"processes": 77}), ""),
    "a limit of processors": ("a", lambda w: w.edit(SHOP, limits={"cpu": 150}), ""),
    "a release less": ("a", lambda w: w.edit(WWW, release=None), "acme--www"),
    "a policy": ("a", lambda w: w.edit("policies/edge.yaml", lambda s: s["in"].pop()), ""),
    "no policy": ("b", lambda w: w.edit("hosts/b.yaml", policy=None), ""),
    "a policy for what leaves": ("b", lambda w: w.edit("policies/edge.yaml", out=[]), ""),
    "a link's address": ("a", lambda w: w.edit(SHOP, link), ""),
    "no link": ("a", lambda w: w.edit(SHOP, links=None, parameters={"DATABASE_HOST": "db"}), "acme--shop"),
    "a secret": ("a", lambda w: w.secret("acme", "db-password", b"another"), "acme--db acme--shop acme--back-office"),
    "a restart": ("a", lambda w: w.edit(WWW, restart=1), "acme--www"),
    "an address": ("a", lambda w: w.edit(WWW, address="2001:db8:ca00:1::81"), "acme--www"),
    "an interface's name": ("a", lambda w: w.edit(WWW, nic="shiny_0"), ""),
    "an order": ("a", lambda w: w.edit(WWW, after=["db"]), ""),
    "a sysctl": ("b", lambda w: w.edit("hosts/b.yaml", sysctls={"net.ipv6.conf.default.hop_limit": "65"}), ""),
    "a published port less": ("b", lambda w: (w.remove(BLOG_SITE), w.edit(BLOG, publish=[])), ""),
    "a jail less": ("b", lambda w: w.remove(BLOG_SITE, BLOG), ""),
    "a blueprint": ("b", lambda w: w.edit("blueprints/nginx.yaml", runAs="root"), "uirig--www uirig--blog"),
    "another blueprint": ("a", lambda w: (w.remove(WWW_SITE), w.edit(WWW, blueprint="app", publish=[{"port": 8080}],
                                                                      health=None)), "acme--www"),
    "a second switch": ("a", lambda w: (w.edit("hosts/a.yaml", switches=[{"name": "jails0"}, {"name": "jails1"}]),
                                        w.edit(WWW, switch="jails1")), ""),
}  # fmt: skip
"""What is changed: on which host, how, and which jails have to restart for it."""
TOGETHER = [
    ("a parameter", "a memory limit", "a policy", "an interface's name"),
    ("a release less", "a link's address", "a limit of processes", "an order"),
    ("no link", "a restart", "a limit of processors"),
    ("a secret", "an address"),
    ("another blueprint",),
    ("a second switch",),
    ("no policy", "a sysctl", "a published port less"),
    ("a policy for what leaves", "a blueprint"),
    ("a jail less",),
]
"""What one commit changes: none of it touches what another does."""


def test_every_change_is_tried() -> None:
    assert sorted(name for names in TOGETHER for name in names) == sorted(CHANGES)


@pytest.mark.parametrize("names", TOGETHER, ids=", ".join)
def test_a_second_pass_after_a_change_finds_nothing_to_do(world: World, names: tuple[str, ...]) -> None:
    host = CHANGES[names[0]][0]
    before = {jail.id: started(world, host, jail.id) for jail in world.fleet.hosts[host].jails}
    for name in names:
        CHANGES[name][1](world)
    report = world.reconcile(host)
    assert report.ready, report
    assert report.done
    assert not world.reconcile(host).done
    still = [jail.id for jail in world.fleet.hosts[host].jails]
    restarted = {jail for jail in still if started(world, host, jail) != before[jail]}
    assert restarted == {jail for name in names for jail in CHANGES[name][2].split()}
    world.restore()
    report = world.reconcile(host)
    assert report.ready, report


def test_a_new_release_is_shown_and_the_old_one_is_collected(world: World, tmp_path: Path) -> None:
    world.edit(WWW, release=release(world, tmp_path, "second edition"))
    world.converge("a")
    assert page(world.address("a", "acme--www")) == "second edition"
    trees = world["a"].run("ls /var/lib/reconciler/trees").stdout
    assert "4ebd7740b1" not in trees
    world.restore()
    world.converge("a")
    assert "Anvils" in page(world.address("a", "acme--www"))


def test_a_jail_on_a_bridged_segment_answers_at_its_new_address(world: World) -> None:
    world.edit(BLOG, address="2001:db8:1000:2::b109")
    world.converge("b")
    assert "blog is running" in page("2001:db8:1000:2::b109")


def test_two_jails_whose_limits_change_are_not_restarted(world: World) -> None:
    before = [started(world, "a", jail) for jail in ("acme--www", "acme--db")]
    world.edit(WWW, limits={"memory": "222Mi"})
    world.edit(DB, limits={"memory": "333Mi"})
    world.converge("a")
    assert show(world, "acme--www", "MemoryMax") == f"{222 << 20}\n"
    assert [started(world, "a", jail) for jail in ("acme--www", "acme--db")] == before


def test_a_jail_whose_switch_is_gone_from_the_documents_moves_to_another(world: World) -> None:
    world.edit("hosts/a.yaml", switches=[{"name": "other0"}])
    report = world.reconcile("a")
    assert report.ready, report
    assert not world.words("a")
    assert "jails0" not in world["a"].run("ip -br link").stdout
    assert "Anvils" in page(world.address("a", "acme--www"))
