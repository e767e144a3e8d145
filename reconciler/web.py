"""The daemon's web side: webhooks in, health and metrics out.

In: HTTP requests. Out: a call of `wake`, and nothing else: a payload is only a hint, the daemon fetches the ref
itself. A webhook is believed when its HMAC-SHA256 over the raw body is right (facts of each forge: GitHub sends
`X-Hub-Signature-256: sha256=<hex>`, the generic form is `X-Signature: sha256=<hex>`). Who sends wrong ones is answered
429 for a while, before their next body is read. Must not know git or hosts.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import time
from collections import Counter, deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from ipaddress import ip_address, ip_network
from math import ceil

from aiohttp import web
from prometheus_client import CollectorRegistry, exposition

LARGEST = 3 << 20
"""Bytes of a payload; GitHub's may be larger, but they are only hints."""
SLOWEST = 10.0
"""Seconds in which a payload has to arrive; GitHub waits as long for an answer."""
EACH, ALL = 10, 100
"""Webhooks not (yet) believed within a WINDOW: of one stranger, and of all together."""
WINDOW = 60.0
"""Seconds; as long as the usual wait between two looks at the repository, which need no webhook."""
FRIENDS = 64
"""How many of those who were believed last are remembered; GitHub sends from a few networks."""
SIGNATURES = {"github": "X-Hub-Signature-256", "generic": "X-Signature"}


@dataclass(frozen=True, slots=True)
class Hooks:
    """What the web side may ask of the daemon. Without a secret no webhook is believed."""

    secret: bytes
    wake: Callable[[str], None]
    ready: Callable[[], str]
    """"" when ready, else why not."""
    registry: CollectorRegistry


class Strangers:
    """Counts what strangers send. Never more than ALL of them are remembered, and none after the window.

    Our own: aiolimiter makes callers wait, which holds their bodies; limits remembers every address it ever saw, and
    neither knows that who shares an address with the forge (a proxy) must not be able to shut it out.
    """

    def __init__(self) -> None:
        self._begun = time.monotonic()
        self._sent: Counter[str] = Counter()
        self._friends: deque[str] = deque(maxlen=FRIENDS)

    def wait(self, who: str) -> float:
        """Seconds until they may send something; 0 when they may now."""
        left = self._begun + WINDOW - time.monotonic()
        if left <= 0:
            self._begun, left = time.monotonic(), WINDOW
            self._sent.clear()
        spent = self._sent[who] >= EACH or self._sent.total() >= ALL
        return left if spent and who not in self._friends else 0.0

    def count(self, who: str) -> None:
        """On arrival, and not when it turns out wrong: what is still on its way takes memory as well."""
        if who not in self._friends:
            self._sent[who] += 1

    def befriend(self, who: str) -> None:
        self._sent.pop(who, None)
        if who not in self._friends:
            self._friends.append(who)


def stranger(address: str | None) -> str:
    """Who is counted as one: by IPv6 a whole /64, of which anybody has as many addresses as they like."""
    try:
        ip = ip_address((address or "").partition("%")[0])
    except ValueError:  # of a socket without addresses
        return ""
    return str(ip) if ip.version == 4 else str(ip_network((ip, 64), strict=False))


def application(hooks: Hooks) -> web.Application:
    app = web.Application(client_max_size=LARGEST)
    app.router.add_get("/healthz", healthy)
    app.router.add_get("/readyz", partial(ready, hooks=hooks))
    app.router.add_get("/metrics", partial(metrics, hooks=hooks))
    strangers = Strangers()
    for forge, header in SIGNATURES.items():
        app.router.add_post(f"/hooks/{forge}", limited(strangers, webhook(hooks, strangers, forge, header)))
    return app


Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def limited(strangers: Strangers, handler: Handler) -> Handler:
    async def receive(request: web.Request) -> web.StreamResponse:
        who = stranger(request.remote)
        if wait := strangers.wait(who):
            headers = {"Retry-After": str(ceil(wait))}
            return web.Response(status=429, text="too many wrong signatures\n", headers=headers)
        strangers.count(who)
        return await handler(request)

    return receive


def webhook(hooks: Hooks, strangers: Strangers, forge: str, header: str) -> Handler:
    async def receive(request: web.Request) -> web.Response:
        try:
            async with asyncio.timeout(SLOWEST):
                body = await request.read()
        except TimeoutError:
            raise web.HTTPRequestTimeout(text="the payload did not arrive in time\n") from None
        if not hooks.secret or not believed(hooks.secret, body, request.headers.get(header, "")):
            return web.Response(status=401, text=f"no valid {header}\n")
        strangers.befriend(stranger(request.remote))
        hooks.wake(f"webhook {forge}")
        return web.Response(status=202, text="will look\n")

    return receive


def believed(secret: bytes, body: bytes, signature: str) -> bool:
    """In constant time, with the one algorithm."""
    algorithm, _, digest = signature.partition("=")
    wanted = hmac.new(secret, body, hashlib.sha256).hexdigest()
    return algorithm == "sha256" and hmac.compare_digest(wanted.encode(), digest.encode("utf-8", "replace"))


async def healthy(request: web.Request) -> web.Response:
    return web.Response(text="alive\n")


async def ready(request: web.Request, hooks: Hooks) -> web.Response:
    why = hooks.ready()
    return web.Response(status=503 if why else 200, text=f"{why or 'ready'}\n")


async def metrics(request: web.Request, hooks: Hooks) -> web.Response:
    encode, content_type = exposition.choose_encoder(request.headers.get("Accept", ""))
    return web.Response(body=encode(hooks.registry), headers={"Content-Type": content_type})
