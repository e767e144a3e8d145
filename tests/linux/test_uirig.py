"""UI Rig's two servers as Linux hosts: the documents of `sample-repo-freebsd/` but for their platform, judged by the
same matrix (`tests/cases/uirig/reach.txt`) with real connections.

In: the lab. Out: two hosts `ra` and `rb` of its own, and around them everybody whom the matrix names.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from samples import rig

from lab import Lab, Nic

from .town import Town, ip
from .world import PROJECT, Garage

SAMPLE = PROJECT / "sample-repo-freebsd"
PORTS = [22, 80, 443, 3000, 5432, 5433, 5434]
PIPES = {"node": (5432,), "postgres": (5433, 5434)}
"""Blueprint → ports at which spiped answers beside its application, which speaks to nobody without the key."""
OUTSIDE = ("visitor", "attacker", "martian", "admin", "resolver", "payments", "mail", "elsewhere", "clock")
ROUTER = "192.0.2.129"
SERVERS = {"a": ("2001:db8:7f00::9b", "192.0.2.155"), "b": ("2001:db8:7f00::a5", "192.0.2.165")}
JAILS = {role: f"uirig--{name}" for role, name in (rig.JAILS | rig.PEERS).items() if name}
# Asks for all [source, address, port, protocol] at once; prints the first word of each answer, or how it was refused.
ASK = """
import json, select, socket, sys, time
asked, waiting, answers = json.loads(sys.argv[1]), {}, []
for number, (source, address, port, protocol) in enumerate(asked):
    answers.append("")
    s = socket.socket(socket.AF_INET, socket.SOCK_STREAM if protocol == "tcp" else socket.SOCK_DGRAM)
    s.setblocking(False)
    if source: s.bind((source, 0))
    try:
        s.connect_ex((address, port))
        if protocol == "udp": s.send(b"knock")
    except OSError: continue
    waiting[s] = number
end = time.monotonic() + 2
while waiting and time.monotonic() < end:
    for s in select.select(list(waiting), [], [], 0.1)[0]:
        number = waiting.pop(s)
        try: answers[number] = s.recv(100).decode().split()[0]
        except ConnectionRefusedError: answers[number] = "refused"
        except (OSError, IndexError): pass
        except ValueError: answers[number] = "noise"
for s, number in waiting.items():
    try: answers[number] = s.getpeername() and s.type == socket.SOCK_STREAM and "noise" or ""
    except OSError: pass
print(json.dumps(answers))
"""
# Everybody outside who may be asked: answers with who it is.
ANSWER = """
import asyncio, json, sys
class Datagrams(asyncio.DatagramProtocol):
    def __init__(self, name): self.name = name
    def connection_made(self, transport): self.transport = transport
    def datagram_received(self, data, address): self.transport.sendto(self.name.encode(), address)
async def main():
    loop = asyncio.get_running_loop()
    for name, address, port, protocol in json.loads(sys.argv[1]):
        def greet(reader, writer, name=name):
            writer.write(name.encode())
            writer.close()
        if protocol == "tcp": await asyncio.start_server(greet, address, port)
        else: await loop.create_datagram_endpoint(lambda name=name: Datagrams(name), (address, port))
    print(flush=True)
    await asyncio.Event().wait()
asyncio.run(main())
"""


class Rig(Town):
    def restore(self) -> None:
        """The sample, but for what a platform and a lab have of their own."""
        shutil.rmtree(self.repo, ignore_errors=True)
        shutil.copytree(SAMPLE, self.repo)
        # on a host of its own, with ZFS
        shutil.rmtree(self.repo / "customers/punkt")
        (self.repo / "hosts/c.yaml").unlink()
        digest = self.garage.pack(PROJECT / "tests/linux/town_files/tool")
        source = {"archive": "file:///srv/archives/tool.tar", "digest": digest}
        for name, host in self.hosts.items():
            ssh = {"address": host.address, "hostKey": host.host_key}
            self.edit(f"hosts/{name}.yaml", platform="linux", ssh=ssh, nics=None)
        for path in (self.repo / "blueprints").iterdir():
            answers = [port for port in PORTS if port not in PIPES.get(path.stem, ())]
            words = {"description": "Where it answers.", "default": " ".join(map(str, answers))}
            command, parameters = ["/usr/bin/python3", "/app/tool.py"], {"PORTS": words}
            fields = {"source": source, "command": command, "ports": answers, "parameters": parameters}
            self.edit(f"blueprints/{path.name}", **fields)
        self.touched = False


def questions() -> list[rig.Question]:
    """A source that is the server's own cannot be had by asking politely."""
    return [asked for asked in rig.questions() if asked.sender != "spoofer"]


@pytest.fixture(scope="module")
def servers(lab: Lab, keys: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    lab.segment("rigx", router=["2001:db8:7f00::1/64", f"{ROUTER}/25"])
    lab.segment("rigi", router=[f"{rig.V4['intruder']}/24"])
    routes = ("default via 2001:db8:7f00::1", f"default via {ROUTER}")
    hosts = {}
    for name, (six, four) in SERVERS.items():
        nics = {"xnic": Nic("rigx", (f"{six}/64", f"{four}/25")), "inic": Nic("rigi")}
        hosts[name] = lab.host(f"r{name}", nics, routes)
    for host in hosts.values():
        host.start()
    for host in hosts.values():
        host.wait()
    ip(*(f"addr add {rig.V4[who]}/32 dev lo" for who in OUTSIDE), f"route add 10.0.2.0/24 via {SERVERS['a'][1]}")
    garage = Garage(tmp_path_factory.mktemp("rig-archives"))
    servers = Rig(lab, tmp_path_factory.mktemp("rig") / "repo", garage, keys, hosts)
    servers.restore()
    servers.converge()
    for jail in JAILS.values():
        servers.ready(jail)
    yield servers
    ip("route del 10.0.2.0/24", *(f"addr del {rig.V4[who]}/32 dev lo" for who in OUTSIDE))
    for name, host in hosts.items():
        host.stop()
        del lab.hosts[f"r{name}"]


@pytest.fixture(scope="module")
def outcomes(servers: Rig) -> Iterator[dict[str, str]]:
    """Every question of the matrix, asked once, all of one sender at a time."""
    listed = sorted(
        {(q.receiver, rig.V4[q.receiver], q.port, q.protocol) for q in questions() if q.receiver in OUTSIDE}
    )
    answering = subprocess.Popen([sys.executable, "-c", ANSWER, json.dumps(listed)], stdout=subprocess.PIPE)
    try:
        assert answering.stdout is not None
        answering.stdout.readline()
        yield {line: said for sender in {q.sender for q in questions()} for line, said in heard(servers, sender)}
    finally:
        answering.kill()
        answering.wait()


def heard(servers: Rig, sender: str) -> Iterator[tuple[str, str]]:
    asked = [question for question in questions() if question.sender == sender]
    own = rig.V4[sender] if sender in OUTSIDE or sender == "intruder" else ""
    words = json.dumps([[own, rig.addresses(q)[1], q.port, q.protocol] for q in asked])
    if sender in JAILS:
        out = servers.inside(JAILS[sender], f"python3 -c '{ASK.replace(chr(39), chr(34))}' '{words}'")
    elif sender == "server":
        out = servers["a"].run(f"python3 -c '{ASK.replace(chr(39), chr(34))}' '{words}'").stdout
    else:
        out = subprocess.run(
            [sys.executable, "-c", ASK, words], capture_output=True, text=True, check=True, timeout=20
        ).stdout
    return zip((q.line for q in asked), json.loads(out), strict=True)


def who(said: str, asked: rig.Question) -> str:
    """The role of who calls itself so. Of the server, sshd answers; a pipe says what nobody understands."""
    roles = {name: role for role, name in (rig.JAILS | rig.PEERS).items()}
    if said == "noise" and asked.port in PIPES["postgres"]:
        return asked.receiver
    return "stops" if not said else "server" if said.startswith("SSH-2.0-") else roles.get(said, said)


@pytest.mark.parametrize("asked", questions(), ids=[q.line for q in questions()])
def test_linux_hosts_say_the_same(asked: rig.Question, outcomes: dict[str, str]) -> None:
    assert who(outcomes[asked.line], asked) == asked.ours


def test_cables_and_the_jails_own_ipv6_addresses_work_as_well(servers: Rig) -> None:
    script = 'import socket; print(socket.create_connection(("{}", {}), 3).recv(99).decode().split()[0])'
    for jail, address, port, answer in (
        ("nginx", "10.0.3.30", 3000, "node-a"),
        ("node", "10.0.4.40", 5432, "pg-a"),
        ("pg", "10.0.4.30", 22, "node-a"),
    ):
        assert servers.inside(JAILS[jail], f"python3 -c '{script.format(address, port)}'").strip() == answer


def test_the_four_pipes_lead_to_the_other_servers_database(servers: Rig) -> None:
    script = 'import socket; print(socket.create_connection(("::1", {}), 3).recv(99).decode())'
    for jail, port, answer in (
        ("node", 5432, "pg-b ::1"),
        ("pg", 5435, "pg-b ::1"),
        ("peer-node", 5432, "pg-a ::1"),
        ("peer-pg", 5435, "pg-a ::1"),
    ):
        assert servers.inside(JAILS[jail], f"python3 -c '{script.format(port)}'").strip() == answer


def test_a_second_pass_finds_nothing_to_do(servers: Rig) -> None:
    assert not servers.words("a") and not servers.words("b")


def test_both_servers_take_visitors_in(servers: Rig, outcomes: dict[str, str]) -> None:
    words = json.dumps([[rig.V4["visitor"], four, 443, "tcp"] for _, four in SERVERS.values()])
    out = subprocess.run([sys.executable, "-c", ASK, words], capture_output=True, text=True, check=True, timeout=20)
    assert json.loads(out.stdout) == ["nginx-a", "nginx-b"]
    assert outcomes
