"""The stand-in is held against what a real FreeBSD 13.2 host printed.

All commands of six recordings run in their order on a pretended host that begins where the real one did. A command is
compared exactly (exit status, stdout and stderr, after recordings.normal) unless it is in one of these tables:
NOT_RUN is left out, with the reason; STATUS_ONLY is compared by its exit status. The first pattern that fits counts.
"""

import re

import pytest

from .host import why_not
from .recordings import BEGIN, Answer, Line, lines, normalised, replay

pytestmark = pytest.mark.skipif(why_not() is not None, reason=str(why_not()))

NOT_RUN = [
    # pattern of "recording-number: command", why
    (
        r": (jexec web )?(procstat|vmstat|dmesg|uptime|w |env$|locale|crontab|newsyslog|sockstat|ps |df|netstat -an)",
        "not modelled: the processes, clocks and disks of a real machine",
    ),
    (r"(ping|ping6|nc) -", "no packets"),
    (
        r": (tail|logger|head -c|ulimit|shutdown|su |sync|openssl|locale|stat -f '%Sp|cat /var/log/jail_web)",
        "files and programs of the recorded host that scripts do not use",
    ),
    (r"(tail /dev/zero|awk|sleep 1 & done|kill -9 \$\$|ulimit)", "limits of resources are stored and enforce nothing"),
    (r"sleep 1; echo still here|extra-3[789]:", "pf takes no packets, so nothing hangs; what follows needs that"),
    (
        r"errors-(6|7|9|10|11|13|14|15):",
        "its file, without vnet, was not kept; read-only is not modelled",
    ),
    (r"errors-9[0-7]:|chflags", "read-only mounts and file flags are not modelled"),
    (r"(sha256|md5|stat|ls -la|sort -V).*/etc/hosts|errors-8[23]:", "the recorded host's file was not kept"),
    (r"sysrc (-A|-ev|-an)", "the defaults of rc.conf are a few, and order is not kept"),
    (r": (set -o pipefail|echo \{1)|od -c$", "dash is not FreeBSD's sh in this: stricter"),
    (r"sha256sum", "left out on purpose: not on every supported release"),
    (r"pfctl -vvsr|pfctl -nvf", "packets, counters and the kernel's own form of a rule are not modelled"),
    (r"errors-77:|tail -F", "the layout of tar -t"),
    (r"jail2-11[78]:", "one command that was recorded as two lines"),
]
STATUS_ONLY = [
    (r"pfctl (-sr|-sn|-sa|-s rules -v)$", "rules are printed as they were written, not as the kernel has them"),
    (
        r": (id|cat|ls|mkdir|rm|rmdir|install|cp|mv|ln|chmod|chown|tar|echo x .*tar|realpath) ",
        "GNU words errors otherwise",
    ),
    (r"(date -d|grep -P|mktemp --|stat -c|cp --|chown --|ls -l --)", "the usage text is shorter"),
    (r"errors-(2|16):", "rc prints less"),
    (r"(mktemp|date -u -I|date \+)", "random or the time"),
    (r"zfs get|zpool", "fewer properties"),
    (r"service -[er]$", "fewer services"),
    (r"rctl -h?u", "nothing is used"),
    (r"sha256 -q /etc/rc.conf /etc/missing|stat -f '%p", "the recorded host's files were not kept"),
    (r"pw lock", "the text differs"),
    (r"find /etc -maxdepth", "the order of a folder"),
    (r"jexec web env$", "ssh's environment"),
    (r"install -m 640 /etc/missing", "GNU's status is 1, not 71"),
]
STATUS_DIFFERS = {"nojails-84", "nojails-87"}
"""Compared by neither: sshd says 255 where sh says 137; GNU's install says 1."""


def fits(table: list[tuple[str, str]], line: Line) -> bool:
    text = f"{line.recording}-{line.number}: {line.command}"
    return any(re.search(pattern, text) for pattern, _ in table)


def left_out(line: Line) -> bool:
    return f"{line.recording}-{line.number}" in STATUS_DIFFERS or fits(NOT_RUN, line)


ALL = [line for recording in BEGIN for line in lines(recording)]
RUN = [line for line in ALL if not left_out(line)]
EXACT = [line for line in RUN if not fits(STATUS_ONLY, line)]


@pytest.fixture(scope="session")
def answers(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, int], Answer]:
    found = {}
    for recording in BEGIN:
        skipped = {line.number for line in ALL if line.recording == recording and left_out(line)}
        replayed = replay(tmp_path_factory.mktemp(recording), recording, skipped)
        found |= {(recording, number): answer for number, answer in replayed.items()}
    return found


@pytest.mark.parametrize("line", EXACT, ids=lambda line: line.name)
def test_a_command_answers_as_it_was_recorded(line: Line, answers: dict[tuple[str, int], Answer]) -> None:
    assert normalised(answers[line.recording, line.number]) == normalised(line.answer)


@pytest.mark.parametrize("line", [line for line in RUN if line not in EXACT], ids=lambda line: line.name)
def test_a_command_ends_with_the_recorded_status(line: Line, answers: dict[tuple[str, int], Answer]) -> None:
    assert answers[line.recording, line.number].status == line.answer.status


def test_most_of_what_was_recorded_is_compared_exactly() -> None:
    assert len(EXACT) >= 400
