"""What stands on the status branch: a file a host, a file a jail, a file a customer with Problems, how far staff's
documents have come, and a README.md.

In: what is in force (revision, fleet, problems), the Reports there are, and the files as they stand. Out: path →
bytes, None to remove. A file changes only when what it says changes: a revision is the one that last changed the
thing, never the one that was looked at last. What there is no news of keeps its files: hosts without a Report (not
passed yet since the start), jails that are to be removed and still run, everything when no good commit is known.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import ryaml

from reconciler.model import (
    Fleet,
    HostSpec,
    Jail,
    Lost,
    Problem,
    Report,
    Revision,
    Rollout,
    Rule,
    Site,
    whose,
)
from reconciler.render.conditions import condition, condition_of, host_conditions, is_applied, jail_conditions, ready
from reconciler.render.known import Files, is_jail, known_manifest, known_version, status_of, subject
from reconciler.render.plans import escaped
from reconciler.render.problems import line

API = "reconciler.hosting/v1"
LISTED = 200
"""Rows of a table in README.md; the files have the rest."""


@dataclass(frozen=True, slots=True)
class Standing:
    """All that the status says something about."""

    instance: str
    head: str
    revision: Revision
    fleet: Fleet | None
    """None: no good commit is known, and everything is left as it is."""
    problems: tuple[Problem, ...]
    reports: Mapping[str, Report]
    rollout: Rollout | None = None


def files(standing: Standing, before: Files) -> dict[str, bytes | None]:
    """The files that change."""
    kept = {path: data for path, data in before.items() if stays(path, data, standing)}
    wanted = {**kept, **dict(host_files(standing, before)), **dict(customer_files(standing))}
    if standing.rollout:
        wanted["rollout.yaml"] = document("RolloutStatus", standing.instance, rollout_status(standing.rollout))
    if standing.fleet and standing.fleet.lost:
        wanted["guard.yaml"] = document("GuardStatus", standing.instance, lost_status(standing.fleet.lost))
    wanted["README.md"] = readme(standing, wanted).encode()
    changed: dict[str, bytes | None] = {p: data for p, data in wanted.items() if before.get(p) != data}
    return changed | {path: None for path in before if path not in wanted}


def stays(path: str, data: bytes, standing: Standing) -> bool:
    """Whether a file is about something that there is no news of, or that is to go and is still there."""
    if standing.fleet is None:
        return path != "README.md"
    if path == "rollout.yaml":
        return standing.rollout is None
    host, owner = subject(path, data)
    report = standing.reports.get(host)
    if report is None:
        return host in standing.fleet.hosts
    return bool(owner) and (whose(owner) in standing.fleet.frozen or remains(owner, report))


def remains(owner: str, report: Report) -> bool:
    """Whether a jail that left the repository may still be on its host."""
    left = {change.owner for change in report.pending} | {failure.owner for failure in report.failures}
    return bool(report.unreachable) or owner in left


# ── hosts and jails ──────────────────────────────────────────────────────────────────────────────────────────


def host_files(standing: Standing, before: Files) -> Iterator[tuple[str, bytes]]:
    fleet = standing.fleet or Fleet({})
    names = site_names(fleet.sites)
    for name, report in standing.reports.items():
        spec = fleet.hosts.get(name)
        if spec is None:
            continue
        path = f"hosts/{name}.yaml"
        yield path, document("HostStatus", name, host_status(spec, report, standing, before.get(path)))
        digests = dict(report.owners)
        rules = published(spec)
        for jail in spec.jails:
            path = f"customers/{jail.customer}/jails/{jail.name}.yaml"
            status = jail_status(jail, report, standing, digests.get(jail.id, ""), before.get(path))
            status["endpoints"] = rules.get(jail.id, [])
            status["names"] = names.get(jail.id, [])
            yield path, document("JailStatus", jail.name, {"host": name, **status})


def document(kind: str, name: str, status: Mapping[str, Any]) -> bytes:
    kept = {key: value for key, value in status.items() if value not in ("", [], {})}
    value = {"apiVersion": API, "kind": kind, "metadata": {"name": name}, "status": kept}
    return ryaml.dumps(value).encode()


def host_status(spec: HostSpec, report: Report, standing: Standing, before: bytes | None) -> dict[str, Any]:
    return {
        "location": spec.location,
        "address": spec.ssh.address,
        "jails": len(spec.jails),
        "conditions": host_conditions(report),
        **revisions(report.ready, standing.revision.commit, report.manifest, before),
        "reconciler": report.version or known_version(before),
        "lastApply": last_apply(report, standing.revision.commit, before),
        "plan": report.plan,
        "approval": report.approval,
        "held": list(report.held),
        "pending": [change.words for change in report.pending][:LISTED],
        "failures": [f"{f.owner or spec.name}: {f.reason}" for f in (*report.conflicts, *report.failures)],
        "retained": [{"jail": kept.jail, "until": kept.until, "purge": kept.purge} for kept in report.retained],
    }


def last_apply(report: Report, commit: str, before: bytes | None) -> dict[str, Any]:
    """What was done last, for whom reads the history: repairs of what somebody changed by hand are in it too."""
    if report.done:
        return {"revision": commit, "changes": [change.words for change in report.done][:LISTED]}
    known = status_of(before).get("lastApply", {})
    return known if isinstance(known, dict) else {}


def revisions(is_ready: bool, commit: str, manifest: str, before: bytes | None) -> dict[str, str]:
    """`appliedRevision`: the commit that last changed this thing here; `observedRevision` while it is another one."""
    known = status_of(before)
    applied = str(known.get("appliedRevision", ""))
    if is_ready and known.get("manifest") != manifest:
        applied = commit
    if is_ready:
        return {"appliedRevision": applied or commit, "manifest": manifest}
    observed = commit if commit != applied else ""
    return {"appliedRevision": applied, "observedRevision": observed, "manifest": str(known.get("manifest", ""))}


def jail_status(jail: Jail, report: Report, standing: Standing, digest: str, before: bytes | None) -> dict[str, Any]:
    held = standing.revision.mounts.get(f"customers/{jail.customer}")
    suspended = standing.fleet.suspended.get(jail.id, "") if standing.fleet else ""
    is_ready, known = is_applied(jail, report) and not suspended, status_of(before)
    address, *further = jail.nic.public
    if known and not is_ready:  # what it may still have nobody else must take
        address, further = known.get("address", address), known.get("further", further)
    revision = held or standing.revision.commit
    if suspended:  # what it was made from is what it goes on being wanted as
        revision = str(known.get("appliedRevision", ""))
    return {
        "address": address,
        "further": further,
        "blueprint": jail.blueprint,
        "conditions": jail_conditions(jail, report, told_held(jail, held, standing) if held else "", suspended),
        **revisions(is_ready, revision, digest, before),
        "heldAt": held or "",
        "pending": [change.words for change in report.pending if change.owner == jail.id],
    }


def told_held(jail: Jail, commit: str, standing: Standing) -> str:
    """Which mistake keeps its customer at an older commit, and where it is."""
    lines = [line(p) for p in standing.problems if p.path.startswith(f"customers/{jail.customer}/")]
    more = f", and {len(lines) - 1} more" if len(lines) > 1 else ""
    return f"{jail.customer} is held at {commit[:12]}: correct {lines[0].splitlines()[0]}{more}" if lines else ""


def published(spec: HostSpec) -> dict[str, list[str]]:
    """Jail's id → what others reach it by."""
    addresses = {jail.id: jail.nic.addresses for jail in spec.jails}
    found: dict[str, list[str]] = {}
    for rule in spec.parts:
        if isinstance(rule, Rule) and rule.direction == "in" and rule.subject in addresses:
            whom = "" if not rule.peers else " for some"
            for address in addresses[rule.subject]:
                found.setdefault(rule.subject, []).extend(endpoint(address, p, rule) + whom for p in rule.ports)
    return {id: sorted(endpoints) for id, endpoints in found.items()}


def endpoint(address: str, port: int, rule: Rule) -> str:
    host = address.partition("/")[0]
    return f"[{host}]:{port}/{rule.protocol}" if ":" in host else f"{host}:{port}/{rule.protocol}"


def site_names(sites: Iterable[Site]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for site in sites:
        for jail, _, _ in site.backends:
            found.setdefault(jail, []).extend(site.names)
    return {jail: sorted(set(names)) for jail, names in found.items()}


# ── customers, README ────────────────────────────────────────────────────────────────────────────────────────


def customer_files(standing: Standing) -> Iterator[tuple[str, bytes]]:
    """Only of customers that are held: what to mend, and what is in force meanwhile."""
    for customer, commit in standing.revision.held.items():
        folder = f"customers/{customer}/"
        lines = [line(p) for p in standing.problems if p.path.startswith(folder)]
        count = "1 problem" if len(lines) == 1 else f"{len(lines)} problems"
        message = f"{count} in the newest commit; in force is {commit or 'what the hosts have'}"
        status = {"conditions": [ready(False, "Problem", message)], "heldAt": commit or "", "problems": lines[:LISTED]}
        yield f"{folder}customer.yaml", document("CustomerStatus", customer, status)


def lost_status(lost: Lost) -> dict[str, Any]:
    return {"lost": sorted(lost.jails), "of": lost.of}


def rollout_status(rollout: Rollout) -> dict[str, Any]:
    return {
        "revision": rollout.revision,
        "target": rollout.target,
        "failed": rollout.failed,
        "ahead": {
            host: {"revision": has.revision, **({"unwell": sorted(has.unwell)} if has.unwell else {})}
            for host, has in sorted(rollout.ahead.items())
        },
        "left": list(rollout.left),
        "waits": list(rollout.waits),
        "approval": rollout.approval,
    }


def readme(standing: Standing, all_files: Files) -> str:
    hosts = {p: status_of(d) for p, d in all_files.items() if p.startswith("hosts/")}
    jails = {p: status_of(d) for p, d in sorted(all_files.items()) if is_jail(p)}
    base = standing.revision.commit
    troubled = {p: s for p, s in jails.items() if condition(s)["status"] != "True"}
    sections = [
        f"# Status of {standing.instance}\n",
        f"In force: {f'commit `{base[:12]}`' if base else 'what the hosts have'}. "
        f"{len(jails) - len(troubled)} of {len(jails)} jails are ready, "
        f"{sum(condition(s)['status'] == 'True' for s in hosts.values())} of {len(hosts)} hosts.\n",
        *problem_section(standing),
        *rollout_section(standing.rollout),
        "## Hosts\n",
        table(("host", "location", "jails", "state"), (host_row(p, s) for p, s in sorted(hosts.items()))),
        *jail_section("Jails that need attention", troubled),
        *site_section(standing.fleet.sites if standing.fleet else ()),
        *retained_section(hosts),
        *jail_section("Jails", jails),
    ]
    return "\n".join(sections)


def rollout_section(rollout: Rollout | None) -> Iterator[str]:
    if rollout and rollout.target:
        have = sum(has.revision == rollout.target for has in rollout.ahead.values())
        yield f"## Staff's documents of commit `{rollout.target[:12]}` go in waves\n"
        count = f"{have} of {have + len(rollout.left)} hosts have them."
        yield f"{count} To let them go to all at once, staff commit `approvals/{rollout.approval}.yaml`.\n"
        yield "".join(f"- {escaped(why)}\n" for why in rollout.waits[:LISTED])


def retained_section(hosts: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    rows = [
        retained_row(host_row(path, status)[0], entry)
        for path, status in sorted(hosts.items())
        for entry in status.get("retained", ())
        if isinstance(entry, dict)
    ]
    if rows:
        yield "## Data of jails that are gone\n"
        yield (
            "It comes back with the jail's document. Nothing deletes it but an approval, when its day has passed: "
            "commit the file that is named here, with a later day than the one here as its `until`.\n"
        )
        yield table(("jail", "on host", "kept until at least", "approval that deletes it"), rows[:LISTED])


def retained_row(host: str, entry: Mapping[str, Any]) -> tuple[str, ...]:
    jail, until, purge = (str(entry.get(key, "")) for key in ("jail", "until", "purge"))
    return escaped(jail.replace("--", "/", 1)), host, escaped(until), f"`approvals/{purge}.yaml`"


def problem_section(standing: Standing) -> Iterator[str]:
    if standing.problems:
        base = standing.head != standing.revision.commit
        yield f"## Problems in commit `{standing.head[:12]}`\n"
        yield (
            "It holds everything: staff's documents have to be mended.\n"
            if base
            else (f"Held at their last good commit: {', '.join(standing.revision.held)}. The others go on.\n")
        )
        yield "```\n" + "\n".join(line(p).replace("```", "'''") for p in standing.problems[:LISTED]) + "\n```\n"


def host_row(path: str, status: Mapping[str, Any]) -> tuple[str, ...]:
    name = path.removeprefix("hosts/").removesuffix(".yaml")
    return f"[{name}]({path})", str(status.get("location", "")), str(status.get("jails", 0)), state(status)


def state(status: Mapping[str, Any]) -> str:
    found = condition(status)
    if found["status"] != "True":
        return told(found)
    return "; ".join(["ready", *map(told, condition_of("Degraded", status))])


def told(found: Mapping[str, str]) -> str:
    return f"**{found['reason']}**: {escaped(found['message'])}"


def jail_section(title: str, jails: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    if jails:
        yield f"## {title}\n"
        yield table(("jail", "host", "address", "state"), (jail_row(p, s) for p, s in list(jails.items())[:LISTED]))
        if len(jails) > LISTED:
            yield f"… and {len(jails) - LISTED} more, below `customers/`.\n"


def jail_row(path: str, status: Mapping[str, Any]) -> tuple[str, ...]:
    customer, name = path.split("/")[1], path.split("/")[3].removesuffix(".yaml")
    return f"[{customer}/{name}]({path})", str(status.get("host", "")), f"`{status.get('address', '')}`", state(status)


def site_section(sites: Iterable[Site]) -> Iterator[str]:
    rows = [
        (
            f"{name}",
            f"{site.customer}/{site.name}",
            " ".join(f"`[{address}]:{port}`" for _, address, port in site.backends),
        )
        for site in sites
        for name in site.names
    ]
    if rows:
        yield "## Sites\n"
        yield table(("name", "site", "answers on"), sorted(rows)[:LISTED])


def table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


# ── the commit ───────────────────────────────────────────────────────────────────────────────────────────────


def message(standing: Standing, changed: Iterable[str], before: Files, plans: Iterable[str] = ()) -> str:
    """What and why in one line, what was done, trailers for programs. `plans` are the digests of what was carried out.

    An apply that no commit asked for mended something: its host was already known to be as this commit wants it.
    """
    commit = standing.revision.commit
    done = sorted(name for name, report in standing.reports.items() if report.done)
    mended = all(known_manifest(before, name) == standing.reports[name].manifest for name in done)
    about = done or sorted(p.removesuffix(".yaml") for p in changed if p != "README.md")
    listed = ", ".join(about[:3]) + (f" and {len(about) - 3} more" if len(about) > 3 else "")
    in_force = f"commit {commit[:12]} is in force" if commit else "no good commit is known"
    applied = f"Mend {listed}" if mended else f"Apply {commit[:12]} on {listed}"
    subject = applied if done else f"Status: {listed or in_force}"
    body = [f"{name}: {change.words}" for name in done for change in standing.reports[name].done]
    if len(body) > LISTED:
        body[LISTED:] = [f"and {len(body) - LISTED} more"]
    trailers = [f"Applied-Revision: {commit}"] if commit else []
    trailers += [f"Plan-Digest: {plan}" for plan in sorted(plans)[:20]]
    told = "\n".join(body) + "\n\n" if body else ""
    return f"{subject}\n\n{told}" + "\n".join([*trailers, f"Instance: {standing.instance}"]) + "\n"
