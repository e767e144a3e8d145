"""Who was cut off by a rate may come again: what cron(8) is told, run on a pretended host."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from bsd.host import Host, why_not
from fake.specs import jail, rule, spec
from reconciler.model import HostSpec, Rate
from reconciler.platforms.freebsd import boot_files, expiry, rules
from reconciler.platforms.freebsd.firewall import limited
from reconciler.platforms.freebsd.paths import CRON

pytestmark = pytest.mark.skipif(why_not() is not None, reason=str(why_not()))
RATES = {80: Rate(100, 10, 60), 443: Rate(100, 10, 3600)}
RATED = spec(jail("acme--www"), *(replace(rule("acme--www", "in", port), rate=rate) for port, rate in RATES.items()))


@pytest.fixture
def host(tmp_path: Path) -> Host:
    one = Host(tmp_path)
    given = (*boot_files(RATED), *rules(RATED).files, *expiry(RATED))
    for file in given:
        assert isinstance(file.content, bytes)
        one.write(file.path, file.content, file.mode)
    assert one.run("kldload pf; pfctl -q -f /etc/reconciler/pf.conf").returncode == 0
    return one


def cron(host: Host) -> str:
    """What it would run every minute, with the PATH that it is told."""
    path, line = host.read(CRON).splitlines()
    *when, who, command = line.split(maxsplit=6)
    assert (when, who) == (["*"] * 5, "root")
    return f"{path}; export PATH; {command}"


def shown(host: Host) -> str:
    return host.run(f"for t in {' '.join(sorted(limited(RATED)))}; do pfctl -t $t -T show; done").stdout.decode()


def test_each_table_forgets_after_its_own_time(host: Host) -> None:
    for table in limited(RATED):
        host.run(f"pfctl -q -t {table} -T add 192.0.2.9")
    with host.changing() as state:
        for table in state["pf"]["tables"].values():
            table["since"] = {address: at - 120 for address, at in table.get("since", {}).items()}
    done = host.run(cron(host))
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    assert shown(host) == "   192.0.2.9\n"


def test_a_table_that_is_gone_is_no_error_and_keeps_none_of_the_others(host: Host) -> None:
    host.run("pfctl -q -F Tables")
    done = host.run(cron(host))
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def test_without_a_rate_there_is_nothing_to_forget() -> None:
    plain: HostSpec = spec(jail("acme--www"), rule("acme--www", "in", 80))
    assert list(expiry(plain)) == []
