"""Who answers, as seen from the reconciler.

In: addresses and TCP ports. Out: those that accept a connection. Every attempt has a bound, and so have all together.
Must not know jails or documents.
"""

from __future__ import annotations

import socket
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

TIMEOUT = 2.0
"""Seconds for one connection."""
AT_ONCE = 32
MOST = 256
"""Endpoints that are asked: of a host with more, the first by address and port stand for all."""


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
