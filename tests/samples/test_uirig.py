"""`sample-repo-freebsd/` against the article it was made from: `tests/cases/uirig/` has its files for server A.

Compared is what they mean: which interface is a member of which bridge, who has which address, what jails are held to.
Where we differ on purpose the test says why.
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

from bsd import jailconf
from reconciler.model import HostSpec, Manifest, Tunnel
from reconciler.platforms import PLATFORMS
from reconciler.repo import WorkTree
from reconciler.revision import Compiler

ROOT = Path(__file__).parents[2]
ARTICLE = ROOT / "tests/cases/uirig"
JAILS = {"nginx_j": "uirig--nginx-a", "node_j": "uirig--node-a", "pg_j": "uirig--pg-a"}


@cache
def host(name: str) -> HostSpec:
    compiled = Compiler().compile(WorkTree(ROOT / "sample-repo-freebsd"))
    assert not compiled.all_problems
    return compiled.fleet.hosts[name]


@cache
def manifest(name: str) -> Manifest:
    return PLATFORMS["freebsd"].lower(host(name))


def settings(name: str) -> dict[str, str]:
    """A file of the article's: `key=value`, with lines in quotes."""
    text = re.sub(r"^#.*\n", "", (ARTICLE / name).read_text(), flags=re.MULTILINE)
    return {key: value.strip('"') for key, value in re.findall(r'^(\w+)=("[^"]*"|.*)$', text, re.MULTILINE)}


def state(key: str) -> dict[str, str]:
    return next(dict(r.state) for r in manifest("a").resources if r.key == key)


def members() -> dict[str, set[str]]:
    """Bridge → its members, of ours."""
    found = {"xbridge": set[str](), "ibridge": {state("switch/1 ibridge")["uplink"]}}
    for resource in manifest("a").resources:
        if resource.type in ("port/1", "plug/1"):
            found[resource.state["switch"]].add(resource.undo.partition("\x1f")[0])
    return found


def test_network_cards_have_the_same_names() -> None:
    """The article's rc.conf gives them; here our own hook does."""
    renamed = {key[9:-5]: name for key, name in settings("rc.conf").items() if key.endswith("_name")}
    found = {r.state["card"]: r.name for r in manifest("a").resources if r.type == "nic/1"}
    assert {card: renamed[card] for card in found} == found and len(found) == 2


def test_the_same_interfaces_are_members_of_the_same_bridges() -> None:
    rc = settings("rc.conf")
    assert members() == {
        name: set(re.findall(r"addm (\S+)", rc[f"ifconfig_{name}"])) for name in ("xbridge", "ibridge")
    }


def test_the_host_has_the_same_addresses_on_its_bridges() -> None:
    """Ours has the one of inic on ibridge: from FreeBSD 15 a member may hold none."""
    rc = settings("rc.conf")
    assert rc["ifconfig_xbridge"].split()[0] in state("switch/1 xbridge")["addresses"].split()
    assert rc["ifconfig_inic"].split()[0] == state("switch/1 ibridge")["addresses"]


def theirs(jail: str) -> dict[str, str]:
    """Cable → the jail's address there. An end is called `_a` or `_b`, its cable what is before."""
    found = {key: value for key, value in settings(f"{jail}.conf").items() if key.startswith("ifconfig_")}
    return {key.removeprefix("ifconfig_")[:-2]: value for key, value in found.items()}


def ours(id: str) -> dict[str, str]:
    found = {}
    for resource in manifest("a").resources:
        if resource.type in ("port/1", "plug/1") and resource.owner == id:
            found[resource.undo.partition("\x1f")[0][:-2]] = resource.state["addresses"]
        if resource.type == "cable/1":
            ends = [(key.split(), value.split()) for key, value in resource.state.items() if not key.startswith("/")]
            found |= {key[1][:-2]: " ".join(value[1:]) for key, value in ends if key[0] == id}
    return found


def test_every_jail_has_the_same_cables_and_addresses() -> None:
    """With two differences: its own IPv6 address beside the private one, and that one without a network around it."""
    for name, id in JAILS.items():
        expected, found = theirs(name), ours(id)
        assert found.keys() == expected.keys()
        for cable, address in expected.items():
            alone = f"{address.partition('/')[0]}/32"
            wanted = alone if cable in ("ngx", "node", "pg") else address
            assert wanted in found[cable].split(), cable


def test_every_jail_is_held_to_what_the_article_holds_it_to() -> None:
    """And to more: our devfs ruleset shows less than number 4, and shared memory is each jail's own everywhere."""
    article = jailconf.parse((ARTICLE / "jail.conf").read_text(), "jail.conf")
    files = {file.path: file.content for r in manifest("a").resources for file in r.files}
    for name, id in JAILS.items():
        written = files[f"/etc/reconciler/jails/{id.replace('-', '_')}.conf"]
        assert isinstance(written, bytes)
        found = jailconf.parse(written.decode(), "ours")[id.replace("-", "_")]
        for flag in ("vnet", "mount.devfs", "exec.clean"):
            assert flag in article[name] and found[flag] == []
        assert len(found["vnet.interface"]) == len(article[name]["vnet.interface"])
        assert found["sysvshm"] == ["new"]
        assert found["exec.stop"] and found["exec.start"]


def pipes(jail: str) -> set[tuple[str, str, str, str]]:
    """(mode, port it listens at, port it connects to, "here" or "there") of the article's spiped, as rc.conf has it."""
    rc = settings(f"{jail}.conf")
    found = set()
    for name in rc.get("spiped_pipes", "").split():
        mode, source, target = (rc[f"spiped_pipe_{name}_{key}"] for key in ("mode", "source", "target"))
        where = "there" if "peer" in target else "here"
        found.add((mode, source.rpartition(":")[2], target.rpartition(":")[2], where))
    return found


def test_every_jail_has_the_articles_ends_of_pipes_and_they_meet_on_the_segment() -> None:
    """With one difference: where the article has the jail's address on its own side, ours has localhost."""
    for name, id in JAILS.items():
        ends = [part for part in host("a").parts if isinstance(part, Tunnel) and part.jail == id]
        found = {
            (
                "encrypt" if end.encrypts else "decrypt",
                str(end.listens[1]),
                str(end.connects[1]),
                "here" if end.connects[0] == "::1" else "there",
            )
            for end in ends
        }
        assert found == pipes(name)
        for end in ends:
            across = end.connects if end.encrypts else end.listens
            assert across[0] == ("192.168.56.41" if end.encrypts else "192.168.56.40")


def test_the_jails_start_in_the_articles_order() -> None:
    listed = next(f.content for r in manifest("a").resources for f in r.files if f.path.endswith("/jails/list"))
    assert isinstance(listed, bytes)
    order = [line.split()[0].replace("_", "-") for line in listed.decode().splitlines()]
    assert order == [JAILS[name] for name in jailconf.parse((ARTICLE / "jail.conf").read_text(), "jail.conf")]


def test_both_servers_are_alike_but_for_their_numbers() -> None:
    one, other = ([r.key.replace("-b", "-a") for r in manifest(name).resources if r.type != "tree/1"] for name in "ab")
    assert [key for key in one if not key.startswith("cable/1")] == [k for k in other if not k.startswith("cable/1")]
