"""The people and machines of `tests/cases/uirig/reach.txt`, and its lines as questions. Must not know who answers."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

ARTICLE = Path(__file__).parents[1] / "cases" / "uirig"

JAILS = {"nginx": "nginx-a", "node": "node-a", "pg": "pg-a"}
PEERS = {"peer-node": "node-b", "peer-pg": "pg-b", "intruder": ""}
PORTS = {"nginx": "ngx_a", "node": "node_a", "pg": "pg_a"}
SEGMENT = {"node": "inode_a", "pg": "ipg_a"}
INSIDE = {"10.0.2.20", "10.0.2.30", "10.0.2.40"}
SIDE = {"node": "192.168.56.30", "pg": "192.168.56.40"}
"""Where jails are on the segment between the servers."""
V4 = {
    "server": "192.0.2.155",
    "visitor": "198.51.100.1",
    "attacker": "203.0.113.9",
    "martian": "10.9.9.9",
    "spoofer": "192.0.2.155",
    "admin": "198.51.100.7",
    "resolver": "1.1.1.1",
    "payments": "198.51.100.81",
    "mail": "66.111.4.9",
    "elsewhere": "198.51.100.200",
    "clock": "192.0.2.10",
    "nginx": "10.0.2.20",
    "node": "10.0.2.30",
    "pg": "10.0.2.40",
    "peer-node": "192.168.56.31",
    "peer-pg": "192.168.56.41",
    "intruder": "192.168.56.99",
}
LINE = re.compile(r"(\S+) -> (\S+) (tcp|udp) (\d+): (\S+?)(?:, here: (\S+))?")


@dataclass(frozen=True)
class Question:
    line: str
    sender: str
    receiver: str
    protocol: str
    port: int
    theirs: str
    ours: str

    @property
    def across(self) -> bool:
        """From server to server."""
        return self.sender in PEERS or self.receiver in PEERS


def questions() -> list[Question]:
    found = []
    for line in (ARTICLE / "reach.txt").read_text().splitlines():
        if not line or line.startswith("#"):
            continue
        match = LINE.fullmatch(line)
        if not match:
            raise ValueError(line)
        sender, receiver, protocol, port, theirs, ours = match.groups()
        found.append(Question(line, sender, receiver, protocol, int(port), theirs, ours or theirs))
    return found


def addresses(asked: Question) -> tuple[str, str]:
    """From server to server both ends are on the segment."""
    known = V4 | SIDE if asked.across else V4
    return known[asked.sender], known[asked.receiver]


def who(address: str) -> str:
    return next(name for known in (V4, SIDE) for name, own in known.items() if own == address)
