"""`make soak`: the daemon against a long row of commits, mistakes, breakage, kills, in an order that a seed decides.

In: a number of rounds and a seed. Out: nothing, or the first thing that did not come right: after each round a plan
has to be empty, every site has to answer, and what is not ours has to be as it was. The tests run a few rounds of it.
"""

from __future__ import annotations

import argparse
import random
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from flow.company import Company, founded, until
from linux.world import page

SHOP = "customers/acme/jails/shop.yaml"
BREAKAGE = (
    "nft delete table inet reconciler",
    "nft flush table bridge reconciler",
    "ip link del $(basename $(ls -d /sys/class/net/j?????????? | head -1))",
    "ip netns exec acme--www ip -6 addr flush dev eth0 scope global",
    "ip netns del kiln--www",
    "systemctl stop reconciler-jail-acme--db",
    "machinectl terminate acme--www",
    "systemctl disable reconciler-jail-kiln--www",
    "rm -rf /etc/reconciler/network",
    "echo broken > /etc/systemd/system/reconciler-jail-acme--shop.service",
    "rm -r /var/lib/reconciler/jails/acme--www/root/etc",
    "sysctl -qw net.ipv6.conf.all.forwarding=0",
)
FOREIGN = "ip link show foreign0 && nft list table inet foreign && cat /etc/foreign"


class Soak:
    def __init__(self, company: Company, seed: int) -> None:
        self.company, self.dice = company, random.Random(seed)
        self.running = ExitStack()
        self.count = 0

    def begin(self) -> None:
        for host in self.company.hosts.values():
            host.run("ip link add foreign0 type bridge; nft add table inet foreign; echo ours > /etc/foreign")
        self.start()
        self.settle()

    def start(self) -> None:
        self.daemon = self.running.enter_context(self.company.daemon())

    def round(self) -> str:
        """One thing that happens; what it was."""
        self.count += 1
        event = self.dice.choice((self.greet, self.new_jail, self.mistake, self.break_host, self.kill, self.forget))
        event()
        self.settle()
        return event.__name__

    # ── what happens ─────────────────────────────────────────────────────────────────────────────────────────

    def greet(self) -> None:
        text = (self.company.clone / SHOP).read_text()
        line = next(line for line in text.splitlines() if "GREETING" in line)
        self.company.change(SHOP, line, f"    GREETING: Round {self.count}")
        self.company.push(f"Round {self.count}")

    def new_jail(self) -> None:
        """Comes in one commit and goes in another."""
        path = "customers/acme/jails/extra.yaml"
        text = (self.company.clone / "customers/kiln/jails/www.yaml").read_text()
        if (self.company.clone / path).exists():
            (self.company.clone / path).unlink()
        else:
            self.company.write(path, text.replace("name: www", "name: extra"))
        self.company.push(f"Round {self.count}")

    def mistake(self) -> None:
        self.company.change("customers/uirig/jails/blog.yaml", "blueprint: nginx", "blueprint: mginx")
        self.company.push(f"Mistake {self.count}")
        until("the mistake is told", lambda: "mginx" in self.company.status("README.md"))
        self.company.change("customers/uirig/jails/blog.yaml", "blueprint: mginx", "blueprint: nginx")
        self.company.push(f"Mended {self.count}")

    def break_host(self) -> None:
        self.company.hosts["a"].run(self.dice.choice(BREAKAGE), check=False)

    def kill(self) -> None:
        """In the middle of whatever a commit set off."""
        self.greet()
        self.dice.choice((self.daemon.kill, self.daemon.terminate))()
        self.running.close()
        self.start()

    def forget(self) -> None:
        self.running.close()
        shutil.rmtree(self.company.cache)
        self.start()

    # ── what has to be true again ────────────────────────────────────────────────────────────────────────────

    def settle(self) -> None:
        try:
            until(f"an empty plan after round {self.count}", self.converged, 120)
        except AssertionError as error:
            raise AssertionError(
                f"{error}\n{self.company.run('plan').stdout}{self.company.status('README.md')}"
            ) from error
        for address, port in (("2001:db8:ca00:1::80", 80), ("2001:db8:ca00:1::1bf4:cc34", 8080)):
            page(address, port)
        for host in self.company.hosts.values():
            host.run(FOREIGN)

    def converged(self) -> bool:
        """Nothing pending, and the status says the same of the newest commit."""
        head = self.company.git("rev-parse", "--short=12", "HEAD").strip()
        readme = self.company.status("README.md")
        told = head in readme and "2 of 2 hosts" in readme and "need attention" not in readme
        return told and self.company.run("plan").returncode == 0


def soak(folder: Path, rounds: int, seed: int, tell: Callable[[str], object]) -> None:
    with founded(folder) as company:
        run = Soak(company, seed)
        with run.running:
            run.begin()
            for _ in range(rounds):
                tell(f"round {run.count + 1}: {run.round()}")


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--rounds", type=int, default=100)
    options.add_argument("--seed", type=int, default=1)
    chosen = options.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="reconciler-soak-"))
    try:
        soak(folder, chosen.rounds, chosen.seed, lambda line: print(line, flush=True))
    except (AssertionError, subprocess.SubprocessError) as error:
        log = folder / "company/daemon.log"
        sys.exit(f"{error}\n{log.read_text()[-8000:] if log.exists() else ''}")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
