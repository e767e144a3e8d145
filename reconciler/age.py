"""Secrets: opens and seals what customers encrypt with age. The only module that imports pyrage.

In: ciphertext from `customers/X/secrets/NAME.age`, and a root-only folder with one identity a customer, `X.key`, as
age-keygen writes it. Out: the same HostSpec with its secrets opened, and the jails whose secrets could not be.
Must not know git, hosts or platforms; no plaintext and no key ever stands in an error, a log or a repr.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import stat
from dataclasses import dataclass, replace
from pathlib import Path

import pyrage

from reconciler.model import Failure, HostSpec, Jail, JailSecret, Part, Secret, Tunnel

PLACE = "<the reconciler's folder of keys>"
"""In messages: they end in a status commit, which says nothing of the reconciler's own machine."""


class SecretFailure(Exception):
    """A secret that cannot be opened; the message names the file and what to do, never the contents."""


@dataclass(frozen=True, slots=True)
class Opened:
    """A host's spec, opened as far as possible.

    A `frozen` jail has a secret that could not be opened. It is still in the spec, so that others' rules and names
    for it stay right, but nothing of it may be changed on the host.
    """

    spec: HostSpec
    failures: tuple[Failure, ...] = ()
    frozen: frozenset[str] = frozenset()


def opened(spec: HostSpec, identities: Identities) -> Opened:
    """Opens every secret of every jail; failures are collected, so that one customer's mistake is not another's."""
    failures: list[Failure] = []
    parts = tuple(_opened(part, identities, failures) for part in spec.parts)
    return Opened(replace(spec, parts=parts), tuple(failures), frozenset(f.owner for f in failures))


def _opened(part: Part, identities: Identities, failures: list[Failure]) -> Part:
    match part:
        case Jail():
            secrets = (_tried(secret, part.id, part.customer, identities, failures) for secret in part.secrets)
            return replace(part, secrets=tuple(secrets))
        case Tunnel():
            return replace(part, key=_tried(part.key, part.jail, part.customer, identities, failures))
    return part


def _tried(
    secret: JailSecret, owner: str, customer: str, identities: Identities, failures: list[Failure]
) -> JailSecret:
    try:
        return replace(secret, opened=identities.open(customer, secret))
    except SecretFailure as failure:
        failures.append(Failure(owner, secret.path, str(failure)))
        return secret


class Identities:
    """The folder of the customers' private keys. Read anew each time: a new key needs no restart."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def open(self, customer: str, secret: JailSecret) -> Secret:
        """Only with the key of the customer whose folder holds it, and only for that customer's jails."""
        if secret.path != f"customers/{customer}/secrets/{secret.name}.age":
            raise SecretFailure(f"{secret.path} is not {customer}'s: a jail gets secrets of its own customer only")
        identity = self._identity(customer)
        try:
            value = open_secret(secret.ciphertext, identity)
        except SecretFailure as failure:
            raise SecretFailure(
                f"{secret.path} {failure}: encrypt it again, to the `recipient` in customers/{customer}/customer.yaml; "
                f"if that has changed, its private key belongs into {customer}.key"
            ) from None
        return Secret(value, _salt(identity, customer, secret.name))

    def salt(self, customer: str, name: str) -> str:
        """What a secret's digest is keyed with: nobody without the private key can guess a short password by it."""
        return _salt(self._identity(customer), customer, name)

    def _identity(self, customer: str) -> str:
        if not re.fullmatch(r"[a-z](-?[a-z0-9])*", customer):
            raise SecretFailure(f"{customer!r} is not a customer's name")
        file = f"{customer}.key"
        try:
            self._check_private()
            lines = (self._folder / file).read_text(encoding="utf-8", errors="replace").splitlines()
        except FileNotFoundError:
            raise SecretFailure(f"there is no key for {customer}: put its age identity into {PLACE}/{file}") from None
        except OSError as error:
            raise SecretFailure(f"{PLACE}/{file} cannot be read ({type(error).__name__})") from None
        keys = [line for line in map(str.strip, lines) if line and not line.startswith("#")]
        if len(keys) != 1:
            raise SecretFailure(f"{PLACE}/{file} has {len(keys)} keys, not one: leave one line AGE-SECRET-KEY-…")
        return keys[0]

    def _check_private(self) -> None:
        status = self._folder.stat()
        if stat.S_IMODE(status.st_mode) & 0o077 or status.st_uid not in (0, os.geteuid()):
            raise SecretFailure(f"others can get at {PLACE}: `chmod 700`, and `chown` to the reconciler's user")


def _salt(identity: str, customer: str, name: str) -> str:
    return hmac.new(identity.encode(), f"{customer}/{name}".encode(), hashlib.sha256).hexdigest()


# What pyrage and its Rust code say is never passed on: SecretFailure is raised `from None`, in words of ours.


def open_secret(ciphertext: str, identity: str) -> bytes:
    """The plaintext; SecretFailure, without a file's name, when the identity is none or does not fit."""
    try:
        key = pyrage.x25519.Identity.from_str(identity)
    except pyrage.IdentityError:
        raise SecretFailure("cannot be opened: the customer's key is not an age identity (AGE-SECRET-KEY-…)") from None
    try:
        plaintext: bytes = pyrage.decrypt(ciphertext.encode(), [key])
    except (pyrage.DecryptError, UnicodeEncodeError):
        raise SecretFailure("cannot be opened with the customer's key") from None
    return plaintext


def seal(plaintext: bytes, recipient: str) -> str:
    """Armoured ciphertext for `customers/X/secrets/NAME.age`."""
    try:
        key = pyrage.x25519.Recipient.from_str(recipient)
    except pyrage.RecipientError:
        raise SecretFailure(f"{recipient[:70]!r} is not an age public key (age1…)") from None
    ciphertext: bytes = pyrage.encrypt(plaintext, [key], armored=True)
    return ciphertext.decode("ascii")
