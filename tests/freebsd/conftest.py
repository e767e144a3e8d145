"""One FreeBSD host for the whole run, one company, and one story: the files of this folder in their order.

In: RECONCILER_FREEBSD_SSH and RECONCILER_FREEBSD_KEY; without them all that needs the host is skipped, and the run's
summary says so. Every failure is told with the last commands, their exit statuses and outputs, and a snapshot of the
host. At the end, and at the beginning when an earlier run was killed, everything is swept.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from .company import Company
from .host import KEY, SSH, Host, from_environment
from .sweep import remember, sweep
from .traffic import make_by_hand

HERE = Path(__file__).parent
UNSET = f"needs a FreeBSD host: set {SSH}=root@host:port and {KEY}=its private key (tests/freebsd/README.md)"
INSIDE = (
    "needs the network, which there is none of in the lab: PYTHONPATH=tests .venv/bin/python -m pytest tests/freebsd"
)
SECONDS = 7200
"""A test on an emulated host may take long; one that hangs ends some day."""
HOST = pytest.StashKey[Host]()
SKIPPED = pytest.StashKey[tuple[str, int]]()
FAILED = pytest.StashKey[bool]()


def reason() -> str:
    if not (os.environ.get(SSH) and os.environ.get(KEY)):
        return UNSET
    return INSIDE if os.environ.get("RECONCILER_LAB") == "1" else ""


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    mine = [i for i in items if HERE in i.path.parents and "host" in getattr(i, "fixturenames", ())]
    why = reason()
    for item in mine:
        item.add_marker(pytest.mark.timeout(SECONDS))
        if why:
            item.add_marker(pytest.mark.skip(reason=why))
    if why:
        config.stash[SKIPPED] = (why, len(mine))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    why, count = config.stash.get(SKIPPED, ("", 0))
    if count:
        terminalreporter.write_line(f"tests/freebsd: {count} skipped: {why}")


# ── telling what happened ────────────────────────────────────────────────────────────────────────────────────


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    outcome = yield
    report = outcome.get_result()  # type: ignore[attr-defined]
    host = item.config.stash.get(HOST, None)
    if report.failed and HERE in item.path.parents and host is not None:
        item.stash[FAILED] = True
        report.sections.append(("the last commands", host.told()))
        report.sections.append(("the host as it is now", host.snapshot()))


# ── the host and the company ─────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="session")
def host(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    """Bare, but for what `make_by_hand` put there; swept afterwards, whatever happened."""
    host = from_environment(tmp_path_factory.mktemp("ssh"))
    host.learn()
    request.config.stash[HOST] = host
    sweep(host)
    remember(host)
    try:
        yield host
    finally:
        done = sweep(host)
        assert done.code == 0 and ("swept" in done.out or "nothing to sweep" in done.out), str(done)


@pytest.fixture(scope="session")
def bare(host: Host) -> dict[str, str]:
    """How the host looked before anybody touched it."""
    return host.look()


@pytest.fixture(scope="session")
def handmade(host: Host, bare: dict[str, str]) -> dict[str, str]:
    """How it looks with what is not ours."""
    make_by_hand(host)
    return host.look()


@pytest.fixture(scope="session")
def company(host: Host, handmade: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Company:
    """Founded, with a host and no jails; nothing applied yet."""
    company = Company(tmp_path_factory.mktemp("company"), host)
    company.push("A host and a customer")
    return company


@pytest.fixture(scope="session")
def alone(host: Host, company: Company) -> dict[str, str]:
    """How the host looks when it is ready for jails and has none: asked for first after the first apply."""
    return host.look()


@pytest.fixture(scope="session")
def settled(host: Host, company: Company) -> dict[str, str]:
    """How it looks with both jails as the documents say: asked for first when all changes are done."""
    return host.look()


@pytest.fixture(scope="session")
def racct(host: Host) -> bool:
    """Whether its kernel can limit at all: kern.racct.enable=1 in /boot/loader.conf, and a reboot."""
    return host.out("sysctl -n kern.racct.enable 2>/dev/null || echo 0") == "1"


@pytest.fixture
def town(company: Company, request: pytest.FixtureRequest) -> Iterator[Company]:
    """With both jails as the documents say, before and after; a failure is mended for those who come next."""
    if not company.moved_in:
        pytest.skip("not tried: the jails never came up, see the failures of test_a_host.py and test_b_jails.py")
    if company.unsettled:
        pytest.skip(f"not tried: the host could not be brought back after {company.unsettled}")
    yield company
    if request.node.stash.get(FAILED, False):
        company.bring_back(request.node.name)
