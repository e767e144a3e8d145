"""Runs for ever: wakes, passes over hosts, publishes. Schedule, backoff and an orderly end; no decision about a host.

In: a Config, signals. Out: passes. One task holds the lease, without which nothing begins, one follows the repository,
one a host keeps that host, one publishes. What wakes a host carries no meaning: the pass computes everything afresh.
Ends on SIGTERM, or when somebody else has the lease, when the passes under way have ended.
"""

from __future__ import annotations

import asyncio
import logging
import os
import random
import resource
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from aiohttp import web
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from watchfiles import Change, awatch

from reconciler.config import Config, ConfigFailure
from reconciler.lease import Lease, LeaseFailure, claimed
from reconciler.logs import log, write_json_logs
from reconciler.model import Ahead, Fleet, HostSpec, Report, Waves
from reconciler.passes import Station, Wish
from reconciler.render.plans import summary
from reconciler.repo import GitFailure
from reconciler.revision import Settled
from reconciler.rollout import Observer, Verdict
from reconciler.web import Hooks, application

SOONEST, LATEST = 2.0, 600.0
"""Seconds until a host that failed is tried again: doubled each time, with jitter."""
SECOND_LOOK = 5.0
"""Seconds after a change until the host is looked at again: a command that ends at once shows by then."""
ASK_AGAIN = 10.0
"""Seconds until jails are asked again of which one is unwell, or was just made."""
GRACE = 60.0
"""Seconds that passes under way get at the end. What they leave on a host, the next pass mends."""


@dataclass
class Metrics:
    registry: CollectorRegistry = field(default_factory=CollectorRegistry)

    def __post_init__(self) -> None:
        where: dict[str, Any] = {"registry": self.registry}
        self.passes = Counter("reconciler_passes", "Passes by host and result", ["host", "result"], **where)
        self.seconds = Histogram("reconciler_pass_seconds", "How long a pass took", **where)
        self.changes = Counter("reconciler_changes", "Changes carried out", ["host"], **where)
        self.ready = Gauge("reconciler_host_ready", "1 when a host is as it should be", ["host"], **where)
        self.unwell = Gauge("reconciler_jails_unwell", "Jails that do not do their work", ["host"], **where)
        self.problems = Gauge("reconciler_problems", "Problems in the newest commit", **where)
        self.fetched = Gauge("reconciler_last_fetch_timestamp_seconds", "When the repository last answered", **where)
        self.published = Counter("reconciler_status_commits", "Status commits pushed", **where)
        self.leased = Gauge("reconciler_lease_held", "1 while this reconciler has the lease", **where)
        self.unpublished = Counter("reconciler_status_failures", "Status pushes that failed", **where)

    def forget(self, host: str) -> None:
        """A host that left says nothing any more, not even that it is ready."""
        for told in (self.ready, self.unwell):
            with suppress(KeyError):
                told.remove(host)


class Daemon:
    def __init__(self, config: Config) -> None:
        self.config = config
        self.station = Station(config)
        self.metrics = Metrics()
        self.newest: Settled | None = None
        """What the repository says, for everybody at once."""
        self.settled: Settled | None = None
        """The same, as it is to be made now."""
        self.observer = Observer()
        self.reports: dict[str, tuple[HostSpec, Report]] = {}
        """What was last found on each host, and what was wanted of it then."""
        self.kept, self.revision = Fleet({}), ""
        """What the hosts are held to, and the commit it is from."""
        self.trouble = ""
        """Why what is in force may not be the newest."""
        self.lease: Lease | None = None
        self.begun = asyncio.Event()
        """The lease is ours, or none is wanted: until then nobody is looked at and nothing told."""
        self.looking = asyncio.Event()
        self.turning = asyncio.Event()
        self.settling = asyncio.Lock()
        self.news = asyncio.Event()
        self.wakes: dict[str, asyncio.Event] = {}
        self.keepers: dict[str, asyncio.Task[None]] = {}
        self.pool = ThreadPoolExecutor(config.daemon.workers, thread_name_prefix="host")
        self.stopping = asyncio.Event()

    async def run(self) -> None:
        """Until SIGTERM or SIGINT; LeaseFailure when somebody else took over, whom the next start waits for."""
        write_json_logs()
        # clients that open connections and say nothing must not keep us from git and the hosts
        resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.stopping.set)
        with claimed(self.config) as lease:
            self.lease = lease
            async with self.serving():
                holding = asyncio.create_task(forever(self.hold))
                work = [asyncio.create_task(self.when_ours(task)) for task in self.tasks()]
                await self.stopping.wait()
                await self.end(work)
                holding.cancel()
        if lease and lease.lost:
            raise LeaseFailure(lease.why)

    def tasks(self) -> tuple[Callable[[], Awaitable[None]], ...]:
        return self.follow, self.watch, self.roll, self.publish

    async def end(self, work: list[asyncio.Task[None]]) -> None:
        """Nothing new is begun; what runs is waited for; the last word is published, unless it is somebody else's."""
        log.info("stopping")
        for task in work:
            task.cancel()
        self.pool.shutdown(wait=False, cancel_futures=True)
        for wake in self.wakes.values():
            wake.set()
        if self.keepers:
            await asyncio.wait(self.keepers.values(), timeout=GRACE)
        if not self.lost():
            await self.publish_once()
        if self.lease:
            await asyncio.to_thread(self.lease.give_up)
        late = sorted(name for name, task in self.keepers.items() if not task.done())
        if late:
            log.warning("stopped before all passes ended", extra={"hosts": late})
            # the threads of these passes wait for their hosts, and Python would wait for the threads
            os._exit(1 if self.lost() else 0)
        self.station.close()

    # ── the lease ────────────────────────────────────────────────────────────────────────────────────────────────

    async def when_ours(self, step: Callable[[], Awaitable[None]]) -> None:
        await self.begun.wait()
        await forever(step)

    async def hold(self) -> None:
        """One look at the lease; without one there is nothing to wait for."""
        if self.lease is None:
            self.begun.set()
            await asyncio.Event().wait()
            return
        known = self.lease.why
        await asyncio.to_thread(self.lease.look)
        why = self.lease.why
        if why != known:
            log.log(logging.WARNING if why else logging.INFO, "lease", extra={"reason": why or "it is ours"})
        self.metrics.leased.set(self.lease.held)
        if self.lease.held:
            self.begun.set()
        if self.lease.lost:
            self.stopping.set()
        third = self.config.daemon.lease / 3
        await asyncio.sleep(min(self.config.source.poll, third) if why else third)

    def lost(self) -> bool:
        return self.lease is not None and self.lease.lost

    # ── the repository ───────────────────────────────────────────────────────────────────────────────────────

    async def follow(self) -> None:
        """One look at the repository, then a wait for the next reason to."""
        self.looking.clear()
        try:
            self.trouble = "the newest commit could not be read: see the log"
            async with self.settling:
                self.newest = await asyncio.to_thread(self.station.settle)
                settled = await asyncio.to_thread(self.station.in_waves, self.newest, self.verdict)
            self.trouble = ""
        except GitFailure as failure:
            self.trouble = str(failure)
            log.error("fetch failed", extra={"reason": str(failure)})
        else:
            self.metrics.fetched.set(time.time())
            self.take(settled)
        with suppress(TimeoutError):
            await asyncio.wait_for(self.looking.wait(), self.config.source.poll * random.uniform(0.9, 1.1))

    def take(self, settled: Settled) -> None:
        """Wakes the hosts of whom something else is wanted now."""
        before = self.settled
        if before is not None and (before.head, before.rollout) == (settled.head, settled.rollout):
            return
        self.settled = settled
        if settled.fleet is not None:
            self.kept, self.revision = settled.fleet, settled.revision.commit
        self.metrics.problems.set(len(settled.problems))
        if before is None or before.head != settled.head:
            log.info("revision", extra={"revision": settled.revision.commit, "problems": len(settled.problems)})
        if settled.rollout and settled.rollout.target:
            log.info("rollout", extra={"revision": settled.rollout.target, "reason": "; ".join(settled.rollout.waits)})
        self.keep_hosts(before.fleet if before else None, settled.fleet)
        self.news.set()

    def keep_hosts(self, before: Fleet | None, fleet: Fleet | None) -> None:
        """Without any good commit the hosts stay as they are; a host that left the repository is let go, not wiped."""
        if fleet is None:
            return
        for name in set(self.keepers) - set(fleet.hosts):
            self.keepers.pop(name).cancel()
            self.pool.submit(self.station.let_go, name)
            self.reports.pop(name, None)
            self.metrics.forget(name)
        for name in fleet.hosts:
            if name not in self.keepers or self.keepers[name].done():
                self.wakes[name] = asyncio.Event()
                self.keepers[name] = asyncio.create_task(self.keep(name))
            elif before is None or asked_of(before, name) != asked_of(fleet, name):
                self.wakes[name].set()

    async def roll(self) -> None:
        """While a change goes in waves: whether the next one may begin."""
        waiting = self.settled is not None and self.settled.rollout is not None and self.settled.rollout.target
        with suppress(TimeoutError):
            await asyncio.wait_for(self.turning.wait(), SECOND_LOOK if waiting else None)
        self.turning.clear()
        if self.newest is not None:
            async with self.settling:
                settled = await asyncio.to_thread(self.station.in_waves, self.newest, self.verdict)
            self.take(settled)

    def verdict(self, waves: Waves, host: str, has: Ahead) -> Verdict:
        """By the last look at a host since it was given what it has."""
        spec, report = self.reports.get(host, (None, None))
        current = spec is not None and self.kept.hosts.get(host) == spec
        return self.observer.verdict(host, has, report if current else None, waves, time.monotonic())

    async def watch(self) -> None:
        """A repository on this machine tells at once when its branch moves."""
        folder = git_folder(self.config.source.url)
        if folder is None:
            await asyncio.Event().wait()
            return
        branch = f"refs/heads/{self.config.source.branch}"
        names = (str(folder / branch), str(folder / "packed-refs"))

        def ours(change: Change, path: str) -> bool:
            return path in names

        async for _ in awatch(folder, watch_filter=ours, step=10, debounce=50, stop_event=self.stopping):
            self.wake("file watch")

    def wake(self, reason: str) -> None:
        log.info("woken", extra={"reason": reason})
        self.looking.set()

    # ── hosts ────────────────────────────────────────────────────────────────────────────────────────────────

    async def keep(self, name: str) -> None:
        """One host, one pass at a time, for as long as it is in the repository."""
        failures = 0
        while not self.stopping.is_set():
            self.wakes[name].clear()
            report = await self.pass_once(name)
            failures = 0 if report.ready else failures + 1
            await self.between(name, self.patience(report, failures))

    async def between(self, name: str, seconds: float) -> None:
        """Until something wakes the host, or for so long; its jails are asked meanwhile. One that is to be restarted
        for what it answers is a reason for a pass."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            with suppress(TimeoutError):
                await asyncio.wait_for(self.wakes[name].wait(), min(left, self.next_round(name)))
                return
            if time.monotonic() < end and await self.round_once(name):
                return

    def next_round(self, name: str) -> float:
        """Seconds until jails are asked again."""
        if self.station.watch(name).uneasy:
            return ASK_AGAIN
        return self.config.daemon.health * random.uniform(0.9, 1.1)

    async def round_once(self, name: str) -> bool:
        """Asks the host's jails, and nothing else; whether one of them is to be restarted."""
        fleet, (spec, report) = self.kept, self.reports[name]
        if name not in fleet.hosts or not any(jail.health.checks for jail in spec.jails):
            return False
        try:
            asking = asyncio.get_running_loop().run_in_executor(self.pool, self.station.examine, fleet, name, report)
            found = await asyncio.shield(asking)
        except Exception:
            log.exception("asking failed", extra={"host": name})
            return False
        # what was done before may have been published meanwhile, and is told once
        found = replace(found, done=self.reports[name][1].done)
        if found != self.reports[name][1]:
            self.reports[name] = (spec, found)
            self.tell_unwell(found)
            self.news.set()
        return found.ready and self.station.restarts(fleet, name)

    def patience(self, report: Report, failures: int) -> float:
        if failures:
            return min(LATEST, SOONEST * 2.0 ** min(failures - 1, 12)) * random.uniform(0.7, 1.3)
        if report.done or report.degraded:
            return SECOND_LOOK
        return self.config.daemon.drift * random.uniform(0.9, 1.1)

    async def pass_once(self, name: str) -> Report:
        """While no good commit is known, the last one that was goes on being kept."""
        fleet, revision, begun = self.kept, self.revision, time.monotonic()
        try:
            running = asyncio.get_running_loop().run_in_executor(self.pool, self.look, fleet, name)
            report = await asyncio.shield(running)
        except Exception as error:
            # a mistake of ours in one pass must not end the daemon, nor pass for a host that is well
            log.exception("pass failed", extra={"host": name})
            _, known = self.reports.get(name, (None, Report(name, "")))
            report = replace(known, done=(), unreachable=f"the reconciler itself failed: {type(error).__name__}")
        self.metrics.seconds.observe(time.monotonic() - begun)
        self.tell(report, revision)
        told = (fleet.hosts[name], report)
        if self.reports.get(name) != told:
            self.reports[name] = told
            self.tell_unwell(report)
            self.news.set()
        if self.settled and self.settled.rollout and self.settled.rollout.target:
            self.turning.set()
        return report

    def look(self, fleet: Fleet, name: str) -> Report:
        """A pass, and what the jails say after it."""
        return self.station.examine(fleet, name, self.station.run(fleet, name, Wish()))

    def tell_unwell(self, report: Report) -> None:
        self.metrics.unwell.labels(report.host).set(len(report.unwell))
        for owner, why in (*report.ailing, *report.degraded):
            log.warning("unwell", extra={"host": report.host, "jail": owner, "reason": why})

    def tell(self, report: Report, revision: str) -> None:
        self.metrics.passes.labels(report.host, "ready" if report.ready else "not ready").inc()
        self.metrics.ready.labels(report.host).set(report.ready)
        self.metrics.changes.labels(report.host).inc(len(report.done))
        about = {"host": report.host, "revision": revision}
        for change in report.done:
            log.info("done", extra={**about, "change": change.words})
        for failure in (*report.failures, *report.conflicts):
            log.error("failed", extra={**about, "change": failure.key, "reason": failure.reason})
        if not report.ready or report.done:
            log.info(summary(report), extra=about)

    # ── the status ───────────────────────────────────────────────────────────────────────────────────────────

    async def publish(self) -> None:
        await self.news.wait()
        await asyncio.sleep(0.02)  # hosts that end together share a commit
        self.news.clear()
        published = False
        try:
            published = await self.publish_once()
        finally:
            if not published:
                self.news.set()
        if not published:
            await asyncio.sleep(SOONEST * random.uniform(1, 3))

    async def publish_once(self) -> bool:
        if self.settled is None:
            return True
        told = self.current(self.settled.fleet)
        try:
            commit = await asyncio.to_thread(self.station.publish, self.settled, told)
        except GitFailure as failure:
            self.metrics.unpublished.inc()
            log.error("status not published", extra={"reason": str(failure)})
            return False
        if commit:
            self.metrics.published.inc()
            log.info("status", extra={"commit": commit})
        for name, report in told.items():
            spec, known = self.reports.get(name, (None, None))
            if spec and known and known.done is report.done:  # what was done is told once
                self.reports[name] = (spec, replace(known, done=()))
        return True

    def current(self, fleet: Fleet | None) -> dict[str, Report]:
        """The reports about what is wanted now; those about what was wanted before say nothing of it."""
        hosts = fleet.hosts if fleet else {}
        return {name: report for name, (spec, report) in self.reports.items() if hosts.get(name) == spec}

    # ── the web ──────────────────────────────────────────────────────────────────────────────────────────────

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        if not self.config.web.listen:
            yield
            return
        hooks = Hooks(webhook_secret(self.config), self.wake, self.unready, self.metrics.registry)
        runner = web.AppRunner(application(hooks), access_log=None)
        await runner.setup()
        host, _, port = self.config.web.listen.rpartition(":")
        try:
            await web.TCPSite(runner, host.strip("[]"), int(port)).start()
        except (OSError, ValueError, OverflowError) as error:
            raise ConfigFailure(f"web.listen is {self.config.web.listen!r}: {error}") from None
        try:
            yield
        finally:
            await runner.cleanup()

    def unready(self) -> str:
        if self.lease and self.lease.why:
            return self.lease.why
        if self.settled is None:
            return self.trouble or "the repository has not been read yet"
        if self.trouble:
            return self.trouble
        if self.settled.fleet is None:
            return "no good commit was found"
        unseen = set(self.settled.fleet.hosts) - set(self.reports)
        return f"{len(unseen)} hosts have not been passed yet" if unseen else ""


async def forever(step: Callable[[], Awaitable[None]]) -> None:
    """Repeats a step; a mistake of ours in it is logged, and the others go on."""
    while True:
        try:
            await step()
        except Exception:
            log.exception("the daemon's own mistake")
            await asyncio.sleep(SOONEST)


def git_folder(url: str) -> Path | None:
    """Where a repository on this machine keeps its refs."""
    path = Path(url.removeprefix("file://"))
    if "://" in str(url.removeprefix("file://")) or not path.is_dir():
        return None
    return (path / ".git" if (path / ".git").is_dir() else path).resolve()


def asked_of(fleet: Fleet, host: str) -> tuple[object, ...]:
    """All that a pass over this host depends on."""
    spec = fleet.hosts.get(host)
    still = [jail.id for jail in spec.jails if jail.id in fleet.suspended] if spec and fleet.suspended else []
    return spec, still, fleet.frozen, fleet.guard, fleet.approvals, fleet.vanishing


def webhook_secret(config: Config) -> bytes:
    try:
        return Path(config.web.secret).read_bytes().strip() if config.web.secret else b""
    except OSError as error:
        raise ConfigFailure(f"web.secret is {config.web.secret}: {error.strerror}") from None
