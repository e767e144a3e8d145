"""The judge of shape: what the schemas' formats and patterns mean, to a validator and in plain words.

In: the schemas. Out: jsonschema-rs validators with the linear-time engine of regular expressions, because customers
and staff write what is matched. The words are made here from jsonschema-rs's own errors: Python's jsonschema reads
patterns differently (it takes "abc\\n" for ^[a-z]+$) and would find nothing to say about such a document.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from functools import cache, lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_interface, ip_network
from typing import Any, NamedTuple, cast

import jsonschema_rs

from reconciler.schemas import SCHEMAS, Schema

Judge = jsonschema_rs.Draft202012Validator
LINEAR = jsonschema_rs.RegexOptions()


def _steady(address: IPv6Address | IPv4Address) -> str:
    """The canonical text."""
    _plain(address)
    return str(address)


def _plain(address: IPv6Address | IPv4Address) -> None:
    """Mapped IPv4 is refused: Python 3.13 writes it in another way than 3.11 did."""
    if isinstance(address, IPv6Address) and (address.ipv4_mapped or address.scope_id):
        raise ValueError(address)


def written(network: IPv6Network | IPv4Network) -> str:
    """Its canonical text."""
    _plain(network.network_address)
    return str(network)


def _interface(text: str) -> str:
    """Without a length it would be a network of its own, and see nobody."""
    if "/" not in text:
        raise ValueError(text)
    interface = ip_interface(text)
    _steady(interface.ip)
    return str(interface)


def _regex(text: str) -> str:
    whole(text)
    return text


@lru_cache(maxsize=4096)
def whole(pattern: str) -> Judge:
    """Says whether all of a text matches; ValidationError for what is no pattern.

    The pattern has to be one by itself as well: in parentheses, `a)|(b` would match the half of a text.
    """
    return Judge({"allOf": [{"pattern": pattern}, {"pattern": f"^(?:{pattern})$"}]}, pattern_options=LINEAR)


class Format(NamedTuple):
    canonical: Callable[[str], str]
    """The one right way to write it; ValueError when it is no such thing."""
    what: str
    rule: str = "small letters, as short as possible"


FORMATS = {
    "ipv6": Format(lambda text: _steady(IPv6Address(text)), "an IPv6 address such as 2001:db8::1"),
    "ipv4": Format(lambda text: _steady(IPv4Address(text)), "an IPv4 address such as 192.0.2.1"),
    "ipv6-prefix": Format(
        lambda text: written(IPv6Network(text, strict=False)),
        "an IPv6 prefix such as 2001:db8::/48",
        "small letters, as short as possible, zeros after the prefix",
    ),
    "ipv4-prefix": Format(
        lambda text: written(IPv4Network(text, strict=False)),
        "an IPv4 prefix such as 192.0.2.0/28",
        "zeros after the prefix",
    ),
    "prefix": Format(
        lambda text: written(ip_network(text, strict=False)),
        "a prefix such as 2001:db8::/32",
        "small letters, as short as possible, zeros after the prefix",
    ),
    "interface-address": Format(_interface, "an address with its network's length, such as 10.0.2.1/24 or fd00::1/64"),
    "date": Format(lambda text: date.fromisoformat(text).isoformat(), "a day such as 2026-01-31"),
    "regex": Format(_regex, "a regular expression (RE2 syntax: no look-around, no back-references)"),
}


@lru_cache(maxsize=65536)
def canonical(name: str, text: str) -> str | None:
    try:
        return FORMATS[name].canonical(text)
    except (ValueError, jsonschema_rs.ValidationError):
        return None


def _is(name: str) -> Callable[[str], bool]:
    return lambda text: canonical(name, text) == text


@cache
def judge(kind: str, *steps: str) -> Judge:
    """Of a kind's documents, or of what one part of its schema describes."""
    return Judge(
        part(kind, *steps),
        formats={name: _is(name) for name in FORMATS},
        validate_formats=True,
        ignore_unknown_formats=False,
        pattern_options=LINEAR,
    )


def part(kind: str, *steps: str | int) -> Schema:
    """The part of a kind's schema that these steps lead to."""
    found: Any = SCHEMAS[kind]
    for step in steps:
        found = found[step]
    return cast(Schema, found)


# ── in plain words ───────────────────────────────────────────────────────────────────────────────────────────

NAME = "^[a-z](-?[a-z0-9])*$"
PATTERNS = {
    NAME: "small letters, digits and single hyphens, beginning with a letter",
    "^[a-z][a-z0-9_.-]*$": "small letters, digits, dots, hyphens and underscores, beginning with a letter",
    "^[a-z][a-z0-9_.-]{0,14}$": "at most 15 small letters, digits, dots, hyphens and underscores, a letter first",
    "^[A-Z][A-Z0-9_]{0,62}$": "capital letters, digits and underscores, beginning with a letter",
    "^([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\\.)+[a-z]([a-z0-9-]{0,61}[a-z0-9])?$": (
        "a full domain name in small letters, such as www.example.org, without a star or a final dot"
    ),
    "^/[!-~]*$": "a path that begins with /, without spaces, such as /status?full",
    "^(https|file)://[!-~]+$": "an address that begins with https:// or file://, without spaces",
    "^([01][0-9]|2[0-3]):[0-5][0-9]$": "a time of the day, such as 02:00",
    "^sha256:[0-9a-f]{64}$": "sha256: and 64 digits of 0-9 and a-f",
    "^([0-9a-f]{40}|[0-9a-f]{64})$": "40 (or 64) digits of 0-9 and a-f; a branch or a tag could change",
    "^[1-9][0-9]{0,5}(Mi|Gi)$": "a whole number and Mi or Gi, such as 256Mi or 2Gi",
    "^age1[02-9ac-hj-np-z]{58}$": "age1 and 58 more characters, as age-keygen prints it",
    "^(ssh-ed25519|ssh-rsa|ecdsa-sha2-nistp(256|384|521)) [A-Za-z0-9+/]+={0,2}$": (
        "the type and the key with one space between, such as ssh-ed25519 AAAA…"
    ),
    "^[ -~]+$": "ASCII without line breaks, and at least one character",
    "^[ -~]*$": "ASCII without line breaks",
    "^[A-Za-z0-9_][A-Za-z0-9._-]*(/[A-Za-z0-9_][A-Za-z0-9._-]*)*$": "a relative path such as share/defaults",
    "^[A-Za-z][A-Za-z0-9._-]*(/[A-Za-z0-9_][A-Za-z0-9._-]*)+$": "a pool and a dataset in it, such as zroot/reconciler",
    "^(/[A-Za-z0-9_][A-Za-z0-9._-]*)+$": "an absolute path such as /var/lib/www, without a final /",
    "^(net|vm|fs|kernel|kern|vfs|security|hw)(\\.[A-Za-z0-9_-]+)+$": (
        "a setting below net., vm., fs. or kernel.; on FreeBSD also kern., vfs., hw. or security."
    ),
    "^[0-9A-Za-z._-]+( [0-9A-Za-z._-]+)*$": "words of letters, digits, dots and hyphens, with one space between",
    "^[^\\x00-\\x1f\\x7f-\\x9f\\u2028\\u2029]*$": "one line of text (`|` and `>` end with a line break)",
    "^[^\\x00-\\x08\\x0b-\\x1f\\x7f-\\x9f]*$": "text without control characters",
    "^[0-9a-f:]+$": FORMATS["ipv6"].what,
    "^[0-9.]+$": FORMATS["ipv4"].what,
    "^[0-9a-f:]+/[0-9]{1,3}$": FORMATS["ipv6-prefix"].what,
    "^[0-9.]+/[0-9]{1,2}$": FORMATS["ipv4-prefix"].what,
    "^h[0-9a-f]{15}$": "h and 15 digits of 0-9 and a-f, as the status gives it",
    "^[0-9]{4}-[0-9]{2}-[0-9]{2}$": FORMATS["date"].what,
    "^[0-9a-f:.]+/[0-9]{1,3}$": "an address, a slash and a length, such as 2001:db8::/32",
}
"""Every pattern of the schemas, for people who do not read regular expressions."""


def pattern_hint(schema: Schema) -> str:
    words = PATTERNS.get(schema["pattern"], f"what matches {schema['pattern']}")
    example = f", for example {schema['examples'][0]}" if "examples" in schema and "such as" not in words else ""
    return f"write {words}{example}. {described(schema)}".strip()


def described(schema: Schema) -> str:
    return str(schema.get("description", ""))
