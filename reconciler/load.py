"""One file of the config repository → a Document, a SecretFile, or every Problem in it with its line and column.

In: a path and bytes, which anybody may have written. Out: values; nothing here raises, reads a file or knows git,
other documents or hosts. Two rules carry it: **one parser decides** (ryaml: what is accepted, and every value) and
**one validator decides** (jsonschema-rs). ruamel.yaml only says where something is, and only in files that fail; its
times and its stack grow with hostile input, so it sees nothing large or deep. The words are made here from
jsonschema-rs's own errors: Python's jsonschema reads patterns differently (it takes "abc\\n" for ^[a-z]+$) and would
find nothing to say about such a document.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_interface, ip_network
from itertools import islice
from typing import Any, NamedTuple

import jsonschema_rs
import ryaml
from ruamel.yaml import YAML
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from reconciler.model import Document, Pointer, Problem, SecretFile
from reconciler.schemas import SCHEMAS, Schema, customer_of, kind_of, places

LARGEST = 1 << 20
"""Bytes of a document; refused before anything parses it."""
LARGEST_SECRET = 64 << 10
"""Bytes of a secret's ciphertext."""
BRACKETS = 5_000
"""Opening brackets in a document: the parser's time grows with the square of their depth (40,000 take 6 s)."""
UNFOLDED = 4 << 20
"""Characters of a document with its aliases unfolded, by an upper bound: ryaml itself lets 50 KB become 10^8 values."""
SCANNED, TOKENS = 256 << 10, 20_000
"""What ruamel is given at most, in characters and in (about) tokens: a second or so of its time."""
MOST = 100
"""Problems of one file that are told."""


def load(path: str, data: bytes) -> Document | SecretFile | tuple[Problem, ...]:
    """What one file says, or all that is wrong with it; () for a file that is `ignored`."""
    if ignored(path):
        return ()
    if kind := kind_of(path):
        return _document(path, kind, data)
    if match := SECRET.fullmatch(path):
        return _secret(path, match["name"], data)
    return (_stray(path, data),)


# ── which files are looked at ────────────────────────────────────────────────────────────────────────────────

IGNORED = re.compile(
    r"(?:.*/)?\..*|.*\.md|(?:customers/[^/]+/)?(?:files|archives)/.*|README|LICENSE|CODEOWNERS", re.DOTALL
)
"""Dot files and folders anywhere (.gitkeep is how git keeps an empty jails/), Markdown, files/ and archives/."""
SECRET = re.compile(r"customers/[^/]+/secrets/(?P<name>[^/]+)\.age")
SECRET_PLACE = "customers/*/secrets/*.age"


def ignored(path: str) -> bool:
    """Whether the file is none of ours and may be there."""
    return IGNORED.fullmatch(path) is not None


UNREADABLE = {
    "symlink": ("is a symbolic link, and links are not followed", "put the file itself here"),
    "submodule": ("is a git submodule, and submodules are not read", "put the files themselves here"),
    "directory": ("is a folder where a file belongs", "give the folder another name"),
}


def unreadable(path: str, reason: str) -> Problem:
    """Something that git holds and that is not a file; `reason` is a word of UNREADABLE, or words of the caller's."""
    message, hint = UNREADABLE.get(reason, (f"cannot be read: {reason}", ""))
    return Problem(path, 1, 1, f"this {message}", hint)


def _stray(path: str, data: bytes) -> Problem:
    """A file where nothing is read: a typo in a folder's name must not silently drop a jail."""
    homes = {f"{kind} documents": glob for kind, glob in places().items()} | {"encrypted secrets": SECRET_PLACE}
    said = re.search(rb"^kind:[ \t]*[\"']?([A-Za-z]{1,40})", data[:4096], re.MULTILINE)
    what = f"{said[1].decode()} documents" if said else ""
    filled = {name: _fill(glob, path) for name, glob in homes.items()}
    right = filled[what] if what in filled else nearest(path, filled.values())
    if not right:
        every = "; ".join(f"{name} at {_model(glob)}" for name, glob in homes.items())
        return Problem(path, 1, 1, "no document lives at this path", f"{every}; other files go below files/")
    name = next(name for name in filled if filled[name] == right)
    hint = f"did you mean {_printable(right)}? {name} live at {_model(homes[name])}"
    return Problem(path, 1, 1, "no document lives at this path", hint)


def _fill(glob: str, path: str) -> str:
    """The path of this shape that is nearest: the customer and the name of `path`, in the folders of `glob`."""
    parts = path.split("/")
    tenant = glob.startswith("customers/")
    customer = parts[1] if len(parts) > 2 and nearest(parts[0], ["customers"]) else "CUSTOMER"
    names = [customer] * tenant + [parts[-1].rsplit(".", 1)[0]]
    for name in names[: glob.count("*")]:
        glob = glob.replace("*", name.replace("*", "") or "NAME", 1)
    return glob


def _model(glob: str) -> str:
    return glob.replace("customers/*", "customers/CUSTOMER").replace("*", "NAME")


# ── secrets ──────────────────────────────────────────────────────────────────────────────────────────────────

ARMOUR = re.compile(
    r"-----BEGIN AGE ENCRYPTED FILE-----\r?\n(?:[A-Za-z0-9+/=]+\r?\n)+-----END AGE ENCRYPTED FILE-----\s*"
)
ENCRYPT = "encrypt it with age to the customer's recipient: age --armor -r RECIPIENT -o NAME.age FILE"


def _secret(path: str, name: str, data: bytes) -> SecretFile | tuple[Problem, ...]:
    """Only its wrapping is looked at; no message repeats what is in it."""
    if refusal := _unsealed(data):
        return (Problem(path, 1, 1, *refusal),)
    customer = customer_of(path)
    if findings := [*_folder(customer), *_secret_name(name)]:
        return tuple(Problem(path, 1, 1, finding.message, finding.hint) for finding in findings)
    return SecretFile(path, customer, name, data.decode("ascii"))


def _unsealed(data: bytes) -> tuple[str, str] | None:
    """Why this is no ciphertext; (message, hint)."""
    if len(data) > LARGEST_SECRET:
        return f"this secret is {len(data):,} bytes long; at most {LARGEST_SECRET:,} are accepted", ""
    if data.startswith(b"age-encryption.org/"):
        return "this is encrypted, but not ASCII-armoured", ENCRYPT
    if not data.startswith(b"-----BEGIN AGE ENCRYPTED FILE-----"):
        return "this looks like a plaintext secret", f"{ENCRYPT}; whoever can read the repository has read this one"
    if not data.isascii() or not ARMOUR.fullmatch(data.decode("ascii")):
        return "this begins like an age file, but is cut off or damaged", ENCRYPT
    return None


def _secret_name(name: str) -> Iterator[_Finding]:
    schema = SCHEMAS["Jail"]["properties"]["spec"]["properties"]["secrets"]["items"]
    if not _judge(json.dumps(schema)).is_valid(name):
        yield _Finding((), f"a secret cannot be called {_shown(name)}", _pattern_hint(schema))


# ── documents ────────────────────────────────────────────────────────────────────────────────────────────────

BOM = "\ufeff"
"""Accepted at the start: YAML 1.2 (5.2) allows it there, and editors on Windows write it without being asked."""
TAG = re.compile(r"(?:^|[\s\[{,:])!")
NAME = "^[a-z](-?[a-z0-9])*$"


def _document(path: str, kind: str, data: bytes) -> Document | tuple[Problem, ...]:
    if refusal := _hostile(data):
        return (Problem(path, 1, 1, *refusal),)
    try:
        text = data.decode().removeprefix(BOM)
    except UnicodeDecodeError as error:
        return (_undecodable(path, data, error.start),)
    try:
        value = ryaml.loads(text)  # type: ignore[attr-defined]  # its stub re-exports nothing
    except ValueError as error:  # InvalidYamlError is one
        return _syntax(path, text, str(error))
    if not _flawless(path, kind, text, value) and (problems := _problems(path, kind, text, value)):
        return problems
    return Document(path, kind, value["metadata"]["name"], customer_of(path), value["spec"])


def _hostile(data: bytes) -> tuple[str, str] | None:
    """What no parser should be given, found by counting; (message, hint)."""
    if len(data) > LARGEST:
        return f"this file is {len(data):,} bytes long; at most {LARGEST:,} are accepted", "split it"
    if data.count(b"[") + data.count(b"{") > BRACKETS:
        return f"there are more than {BRACKETS:,} opening brackets in this file", "write lists as lines with -"
    if b"*" in data and b"&" in data and _unfolded(data) > UNFOLDED:
        return "the aliases (*name) in this file unfold to far too much", "write out what &name stands for"
    return None


def _unfolded(data: bytes) -> int:
    """An upper bound of the length with aliases unfolded: each anchor multiplies by one more than its aliases.

    A name that is anchored again counts afresh; an & or * in a text or comment only raises the bound.
    """
    size, aliases = len(data), dict[bytes, int]()
    for sign, name in re.findall(rb"([&*])([0-9A-Za-z_-]+)", data):
        if sign == b"&":
            size *= 1 + aliases.pop(name, 0)
        aliases[name] = aliases.get(name, 0) + (sign == b"*")
        if size > UNFOLDED:
            return size
    for count in aliases.values():
        size *= 1 + count
    return size


def _flawless(path: str, kind: str, text: str, value: Any) -> bool:
    """The accepting path: every judge says yes, and nothing is worded."""
    try:
        return (
            _validator(kind).is_valid(value)
            and _whole_numbers(value)
            and not _misnamed(path, kind, value)
            and not _folder(customer_of(path))
            and not ("!" in text and TAG.search(text))
        )
    except ValueError:  # jsonschema-rs refuses to look at mappings whose keys are not text
        return False


def _whole_numbers(value: Any) -> bool:
    """No number has a point: to JSON Schema 80.0 is an integer, in a generated file it is another text than 80."""
    stack = [value]
    while stack:
        item = stack.pop()
        if type(item) is dict:
            stack.extend(item.values())
        elif type(item) is list:
            stack.extend(item)
        elif type(item) is float:
            return False
    return True


class _Finding(NamedTuple):
    """A Problem before it has a place. `mends`: the key this one was probably meant to be."""

    pointer: Pointer
    message: str
    hint: str = ""
    at_key: bool = False
    mends: Pointer = ()


def _problems(path: str, kind: str, text: str, value: Any) -> tuple[Problem, ...]:
    """Every finding, one a place, in the file's order."""
    found: dict[Pointer, _Finding] = {}
    for finding in islice(_findings(path, kind, text, value), 10 * MOST):
        found.setdefault(finding.pointer, finding)
    meant = {finding.mends for finding in found.values()} - {()}
    told = [finding for pointer, finding in found.items() if pointer not in meant]
    problems = {Problem(path, *_position(text, f.pointer, f.at_key), f.message, f.hint) for f in told[:MOST]}
    problems.update(islice(_tags(path, text), MOST))
    if len(told) > MOST or len(problems) > MOST:
        more = Problem(path, 1, 1, f"there are more problems in this file; these are {MOST} of them")
        return (*sorted(problems)[:MOST], more)
    return tuple(sorted(problems))


def _findings(path: str, kind: str, text: str, value: Any) -> Iterator[_Finding]:
    yield from _folder(customer_of(path))
    if isinstance(value, dict):
        other = value.get("kind")
        if other != kind and isinstance(other, str) and other in SCHEMAS:
            # Everything else would be measured against the wrong schema, and only confuse.
            where = _fill(places()[other], path)
            yield _Finding(
                ("kind",),
                f"this is of kind {other}, but {_model(places()[kind])} is where {kind} documents live",
                f"write kind: {kind}, or move the file to {_printable(where)}",
            )
            return
        yield from _misnamed(path, kind, value)
    yield from _odd_keys(value, ())
    yield from _shape(kind, _text_keys(value))
    yield from _fractions(value, ())


def _misnamed(path: str, kind: str, value: Any) -> list[_Finding]:
    """The name is the file's, so that a person finds the file; a customer's is the folder's."""
    metadata = value.get("metadata")
    name = metadata.get("name") if isinstance(metadata, dict) else None
    *_, folder, file = ("", *path.split("/"))
    is_folder = places()[kind].endswith("*/customer.yaml")
    right = folder if is_folder else file.removesuffix(".yaml")
    if name == right or not isinstance(name, str) or "*" not in places()[kind]:
        return []
    mend = f"rename the {'folder' if is_folder else 'file'} to {_printable(name)}{'' if is_folder else '.yaml'}"
    if re.fullmatch(NAME[1:-1], right):
        mend = f"write name: {right}, or {mend}"
    elif not re.fullmatch(NAME[1:-1], name):
        return []  # the schema's judge has better words for a name that is wrong in itself
    what = "folder" if is_folder else "file"
    return [_Finding(("metadata", "name"), f"metadata.name is {_shown(name)}, but the {what} is {_shown(right)}", mend)]


@lru_cache(maxsize=4096)
def _folder(customer: str) -> tuple[_Finding, ...]:
    """The customer's folder is a name too, and reaches hosts even while its customer.yaml is missing."""
    schema = SCHEMAS["Customer"]["properties"]["metadata"]["properties"]["name"]
    if not customer or _judge(json.dumps(schema)).is_valid(customer):
        return ()
    return (_Finding((), f"a customer's folder cannot be called {_shown(customer)}", _pattern_hint(schema)),)


def _text_keys(value: Any) -> Any:
    """A copy that jsonschema-rs can look at."""
    if isinstance(value, dict):
        return {_key(key): _text_keys(item) for key, item in value.items()}
    return [_text_keys(item) for item in value] if isinstance(value, list) else value


def _key(key: Any) -> str:
    """A key as it probably stands in the file."""
    return key if isinstance(key, str) else json.dumps(key)


def _children(value: Any) -> Iterable[tuple[str | int, Any]]:
    if isinstance(value, dict):
        return ((_key(key), item) for key, item in value.items())
    return enumerate(value) if isinstance(value, list) else ()


def _odd_keys(value: Any, pointer: Pointer) -> Iterator[_Finding]:
    for key in value if isinstance(value, dict) else ():
        if not isinstance(key, str):
            at = (*pointer, _key(key))
            yield _Finding(at, f"{_where(at)}: a key has to be text, not {_shown(key)}", "put it in quotes", True)
    for step, item in _children(value):
        yield from _odd_keys(item, (*pointer, step))


def _fractions(value: Any, pointer: Pointer) -> Iterator[_Finding]:
    if isinstance(value, float):
        hint = f"write {int(value)}" if value.is_integer() else ""
        yield _Finding(pointer, f"{_where(pointer)} must be a whole number, not {_shown(value)}", hint)
    for step, item in _children(value):
        yield from _fractions(item, (*pointer, step))


# ── the judge of shape ───────────────────────────────────────────────────────────────────────────────────────


def _steady(address: IPv6Address | IPv4Address) -> str:
    """The canonical text. Mapped IPv4 is refused: Python 3.13 writes it in another way than 3.11 did."""
    if isinstance(address, IPv6Address) and (address.ipv4_mapped or address.scope_id):
        raise ValueError(address)
    return str(address)


def _network(network: IPv6Network | IPv4Network) -> str:
    _steady(network.network_address)
    return str(network)


def _interface(text: str) -> str:
    interface = ip_interface(text)
    _steady(interface.ip)
    return str(interface)


def _regex(text: str) -> str:
    """Checked alone and as it is used (kinds/blueprint.py); alone, because `a)|(b` would escape the anchors."""
    linear = jsonschema_rs.RegexOptions()
    for pattern in (text, f"^(?:{text})$"):
        jsonschema_rs.Draft202012Validator({"pattern": pattern}, pattern_options=linear)
    return text


class _Format(NamedTuple):
    canonical: Callable[[str], str]
    """The one right way to write it; ValueError when it is no such thing."""
    what: str
    rule: str = "small letters, as short as possible"


FORMATS = {
    "ipv6": _Format(lambda text: _steady(IPv6Address(text)), "an IPv6 address such as 2001:db8::1"),
    "ipv4": _Format(lambda text: _steady(IPv4Address(text)), "an IPv4 address such as 192.0.2.1"),
    "ipv6-prefix": _Format(
        lambda text: _network(IPv6Network(text, strict=False)),
        "an IPv6 prefix such as 2001:db8::/48",
        "small letters, as short as possible, zeros after the prefix",
    ),
    "ipv4-prefix": _Format(
        lambda text: _network(IPv4Network(text, strict=False)),
        "an IPv4 prefix such as 192.0.2.0/28",
        "zeros after the prefix",
    ),
    "prefix": _Format(
        lambda text: _network(ip_network(text, strict=False)),
        "a prefix such as 2001:db8::/32",
        "small letters, as short as possible, zeros after the prefix",
    ),
    "interface-address": _Format(_interface, "an address with its prefix length, such as 2001:db8::1/64"),
    "regex": _Format(_regex, "a regular expression (RE2 syntax: no look-around, no back-references)"),
}


@lru_cache(maxsize=65536)
def _canonical(name: str, text: str) -> str | None:
    try:
        return FORMATS[name].canonical(text)
    except (ValueError, jsonschema_rs.ValidationError):
        return None


def _is(name: str) -> Callable[[str], bool]:
    return lambda text: _canonical(name, text) == text


@lru_cache
def _judge(schema: str) -> jsonschema_rs.Draft202012Validator:
    return jsonschema_rs.Draft202012Validator(
        json.loads(schema),
        formats={name: _is(name) for name in FORMATS},
        validate_formats=True,
        ignore_unknown_formats=False,
        pattern_options=jsonschema_rs.RegexOptions(),
    )


@lru_cache
def _validator(kind: str) -> jsonschema_rs.Draft202012Validator:
    return _judge(json.dumps(SCHEMAS[kind]))


# ── words for what the judge found ───────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class _Fault:
    """One error of jsonschema-rs: which keyword of which part of the schema says no to which value."""

    keyword: str
    pointer: Pointer
    value: Any
    schema: Schema
    details: dict[str, Any]
    kind: str
    message: str

    @property
    def where(self) -> str:
        return _where(self.pointer)

    def says(self, message: str, hint: str = "") -> _Finding:
        return _Finding(self.pointer, f"{self.where} {message}", hint)


def _shape(kind: str, value: Any) -> Iterator[_Finding]:
    faults = [_fault(kind, value, error) for error in islice(_validator(kind).iter_errors(value), 10 * MOST)]
    # These say it more exactly than a pattern or a oneOf beside them; the first finding of a place is kept.
    for fault in sorted(faults, key=lambda fault: fault.keyword not in {"type", "format"}):
        yield from WORDS.get(fault.keyword, _other)(fault)


def _fault(kind: str, document: Any, error: jsonschema_rs.ValidationError) -> _Fault:
    pointer = tuple(error.instance_path)
    schema = _walk(SCHEMAS[kind], list(error.schema_path)[:-1])
    return _Fault(error.kind.name, pointer, _walk(document, pointer), schema, error.kind.as_dict(), kind, error.message)


def _walk(value: Any, steps: Iterable[str | int]) -> Any:
    for step in steps:
        value = value[step]
    return value


def _missing(fault: _Fault) -> Iterator[_Finding]:
    key = fault.details["property"]
    schema = fault.schema.get("properties", {}).get(key, {})
    hint = f"write {key}: {schema['const']}" if "const" in schema else _described(schema)
    yield _Finding((*fault.pointer, key), f"{_where((*fault.pointer, key))} is missing", hint)


def _unknown(fault: _Fault) -> Iterator[_Finding]:
    for key in fault.details["unexpected"][: MOST + 1]:
        at = (*fault.pointer, key)
        known = [name for name in fault.schema.get("properties", {}) if name not in fault.value]
        guess = nearest(key, known)
        message = f"{_where(at)}: there is no key {_shown(key)} here"
        if key == "<<":
            message = f"{_where(at)}: merge keys (<<) are not part of YAML 1.2"
        hint = f"did you mean {guess}?" if guess else _unknown_hint(fault, key, known)
        yield _Finding(at, message, hint, True, (*fault.pointer, guess) if guess else ())


def _unknown_hint(fault: _Fault, key: str, known: list[str]) -> str:
    """When no key is like it: perhaps it is indented wrongly, perhaps it is a name that has to look otherwise."""
    if key == "<<":
        return "write the keys out"
    if homes := [_where(home) for home in _homes(SCHEMAS[fault.kind], key) if home[:-1] != fault.pointer]:
        return f"perhaps it belongs at {homes[0]}; check the indentation"
    if names := fault.schema.get("patternProperties"):
        return f"a name here is {' or '.join(PATTERNS.get(name, name) for name in names)}"
    return f"there could be: {', '.join(known)}" if known else "remove it"


def _homes(schema: Schema, key: str) -> Iterator[Pointer]:
    """Where the schema knows a key of this name, lists left out."""
    for name, inner in schema.get("properties", {}).items():
        if name == key:
            yield (name,)
        yield from ((name, *home) for home in _homes(inner, key))


TYPES = {
    "object": "a mapping (lines of `key: value`)",
    "array": "a list",
    "string": "text",
    "integer": "a whole number",
    "boolean": "true or false",
}


def _type(fault: _Fault) -> Iterator[_Finding]:
    wanted, value = fault.details["types"][0], fault.value
    right = TYPES.get(wanted, wanted)
    if not fault.pointer:
        message = "this file is empty" if value is None else f"a document must be {right}, not {_shown(value)}"
        yield _Finding((), message, f"begin with apiVersion: reconciler.hosting/v1 and kind: {fault.kind}")
    elif value is None:
        hint = f"write a value, or remove the line. {_described(fault.schema)}"
        yield fault.says(f"is empty; it must be {right}", hint)
    else:
        yield fault.says(f"must be {right}, not {_shown(value)}", _type_hint(wanted, value, fault))


def _type_hint(wanted: str, value: Any, fault: _Fault) -> str:
    scalar = isinstance(value, str | int | float)
    if wanted == "string" and scalar:
        return "put it in quotes, as it stands"
    if wanted == "array" and scalar:
        return f"write [{value}]" if str(value).isalnum() else "write it on a line of its own that begins with -"
    if wanted == "integer" and isinstance(value, str) and re.fullmatch(r"[1-9][0-9]{0,18}", value):
        return f"write {value}, without quotes"
    if wanted == "integer" and isinstance(value, float) and value.is_integer():
        return f"write {int(value)}"
    return _described(fault.schema)


def _constant(fault: _Fault) -> Iterator[_Finding]:
    right = fault.schema["const"]
    yield fault.says(f"must be {right}, not {_shown(fault.value)}", f"write {right}")


def _choice(fault: _Fault) -> Iterator[_Finding]:
    options = [str(option) for option in fault.schema["enum"]]
    guess = nearest(str(fault.value), options)
    hint = f"did you mean {guess}?" if guess else _described(fault.schema)
    yield fault.says(f"must be {' or '.join(options)}, not {_shown(fault.value)}", hint)


PATTERNS = {
    NAME: "small letters, digits and single hyphens, beginning with a letter",
    "^[a-z][a-z0-9_.-]*$": "small letters, digits, dots, hyphens and underscores, beginning with a letter",
    "^[A-Z][A-Z0-9_]{0,62}$": "capital letters, digits and underscores, beginning with a letter",
    "^([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\\.)+[a-z]([a-z0-9-]{0,61}[a-z0-9])?$": (
        "a full domain name in small letters, such as www.example.org, without a star or a final dot"
    ),
    "^(https|file)://[!-~]+$": "an address that begins with https:// or file://, without spaces",
    "^(https|ssh|file)://[!-~]+$": "an address that begins with https://, ssh:// or file://, without spaces",
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
    "^(/[A-Za-z0-9_][A-Za-z0-9._-]*)+$": "an absolute path such as /var/lib/www, without a final /",
    "^(net|vm|fs|kernel)(\\.[A-Za-z0-9_-]+)+$": "a setting below net., vm., fs. or kernel.",
    "^[0-9A-Za-z._-]+( [0-9A-Za-z._-]+)*$": "words of letters, digits, dots and hyphens, with one space between",
    "^[^\\x00-\\x1f\\x7f-\\x9f\\u2028\\u2029]*$": "one line of text (`|` and `>` end with a line break)",
    "^[^\\x00-\\x08\\x0b-\\x1f\\x7f-\\x9f]*$": "text without control characters",
    "^[0-9a-f:]+$": FORMATS["ipv6"].what,
    "^[0-9.]+$": FORMATS["ipv4"].what,
    "^[0-9a-f:]+/[0-9]{1,3}$": FORMATS["ipv6-prefix"].what,
    "^[0-9.]+/[0-9]{1,2}$": FORMATS["ipv4-prefix"].what,
    "^[0-9a-f:.]+/[0-9]{1,3}$": "an address, a slash and a length, such as 2001:db8::/32",
}
"""Every pattern of the schemas, for people who do not read regular expressions."""


def _pattern(fault: _Fault) -> Iterator[_Finding]:
    yield fault.says(f"cannot be {_shown(fault.value)}", _pattern_hint(fault.schema))


def _pattern_hint(schema: Schema) -> str:
    words = PATTERNS.get(schema["pattern"], f"what matches {schema['pattern']}")
    example = f", for example {schema['examples'][0]}" if "examples" in schema and "such as" not in words else ""
    return f"write {words}{example}. {_described(schema)}".strip()


def _format(fault: _Fault) -> Iterator[_Finding]:
    form = FORMATS[fault.schema["format"]]
    right = _canonical(fault.schema["format"], fault.value)
    if right is None:
        yield fault.says(f"must be {form.what}, not {_shown(fault.value)}", _described(fault.schema))
    else:
        yield fault.says(f"must be written {right}, not {_shown(fault.value)}", f"write {right} ({form.rule})")


LIMITS: dict[str, str] = {
    "minimum": "must be at least {limit}, not {value}",
    "maximum": "must be at most {limit}, not {value}",
    "minLength": "must have at least {limit} characters; it has {size}",
    "maxLength": "must have at most {limit} characters; it has {size}",
    "minItems": "must list at least {limit}; it lists {size}",
    "maxItems": "must list at most {limit}; it lists {size}",
    "maxProperties": "must have at most {limit} keys; it has {size}",
}


def _limit(fault: _Fault) -> Iterator[_Finding]:
    limit, value = fault.schema[fault.keyword], fault.value
    size = len(value) if isinstance(value, str | list | dict) else 0
    yield fault.says(LIMITS[fault.keyword].format(limit=limit, value=value, size=size), _described(fault.schema))


def _repeated(fault: _Fault) -> Iterator[_Finding]:
    """Points at each item that was there before."""
    before: dict[str, int] = {}
    for index, item in enumerate(fault.value):
        first = before.setdefault(json.dumps(item, sort_keys=True), index)
        if first != index:
            at = (*fault.pointer, index)
            same = f"{_where(at)} is the same as {_where((*fault.pointer, first))}"
            yield _Finding(at, same, "remove one of the two")
    if len(before) == len(fault.value):  # equal to JSON Schema only: 80 and 80.0
        yield fault.says("has the same thing in it twice", "remove one of the two")


def _either(fault: _Fault) -> Iterator[_Finding]:
    """oneOf and anyOf, which our schemas use for groups of keys and for kinds of text."""
    branches = fault.schema[fault.keyword]
    if not isinstance(fault.value, {"string": str, "object": dict}[fault.schema["type"]]):
        return  # that is what the error of `type` beside it says
    if isinstance(fault.value, str):
        yield _either_text(fault, branches)
        return
    groups = ", or ".join(" and ".join(branch.get("required", ["?"])) for branch in branches)
    has = " and ".join(_printable(str(key)) for key in fault.value) or "none of them"
    yield fault.says(f"needs either {groups}; it has {has}", _described(fault.schema))


def _either_text(fault: _Fault, branches: list[Schema]) -> _Finding:
    for branch in branches:
        right = _canonical(branch["format"], fault.value) if "format" in branch else None
        if right is not None and "/" in fault.value:
            rule = FORMATS[branch["format"]].rule
            return fault.says(f"must be written {right}, not {_shown(fault.value)}", f"write {right} ({rule})")
    words = " or ".join(_branch(branch) for branch in branches)
    return fault.says(f"must be {words}, not {_shown(fault.value)}", _described(fault.schema))


def _branch(schema: Schema) -> str:
    if "const" in schema:
        return str(schema["const"])
    return FORMATS[schema["format"]].what if "format" in schema else f"a name ({PATTERNS[schema['pattern']]})"


def _other(fault: _Fault) -> Iterator[_Finding]:
    yield fault.says(f"is not right: {fault.message[:200]}", _described(fault.schema))


WORDS: dict[str, Callable[[_Fault], Iterator[_Finding]]] = {
    "required": _missing,
    "additionalProperties": _unknown,
    "type": _type,
    "const": _constant,
    "enum": _choice,
    "pattern": _pattern,
    "format": _format,
    "uniqueItems": _repeated,
    "oneOf": _either,
    "anyOf": _either,
    **dict.fromkeys(LIMITS, _limit),
}


def _described(schema: Schema) -> str:
    return str(schema.get("description", ""))


def nearest(word: str, choices: Iterable[str]) -> str:
    """What was probably meant, or "": for "did you mean …?"."""
    lower = {choice.lower(): choice for choice in choices}
    close = difflib.get_close_matches(word[:300].lower(), lower, n=1, cutoff=0.6)
    return lower[close[0]] if close else ""


def _where(pointer: Pointer) -> str:
    """spec.publish[0].port"""
    steps = "".join(f"[{step}]" if isinstance(step, int) else f".{_printable(step)}" for step in pointer)
    return steps.removeprefix(".") or "the document"


def _printable(text: str) -> str:
    """Short, and unable to move a terminal's cursor or turn the direction of writing."""
    short = text if len(text) <= 60 else text[:59] + "…"
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in short)


def _shown(value: Any) -> str:
    """What was found, in words."""
    if isinstance(value, str):
        return f'"{_printable(value)}"'
    if value is None or isinstance(value, bool):
        return {None: "empty", True: "true", False: "false"}[value]
    return str(value) if isinstance(value, int | float) else "a mapping" if isinstance(value, dict) else "a list"


# ── words for what the parser found ──────────────────────────────────────────────────────────────────────────

INDENT = "check the indentation: keys that belong together begin in the same column"
QUOTE = "put the text in quotes"
SYNTAX = (
    # (a part of ryaml's message, the words, how to mend, whether the place is where the thing began)
    ("recursion limit exceeded", "lists or mappings are nested too deeply here", "at most 128 levels", False),
    ("repetition limit exceeded", "the aliases (*name) unfold to far too much", "write out what they stand for", False),
    ("invalid type: integer", "this number is too large", "if it is text, put it in quotes", False),
    ("invalid value", "the tag in front of this does not fit it", "remove the tag (!!…)", False),
    ("unknown anchor", "nothing above is called by this alias", "text that begins with * has to be in quotes", False),
    ("while scanning an alias", "text cannot begin with * unless it is in quotes", QUOTE, True),
    ("while scanning an anchor", "text cannot begin with & unless it is in quotes", QUOTE, True),
    ("escape", "this \\ and what follows mean nothing in double quotes", "use single quotes", False),
    ("a quoted scalar", "the quotes around this text do not end", "close the quotes", True),
    ("expected ',' or ']'", "the list that begins here is not closed", "write the missing ] or comma", True),
    ("expected ',' or '}'", "the mapping that begins here is not closed", "write the missing } or comma", True),
    ("mapping values are not allowed", "a colon and a space cannot be here", f"{QUOTE}, or {INDENT}", False),
    ("block sequence entries are not allowed", "a list item (-) cannot begin here", INDENT, False),
    ("cannot start any token", "this character cannot begin a text", QUOTE, False),
    ("could not find expected ':'", "this line is neither `key: value` nor part of the text above", INDENT, True),
    ("did not find expected key", "this line does not fit to those above", INDENT, False),
    ("did not find expected '-'", "this line does not fit to the list above", INDENT, False),
    ("found a tab", "a tab is where only spaces may be", "indent with spaces", False),
    ("unhashable", "a key has to be text, not a list or a mapping", "write it as `key: value`", False),
    ("duplicate entry", "a key is there twice", "remove one of the two", False),
)
CONTROL = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
PLACE = re.compile(r" at line (\d+) column (\d+)")


def _syntax(path: str, text: str, message: str) -> tuple[Problem, ...]:
    """What ryaml rejects; it stops at the first mistake, except that all doubled or odd keys are told."""
    if "control characters" in message:
        return (_control(path, text),)
    if "more than one document" in message:
        return (_second(path, text),)
    if told := _keys(path, text):
        return told
    words, hint, began = next(
        ((words, hint, began) for part, words, hint, began in SYNTAX if part in message),
        (f"this is not YAML: {_printable(message)}", "", False),
    )
    found = [(int(line), int(column)) for line, column in PLACE.findall(message)] or [(1, 1)]
    line, column = _inside(text, *found[-1 if began else 0])
    if _character(text, line, column) == "\t":
        words, hint = "a tab is where only spaces may be", "indent with spaces"
    return (Problem(path, line, column, words, hint),)


def _inside(text: str, line: int, column: int) -> tuple[int, int]:
    """ryaml points at the end of the file for what is not closed, and a key may look like a place."""
    return min(line, text.count("\n") + 1), max(1, min(column, LARGEST))


def _character(text: str, line: int, column: int) -> str:
    lines = text.split("\n")
    return lines[line - 1][column - 1 : column] if line <= len(lines) else ""


def _control(path: str, text: str) -> Problem:
    match = CONTROL.search(text)
    offset = match.start() if match else 0
    what = f"a control character (code {ord(text[offset])}) is in this file"
    return Problem(path, *_offset(text, offset), what, "remove it; perhaps this is not a text file")


def _second(path: str, text: str) -> Problem:
    """Where content is followed by `---`; else something follows a list, a mapping or a text that has ended."""
    if match := re.compile(r"^[ \t]*[^\s#%-].*?^(---)(?=\s|$)", re.MULTILINE | re.DOTALL).search(text):
        hint = "write one document a file; remove this line, or move what follows to a file of its own"
        return Problem(path, *_offset(text, match.start(1)), "a second document begins here", hint)
    return Problem(path, 1, 1, "something follows where the document has ended", INDENT)


def _undecodable(path: str, data: bytes, offset: int) -> Problem:
    line, begin = data.count(b"\n", 0, offset) + 1, data.rfind(b"\n", 0, offset) + 1
    column = len(data[begin:offset].decode("utf-8", "replace")) + 1
    return Problem(path, line, column, "this file is not UTF-8", "save it as UTF-8 in your editor")


def _keys(path: str, text: str) -> tuple[Problem, ...]:
    """Keys that are there twice, or are lists and mappings themselves."""
    problems = []
    for pairs in _mappings(_tree(text)):
        first: dict[tuple[str, str], Node] = {}
        for key, _ in pairs:
            if not isinstance(key, ScalarNode):
                message, hint = "a key has to be text, not a list or a mapping", "write it as `key: value`"
                problems.append(Problem(path, *_mark(key), message, hint))
            elif (before := first.setdefault((str(key.tag), key.value), key)) is not key:
                message = f"the key {_shown(key.value)} is there twice; it is in line {_mark(before)[0]} already"
                problems.append(Problem(path, *_mark(key), message, "remove one of the two"))
    return tuple(sorted(problems)[:MOST])


# ── where something is ───────────────────────────────────────────────────────────────────────────────────────


def locate(data: bytes, pointer: Pointer) -> tuple[int, int]:
    """Line and column, from 1, of the key or item that a pointer names, or of its nearest ancestor that is there."""
    return _position(data.decode("utf-8", "replace").removeprefix(BOM), pointer, True)


def place(problem: Problem, data: bytes) -> Problem:
    """The Problem with its line and column; one that has them already stays as it is."""
    if problem.line:
        return problem
    line, column = locate(data, problem.pointer)
    return Problem(problem.path, line, column, problem.message, problem.hint, problem.pointer)


def _position(text: str, pointer: Pointer, at_key: bool) -> tuple[int, int]:
    node = _tree(text)
    if node is None:
        return _offset(text, _guess(text, pointer))
    key = node
    for step in pointer:
        below = _below(node, step)
        if below is None:
            break
        key, node = below
    return _mark(key if at_key or not _has_own_place(key, node) else node)


def _below(node: Node, step: str | int) -> tuple[Node, Node] | None:
    """The key and the value that one step leads to; an item of a list is both."""
    if isinstance(node, MappingNode):
        return next(((key, value) for key, value in node.value if key.value == str(step)), None)
    if isinstance(node, SequenceNode) and isinstance(step, int) and step < len(node.value):
        return node.value[step], node.value[step]
    return None


def _has_own_place(key: Node, value: Node) -> bool:
    """Not so a block below its key, an empty value, or an alias, whose node is where its anchor is."""
    empty = value.start_mark.index == value.end_mark.index
    return not empty and value.start_mark.line == key.start_mark.line and value.start_mark.index >= key.start_mark.index


def _mark(node: Node) -> tuple[int, int]:
    return node.start_mark.line + 1, node.start_mark.column + 1


def _offset(text: str, offset: int) -> tuple[int, int]:
    return text.count("\n", 0, offset) + 1, offset - text.rfind("\n", 0, offset)


def _small(text: str) -> bool:
    """Whether ruamel may look at it."""
    tokens = sum(text.count(sign) for sign in ("\n", ",", ": ", "- ", "? "))
    return len(text) <= SCANNED and tokens <= TOKENS and text.count("[") + text.count("{") <= TOKENS // 20


def _ruamel() -> YAML:
    yaml = YAML(typ="safe", pure=True)
    yaml.composer.warn_double_anchors = False  # legal YAML; nothing is to be printed about a customer's file
    return yaml


@lru_cache(maxsize=1)
def _tree(text: str) -> Node | None:
    """ruamel's nodes, whose marks say where they are; aliases stay unexpanded. None where it cannot or may not look."""
    try:
        return _ruamel().compose(text) if _small(text) else None
    except Exception:  # it decides nothing: what it stumbles over is nobody's mistake
        return None


def _mappings(root: Node | None) -> Iterator[list[tuple[Node, Node]]]:
    """The pairs of every mapping, each once, however often an alias leads there."""
    stack, seen = [root] if root else [], set[int]()
    while stack:
        node = stack.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        if isinstance(node, MappingNode):
            yield node.value
            stack.extend(part for pair in node.value for part in pair)
        elif isinstance(node, SequenceNode):
            stack.extend(node.value)


def _tags(path: str, text: str) -> Iterator[Problem]:
    """Explicit tags: ryaml ignores most of them, and what does nothing is not accepted."""
    if not (TAG.search(text) and _small(text)):
        return
    try:
        for event in _ruamel().parse(text):
            if tag := getattr(event, "tag", None):
                where = event.start_mark.line + 1, event.start_mark.column + 1
                shown = _printable(str(tag).replace("tag:yaml.org,2002:", "!!"))
                yield Problem(path, *where, f"the tag {shown} means nothing here", "remove it")
    except Exception:  # as in _tree
        return


def _guess(text: str, pointer: Pointer) -> int:
    """Where a pointer probably leads in a file that ruamel may not look at: the next such key, the n-th line with -."""
    offset = 0
    for step in pointer:
        if isinstance(step, int):
            match = next(islice(re.compile(r"^[ \t]*- +()", re.MULTILINE).finditer(text, offset), step, None), None)
        else:
            match = re.compile(rf"(?<![\w.-])()[\"']?{re.escape(step)}[\"']?[ \t]*:(?=\s|$)").search(text, offset)
        if match is None:
            break
        offset = match.start(1)
    return offset
