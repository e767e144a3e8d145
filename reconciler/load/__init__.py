"""One file of the config repository → a Document, a SecretFile, a ListFile, or every Problem in it with its place.

In: a path and bytes, which anybody may have written. Out: values; nothing here raises, reads a file or knows git,
other documents or hosts. Two rules carry it: **one parser decides** (ryaml: what is accepted, and every value) and
**one validator decides** (jsonschema-rs). ruamel.yaml only says where something is, and only in files that fail.

`files` knows what a path means, `document` judges YAML and `lists` what is none, `formats` holds what the schemas'
formats and patterns mean, `faults` and `syntax` have the words for what judge and parser found, `positions` finds the
line and column.
"""

from __future__ import annotations

from reconciler.load.document import document
from reconciler.load.files import SECRET, ignored, list_at, secret, secret_at, stray, unreadable
from reconciler.load.formats import PATTERNS, whole
from reconciler.load.lists import listed
from reconciler.load.positions import locate, place
from reconciler.load.words import nearest
from reconciler.model import Document, ListFile, Problem, SecretFile
from reconciler.schemas import kind_of

__all__ = ["PATTERNS", "ignored", "list_at", "load", "locate", "nearest", "place", "secret_at", "unreadable", "whole"]


def load(path: str, data: bytes) -> Document | SecretFile | ListFile | tuple[Problem, ...]:
    """What one file says, or all that is wrong with it; () for a file that is `ignored`."""
    if ignored(path):
        return ()
    if kind := kind_of(path):
        return document(path, kind, data)
    if match := SECRET.fullmatch(path):
        return secret(path, match["name"], data)
    if name := list_at(path):
        return listed(path, name, data)
    return (stray(path, data),)
