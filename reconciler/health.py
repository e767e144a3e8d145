"""Who answers: jails, as their host asks them, and ports, as seen from the reconciler.

In: jails with their checks, a way to make connections from their host and a way to run a script there; or addresses
and TCP ports. Out: Answers, or the ports that accept a connection. Every attempt has a bound, and so have all together.
Must not know what follows from an answer, nor SSH.
"""

from __future__ import annotations

import http.client
import io
import random
import socket
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from time import monotonic
from typing import Any, Literal, Protocol

from reconciler.model import Check, Jail, Trouble
from reconciler.platforms import Platform, asking

TIMEOUT = 2.0
"""Seconds for one connection."""
AT_ONCE = 32
MOST = 256
"""Endpoints that are asked: of a host with more, the first by address and port stand for all."""
ROUND = 30.0
"""Seconds in which questions of a round begin; their order is another one each time, so that each comes in."""
ASKED_AT_ONCE = 8
BODY = 1 << 20
"""Bytes of a page that are looked at."""


def answering(endpoints: Iterable[tuple[str, int]]) -> frozenset[tuple[str, int]]:
    asked = sorted(endpoints)[:MOST]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        return frozenset(endpoint for endpoint, there in zip(asked, pool.map(accepts, asked), strict=True) if there)


def accepts(endpoint: tuple[str, int]) -> bool:
    try:
        socket.create_connection(endpoint, timeout=TIMEOUT).close()
    except OSError:
        return False
    return True


# ── checks ───────────────────────────────────────────────────────────────────────────────────────────────────


class Channel(Protocol):
    """A connection, as paramiko has it."""

    def settimeout(self, timeout: float) -> None: ...
    def sendall(self, data: bytes) -> None: ...
    def recv(self, most: int) -> bytes: ...
    def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Host:
    """The ways to a host: both raise Trouble where nobody was asked, `dial` OSError where nobody answered."""

    platform: Platform
    dial: Callable[[str, int, float], Channel]
    run: Callable[[str, float], bytes]


@dataclass(frozen=True, slots=True)
class Question:
    """A check of a jail, and where it is asked: another way to the same jail is another Question."""

    jail: Jail
    check: Check
    address: str

    @property
    def words(self) -> str:
        check = self.check
        if check.kind == "command":
            words = " ".join(check.command)
            return f"`{words if len(words) <= 60 else words[:59] + '…'}`"
        return f"{check.kind} :{check.port}{check.path if check.kind == 'http' and check.path != '/' else ''}"


@dataclass(frozen=True, slots=True)
class Answer:
    """`why`: what is wrong with it, or why nobody knows."""

    question: Question
    verdict: Literal["well", "fails", "unasked"]
    why: str = ""


class Unlike(Exception):
    """An answer, and not the one that was wanted."""


def questions(jails: Iterable[Jail]) -> list[Question]:
    return [Question(jail, check, jail.address) for jail in jails for check in jail.health.checks]


def ask(asked: Iterable[Question], host: Host, seconds: float = ROUND) -> list[Answer]:
    """Of what there was no time for nothing is said."""
    deadline = monotonic() + seconds
    mixed = list(asked)
    random.shuffle(mixed)
    by_net = [question for question in mixed if question.check.kind != "command"]
    within = [question for question in mixed if question.check.kind == "command"]
    with ThreadPoolExecutor(ASKED_AT_ONCE) as pool:
        answers = [a for a in pool.map(lambda q: by_connection(q, host, deadline), by_net) if a]
    try:
        answers += by_command(within, host, max(1.0, deadline - monotonic()))
        if any(answer.why.endswith(SILENT) for answer in answers):
            # a host that does not answer itself says nothing of its jails
            host.run(asking.script(host.platform, (), 1), ROUND)
    except Trouble as trouble:
        known = [answer for answer in answers if answer.verdict == "well"]
        lost = [q for q in mixed if q not in {answer.question for answer in known}]
        return [*known, *(Answer(question, "unasked", str(trouble)) for question in lost)]
    return answers


SILENT = "in time"


def by_connection(question: Question, host: Host, deadline: float) -> Answer | None:
    check = question.check
    if monotonic() > deadline:
        return None
    until = monotonic() + check.timeout
    try:
        channel = host.dial(question.address, check.port, check.timeout)
        try:
            if check.kind == "http":
                judge_page(question, channel, until)
        finally:
            channel.close()
    except Trouble as trouble:
        return Answer(question, "unasked", str(trouble))
    except Unlike as unlike:
        return Answer(question, "fails", f"{question.words} {unlike}")
    except TimeoutError:
        return Answer(question, "fails", f"{question.words} does not answer {SILENT}")
    except (OSError, EOFError):
        return Answer(question, "fails", f"{question.words} does not answer")
    except http.client.HTTPException:
        return Answer(question, "fails", f"{question.words} answers, but not in HTTP")
    return Answer(question, "well")


class Line:
    """As much of a socket as http.client wants, with one end of time for all that is said."""

    def __init__(self, channel: Channel, until: float) -> None:
        self.channel, self.until = channel, until

    def sendall(self, data: bytes) -> None:
        self.channel.settimeout(max(0.01, self.until - monotonic()))
        self.channel.sendall(data)

    def makefile(self, mode: str) -> io.BufferedReader:
        return io.BufferedReader(Heard(self))

    def close(self) -> None:
        """Whoever dialled closes it: the answer may be to be read still."""


class Heard(io.RawIOBase):
    def __init__(self, line: Line) -> None:
        self.line = line

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        left = self.line.until - monotonic()
        if left <= 0:
            raise TimeoutError
        self.line.channel.settimeout(left)
        data = self.line.channel.recv(len(buffer))
        buffer[: len(data)] = data
        return len(data)


def judge_page(question: Question, channel: Channel, until: float) -> None:
    """Nothing that the server says is told but its status: the status branch is no place for a stranger's words."""
    check = question.check
    connection = http.client.HTTPConnection(check.host or question.address, check.port)
    connection.sock = Line(channel, until)
    connection.request("GET", check.path, headers={"User-Agent": "reconciler", "Connection": "close"})
    answer = connection.getresponse()
    if not (answer.status == check.status if check.status else 200 <= answer.status < 400):
        raise Unlike(f"answers {answer.status}{f', not {check.status}' if check.status else ''}")
    if check.contains and check.contains.encode() not in answer.read(BODY):
        raise Unlike(f"answers without the words “{check.contains}”")


def by_command(asked: Sequence[Question], host: Host, seconds: float) -> list[Answer]:
    if not asked:
        return []
    wanted = [(question.jail, question.check.command, question.check.timeout) for question in asked]
    output = host.run(asking.script(host.platform, wanted, seconds), seconds + 60)
    return [judged(asked[number], status) for number, status in asking.statuses(output).items()]


def judged(question: Question, status: int) -> Answer:
    if status == asking.NOT_RUNNING:
        return Answer(question, "unasked", "the jail does not run")
    if status in asking.LATE:
        return Answer(question, "fails", f"{question.words} does not end within {question.check.timeout} s")
    return (
        Answer(question, "fails", f"{question.words} ends with status {status}") if status else Answer(question, "well")
    )
