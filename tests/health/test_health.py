"""What is asked and how an answer is judged: real sockets in place of what sshd would connect to."""

from __future__ import annotations

import shlex
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest

from fake import specs
from reconciler import health
from reconciler.health import Answer, Host, Question
from reconciler.model import Check, Trouble
from reconciler.platforms import PLATFORMS, asking

WWW = specs.jail("acme--www")
Serve = Callable[[socket.socket], None]


@contextmanager
def serving(serve: Serve) -> Iterator[int]:
    with socket.create_server(("::1", 0), family=socket.AF_INET6) as listening:

        def accept() -> None:
            try:
                while True:
                    client, _ = listening.accept()
                    with client:
                        serve(client)
            except OSError:
                pass

        threading.Thread(target=accept, daemon=True).start()
        yield listening.getsockname()[1]
        listening.shutdown(socket.SHUT_RDWR)


def dial(address: str, port: int, timeout: float) -> health.Channel:
    return socket.create_connection(("::1", port), timeout)


def nothing(script: str, timeout: float) -> bytes:
    return b""


HERE = Host(PLATFORMS["linux"], dial, nothing)


def page(text: bytes) -> Serve:
    def serve(client: socket.socket) -> None:
        client.recv(4096)
        client.sendall(text)

    return serve


def ask(serve: Serve, **check: object) -> str:
    with serving(serve) as port:
        asked = Check(**{"kind": "http", "port": port, "timeout": 1, **check})  # type: ignore[arg-type]
        (answer,) = health.ask([Question(WWW, asked, "::1")], HERE)
        return f"{answer.verdict} {answer.why}".replace(str(port), "PORT").strip()


# ── pages ────────────────────────────────────────────────────────────────────────────────────────────────────

FINE = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n"
MOVED = b"HTTP/1.1 302 Found\r\nLocation: http://[::1]:1/\r\nContent-Length: 0\r\n\r\n"


@pytest.mark.parametrize(
    ("text", "check", "told"),
    [
        (FINE, {}, "well"),
        (MOVED, {}, "well"),
        (FINE, {"contains": "hello"}, "well"),
        (
            CHUNKED,
            {"contains": "hello"},
            "well",
        ),
        (FINE, {"contains": "bye"}, "fails http :PORT answers without the words “bye”"),
        (MOVED, {"status": 200}, "fails http :PORT answers 302, not 200"),
        (b"HTTP/1.1 503 \x1b[2J<b>\r\n\r\n", {"path": "/x"}, "fails http :PORT/x answers 503"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", {}, "fails http :PORT answers, but not in HTTP"),
        (b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 1000, {}, "fails http :PORT answers, but not in HTTP"),
        (b"HTTP/1.1 200 OK\r\nX: " + b"y" * 100_000, {}, "fails http :PORT answers, but not in HTTP"),
        (b"", {}, "fails http :PORT does not answer"),
    ],
)
def test_a_page(text: bytes, check: dict[str, object], told: str) -> None:
    assert ask(page(text), **check) == told


def test_a_name_is_asked_for_by_its_name_and_else_by_the_address() -> None:
    heard: list[bytes] = []

    def serve(client: socket.socket) -> None:
        heard.append(client.recv(4096))
        client.sendall(FINE)

    assert ask(serve, host="www.acme.example", path="/a?b") == ask(serve) == "well"
    assert heard[0].startswith(b"GET /a?b HTTP/1.1\r\nHost: www.acme.example:")
    assert b"\r\nHost: [::1]:" in heard[1]


def test_who_sends_a_little_all_the_time_is_not_listened_to_longer_than_who_hangs() -> None:
    def drip(client: socket.socket) -> None:
        client.recv(4096)
        client.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            client.sendall(b".")
            time.sleep(0.05)

    begun = time.monotonic()
    assert ask(drip, contains="never") == "fails http :PORT does not answer in time"
    assert ask(lambda client: time.sleep(2)) == "fails http :PORT does not answer in time"
    assert time.monotonic() - begun < 5


# ── ports, and who cannot be asked ───────────────────────────────────────────────────────────────────────────


def test_a_port_is_asked_for_a_connection() -> None:
    assert ask(lambda client: None, kind="tcp") == "well"
    unused = Check("tcp", 1)
    assert health.ask([Question(WWW, unused, "::1")], HERE)[0].why == "tcp :1 does not answer"


def told(dialling: Callable[..., health.Channel], run: Callable[[str, float], bytes] = nothing) -> list[Answer]:
    asked = [Question(WWW, Check("tcp", 80), "::1")]
    return health.ask(asked, Host(PLATFORMS["linux"], dialling, run))


def test_a_connection_that_breaks_says_nothing_of_a_jail() -> None:
    def broken(*_: object) -> health.Channel:
        raise Trouble("the connection broke")

    def silent(*_: object) -> health.Channel:
        raise TimeoutError

    def gone(script: str, timeout: float) -> bytes:
        raise Trouble("the host is gone")

    assert [(answer.verdict, answer.why) for answer in told(broken)] == [("unasked", "the connection broke")]
    assert [answer.verdict for answer in told(silent)] == ["fails"]
    assert [(answer.verdict, answer.why) for answer in told(silent, gone)] == [("unasked", "the host is gone")]


def test_a_round_ends_when_its_time_is_over() -> None:
    def slow(*_: object) -> health.Channel:
        time.sleep(0.2)
        raise TimeoutError

    asked = [Question(WWW, Check("tcp", port), "::1") for port in range(1, 100)]
    answers = health.ask(asked, Host(PLATFORMS["linux"], slow, nothing), seconds=0.3)
    assert 0 < len(answers) < 30


# ── commands ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_commands_are_one_script_and_their_answers_are_statuses() -> None:
    scripts: list[str] = []

    def run(script: str, timeout: float) -> bytes:
        scripts.append(script)
        return b"0 0\n1 3\n2 124\n3 125\nnoise\n4 127 more\n"

    checks = [Check("command", command=("/app/check", str(n)), failures=n + 1) for n in range(5)]
    asked = [Question(WWW, check, "::1") for check in checks]
    answers = health.by_command(asked, Host(PLATFORMS["linux"], dial, run), 30)
    assert [f"{answer.verdict} {answer.why}".strip() for answer in answers] == [
        "well",
        "fails `/app/check 1` ends with status 3",
        "fails `/app/check 2` does not end within 5 s",
        "unasked the jail does not run",
    ]
    assert len(scripts) == 1


HOSTILE = ("a'b\"c", "$HOME", "$(reboot)", "%n", "\\", "`reboot`")


@pytest.mark.parametrize("platform", PLATFORMS)
def test_words_of_a_command_are_words_and_nothing_else(platform: str) -> None:
    jail = replace(WWW, environment=(("GREETING", "$HOME 'x'"),))
    call = shlex.split(PLATFORMS[platform].inside(jail, HOSTILE, 5))
    # systemd takes one of two away
    wanted = [word.replace("$", "$$") if platform == "linux" else word for word in HOSTILE]
    assert call[-len(HOSTILE) :] == wanted
    script = asking.script(PLATFORMS[platform], [(jail, HOSTILE, 5)], 30)
    assert script.endswith("\nwait\n# complete\n")


def test_each_check_of_each_jail_is_a_question() -> None:
    checked = replace(WWW, health=replace(WWW.health, checks=(Check("tcp", 80), Check("tcp", 81))))
    assert [(q.words, q.address) for q in health.questions([checked, WWW])] == [
        ("tcp :80", WWW.address),
        ("tcp :81", WWW.address),
    ]
