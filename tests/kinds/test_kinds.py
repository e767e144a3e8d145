"""What documents mean together, and what people read when they do not fit: `tests/cases/kinds/`, a folder a sentence.

Each folder holds the files that differ from the small company in `base/` (`without.txt`: those that are not there),
and either `expected.txt`, a line for each Problem with its hint below, or `means.txt`: the Parts of hosts that it adds
(+) to those of `base/`, or takes away (-).
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from reconciler.model import (
    Fleet,
    Jail,
    Link,
    Outside,
    Part,
    Problem,
    Redirect,
    Rename,
    Rule,
    Source,
    Switch,
    Sysctl,
    Translation,
    Tunnel,
    Vlan,
    Wall,
)
from reconciler.repo import WorkTree
from reconciler.revision import Compiled, Compiler

KINDS = Path(__file__).parent.parent / "cases" / "kinds"
BASE = KINDS / "base"
CASES = sorted(path for path in KINDS.iterdir() if path != BASE)
ABOUT = ("expected.txt", "means.txt", "without.txt")


def lay_out(case: Path, folder: Path) -> Path:
    shutil.copytree(BASE, folder, dirs_exist_ok=True)
    shutil.copytree(case, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns(*ABOUT))
    missing = case / "without.txt"
    for line in missing.read_text().split() if missing.exists() else ():
        shutil.rmtree(folder / line) if (folder / line).is_dir() else (folder / line).unlink()
    return folder


def compiled(folder: Path) -> Compiled:
    return Compiler().compile(WorkTree(folder))


def told(problem: Problem) -> str:
    hint = f"\n    {problem.hint}" if problem.hint else ""
    return f"{problem.path}:{problem.line}:{problem.column}: {problem.message}{hint}\n"


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_case(case: Path, tmp_path: Path) -> None:
    found = compiled(lay_out(case, tmp_path))
    problems = "".join(map(told, found.all_problems))
    if (case / "expected.txt").exists():
        assert problems == (case / "expected.txt").read_text(encoding="utf-8")
    else:
        assert problems == ""
        assert difference(found.fleet) == (case / "means.txt").read_text(encoding="utf-8")


def test_the_small_company_that_all_cases_start_from_has_no_problem() -> None:
    assert not compiled(BASE).problems


# ── Parts as people would write them ─────────────────────────────────────────────────────────────────────────


def difference(fleet: Fleet) -> str:
    before, after = list(lines(compiled(BASE).fleet)), list(lines(fleet))
    gone, new = [f"- {x}\n" for x in before if x not in after], [f"+ {x}\n" for x in after if x not in before]
    return "".join(gone + new)


def lines(fleet: Fleet) -> Iterator[str]:
    for name, host in fleet.hosts.items():
        below = f", datasets below {host.zfs}" if host.zfs else ""
        whose = ", rules in an anchor" if host.firewall == "anchor" else ""
        yield f"{name}: {host.platform} in {host.location}, storage {host.storage}{below}{whose}"
        yield from (f"{name}: {line}" for part in host.parts for line in spoken(part))
    for site in fleet.sites:
        backends = ", ".join(f"{jail} at [{address}]:{port}" for jail, address, port in site.backends)
        yield f"site {site.customer}--{site.name}: {', '.join(site.names)} from {backends}"


def spoken(part: Part) -> Iterator[str]:
    match part:
        case Jail():
            yield from spoken_jail(part)
        case Rule():
            peers = f"{'from' if part.direction == 'in' else 'to'} {' '.join(part.peers) or 'anywhere'}"
            ports = " ".join(map(str, part.ports)) or "all ports"
            yield f"{part.subject or 'the host'} {part.direction} {part.protocol} {ports} {peers} ({part.label})"
            yield from often(part)
        case Rename():
            yield f"network card {part.device} is called {part.name}"
        case Vlan():
            yield f"VLAN {part.tag} of {part.parent} is {part.name}"
        case Switch():
            kind = "routed" if part.routed else f"bridged to {part.uplink}"
            yield " ".join([f"switch {part.name}, {kind}", *part.addresses])
        case Link():
            for end in part.ends:
                yield f"link {part.id}: {end.jail} has {end.nic} {end.mac} {' '.join(end.addresses)}"
        case Tunnel():
            yield spoken_tunnel(part)
        case Sysctl():
            yield f"sysctl {part.key} = {part.value}"
        case Wall():
            yield f"everything {part.direction} that no rule lets pass is dropped"
        case Outside():
            yield from outside(part)
        case Translation():
            yield f"{' '.join(part.networks)} leave by {part.nic} as the host"
        case Redirect():
            to = f"{part.jail} at {part.address} {part.port}"
            yield f"{part.protocol} {part.host_port} of the host on {part.nic} leads to {to}"


def spoken_tunnel(part: Tunnel) -> str:
    (here, port), (there, other_port) = part.listens, part.connects
    how = "encrypted" if part.encrypts else "decrypted"
    return f"tunnel {part.id} in {part.jail}: [{here}]:{port} to [{there}]:{other_port}, {how} by {part.key.path}"


def outside(part: Outside) -> Iterator[str]:
    if part.blocked:
        yield f"nobody from {' '.join(part.blocked)} comes in by {part.nic}"
    if part.strict:
        yield f"nobody comes in by {part.nic} without a way back there"
    if part.uncounted:
        yield f"no rate counts {' '.join(part.uncounted)}"


def often(rule: Rule) -> Iterator[str]:
    if rule.rate:
        rate = f"{rule.rate.connections} connections in {rule.rate.seconds} s"
        yield f"{rule.subject} {rule.ports[0]}: more than {rate} and nothing for {rule.rate.block} s"


def spoken_jail(jail: Jail) -> Iterator[str]:
    nic = jail.nic
    release = f" with {source(jail.release)}" if jail.release else ""
    memory = f"{jail.limits.memory >> 20}Mi" if jail.limits.memory else "unlimited memory"
    cpu = f"{jail.limits.cpu} % of a core" if jail.limits.cpu else "unlimited CPU"
    private = f", privately {nic.private}" if nic.private else ""
    announced = f"{private}, announced on {nic.announce}" if nic.announce else private
    yield f"{jail.id} is {jail.blueprint} from {source(jail.application)}{release}"
    yield f"{jail.id} on {nic.switch} as {nic.host_side} {nic.mac} {' '.join(nic.addresses)}{announced}"
    for more in jail.more:
        yield f"{jail.id} also on {more.switch} as {more.host_side} {more.mac} {' '.join(more.addresses)}"
    yield f"{jail.id} goes out by {' '.join(nic.gateways)}"
    yield f"{jail.id} runs {' '.join(jail.command)} as {'root' if jail.root else 'app'}, restart {jail.restart}"
    yield f"{jail.id} may use {memory}, {jail.limits.processes or 'unlimited'} processes, {cpu}"
    if jail.limits.disk or jail.limits.reserved:
        most = f"{jail.limits.disk >> 20}Mi" if jail.limits.disk else "as much as there is"
        yield f"{jail.id} may store {most}, of it {jail.limits.reserved >> 20}Mi for itself alone"
    if jail.stop_timeout != 15:
        yield f"{jail.id} has {jail.stop_timeout} seconds to end"
    yield from (f"{jail.id} may {grant}" for grant in jail.grants)
    yield from spoken_health(jail)
    if jail.limits.open_files:
        yield f"{jail.id} may have {jail.limits.open_files} files open"
    yield f"{jail.id} keeps {' '.join(jail.data) or 'nothing'}{f', defaults {jail.defaults}' if jail.defaults else ''}"
    yield from (f"{jail.id} has {name}={value}" for name, value in jail.environment)
    yield from (f"{jail.id} has the secret {secret.name}" for secret in jail.secrets)
    yield from (f"{jail.id} starts after {other}" for other in jail.after)
    yield from (f"{jail.id} resolves at {address}" for address in jail.resolvers)
    yield from (f"{jail.id} knows {name} as {address}" for name, address in jail.neighbours)


def spoken_health(jail: Jail) -> Iterator[str]:
    for check in jail.health.checks:
        what = " ".join(check.command) if check.kind == "command" else f"{check.port}"
        wanted = f" {check.host}{check.path}, {check.status or 'well'}, {check.contains!r}"
        page = wanted if check.kind == "http" else ""
        yield f"{jail.id} is asked {check.kind} {what}{page}: {check.timeout} s, {check.failures} times"
    if jail.health.checks:
        restart = "is restarted" if jail.health.restart else "is not restarted"
        yield f"{jail.id} has {jail.health.start_timeout} s to begin, and {restart}"


def source(pinned: Source) -> str:
    return f"{pinned.kind} {pinned.url} {pinned.digest[:12]}"
