"""The rules by which an ordinary account becomes root on a host, as README.md tells people to write them."""

from __future__ import annotations

from pathlib import Path

README = (Path(__file__).parents[1] / "README.md").read_text()


def line(begins: str) -> str:
    (found,) = (line.strip() for line in README.splitlines() if line.strip().startswith(begins))
    return found


SUDO = line("reconciler ALL=")
DOAS = line("permit nopass ")
