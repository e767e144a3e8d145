"""Words of nft.

In: names, labels, addresses, a Jail. Out: each as a ruleset says it, and the names that chains and lists have there.
Source: nft(8). Must not know rules, nor what a table is for.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache

from reconciler.model import Jail
from reconciler.platforms.addresses import collapsed
from reconciler.platforms.files import digest

FAMILIES = {"ip6": "ipv6_addr", "ip": "ipv4_addr"}
"""nft's words for a family, and for the type of its addresses."""
INLINE = 32
"""Prefixes that stand in the rule itself."""


def quoted(names: Iterable[str]) -> str:
    return ", ".join(f'"{name}"' for name in names)


def text(label: str) -> str:
    """A string of nft: printable, no quote, no backslash, at most 128 bytes with its end (nft(8), comment)."""
    kept = "".join(c if c.isascii() and c.isprintable() and c not in '"\\' else "?" for c in label)
    return f'"{kept[:100]}"'


def chain(direction: str, jail: Jail) -> str:
    """Ids are `[a-z0-9-]`, nft's names `[A-Za-z0-9_]`: the digest keeps `a-b--c` and `a--b-c` apart."""
    return f"{direction}_{jail.id.replace('-', '_')}_{digest(jail.id.encode())[:6]}"


def addresses(jail: Jail) -> list[str]:
    return [address.partition("/")[0] for address in jail.nic.addresses]


def families(listed: Iterable[str]) -> list[tuple[str, list[str]]]:
    found: dict[str, list[str]] = {}
    for address in listed:
        found.setdefault("ip6" if ":" in address else "ip", []).append(address)
    return [(family, found[family]) for family in FAMILIES if family in found]


@lru_cache(maxsize=4096)
def whom(prefixes: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
    """(family, its prefixes as a rule names them). Remembered: many rules may name one long list."""
    return tuple((f, f"@{list_name(x)}" if len(x) > INLINE else among(x)) for f, x in families(collapsed(prefixes)))


def among(entries: Sequence[str]) -> str:
    return f"{{ {', '.join(entries)} }}"


def list_name(entries: Sequence[str]) -> str:
    return f"list_{digest(' '.join(entries).encode())[:16]}"
