"""Webhooks are believed by their HMAC-SHA256 and by nothing else; health and metrics answer."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field

import pytest
from aiohttp.test_utils import TestClient, TestServer
from prometheus_client import CollectorRegistry, Gauge
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics
from prometheus_client.parser import text_string_to_metric_families as prometheus

from reconciler import web

SECRET, BODY = b"It's a Secret to Everybody", b"Hello, World!"
PUBLISHED = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"
"""docs.github.com, "Validating webhook deliveries": signature of BODY with SECRET."""
GITHUB, GENERIC = "X-Hub-Signature-256", "X-Signature"


@dataclass
class Daemon:
    """What the web side knows of one: who was woken, and why it is not ready."""

    secret: bytes = SECRET
    why: str = ""
    woken: list[str] = field(default_factory=list)
    registry: CollectorRegistry = field(default_factory=CollectorRegistry)

    def hooks(self) -> web.Hooks:
        return web.Hooks(self.secret, self.woken.append, lambda: self.why, self.registry)


def ask(daemon: Daemon, questions: Callable[[TestClient], Awaitable[None]]) -> None:
    async def run() -> None:
        async with TestClient(TestServer(web.application(daemon.hooks()))) as client:
            await questions(client)

    asyncio.run(run())


def status(daemon: Daemon, path: str, body: bytes = BODY, **headers: str) -> int:
    """Of one POST; underscores in header names are hyphens."""
    found: list[int] = []

    async def post(client: TestClient) -> None:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        async with client.post(path, data=body, headers=named) as answer:
            found.append(answer.status)

    ask(daemon, post)
    return found[0]


def signed(body: bytes, secret: bytes = SECRET) -> str:
    return "sha256=" + hmac.new(secret, body, hashlib.sha256).hexdigest()


# ── webhooks ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_githubs_published_vector_is_believed() -> None:
    daemon = Daemon()
    assert status(daemon, "/hooks/github", X_Hub_Signature_256=PUBLISHED) == 202
    assert status(daemon, "/hooks/generic", X_Signature=PUBLISHED) == 202
    assert daemon.woken == ["webhook github", "webhook generic"]


@pytest.mark.parametrize(
    "signature",
    [
        "",
        "sha256=",
        "sha256",
        "=",
        PUBLISHED.removeprefix("sha256="),
        PUBLISHED.replace("sha256", "sha1"),
        PUBLISHED.replace("sha256", "SHA256"),
        PUBLISHED.replace("sha256", "sha512"),
        PUBLISHED[:-1],
        PUBLISHED + "0",
        PUBLISHED.replace("7571", "7572"),
        "sha256=" + "é" * 32,
        "sha1=" + hmac.new(SECRET, BODY, hashlib.sha1).hexdigest(),
        "sha256=" + hmac.new(b"", BODY, hashlib.sha256).hexdigest(),
    ],
)
def test_other_signatures_are_refused(signature: str) -> None:
    daemon = Daemon()
    assert status(daemon, "/hooks/github", X_Hub_Signature_256=signature) == 401
    assert status(daemon, "/hooks/generic", X_Signature=signature) == 401
    assert daemon.woken == []


def test_a_signature_belongs_in_its_own_header() -> None:
    daemon = Daemon()
    assert status(daemon, "/hooks/github") == 401
    assert status(daemon, "/hooks/github", X_Signature=PUBLISHED) == 401
    assert status(daemon, "/hooks/generic", X_Hub_Signature_256=PUBLISHED) == 401
    sha1 = "sha1=" + hmac.new(SECRET, BODY, hashlib.sha1).hexdigest()
    assert status(daemon, "/hooks/github", X_Hub_Signature=sha1) == 401
    assert status(daemon, "/hooks/github", BODY + b" ", X_Hub_Signature_256=PUBLISHED) == 401
    assert daemon.woken == []


def test_without_a_secret_nobody_is_believed() -> None:
    daemon = Daemon(secret=b"")
    for signature in ("", PUBLISHED, signed(BODY, b"")):
        assert status(daemon, "/hooks/github", X_Hub_Signature_256=signature) == 401
    assert daemon.woken == []


def test_the_payload_need_not_be_anything() -> None:
    daemon = Daemon()
    for body in (b"", b"\xff\x00", b'{"ref": "refs/heads/evil; rm -rf /"}'):
        assert status(daemon, "/hooks/github", body, X_Hub_Signature_256=signed(body)) == 202
    assert daemon.woken == ["webhook github"] * 3


def test_three_mebibytes_and_no_more() -> None:
    daemon = Daemon()
    most = b"x" * (3 << 20)
    assert status(daemon, "/hooks/github", most, X_Hub_Signature_256=signed(most)) == 202
    more = most + b"x"
    assert status(daemon, "/hooks/github", more, X_Hub_Signature_256=signed(more)) == 413
    assert daemon.woken == ["webhook github"]


async def endless(sent: list[int]) -> AsyncIterator[bytes]:
    """A hundred mebibytes, in pieces whose sizes are in `sent`."""
    for _ in range(400):
        sent.append(1 << 18)
        yield b"x" * (1 << 18)
        await asyncio.sleep(0)


def test_a_body_without_a_length_is_cut_off_too() -> None:
    """What is not announced is read no further than the cap."""
    daemon, sent = Daemon(), list[int]()

    async def post(client: TestClient) -> None:
        headers = {GITHUB: PUBLISHED}
        async with client.post("/hooks/github", data=endless(sent), headers=headers) as answer:
            assert answer.status == 413

    ask(daemon, post)
    assert sum(sent) < 16 << 20
    assert daemon.woken == []


def test_a_body_that_does_not_come_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web, "SLOWEST", 0.1)
    daemon = Daemon()

    async def slow() -> AsyncIterator[bytes]:
        yield b"Hello"
        await asyncio.sleep(5)

    async def post(client: TestClient) -> None:
        async with client.post("/hooks/github", data=slow(), headers={GITHUB: PUBLISHED}) as answer:
            assert answer.status == 408

    ask(daemon, post)
    assert daemon.woken == []


def test_only_post_and_only_what_there_is() -> None:
    async def questions(client: TestClient) -> None:
        for method in ("GET", "PUT", "DELETE", "HEAD"):
            async with client.request(method, "/hooks/github") as answer:
                assert answer.status == 405
        for path in ("/", "/hooks", "/hooks/", "/hooks/gitlab", "/hooks/github/x"):
            async with client.post(path, data=BODY, headers={GITHUB: PUBLISHED}) as answer:
                assert answer.status == 404

    daemon = Daemon()
    ask(daemon, questions)
    assert daemon.woken == []


# ── who sends too much ───────────────────────────────────────────────────────────────────────────────────────

WRONG, RIGHT = {GITHUB: "sha256=" + "0" * 64}, {GITHUB: PUBLISHED}


async def posted(client: TestClient, headers: dict[str, str]) -> int:
    async with client.post("/hooks/github", data=BODY, headers=headers) as answer:
        return answer.status


def passed(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    """Lets time pass for whoever counts."""
    clock = web.time.monotonic
    monkeypatch.setattr(web.time, "monotonic", lambda: clock() + seconds)


def test_who_sends_too_many_wrong_signatures_has_to_wait_and_is_told_how_long(monkeypatch: pytest.MonkeyPatch) -> None:
    daemon = Daemon()

    async def questions(client: TestClient) -> None:
        assert [await posted(client, WRONG) for _ in range(web.EACH)] == [401] * web.EACH
        async with client.post("/hooks/generic", data=BODY, headers={GENERIC: PUBLISHED}) as answer:
            assert answer.status == 429
            assert 1 <= int(answer.headers["Retry-After"]) <= web.WINDOW
        async with client.get("/healthz") as answer:
            assert answer.status == 200
        passed(monkeypatch, web.WINDOW)
        assert await posted(client, RIGHT) == 202

    ask(daemon, questions)
    assert daemon.woken == ["webhook github"]


def test_the_body_of_who_has_to_wait_is_not_read() -> None:
    daemon, sent = Daemon(), list[int]()

    async def questions(client: TestClient) -> None:
        for _ in range(web.EACH):
            await posted(client, WRONG)
        async with client.post("/hooks/github", data=endless(sent), headers=RIGHT) as answer:
            assert answer.status == 429

    ask(daemon, questions)
    assert sum(sent) < 16 << 20
    assert daemon.woken == []


def test_who_was_believed_once_cannot_be_shut_out_by_others_at_the_same_address() -> None:
    daemon = Daemon()

    async def questions(client: TestClient) -> None:
        assert await posted(client, RIGHT) == 202
        assert {await posted(client, WRONG) for _ in range(web.EACH + 1)} == {401}
        assert await posted(client, RIGHT) == 202

    ask(daemon, questions)
    assert daemon.woken == ["webhook github"] * 2


def test_right_ones_are_not_counted_however_many_there_are() -> None:
    daemon = Daemon()

    async def questions(client: TestClient) -> None:
        assert {await posted(client, RIGHT) for _ in range(3 * web.EACH)} == {202}

    ask(daemon, questions)


def test_without_a_secret_too_many_are_told_to_wait() -> None:
    daemon = Daemon(secret=b"")

    async def questions(client: TestClient) -> None:
        assert [await posted(client, RIGHT) for _ in range(web.EACH + 1)] == [401] * web.EACH + [429]

    ask(daemon, questions)


def test_a_body_that_does_not_come_counts_from_its_beginning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web, "SLOWEST", 0.2)
    daemon = Daemon()

    async def slow() -> AsyncIterator[bytes]:
        yield b"Hello"
        await asyncio.sleep(5)

    async def post(client: TestClient) -> int:
        async with client.post("/hooks/github", data=slow(), headers=RIGHT) as answer:
            return answer.status

    async def questions(client: TestClient) -> None:
        found = await asyncio.gather(*(post(client) for _ in range(web.EACH + 5)))
        assert sorted(found) == [408] * web.EACH + [429] * 5

    ask(daemon, questions)


def test_all_strangers_together_have_a_bound_and_none_is_remembered_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    strangers = web.Strangers()
    for number in range(10 * web.ALL):
        if not strangers.wait(f"192.0.2.{number}"):
            strangers.count(f"192.0.2.{number}")
    assert len(strangers._sent) == web.ALL
    strangers.befriend("2001:db8::/64")
    assert strangers.wait("2001:db8::/64") == 0
    assert strangers.wait("198.51.100.1") > 0
    passed(monkeypatch, web.WINDOW)
    assert strangers.wait("198.51.100.1") == 0
    assert not strangers._sent


def test_friends_are_remembered_up_to_a_number() -> None:
    strangers = web.Strangers()
    for number in range(web.FRIENDS + 1):
        strangers.befriend(f"198.51.100.{number}")
    assert len(strangers._friends) == web.FRIENDS


@pytest.mark.parametrize(
    ("address", "who"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::1", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("", ""),
        (None, ""),
    ],
)
def test_a_whole_64_is_one_stranger(address: str | None, who: str) -> None:
    assert web.stranger(address) == who


# ── health, metrics ──────────────────────────────────────────────────────────────────────────────────────────


def test_alive_and_ready() -> None:
    daemon = Daemon(why="2 hosts have not been passed yet")

    async def questions(client: TestClient) -> None:
        async with client.get("/healthz") as answer:
            assert (answer.status, await answer.text()) == (200, "alive\n")
        async with client.get("/readyz") as answer:
            assert (answer.status, await answer.text()) == (503, "2 hosts have not been passed yet\n")
        daemon.why = ""
        async with client.get("/readyz") as answer:
            assert (answer.status, await answer.text()) == (200, "ready\n")

    ask(daemon, questions)


def test_metrics_in_both_formats() -> None:
    daemon = Daemon()
    Gauge("reconciler_host_ready", "Ready", ["host"], registry=daemon.registry).labels('a"\n').set(1)

    async def questions(client: TestClient) -> None:
        async with client.get("/metrics") as answer:
            assert answer.headers["Content-Type"].startswith("text/plain")
            families = {family.name: family for family in prometheus(await answer.text())}
        assert families["reconciler_host_ready"].samples[0].labels == {"host": 'a"\n'}
        async with client.get("/metrics", headers={"Accept": "application/openmetrics-text; version=1.0.0"}) as answer:
            assert answer.headers["Content-Type"].startswith("application/openmetrics-text")
            assert [family.name for family in openmetrics(await answer.text())] == ["reconciler_host_ready"]

    ask(daemon, questions)
