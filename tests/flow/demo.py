"""`make demo`: the main job, shown on two real hosts. With KEEP=1 everything stays up, and how to look around is
printed.

In: nothing. Out: a story on the terminal, made of the real command line's own output. It ends with an error when
anything it shows does not happen.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

from flow.company import COMMAND, PROJECT, Company, founded, until
from linux.world import page

SHOP = "2001:db8:ca00:1::1bf4:cc34"
DEMO = PROJECT / ".demo"
UNCHECKED = "-o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null"


def main() -> None:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    folder = Path(tempfile.mkdtemp(prefix="reconciler-demo-"))
    try:
        tell("Two hosts boot: namespaces of this machine with systemd and sshd of their own, IPv6 only between them")
        with founded(folder) as company:
            show(company)
            if os.environ.get("KEEP") == "1":
                stay(company)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def show(company: Company) -> None:
    validate_and_apply(company)
    with company.daemon():
        until("the daemon's first look", lambda: "7 of 7 jails are ready" in company.status("README.md"))
        change(company)
        break_and_mend(company)
        hold_one_customer(company)
    tell("What people read on the forge: the branch status/main")
    print(company.status("README.md"))
    print(company.git("log", "--format=%h %s", "status/main", folder=company.remote))


def validate_and_apply(company: Company) -> None:
    tell("A config repository made from sample-repo: is it in order?")
    command(company, "validate", ".")
    tell("What would change on host b?")
    command(company, "plan", "b", expect=2)
    tell("Do it, on all hosts at once")
    command(company, "apply")
    tell("Every published site answers on its own IPv6 address")
    for name, (address, port) in sites(company).items():
        print(f"  http://{name}  [{address}]:{port}  {first_words(page(address, port))}")
    tell("A second look finds nothing to do")
    command(company, "plan")


def change(company: Company) -> None:
    tell("A customer's commit is merged: the shop gets another greeting. The daemon sees it")
    company.change("customers/acme/jails/shop.yaml", "Welcome to the ACME shop", "Merged a moment ago")
    company.push("Greet the visitors of the shop")
    begun = time.monotonic()
    until("the new greeting", lambda: "Merged a moment ago" in page(SHOP, 8080))
    print(f"  served {time.monotonic() - begun:.1f} s after the push: {first_words(page(SHOP, 8080))}")


def break_and_mend(company: Company) -> None:
    host = company.hosts["a"]
    tell("Somebody breaks host a by hand: flushes the firewall, takes the shop's address away")
    host.run("nft flush ruleset; ip netns exec acme--shop ip -6 addr flush dev eth0 scope global")
    begun = time.monotonic()
    until("the repair", lambda: "chain jails" in host.run("nft list ruleset").stdout and page(SHOP, 8080))
    print(f"  mended after {time.monotonic() - begun:.1f} s")


def hold_one_customer(company: Company) -> None:
    tell("A commit with a mistake holds the customer who made it, and nobody else")
    company.change("customers/uirig/jails/www.yaml", "blueprint: nginx", "blueprint: ngimx")
    company.change("customers/kiln/jails/www.yaml", "  host: a\n", "  host: a\n  restart: 1\n")
    commit = company.push("Two customers change something, one of them a letter too many")
    until("the status of both", lambda: "ngimx" in company.status("README.md"))
    until("kiln's change", lambda: commit in company.status("customers/kiln/jails/www.yaml"))
    print(company.status("customers/uirig/customer.yaml"))
    company.change("customers/uirig/jails/www.yaml", "blueprint: ngimx", "blueprint: nginx")
    company.push("Mend it")
    until("nobody held", lambda: "Problems" not in company.status("README.md"))
    print("  … and the next commit, without it, sets them free")


# ── how it is told ───────────────────────────────────────────────────────────────────────────────────────────


def tell(words: str) -> None:
    print(f"\n\033[1m── {words}\033[0m" if sys.stdout.isatty() else f"\n── {words}", flush=True)


def command(company: Company, *words: str, expect: int = 0) -> None:
    """Runs the real thing on our own terminal."""
    print(f"$ reconciler {' '.join(words)}", flush=True)
    line = [*COMMAND, "--config", str(company.config), *words]
    done = subprocess.run(line, cwd=company.clone, env=company.environment, timeout=300, check=False)
    if done.returncode != expect:
        sys.exit(f"exit status {done.returncode}, not {expect}")


def sites(company: Company) -> Mapping[str, tuple[str, int]]:
    """Name → address and port, as the status branch has them."""
    rows = [line.split("|") for line in company.status("README.md").splitlines() if "`[" in line]
    found = {}
    for row in rows:
        address, _, port = row[3].strip().strip("`").rpartition(":")
        found[row[1].strip()] = (address.strip("[]"), int(port))
    return found


def first_words(html: str) -> str:
    """What a visitor would see first."""
    for line in html.splitlines():
        if "<h1>" in line:
            return line.split("<h1>")[1].split("</h1>")[0]
    return html.splitlines()[0]


def stay(company: Company) -> None:
    DEMO.mkdir(exist_ok=True)
    enter = DEMO / "enter"
    enter.write_text(ENTER)
    enter.chmod(0o755)
    tell("Everything stays up until you press Ctrl-C. From another terminal, as root:")
    print("  .demo/enter                        a shell beside the hosts, where the visitors are")
    print(f"  .demo/enter curl -g 'http://[{SHOP}]:8080/'")
    print(f"  .demo/enter ssh {UNCHECKED} -i {company.lab.key} root@{company.hosts['a'].address} machinectl list")
    print(f"  .demo/enter {sys.executable} -m reconciler --config {company.config} plan")
    print(f"  The daemon runs: commit and push in {company.clone},")
    print(f"  see what it writes with git -C {company.remote} log -p status/main, and its log in {company.folder}")
    with company.daemon():
        signal.sigwait({signal.SIGINT, signal.SIGTERM})


ENTER = """\
#!/bin/sh
# Runs a command (or a shell) in the demo's namespaces: `make demo KEEP=1` has to be running.
pid=$(pgrep -n -f 'python.* -m flow.demo') || { echo "the demo is not running" >&2; exit 1; }
[ $# -gt 0 ] || set -- "${SHELL:-/bin/sh}"
exec nsenter -t "$pid" -m -n -i -u -p -- "$@"
"""


if __name__ == "__main__":
    main()
