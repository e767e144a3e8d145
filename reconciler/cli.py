"""The command line. Exit codes: 0 nothing to do, 1 problems or a failure, 2 changes pending.

In: words. Out: text, JSON, Markdown or annotations on standard output; progress on standard error. Everything heavy
is imported by the command that needs it: `--help` answers at once.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from reconciler import __version__

if TYPE_CHECKING:
    from reconciler.config import Config
    from reconciler.model import Ahead, Fleet, HostSpec, Report, Waves
    from reconciler.passes import Station, Wish
    from reconciler.repo import Snapshot
    from reconciler.revision import Settled
    from reconciler.rollout import Verdict

NOTHING, FAILED, PENDING = 0, 1, 2
DEFAULTS = ("reconciler.toml", "/etc/reconciler/reconciler.toml")
click.UsageError.exit_code = FAILED  # click's own 2 would say that changes are pending


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__)
@click.option(
    "--config",
    "path",
    type=click.Path(path_type=Path),
    envvar="RECONCILER_CONFIG",
    help=f"The configuration; {' or '.join(DEFAULTS)} when left out.",
)
@click.pass_context
def main(context: click.Context, path: Path | None) -> None:
    """Makes hosts match the YAML in a git repository, and writes back what it found and did."""
    context.obj = path


# ── looking ──────────────────────────────────────────────────────────────────────────────────────────────────


@main.command()
@click.argument("what", default=".")
@click.option("--format", "form", type=click.Choice(["text", "json", "github"]), default="text")
def validate(what: str, form: str) -> None:
    """Prints every problem of a config repository: a directory as it is on disk, or a revision of the one around us."""
    from reconciler.render import problems
    from reconciler.revision import Compiler

    with failures():
        found = Compiler().compile(snapshot(what)).all_problems
    click.echo(problems.FORMATS[form](found), nl=False)
    if form == "text":
        count = len(found)
        click.echo("no problems" if not count else "1 problem" if count == 1 else f"{count} problems", err=True)
    sys.exit(FAILED if found else NOTHING)


def snapshot(what: str) -> Snapshot:
    from reconciler.repo import Repository, WorkTree

    if Path(what).is_dir():
        return WorkTree(Path(what))
    if Path(what).exists():
        raise click.ClickException(f"{what} is a file: give the directory of the whole repository")
    repository = Repository.open(Path())
    return repository.tree(repository.resolve(what))


@main.command()
@click.argument("hosts", nargs=-1)
@click.option("--against", metavar="REV", help="Plan this revision instead of the newest one.")
@click.option("--format", "form", type=click.Choice(["text", "json", "markdown"]), default="text")
@click.pass_obj
def plan(path: Path | None, hosts: tuple[str, ...], against: str | None, form: str) -> None:
    """Shows what would change on the hosts, and changes nothing."""
    from reconciler.passes import Wish
    from reconciler.render import plans
    from reconciler.rollout import unseen

    with failures(), station(path) as ours:
        settled = ours.settle_at(against) if against else ours.in_waves(ours.settle(), unseen)
        tell_rollout(settled)
        fleet = in_force(settled)
        reports = pass_over(ours, fleet, chosen(fleet, hosts), Wish(apply=False))
    click.echo(plans.FORMATS[form](reports), nl=False)
    sys.exit(verdict(reports, bool(settled.problems)))


@main.command()
@click.argument("jail")
@click.option("-f", "--follow", is_flag=True, help="Go on as more is written.")
@click.pass_obj
def logs(path: Path | None, jail: str, follow: bool) -> None:
    """Prints what a jail wrote. JAIL is customer/name."""
    from reconciler.platforms import PLATFORMS

    id = jail.replace("/", "--", 1)
    with failures(), station(path) as ours:
        fleet = in_force(ours.settle())
        homes = {j.id: host for host in fleet.hosts.values() for j in host.jails}
        if id not in homes:
            raise click.ClickException(f"there is no jail {jail}; write it as customer/name")
        host = homes[id]
        for chunk in ours.remote(host).stream(PLATFORMS[host.platform].logs(id, follow)):
            sys.stdout.buffer.write(chunk)
            sys.stdout.buffer.flush()


# ── doing ────────────────────────────────────────────────────────────────────────────────────────────────────


@main.command()
@click.argument("hosts", nargs=-1)
@click.option("--digest", metavar="D", default="", help="Only if the host's plan still has this digest: one host.")
@click.option("--adopt", is_flag=True, help="Take what exists under our names for ours (a lost inventory).")
@click.pass_obj
def apply(path: Path | None, hosts: tuple[str, ...], digest: str, adopt: bool) -> None:
    """Makes the hosts match, and publishes the status. A digest also lets a plan through that a guard refused."""
    from reconciler.passes import Wish
    from reconciler.render import plans

    if (digest or adopt) and len(hosts) != 1:
        raise click.UsageError("--digest and --adopt are for one host: name it")
    with failures(), station(path) as ours:
        settled, reports = wave_after_wave(ours, hosts, Wish(digest=digest, adopt=adopt))
        click.echo(plans.text(reports), nl=False)
        ours.publish(settled, {report.host: report for report in reports})
    sys.exit(verdict(reports, bool(settled.problems)))


@main.command()
@click.pass_obj
def run(path: Path | None) -> None:
    """Runs for ever: follows the repository, mends drift, publishes the status."""
    import asyncio

    from reconciler.daemon import Daemon

    with failures():
        asyncio.run(Daemon(configuration(path)).run())


@main.command()
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("archive", type=click.Path(dir_okay=False, path_type=Path))
def pack(folder: Path, archive: Path) -> None:
    """Packs a directory for a blueprint or a release, and prints its digest: the same files give the same digest."""
    from reconciler.packing import pack

    with failures():
        click.echo(f"digest: {pack(folder, archive)}")


# ── what the commands share ──────────────────────────────────────────────────────────────────────────────────


def configuration(path: Path | None) -> Config:
    from reconciler import config

    found = path or next((Path(name) for name in DEFAULTS if Path(name).exists()), None)
    read = config.read(found, os.environ)
    if not read.source.url:
        raise config.ConfigFailure(
            "no repository: set source.url in reconciler.toml, or RECONCILER_SOURCE_URL in the environment"
        )
    return read


@contextmanager
def station(path: Path | None) -> Iterator[Station]:
    from reconciler.passes import Station

    ours = Station(configuration(path))
    try:
        yield ours
    finally:
        ours.close()


@contextmanager
def failures() -> Iterator[None]:
    """What went wrong in words, without a traceback; a mistake of the program keeps its own."""
    from reconciler.model import Trouble

    try:
        yield
    except Trouble as trouble:
        raise click.ClickException(str(trouble)) from trouble


def in_force(settled: Settled) -> Fleet:
    """The fleet; problems of the newest commit are printed, and only without any good commit there is none."""
    from reconciler.render import problems

    click.echo(problems.text(settled.problems), nl=False, err=True)
    if settled.fleet is None:
        raise click.ClickException("no commit without problems in staff's documents was found")
    for customer, commit in settled.revision.held.items():
        click.echo(f"customer {customer} is held at {commit or 'what the hosts have'}", err=True)
    return settled.fleet


def chosen(fleet: Fleet, names: tuple[str, ...]) -> list[str]:
    unknown = set(names) - set(fleet.hosts)
    if unknown:
        known = ", ".join(fleet.hosts)
        raise click.ClickException(f"there is no host {sorted(unknown)[0]}; there is {known}")
    return sorted(set(names)) or list(fleet.hosts)


def wave_after_wave(ours: Station, hosts: tuple[str, ...], wish: Wish) -> tuple[Settled, list[Report]]:
    """As far as a change of staff's comes by what is seen now: what was only just changed has to be looked at again."""
    from reconciler import rollout

    told: dict[str, tuple[HostSpec, Report]] = {}

    def verdict(waves: Waves, host: str, has: Ahead) -> Verdict:
        why = rollout.trouble(told[host][1] if host in told else None, has.unwell)
        return rollout.Verdict("open", why) if why else rollout.Verdict("well")

    newest = ours.settle()
    while True:
        settled = ours.in_waves(newest, verdict)
        fleet = in_force(settled) if not told else settled.fleet
        assert fleet is not None
        todo = [name for name in chosen(fleet, hosts) if name not in told or told[name][0] != fleet.hosts[name]]
        if not todo:
            tell_rollout(settled)
            return settled, [report for _, report in told.values()]
        for report in pass_over(ours, fleet, todo, wish):
            done = told[report.host][1].done if report.host in told else ()
            told[report.host] = (fleet.hosts[report.host], replace(report, done=(*done, *report.done)))


def tell_rollout(settled: Settled) -> None:
    rollout = settled.rollout
    if rollout and rollout.target:
        click.echo(f"staff's documents of {rollout.target} wait for {', '.join(rollout.left)}", err=True)
        for why in rollout.waits:
            click.echo(f"  {why}", err=True)


def pass_over(ours: Station, fleet: Fleet, names: list[str], wish: Wish) -> list[Report]:
    """All hosts at once, as many as the configuration allows, with progress for those who watch."""
    from concurrent.futures import ThreadPoolExecutor, as_completed

    with ThreadPoolExecutor(ours.config.daemon.workers) as pool, progress(len(names)) as tell:
        running = {pool.submit(ours.run, fleet, name, wish): name for name in names}
        for future in as_completed(running):
            tell(future.result())
        return [future.result() for future in running]


@contextmanager
def progress(count: int) -> Iterator[Callable[[Report], None]]:
    """A bar on a terminal, a line a host elsewhere."""
    from reconciler.render.plans import summary

    if not sys.stderr.isatty():
        yield lambda report: click.echo(f"host {report.host}: {summary(report)}", err=True)
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("hosts", total=count)

        def tell(report: Report) -> None:
            bar.console.print(f"host {report.host}: {summary(report)}", markup=False, highlight=False)
            bar.advance(task)

        yield tell


def verdict(reports: Iterable[Report], problems: bool) -> int:
    reports = list(reports)
    if problems or any(r.failures or r.conflicts or r.unreachable or r.refusal for r in reports):
        return FAILED
    return PENDING if any(r.pending for r in reports) else NOTHING
