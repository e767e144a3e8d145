"""A reboot comes back as it was, without the reconciler. Only with RECONCILER_FREEBSD_REBOOT=1: it takes its time."""

from __future__ import annotations

import os
import time

import pytest

from .company import WEB_JAIL, WEB_MOVED, Company
from .host import Host
from .look import difference
from .test_d_changes import starts
from .traffic import HAND, make_by_hand, page

REBOOT = "RECONCILER_FREEBSD_REBOOT"
AWAY = 1800
"""Seconds for an emulated machine to go down and come up."""
asked = pytest.mark.skipif(os.environ.get(REBOOT) != "1", reason=f"reboots the host: set {REBOOT}=1")


@asked
def test_a_reboot_comes_back_the_same_without_the_reconciler(
    host: Host, town: Company, settled: dict[str, str]
) -> None:
    before, booted = starts(host, "lab--web"), host.out("sysctl -n kern.boottime")
    host.run("(sleep 2; shutdown -r now) >/dev/null 2>&1 &")
    up_again(host, booted)
    done = page(host, WEB_MOVED, 8080, tries=60)
    assert done.code == 0, str(done)
    assert starts(host, "lab--web") == before + 1
    make_by_hand(host, files=False)
    assert difference(settled, host.look(), "modules", f"inside {HAND}") == ""


@asked
def test_after_a_reboot_there_is_nothing_to_do(host: Host, town: Company) -> None:
    assert host.run(f"jls -j {WEB_JAIL} jid", check=False).code == 0
    town.nothing_to_do()


def up_again(host: Host, booted: str) -> None:
    """The kernel tells another time of its boot."""
    deadline = time.monotonic() + AWAY
    while time.monotonic() < deadline:
        time.sleep(10)
        done = host.run("sysctl -n kern.boottime", check=False, timeout=90)
        if done.code == 0 and done.out.strip() != booted:
            return
    raise AssertionError(f"the host did not come back within {AWAY} seconds")
