"""A town of small jails on two hosts, made for traffic: customers and neighbours, routed (a) and bridged (b).

In: the lab. Out: `Town`, a World with documents of its own, that speaks from inside a jail (`inside`), from outside
(`reaches`), and as the host's root with raw frames (`wire.py` beside this). Every jail runs `town_files/tool`.

    red:  web, app, root on a    bweb, bapp on b      app and bapp may reach web and bweb on 6379
    blue: spy on a               bspy on b            may reach everything that lets itself be reached
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from lab import Host, Lab, Nic

from .world import SPEC, Garage, World

FILES = Path(__file__).parent / "town_files"
CAM, LON = "2001:db8:7a00:", "2001:db8:7b00:"
ROUTER, ROUTER4 = "2001:db8:ffff:7a::1", "192.0.2.1"
LON_ROUTER = "2001:db8:ffff:7b::1"
OFFICE, ELSEWHERE, RESOLVER = "2001:db8:ffff:ace::1", "2001:db8:ffff:bad::1", "2001:db8:ffff:53::53"
PORTS = "80 81 82 6379"
API = "reconciler.hosting/v1"
WEB, APP, ROOT, SPY = "red--web", "red--app", "red--root", "blue--spy"
BWEB, BAPP, BSPY = "red--bweb", "red--bapp", "blue--bspy"


class Target(NamedTuple):
    """Where to knock."""

    address: str
    port: int
    protocol: str = "tcp"


# Knocks on all targets at once and prints those that answered. A name with a scope ("fe80::1%eth0") works.
KNOCK = """
import json, select, socket, sys, time
source, seconds, targets = json.loads(sys.argv[1])
waiting, answered = {}, []
for number, (address, port, protocol) in enumerate(targets):
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    s = socket.socket(family, socket.SOCK_STREAM if protocol == "tcp" else socket.SOCK_DGRAM)
    s.setblocking(False)
    try:
        if source and (":" in source) == (":" in address): s.bind((source, 0))
        where = socket.getaddrinfo(address, port, family)[0][4]
        s.connect_ex(where)
        if protocol == "udp": s.send(b"knock")
    except OSError as error:
        continue
    waiting[s] = number
end = time.monotonic() + seconds
again = time.monotonic() + 1
while waiting and time.monotonic() < end:
    if time.monotonic() > again:
        again += 1
        for s in waiting:
            if s.type == socket.SOCK_DGRAM:
                try: s.send(b"knock")
                except OSError: pass
    for s in select.select(list(waiting), [], [], 0.05)[0]:
        number = waiting.pop(s)
        try:
            if s.recv(100): answered.append(number)
        except OSError:
            pass
print(json.dumps(answered))
"""

# One ICMPv6 echo through a socket that needs no privilege.
PING = """
import socket, sys
s = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM, 58)
s.settimeout(0.7)
if sys.argv[3:]: s.bind((sys.argv[3], 0))
for attempt in range(4):
    try:
        s.sendto(b"\\x80\\0\\0\\0\\0\\0\\0\\1" + b"x" * int(sys.argv[2]), socket.getaddrinfo(sys.argv[1], 0)[0][4])
        s.recv(3000)
        break
    except TimeoutError:
        pass
else:
    sys.exit(1)
"""


@dataclass
class Town(World):
    """Two hosts of its own with few jails, and the ways to make them talk."""

    def restore(self) -> None:
        shutil.rmtree(self.repo, ignore_errors=True)
        for path, document in documents(self).items():
            self.write(path, document)
        self.touched = False

    def home(self, jail: str) -> Path:
        """The jail's directory on its host, as seen from here."""
        return self.host_of(jail).folder / "data/reconciler/jails" / jail

    def host_name(self, jail: str) -> str:
        return next(name for name, spec in self.fleet.hosts.items() if any(j.id == jail for j in spec.jails))

    def host_of(self, jail: str) -> Host:
        return self.hosts[self.host_name(jail)]

    def address_of(self, jail: str) -> str:
        return self.address(self.host_name(jail), jail)

    def inside(self, jail: str, script: str, *, check: bool = True, timeout: float = 20) -> str:
        """What a shell prints that the jail's own application starts."""
        code, out = self.attempt(jail, script, timeout)
        assert not check or code == 0, f"exit {code} in {jail}: {out}"
        return out

    def attempt(self, jail: str, script: str, timeout: float = 20) -> tuple[int, str]:
        with socket.socket(socket.AF_UNIX) as s:
            s.settimeout(timeout)
            # a UNIX socket's path has 108 bytes: a long one is reached through an open directory
            folder = os.open(self.home(jail) / "data/data", os.O_PATH | os.O_DIRECTORY)
            try:
                s.connect(f"/proc/self/fd/{folder}/sock")
            finally:
                os.close(folder)
            s.sendall(json.dumps({"run": script}).encode() + b"\n")
            answer = b"".join(iter(lambda: s.recv(1 << 16), b""))
        told = json.loads(answer)
        return told["code"], told["out"]

    def ready(self, jail: str) -> None:
        """Waits for the application to listen."""
        for _ in range(200):
            try:
                self.inside(jail, ":")
                return
            except (OSError, ValueError):
                time.sleep(0.05)
        raise AssertionError(
            f"{jail} does not answer: {self.host_of(jail).run(f'journalctl -n 20 -u reconciler-jail-{jail}').stdout}"
        )

    def reaches(self, start: str, targets: Iterable[Target], seconds: float = 1.2) -> set[Target]:
        """Those that answer to somebody: a jail's id, or an address of the router's."""
        listed = list(targets)
        source = "" if "--" in start else start
        words = json.dumps([source, seconds, listed])
        if "--" in start:
            out = self.inside(start, f"python3 -c '{KNOCK.replace(chr(39), chr(34))}' {shell(words)}")
        else:
            out = subprocess.run(
                [sys.executable, "-c", KNOCK, words], capture_output=True, text=True, check=True, timeout=20
            ).stdout
        return {listed[number] for number in json.loads(out)}

    def pings(self, start: str, address: str, size: int = 8) -> bool:
        source = "" if "--" in start else start
        script = f"python3 - {address} {size} {source} <<'END'\n{PING}\nEND"
        if "--" in start:
            return self.attempt(start, script)[0] == 0
        return subprocess.run(["sh", "-c", script], check=False, timeout=20, capture_output=True).returncode == 0

    def red(self, name: str, **fields: Any) -> None:
        self.edit(f"customers/red/jails/{name}.yaml", **fields)

    def in_room(self, jail: str, script: str, timeout: float = 20) -> str:
        """What the host's root does in the jail's network namespace: more than anybody in the jail can."""
        return self.host_of(jail).run(f"ip netns exec {jail} sh -ec {shell(script)}", timeout=timeout).stdout


def shell(word: str) -> str:
    return "'" + word.replace("'", "'\\''") + "'"


# ── documents ────────────────────────────────────────────────────────────────────────────────────────────────


def documents(town: Town) -> Mapping[str, Mapping[str, Any]]:
    def document(kind: str, name: str, spec: Mapping[str, Any]) -> dict[str, Any]:
        return {"apiVersion": API, "kind": kind, "metadata": {"name": name}, SPEC: spec}

    digest = town.garage.pack(FILES / "tool")
    blueprint = {
        "source": {"archive": "file:///srv/archives/tool.tar", "digest": digest},
        "command": ["/usr/bin/python3", "-B", "-u", "/app/tool.py"],
        "defaults": "config",
        "ports": [int(port) for port in PORTS.split()],
        "parameters": {
            "PORTS": {"description": "Where it answers.", "default": PORTS},
            "TEXT": {"description": "Anything.", "default": ""},
        },
    }
    ssh = {name: {"address": host.address, "hostKey": host.host_key} for name, host in town.hosts.items()}
    all_files = {
        "platform.yaml": document(
            "Platform", "platform", {"defaults": {"limits": {"memory": "256Mi", "processes": 64}}}
        ),
        "locations/cam.yaml": document(
            "Location",
            "cam",
            {
                "prefix": f"{CAM}:/48",
                "mode": "routed",
                "announce": "ndp",
                "resolvers": [RESOLVER],
                "ipv4": {"pool": "198.51.100.0/24"},
            },
        ),
        "locations/lon.yaml": document(
            "Location",
            "lon",
            {"prefix": f"{LON}:/48", "mode": "bridged", "gateway": "fe80::1", "resolvers": [RESOLVER]},
        ),
        "hosts/a.yaml": document(
            "Host",
            "a",
            {
                "platform": "linux",
                "location": "cam",
                "ssh": ssh["a"],
                "uplink": "eth0",
                "switches": [{"name": "jails0"}],
            },
        ),
        "hosts/b.yaml": document(
            "Host",
            "b",
            {
                "platform": "linux",
                "location": "lon",
                "ssh": ssh["b"],
                "switches": [{"name": "lan0", "uplink": "eth1"}],
                "policy": "edge",
            },
        ),
        "policies/edge.yaml": document(
            "FirewallPolicy",
            "edge",
            {
                "tables": {"office": ["2001:db8:ffff:ace::/64"]},
                "in": [
                    {"ports": [9100], "from": ["office"]},
                    {"ports": [123], "protocol": "udp", "from": ["office"]},
                ],
                "out": [{"ports": [80], "to": ["office"]}],
            },
        ),
        "blueprints/tool.yaml": document("Blueprint", "tool", blueprint),
        "blueprints/rooted.yaml": document("Blueprint", "rooted", {**blueprint, "runAs": "root"}),
    }
    for number, customer in ((1, "red"), (2, "blue")):
        spec = {"subnet": number, "domains": [f"{customer}.example"], "quota": {"jails": 9, "memory": "4Gi", "ipv4": 1}}
        if customer == "red":
            spec["recipient"] = "age1lsfk3522e5w2cagcnha3pa2a9r385g26pmpdtckgwencrn0v9uts0c8uh6"
        all_files[f"customers/{customer}/customer.yaml"] = document("Customer", customer, spec)
    siblings = {"port": 6379, "from": ["app", "bapp"]}
    everybody = [
        {"to": ["any"], "ports": [22, 80, 81, 82, 6379]},
        {"to": ["any"], "ports": [22, 80, 81], "protocol": "udp"},
    ]
    jails: dict[str, dict[str, Any]] = {
        "red/web": {
            "host": "a",
            "publish": [
                {"port": 80},
                {"port": 80, "protocol": "udp"},
                {"port": 82, "from": ["2001:db8:ffff:ace::/64"]},
                siblings,
            ],
            "ipv4": {"address": "198.51.100.7", "justification": "A test of the one jail with IPv4."},
        },
        "red/app": {
            "host": "a",
            "after": ["web"],
            "reach": [{"to": [f"{ROUTER}/128"], "ports": [8080]}],
            "links": [
                {
                    "to": "web",
                    "nic": "to-web",
                    "address": "10.77.0.1/30",
                    "peerNic": "to-app",
                    "peerAddress": "10.77.0.2/30",
                }
            ],
        },
        "red/root": {"host": "a", "blueprint": "rooted", "limits": {"memory": "128Mi", "processes": 40, "cpu": 50}},
        "red/bweb": {"host": "b", "publish": [{"port": 80}, siblings]},
        "red/bapp": {"host": "b"},
        "blue/spy": {"host": "a", "reach": everybody},
        "blue/bspy": {"host": "b", "reach": everybody},
    }
    for path, spec in jails.items():
        customer, name = path.split("/")
        all_files[f"customers/{customer}/jails/{name}.yaml"] = document("Jail", name, {"blueprint": "tool", **spec})
    return all_files


# ── fixtures ─────────────────────────────────────────────────────────────────────────────────────────────────


def ip(*commands: str) -> None:
    subprocess.run(["ip", "-batch", "-"], input="\n".join(commands), text=True, check=True)


@pytest.fixture(scope="session")
def whole_town(lab: Lab, keys: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    lab.segment("tcam", router=[f"{ROUTER}/64"], onlink=[f"{CAM}:/48"])
    lab.segment("tlon", router=[f"{LON_ROUTER}/64"])
    lab.segment("tlan", onlink=[f"{LON}:/48"])
    lab.segment("tinner")
    # people elsewhere, all of them at the router's place; IPv4 is for this one test alone
    ip(*(f"addr add {address}/128 dev lo" for address in (OFFICE, ELSEWHERE, RESOLVER)))
    Path("/proc/sys/net/ipv4/ping_group_range").write_text("0 0")
    ip(f"addr add {ROUTER4}/24 dev tcam", "route add 198.51.100.0/24 dev tcam")
    cam = (f"default via {ROUTER}", f"{CAM}:/48 dev eth0", f"default via {ROUTER4}")
    hosts = {
        "a": lab.host(
            "ta", {"eth0": Nic("tcam", ("2001:db8:ffff:7a::a/64", "192.0.2.10/24")), "eth1": Nic("tinner")}, cam
        ),
        "b": lab.host(
            "tb",
            {"eth0": Nic("tlon", ("2001:db8:ffff:7b::b/64",)), "eth1": Nic("tlan"), "eth2": Nic("tinner")},
            (f"default via {LON_ROUTER}",),
        ),
    }
    lab.up()
    mine = tmp_path_factory.mktemp("town-keys")
    mine.chmod(0o700)
    shutil.copy(keys / "acme.key", mine / "red.key")
    town = Town(
        lab, tmp_path_factory.mktemp("town") / "repo", Garage(tmp_path_factory.mktemp("town-archives")), mine, hosts
    )
    town.restore()
    for name in hosts:
        report = town.reconcile(name)
        assert report.ready, (report.failures, [change.words for change in report.pending])
    for jail in (WEB, APP, ROOT, SPY, BWEB, BAPP, BSPY):
        town.ready(jail)
    yield town
    ip(*(f"addr del {address}/128 dev lo" for address in (OFFICE, ELSEWHERE, RESOLVER)))


@pytest.fixture
def town(whole_town: Town) -> Iterator[Town]:
    """The town as its documents say, before and after."""
    yield whole_town
    if whole_town.touched:
        whole_town.restore()
        for name in whole_town.hosts:
            whole_town.reconcile(name, adopt=True)


@contextmanager
def listening(address: str, port: int, protocol: str = "tcp") -> Iterator[None]:
    """Somebody outside who answers with a line."""
    kind = socket.SOCK_STREAM if protocol == "tcp" else socket.SOCK_DGRAM
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    script = (
        "import socket,sys\n"
        f"s=socket.socket({int(family)},{int(kind)})\n"
        "s.setsockopt(socket.SOL_SOCKET,socket.SO_REUSEADDR,1)\n"
        f"s.bind(({address!r},{port}))\n"
    )
    if protocol == "tcp":
        script += "s.listen();print(flush=True)\nwhile 1:\n c,a=s.accept();c.send(a[0].encode());c.close()"
    else:
        script += "print(flush=True)\nwhile 1:\n d,a=s.recvfrom(999);s.sendto(a[0].encode(),a)"
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        process.stdout.readline()
        yield
    finally:
        process.kill()
        process.wait()
