"""What a path means: which files are looked at, where documents, secrets and lists live, what is said of all others.

In: paths, and the bytes of files that are no documents. Out: a SecretFile (only its wrapping is looked at, and no
message repeats what is in it) or a Problem that says where such a file belongs. Must not know: YAML.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from difflib import get_close_matches
from functools import lru_cache

from reconciler.load.formats import judge, part, pattern_hint
from reconciler.load.words import Finding, nearest, printable, shown
from reconciler.model import Problem, SecretFile
from reconciler.schemas import customer_of, places

IGNORED = re.compile(
    r"(?:.*/)?\..*|.*\.md|(?:customers/[^/]+/)?(?:files|archives)/.*|README|LICENSE|CODEOWNERS", re.DOTALL
)
"""Dot files and folders anywhere (.gitkeep is how git keeps an empty jails/), Markdown, files/ and archives/."""
SECRET = re.compile(r"customers/[^/]+/secrets/(?P<name>[^/]+)\.age")
SECRET_PLACE = "customers/*/secrets/*.age"
_LIST = re.compile(r"(?:customers/[^/]+/)?lists/(?P<name>[^/]+)\.txt")
LIST_PLACES = {"lists of addresses": "lists/*.txt", "a customer's own lists": "customers/*/lists/*.txt"}


def ignored(path: str) -> bool:
    """Whether the file is none of ours and may be there: a Makefile, docs/, schemas/ and what else people keep.

    YAML is never passed over, nor anything in a folder that is called nearly like one of ours: it may be a jail.
    """
    if IGNORED.fullmatch(path):
        return True
    return not path.endswith((".yaml", ".yml", ".age")) and foreign(path.partition("/")[0])


def homes() -> dict[str, str]:
    """What lives in a repository → the glob of its paths."""
    return {f"{kind} documents": glob for kind, glob in places().items()} | {
        "encrypted secrets": SECRET_PLACE,
        **LIST_PLACES,
    }


def list_at(path: str) -> str:
    """The name of the list that lives at this path, "" where none does."""
    match = _LIST.fullmatch(path)
    return match["name"] if match else ""


def secret_at(path: str) -> str:
    """The name of the secret that lives at this path, "" where none does."""
    match = SECRET.fullmatch(path)
    return match["name"] if match else ""


@lru_cache(maxsize=1024)
def foreign(top: str) -> bool:
    """Whether the first part of a path is nothing like a folder where documents live."""
    return not get_close_matches(top, {glob.partition("/")[0] for glob in homes().values()}, cutoff=0.7)


def unreadable(path: str, reason: str) -> Problem:
    """Something that git holds and that is not a file, or not one that can be had."""
    return Problem(path, 1, 1, f"this cannot be read: {reason}")


def stray(path: str, data: bytes) -> Problem:
    """A file where nothing is read: a typo in a folder's name must not silently drop a jail."""
    known = homes()
    said = re.search(rb"^kind:[ \t]*[\"']?([A-Za-z]{1,40})", data[:4096], re.MULTILINE)
    what = f"{said[1].decode()} documents" if said else ""
    filled = {name: fill(glob, path) for name, glob in known.items()}
    right = filled[what] if what in filled else nearest(path, _beside(path, filled.values()) or filled.values())
    if not right:
        every = "; ".join(f"{name} at {model(glob)}" for name, glob in known.items())
        return Problem(path, 1, 1, "no document lives at this path", f"{every}; other files go below files/")
    name = next(name for name in filled if filled[name] == right)
    hint = f"did you mean {printable(right)}? {name} live at {model(known[name])}"
    return Problem(path, 1, 1, "no document lives at this path", hint)


def _beside(path: str, places: Collection[str]) -> list[str]:
    """Where the folder says what was meant, its ending is wrong; else the ending may say it."""
    folder, ending = path.rpartition("/")[0], path.rpartition(".")[2]
    same = [place for place in places if folder and place.rpartition("/")[0] == folder and "customer.yaml" not in place]
    return same or [place for place in places if place.rpartition(".")[2] == ending == "txt"]


def fill(glob: str, path: str) -> str:
    """The path of this shape that is nearest: the customer and the name of `path`, in the folders of `glob`."""
    parts = path.split("/")
    tenant = glob.startswith("customers/")
    customer = parts[1] if len(parts) > 2 and nearest(parts[0], ["customers"]) else "CUSTOMER"
    names = [customer] * tenant + [parts[-1].rsplit(".", 1)[0]]
    for name in names[: glob.count("*")]:
        glob = glob.replace("*", name.replace("*", "") or "NAME", 1)
    return glob


def model(glob: str) -> str:
    return glob.replace("customers/*", "customers/CUSTOMER").replace("*", "NAME")


CUSTOMER_NAME = ("Customer", "properties", "metadata", "properties", "name")
SECRET_NAME = ("Jail", "properties", "spec", "properties", "secrets", "items")


@lru_cache(maxsize=4096)
def folder_name(customer: str) -> tuple[Finding, ...]:
    """The customer's folder is a name too, and reaches hosts even while its customer.yaml is missing."""
    return tuple(misnamed("a customer's folder", customer, CUSTOMER_NAME)) if customer else ()


def misnamed(what: str, name: str, schema: tuple[str, ...]) -> Iterator[Finding]:
    """`schema`: the steps to the part of it that says how such a name looks."""
    if not judge(*schema).is_valid(name):
        yield Finding((), f"{what} cannot be called {shown(name)}", pattern_hint(part(*schema)))


# ── secrets ──────────────────────────────────────────────────────────────────────────────────────────────────

LARGEST_SECRET = 64 << 10
"""Bytes of a secret's ciphertext."""
ARMOUR = re.compile(
    r"-----BEGIN AGE ENCRYPTED FILE-----\r?\n(?:[A-Za-z0-9+/=]+\r?\n)+-----END AGE ENCRYPTED FILE-----\s*"
)
ENCRYPT = "encrypt it with age to the customer's recipient: age --armor -r RECIPIENT -o NAME.age FILE"


def secret(path: str, name: str, data: bytes) -> SecretFile | tuple[Problem, ...]:
    """Only its wrapping is looked at; no message repeats what is in it."""
    if refusal := _unsealed(data):
        return (Problem(path, 1, 1, *refusal),)
    customer = customer_of(path)
    if findings := [*folder_name(customer), *misnamed("a secret", name, SECRET_NAME)]:
        return tuple(Problem(path, 1, 1, finding.message, finding.hint) for finding in findings)
    return SecretFile(path, customer, name, data.decode("ascii"))


def _unsealed(data: bytes) -> tuple[str, str] | None:
    """Why this is no ciphertext; (message, hint)."""
    if len(data) > LARGEST_SECRET:
        return f"this secret is {len(data):,} bytes long; at most {LARGEST_SECRET:,} are accepted", ""
    if not data.strip():
        return "this secret is empty", ENCRYPT
    if data.startswith(b"age-encryption.org/"):
        return "this is encrypted, but not ASCII-armoured", ENCRYPT
    if not data.startswith(b"-----BEGIN AGE ENCRYPTED FILE-----"):
        return "this looks like a plaintext secret", f"{ENCRYPT}; whoever can read the repository has read this one"
    if not data.isascii() or not ARMOUR.fullmatch(data.decode("ascii")):
        return "this begins like an age file, but is cut off or damaged", ENCRYPT
    return None
