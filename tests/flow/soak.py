"""A long row of whatever may happen to a running daemon, in an order that a seed decides.

In: a company, a seed, a row of events by their names. Out: nothing, or the first thing that did not come right: after
each round a plan has to be empty, every site has to answer, and what is not ours has to be as it was. The tests run a
few rounds of it, `make faults` a hundred, `benchmarks.soak` those that the daemon lives through, for half an hour.
"""

from __future__ import annotations

import hashlib
import hmac
import random
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from flow.company import COMMAND, WEB, Company, founded, until, web
from linux.world import page
from reconciler.packing import pack

SHOP, WWW = "customers/acme/jails/shop.yaml", "customers/acme/jails/www.yaml"
POLICY, HOST = "policies/edge.yaml", "hosts/b.yaml"
BREAKAGE = {
    "a": (
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
    ),
    "b": (
        "nft delete table inet reconciler",
        "ip link del $(basename $(ls -d /sys/class/net/j?????????? | head -1))",
        "systemctl stop reconciler-jail-uirig--blog",
        "machinectl terminate uirig--www",
        "rm -rf /etc/reconciler/network",
        "echo broken > /etc/systemd/system/reconciler-jail-uirig--www.service",
    ),
}
FOREIGN = "ip link show foreign0 && nft list table inet foreign && cat /etc/foreign"
NEW_KEY = """
rm /etc/ssh/ssh_host_ed25519_key*
ssh-keygen -q -t ed25519 -N '' -f /etc/ssh/ssh_host_ed25519_key
systemctl restart ssh
cut -d ' ' -f 1,2 /etc/ssh/ssh_host_ed25519_key.pub
"""
END_SESSIONS = "pkill -f '[s]shd: root' || true"
SILENCE = """
add table inet outage
add chain inet outage input {{ type filter hook input priority 0; }}
add rule inet outage input ip6 saddr {} tcp sport 22 drop
"""

DEADLY = ("kill", "forget")
COMMITS = ("greet", "new_jail", "mistake", "release", "policy")
HOSTS = ("break_host", "end_sessions", "stop_sshd", "freeze_sshd", "cut_link", "new_key", "wrong_key")
OURS = ("lose_repository", "lose_cache", "hooks", "strangers")
SHORT = ("greet", "new_jail", "mistake", "break_host", *DEADLY)
LIVED_THROUGH = (*COMMITS, *HOSTS, *OURS)


class Soak:
    def __init__(self, company: Company, seed: int, command: Sequence[str] = COMMAND) -> None:
        self.company, self.dice, self.command = company, random.Random(seed), command
        self.running = ExitStack()
        self.count = 0

    def begin(self) -> None:
        for host in self.company.hosts.values():
            host.run("ip link add foreign0 type bridge; nft add table inet foreign; echo ours > /etc/foreign")
        self.start()
        self.settle()

    def start(self) -> None:
        self.daemon = self.running.enter_context(self.company.daemon(command=self.command))

    def round(self, events: Sequence[str]) -> str:
        """One thing that happens; what it was."""
        self.count += 1
        event = self.dice.choice(events)
        getattr(self, event)()
        self.settle()
        return event

    # ── commits ──────────────────────────────────────────────────────────────────────────────────────────────

    def greet(self) -> None:
        self.rewrite(SHOP, "GREETING: .*", f"GREETING: Round {self.count}")

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

    def release(self) -> None:
        """Files of a customer's own: one of four archives, so that caches have an end."""
        files = self.company.folder / "release"
        files.mkdir(exist_ok=True)
        number = self.count % 4
        (files / "index.html").write_text(f"Release {number}")
        archive = self.company.archives / f"release-{number}.tar"
        self.rewrite(WWW, "archive: .*", f"archive: file://{archive}", "digest: .*", f"digest: {pack(files, archive)}")

    def policy(self) -> None:
        """Of staff's: the firewalls of all hosts."""
        self.rewrite(POLICY, r"- 2001:db8:ffff:\w+::/64", f"- 2001:db8:ffff:{self.count % 4096 + 4096:x}::/64")

    def rewrite(self, path: str, *patterns: str) -> None:
        """Commits a document in which the first place of each pattern is what follows it."""
        text = (self.company.clone / path).read_text()
        for pattern, words in zip(patterns[::2], patterns[1::2], strict=True):
            text = re.sub(pattern, words, text, count=1)
        self.company.write(path, text)
        if self.company.git("status", "--porcelain"):
            self.company.push(f"Round {self.count}")

    # ── hosts ────────────────────────────────────────────────────────────────────────────────────────────────

    def break_host(self) -> None:
        name = self.dice.choice(sorted(BREAKAGE))
        self.company.hosts[name].run(self.dice.choice(BREAKAGE[name]), check=False)

    def end_sessions(self) -> None:
        """In the middle of whatever a commit set off."""
        self.greet()
        time.sleep(self.dice.uniform(0, 1.5))
        for host in self.company.hosts.values():
            host.run(END_SESSIONS)

    def stop_sshd(self) -> None:
        host = self.company.hosts["b"]
        host.run("systemctl stop ssh; systemctl kill --kill-whom=all ssh", check=False)
        self.unreachable()
        host.run("systemctl start ssh")

    def freeze_sshd(self) -> None:
        """Takes connections and says nothing on them."""
        host = self.company.hosts["b"]
        host.run(f"systemctl kill -s STOP --kill-whom=main ssh; {END_SESSIONS}")
        time.sleep(self.dice.uniform(5, 20))
        host.run("systemctl kill -s CONT --kill-whom=main ssh")

    def cut_link(self) -> None:
        """Nothing of a host's sshd arrives, while a commit is on its way to it."""
        with self.silence(self.company.hosts["a"].address):
            self.greet()
            time.sleep(self.dice.uniform(5, 30))

    @contextmanager
    def silence(self, address: str) -> Iterator[None]:
        subprocess.run(["nft", "-f", "-"], input=SILENCE.format(address), text=True, check=True)
        try:
            yield
        finally:
            subprocess.run(["nft", "delete", "table", "inet", "outage"], check=True)

    def new_key(self) -> None:
        """A host that was installed anew: it has another key, and then its document has."""
        key = self.company.hosts["b"].run(NEW_KEY).stdout.strip()
        self.rewrite(HOST, "hostKey: .*", f"hostKey: {key}")

    def wrong_key(self) -> None:
        line = re.search("hostKey: .*", (self.company.clone / HOST).read_text())
        assert line
        other = self.company.lab.key.with_suffix(".key.pub").read_text().rpartition(" ")[0]
        self.rewrite(HOST, "hostKey: .*", f"hostKey: {other}")
        self.unreachable()
        self.rewrite(HOST, "hostKey: .*", line[0])

    def unreachable(self) -> None:
        until("the status says it", lambda: "Unreachable" in self.company.status(HOST))

    # ── ourselves ────────────────────────────────────────────────────────────────────────────────────────────

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

    def lose_cache(self) -> None:
        """While the daemon works with it."""
        self.greet()
        shutil.rmtree(self.company.cache, ignore_errors=True)

    def lose_repository(self) -> None:
        """The forge is away for a while, in which a host has to be mended all the same."""
        away = self.company.remote.with_suffix(".away")
        self.company.remote.rename(away)
        try:
            until("it misses the repository", lambda: "cannot reach" in web("/readyz")[1])
            self.break_host()
            time.sleep(self.dice.uniform(0, 5))
        finally:
            away.rename(self.company.remote)

    def hooks(self) -> None:
        """Webhooks that are believed, that are not, and too long ones."""
        secret = (self.company.folder / "webhook.secret").read_bytes().strip()
        for body in (b"{}", b"[]", b'{"ref": "refs/heads/main"}'):
            right = "sha256=" + hmac.new(secret, body, hashlib.sha256).hexdigest()
            assert web("/hooks/github", body, X_Hub_Signature_256=right)[0] == 202
            assert web("/hooks/generic", body, X_Signature=right.replace("=", "=0"))[0] in (401, 429)
            assert web("/hooks/generic", body * (1 << 20), X_Signature="x")[0] in (0, 401, 413, 429)
        for path in ("/healthz", "/readyz", "/metrics", "/nothing"):
            web(path)

    def strangers(self) -> None:
        """Clients that connect and say nothing, or half of something, while there is work to do."""
        address = (WEB.removeprefix("http://[").partition("]")[0], int(WEB.rpartition(":")[2]))
        with ExitStack() as held:
            for number in range(200):
                client = held.enter_context(socket.create_connection(address, timeout=5))
                client.sendall(b"POST /hooks/generic HTTP/1.1\r\nContent-Length: 9\r\n\r\n{"[: number % 60])
            self.greet()
            time.sleep(self.dice.uniform(5, 15))

    # ── what has to be true again ────────────────────────────────────────────────────────────────────────────

    def settle(self) -> None:
        try:
            until(f"an empty plan after round {self.count}", self.converged, 180)
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


def soak(folder: Path, rounds: int, seed: int, tell: Callable[[str], object], events: Sequence[str]) -> None:
    with founded(folder) as company:
        run = Soak(company, seed)
        with run.running:
            run.begin()
            for _ in range(rounds):
                tell(f"round {run.count + 1}: {run.round(events)}")
