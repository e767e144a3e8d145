"""A platform is four pure functions between HostSpecs and what a host's shell reads and prints.

`lower` says what must be there, `probe` and `parse` what is there, `commands` what leads from one to the other.
Nothing here does I/O, and a platform never sees YAML or git. A new platform is one folder and one line in
`PLATFORMS`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Protocol

from reconciler.model import Change, HostSpec, Jail, Manifest, Observation
from reconciler.platforms import freebsd, linux
from reconciler.platforms.ground import Undo
from reconciler.platforms.steps import Step


class Platform(Protocol):
    """What a platform's folder offers at its top."""

    AS_ROOT: str
    """What stands before a command of an account that is not root and may become it."""
    PRELUDE: str
    """Shell functions that the probe and the steps call."""
    UNDO: Mapping[str, Undo]
    """Types that are the host's own network and firewall, and how each goes back to what was."""

    def lower(self, spec: HostSpec) -> Manifest:
        """What the host must be, in application order."""

    def probe(self, manifest: Manifest) -> str:
        """Calls for `sh` that print the state of all that is managed, or was, in one go."""

    def parse(self, output: bytes, manifest: Manifest) -> Observation:
        """What a probe printed."""

    def commands(self, change: Change) -> tuple[Step, ...]:
        """What carries a change out; safe to begin again after being killed at any step."""

    def logs(self, jail: str, follow: bool) -> str:
        """A command that prints what the jail wrote."""

    INSIDE: str
    """The shell function `inside`."""

    def inside(self, jail: Jail, command: Iterable[str], seconds: int) -> str:
        """A call of `inside`, which runs the command in the jail as its user, on nothing but /dev/null. All that is
        left of it after so many seconds is killed. Its status is the command's; 125 where the jail does not run."""


PLATFORMS: Mapping[str, Platform] = {"freebsd": freebsd, "linux": linux}
