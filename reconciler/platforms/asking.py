"""Commands in jails, as one script: what checks ask that only the jail itself can answer.

In: jails, each with a command and its seconds. Out: a script that runs them, a few at a time, and what it printed read
back. It holds no lock, and nothing of a jail's can hold it up. Must not know what an answer means.
"""

from __future__ import annotations

from collections.abc import Iterable

from reconciler.model import Jail
from reconciler.platforms import Platform
from reconciler.platforms.steps import COMPLETE, REMOVE_ITSELF

AT_ONCE = 4
"""So many processes more does a host have for it."""
NOT_RUNNING = 125
LATE = (124, 137)
"""timeout(1)'s own status, and that of what it had to kill."""
ASK = """\
LC_ALL=C
export LC_ALL
end=$(($(date +%s) + {seconds}))

# ask NUMBER WORDS...
ask() {{
    number=$1
    shift
    "$@" </dev/null >/dev/null 2>&1
    printf '%s %s\\n' "$number" "$?"
}}

# what has not begun by then is not asked this time
in_time() {{ [ "$(date +%s)" -lt "$end" ] || exit 0; }}
"""


def script(platform: Platform, asked: Iterable[tuple[Jail, tuple[str, ...], int]], seconds: float) -> str:
    """Begins none after so many seconds."""
    lines = [REMOVE_ITSELF, ASK.format(seconds=int(seconds)), platform.INSIDE]
    for number, (jail, command, timeout) in enumerate(asked):
        lines += ["wait", "in_time"] if number and number % AT_ONCE == 0 else []
        lines.append(f"ask {number} {platform.inside(jail, command, timeout)} &")
    return "\n".join([*lines, "wait", COMPLETE, ""])


def statuses(output: bytes) -> dict[int, int]:
    """The number of each command that was asked → its exit status."""
    lines = (line.split() for line in output.decode("ascii", "replace").splitlines())
    return {int(line[0]): int(line[1]) for line in lines if len(line) == 2 and all(map(str.isdecimal, line))}
