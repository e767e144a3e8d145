"""The daemon's web side: webhooks in, health and metrics out.

In: HTTP requests. Out: a call of `wake`, and nothing else: a payload is only a hint, the daemon fetches the ref
itself. A webhook is believed when its HMAC-SHA256 over the raw body is right (facts of each forge: GitHub sends
`X-Hub-Signature-256: sha256=<hex>`, the generic form is `X-Signature: sha256=<hex>`). Must not know git or hosts.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial

from aiohttp import web
from prometheus_client import CollectorRegistry, exposition

LARGEST = 3 << 20
"""Bytes of a payload; GitHub's may be larger, but they are only hints."""
SLOWEST = 10.0
"""Seconds in which a payload has to arrive; GitHub waits as long for an answer."""
SIGNATURES = {"github": "X-Hub-Signature-256", "generic": "X-Signature"}


@dataclass(frozen=True, slots=True)
class Hooks:
    """What the web side may ask of the daemon. Without a secret no webhook is believed."""

    secret: bytes
    wake: Callable[[str], None]
    ready: Callable[[], str]
    """"" when ready, else why not."""
    registry: CollectorRegistry


def application(hooks: Hooks) -> web.Application:
    app = web.Application(client_max_size=LARGEST)
    app.router.add_get("/healthz", healthy)
    app.router.add_get("/readyz", partial(ready, hooks=hooks))
    app.router.add_get("/metrics", partial(metrics, hooks=hooks))
    for forge, header in SIGNATURES.items():
        app.router.add_post(f"/hooks/{forge}", webhook(hooks, forge, header))
    return app


def webhook(hooks: Hooks, forge: str, header: str) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    async def receive(request: web.Request) -> web.Response:
        try:
            async with asyncio.timeout(SLOWEST):
                body = await request.read()
        except TimeoutError:
            raise web.HTTPRequestTimeout(text="the payload did not arrive in time\n") from None
        if not hooks.secret or not believed(hooks.secret, body, request.headers.get(header, "")):
            return web.Response(status=401, text=f"no valid {header}\n")
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
