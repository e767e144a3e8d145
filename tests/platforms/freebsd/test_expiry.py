"""Who was cut off by a rate may come again: what cron(8) is told, run on a pretended host."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from bsd.host import Host, why_not
from fake.specs import jail, rule, spec
from reconciler.model import HostSpec, Rate
from reconciler.platforms.freebsd import boot_files, expiry, rules
from reconciler.platforms.freebsd.paths import CRON
from reconciler.platforms.freebsd.permissions import limited

pytestmark = pytest.mark.skipif(why_not() is not None, reason=str(why_not()))
RATES = {80: Rate(100, 10, 60), 443: Rate(100, 10, 3600)}
RATED = spec(jail("acme--www"), *(replace(rule("acme--www", "in", port), rate=rate) for port, rate in RATES.items()))


@pytest.fixture(params=["", "-a reconciler"], ids=["a ruleset of our own", "an anchor"])
def host(tmp_path: Path, request: pytest.FixtureRequest) -> Host:
    """The file `/where` says which of pf's tables are meant."""
    one, whole = Host(tmp_path), replace(RATED, firewall="anchor" if request.param else "ruleset")
    loaded = rules(whole).files[0]
    for file in (*boot_files(whole), loaded, *expiry(whole)):
        assert isinstance(file.content, bytes)
        one.write(file.path, file.content, file.mode)
    one.write("/where", request.param)
    assert one.run(f"kldload pf; pfctl -q $(cat /where) -f {loaded.path}").returncode == 0
    return one


def cron(host: Host) -> str:
    """What it would run every minute, with the PATH that it is told."""
    path, line = host.read(CRON).splitlines()
    *when, who, command = line.split(maxsplit=6)
    assert (when, who) == (["*"] * 5, "root")
    return f"{path}; export PATH; {command}"


def shown(host: Host) -> str:
    tables = " ".join(sorted(limited(RATED)))
    return host.run(f"for t in {tables}; do pfctl $(cat /where) -t $t -T show; done").stdout.decode()


def test_each_table_forgets_after_its_own_time(host: Host) -> None:
    for table in limited(RATED):
        host.run(f"pfctl -q $(cat /where) -t {table} -T add 192.0.2.9")
    with host.changing() as state:
        homes = (state["pf"], *state["pf"]["anchors"].values())
        for table in (table for home in homes for table in home["tables"].values()):
            table["since"] = {address: at - 120 for address, at in table.get("since", {}).items()}
    done = host.run(cron(host))
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    assert shown(host) == "   192.0.2.9\n"


def test_a_table_that_is_gone_is_no_error_and_keeps_none_of_the_others(host: Host) -> None:
    host.run("pfctl -q $(cat /where) -F Tables")
    done = host.run(cron(host))
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def test_without_a_rate_there_is_nothing_to_forget() -> None:
    plain: HostSpec = spec(jail("acme--www"), rule("acme--www", "in", 80))
    assert list(expiry(plain)) == []
