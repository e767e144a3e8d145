"""Secrets: who can open what, and what is said when it cannot be done."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pyrage  # type: ignore[import-untyped]
import pytest

from reconciler.age import Identities, SecretFailure, open_secret, opened, seal
from reconciler.model import HostSpec, Jail, JailSecret, Limits, Nic, Part, Rule, Source, Ssh, Tunnel

PLAIN = b"correct horse battery staple"
ROOT = Path(__file__).parents[2]


def keypair() -> tuple[str, str]:
    identity = pyrage.x25519.Identity.generate()
    return str(identity), str(identity.to_public())


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    folder = tmp_path / "keys"
    folder.mkdir(mode=0o700)
    return folder


def customer(keys: Path, name: str) -> str:
    """Gives a customer a key; returns the recipient."""
    identity, recipient = keypair()
    (keys / f"{name}.key").write_text(f"# created by a test\n# public key: {recipient}\n{identity}\n")
    return recipient


def secret(owner: str, name: str, ciphertext: str) -> JailSecret:
    return JailSecret(name, f"customers/{owner}/secrets/{name}.age", ciphertext)


def jail(owner: str, name: str, *secrets: JailSecret) -> Jail:
    return Jail(
        id=f"{owner}--{name}",
        customer=owner,
        name=name,
        nic=Nic("j0", "jails0", "02:00:00:00:00:01", (), ()),
        blueprint="app",
        application=Source("archive", "https://example.org/a.tar", "0" * 64),
        release=None,
        command=("/bin/true",),
        root=False,
        defaults="",
        data=(),
        environment=(),
        secrets=secrets,
        limits=Limits(),
        after=(),
        restart=0,
        stop_timeout=15,
        grants=(),
        resolvers=(),
        neighbours=(),
    )


def tunnel(owner: str, name: str, key: JailSecret) -> Tunnel:
    """Its end in jail `www`."""
    there = ("2001:db8::db", 5433)
    return Tunnel(f"{owner}--{name}", owner, f"{owner}--www", True, ("::1", 5432), there, key)


def spec(*parts: Part) -> HostSpec:
    rules = tuple(Rule(part.id, "in", (), "tcp", (80,), "web") for part in parts if isinstance(part, Jail))
    return HostSpec("a", "linux", "cam", Ssh("::1", 22, ""), "/var/lib/reconciler", (*parts, *rules))


# ── sealing and opening ──────────────────────────────────────────────────────────────────────────────────────


def test_what_is_sealed_can_be_opened() -> None:
    identity, recipient = keypair()
    ciphertext = seal(PLAIN, recipient)
    assert ciphertext.startswith("-----BEGIN AGE ENCRYPTED FILE-----")
    assert open_secret(ciphertext, identity) == PLAIN


@pytest.mark.parametrize("ciphertext", ["", "plain text", "-----BEGIN AGE ENCRYPTED FILE-----\nAAAA\n", "\ud800", "€"])
def test_what_is_not_age_is_refused(ciphertext: str) -> None:
    with pytest.raises(SecretFailure):
        open_secret(ciphertext, keypair()[0])


def test_errors_tell_neither_key_nor_contents() -> None:
    (_, recipient), (other, _) = keypair(), keypair()
    for identity in (other, "AGE-SECRET-KEY-1NONSENSE"):
        with pytest.raises(SecretFailure) as failure:
            open_secret(seal(PLAIN, recipient), identity)
        assert identity not in str(failure.value)
        assert PLAIN.decode() not in str(failure.value)
        assert failure.value.__cause__ is None
        assert failure.value.__suppress_context__


def test_sealing_to_nonsense() -> None:
    with pytest.raises(SecretFailure, match="public key"):
        seal(PLAIN, "age1nonsense")


def test_the_sample_repository_can_be_opened(keys: Path) -> None:
    (keys / "acme.key").write_bytes((ROOT / "tests/lab/keys/acme.key").read_bytes())
    ciphertext = (ROOT / "sample-repo/customers/acme/secrets/db-password.age").read_text()
    value = Identities(keys).open("acme", secret("acme", "db-password", ciphertext)).value
    assert value.startswith(b"demo: ")


def test_the_sample_repository_tells_the_right_recipient() -> None:
    recipient = (ROOT / "tests/lab/keys/acme.key").read_text().split("public key: ")[1].split()[0]
    assert f"recipient: {recipient}\n" in (ROOT / "sample-repo/customers/acme/customer.yaml").read_text()


# ── a host's secrets ─────────────────────────────────────────────────────────────────────────────────────────


def test_every_secret_is_opened(keys: Path) -> None:
    acme, kiln = customer(keys, "acme"), customer(keys, "kiln")
    before = spec(
        jail("acme", "www", secret("acme", "one", seal(b"1", acme)), secret("acme", "two", seal(b"2", acme))),
        jail("kiln", "www", secret("kiln", "one", seal(b"3", kiln))),
    )
    after = opened(before, Identities(keys))
    assert (after.failures, after.frozen) == ((), frozenset())
    values = [s.opened.value for j in after.spec.jails for s in j.secrets if s.opened]
    assert values == [b"1", b"2", b"3"]
    assert after.spec.parts[2:] == before.parts[2:]
    assert "b'1'" not in repr(after)


def test_one_bad_secret_freezes_one_jail(keys: Path) -> None:
    acme = customer(keys, "acme")
    bad = secret("acme", "bad", seal(PLAIN, keypair()[1]))
    good = secret("acme", "good", seal(PLAIN, acme))
    before = spec(jail("acme", "db", bad, good), jail("acme", "www", good))
    after = opened(before, Identities(keys))
    assert after.frozen == {"acme--db"}
    assert [(f.owner, f.key) for f in after.failures] == [("acme--db", "customers/acme/secrets/bad.age")]
    assert "recipient" in after.failures[0].reason
    assert [[bool(s.opened) for s in j.secrets] for j in after.spec.jails] == [[False, True], [True]]
    assert len(after.spec.parts) == len(before.parts)


def test_the_key_of_a_tunnel_is_opened(keys: Path) -> None:
    acme = customer(keys, "acme")
    before = spec(jail("acme", "www"), tunnel("acme", "www-db", secret("acme", "pipe", seal(PLAIN, acme))))
    after = opened(before, Identities(keys))
    assert (after.failures, after.frozen) == ((), frozenset())
    (end,) = (part for part in after.spec.parts if isinstance(part, Tunnel))
    assert end.key.opened
    assert end.key.opened.value == PLAIN
    assert PLAIN.decode() not in repr(after)


def test_a_tunnel_whose_key_cannot_be_opened_freezes_its_jail(keys: Path) -> None:
    acme = customer(keys, "acme")
    bad = secret("acme", "pipe", seal(PLAIN, keypair()[1]))
    good = secret("acme", "other-pipe", seal(PLAIN, acme))
    before = spec(
        jail("acme", "www"),
        jail("acme", "db", secret("acme", "password", seal(PLAIN, acme))),
        tunnel("acme", "www-db", bad),
        tunnel("acme", "www-mail", good),
    )
    after = opened(before, Identities(keys))
    assert after.frozen == {"acme--www"}
    assert [(f.owner, f.key) for f in after.failures] == [("acme--www", "customers/acme/secrets/pipe.age")]
    assert "customers/acme/secrets/pipe.age cannot be opened with the customer's key" in after.failures[0].reason
    ends = {part.id: bool(part.key.opened) for part in after.spec.parts if isinstance(part, Tunnel)}
    assert ends == {"acme--www-db": False, "acme--www-mail": True}
    assert [[bool(s.opened) for s in j.secrets] for j in after.spec.jails] == [[], [True]]


def test_a_customer_without_secrets_needs_no_key(keys: Path) -> None:
    before = spec(jail("uirig", "www"))
    assert opened(before, Identities(keys / "not-there")).spec == before


def test_a_secret_is_opened_for_its_own_customer_only(keys: Path) -> None:
    acme, _ = customer(keys, "acme"), customer(keys, "kiln")
    stolen = secret("acme", "password", seal(PLAIN, acme))
    with pytest.raises(SecretFailure, match="not kiln's"):
        Identities(keys).open("kiln", stolen)
    # the ciphertext copied into one's own folder: one's own key does not open it
    with pytest.raises(SecretFailure, match="cannot be opened with the customer's key"):
        Identities(keys).open("kiln", secret("kiln", "password", stolen.ciphertext))


@pytest.mark.parametrize("name", ["..", "a/b", "", "acme/../kiln", "A"])
def test_customers_names_are_no_paths(keys: Path, name: str) -> None:
    with pytest.raises(SecretFailure, match="not a customer's name"):
        Identities(keys).salt(name, "x")


# ── the folder of keys ───────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("mode", [0o755, 0o710, 0o701])
def test_a_folder_that_others_can_enter_is_refused(keys: Path, mode: int) -> None:
    customer(keys, "acme")
    keys.chmod(mode)
    with pytest.raises(SecretFailure, match="chmod 700"):
        Identities(keys).salt("acme", "x")


@pytest.mark.parametrize("text", ["", "# nothing\n", "AGE-SECRET-KEY-1A\nAGE-SECRET-KEY-1B\n"])
def test_a_key_file_holds_one_key(keys: Path, text: str) -> None:
    (keys / "acme.key").write_text(text)
    with pytest.raises(SecretFailure, match="not one") as failure:
        Identities(keys).salt("acme", "x")
    assert "KEY-1A" not in str(failure.value)


def test_messages_say_nothing_of_this_machine(keys: Path) -> None:
    before = spec(jail("acme", "www", secret("acme", "one", "")))
    first = opened(before, Identities(keys)).failures
    (keys / "acme.key").mkdir()
    second = opened(before, Identities(keys)).failures
    for (failure,) in (first, second):
        assert "acme.key" in failure.reason
        assert str(keys) not in failure.reason


def test_salts_differ_by_customer_name_and_key(keys: Path) -> None:
    recipient = customer(keys, "acme")
    customer(keys, "kiln")
    identities = Identities(keys)
    salts = {identities.salt(c, n) for c in ("acme", "kiln") for n in ("one", "two")}
    assert len(salts) == 4
    assert all(len(s) == 64 for s in salts)
    part = secret("acme", "one", seal(PLAIN, recipient))
    assert identities.open("acme", part).salt == identities.salt("acme", "one")
    # sealed anew, the same contents have the same salt: a digest that does not change restarts nothing
    again = replace(part, ciphertext=seal(PLAIN, recipient))
    assert again != part
    assert identities.open("acme", again) == identities.open("acme", part)
    customer(keys, "acme")
    assert identities.salt("acme", "one") not in salts
