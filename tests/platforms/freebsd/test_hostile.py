"""Whatever a customer writes stays a value: in a jail's start script, its files of lines, and jail.conf.

The scripts are read back by a real sh, jail.conf by a parser of its own (`bsd.jailconf`): neither shares code with
what writes them.
"""

from __future__ import annotations

import re
import subprocess
from dataclasses import replace
from importlib.resources import files
from pathlib import Path

from hypothesis import example, given
from hypothesis import strategies as st

from bsd import jailconf
from fake import specs
from reconciler.model import Limits, LinkEnd, Rate, Rule
from reconciler.platforms.freebsd import expiry, jail, network

HOSTILE = st.lists(
    st.sampled_from(
        ["'", '"', "\n", "$(id)", "`id`", "}", ";", "{", "\\", "$HOME", "#", "&", "|", "*", " ", "a", "é", "="]
    ),
    min_size=1,
    max_size=12,
).map("".join)
BREAKOUTS = ["'; id; '", "$(id)", "`id`", '"; }', "a\nexec.start = evil;", "\\", "}\nevil { persist; }"]
SHOW = "show() { printf '%s\\0' \"$@\"; }\n"
STORAGE = "/var/lib/reconciler"


def printed(script: bytes) -> list[str]:
    """What an sh makes of a script in which the commands only print their words, and what it exported."""
    run = subprocess.run(["sh", "-s"], input=script, capture_output=True, env={"PATH": "/usr/bin:/bin"}, timeout=20)
    assert run.returncode == 0, run.stderr.decode()
    return run.stdout.decode().split("\0")[:-1]


@given(command=st.lists(HOSTILE, min_size=1, max_size=4), value=HOSTILE)
@example(command=BREAKOUTS, value="'; touch /tmp/evil; '")
def test_a_command_and_a_parameter_reach_the_application_as_they_were_written(command: list[str], value: str) -> None:
    wanted = specs.jail("acme--www", command=tuple(command), environment=(("PARAMETER", value),))
    script = jail.start(wanted).decode()
    exports = script[script.index("export PARAMETER") : script.index("mkdir -p /var/run")]
    last = script[script.index("exec /usr/sbin/daemon") :].removeprefix("exec ")
    shown = last.replace("/usr/sbin/daemon", "show", 1)
    told = f'{SHOW}{exports}show "$PARAMETER"\n{shown}'
    parameter, *words = printed(told.encode())
    assert parameter == value
    assert words[words.index("/") + 1 :] == command


@given(address=HOSTILE, nic=HOSTILE)
@example(address="fd00::1/64'; id; '", nic="$(id)")
def test_the_lines_of_the_network_are_one_call_with_words(address: str, nic: str) -> None:
    line = network.line("plugged", nic, "02:00:00:00:00:01", address)
    words = printed(f"plugged() {{ printf '%s\\0' \"$@\"; }}\n{line}".encode())
    assert words == [nic, "02:00:00:00:00:01", address]


@given(id=HOSTILE, seconds=st.integers(60, 86400))
@example(id=BREAKOUTS[0], seconds=60)
def test_what_cron_reads_is_tables_and_seconds_whatever_a_jail_is_called(id: str, seconds: int) -> None:
    rated = Rule(id, "in", (), "tcp", (80,), id, Rate(9, 10, seconds))
    table, command = (file.content for file in expiry(specs.spec(rated)))
    plain = list(expiry(specs.spec(replace(rated, subject="acme--www"))))[-1]
    assert isinstance(table, bytes)
    assert re.fullmatch(rf"r_[0-9a-f]{{16}} {seconds}\n", table.decode())
    assert command == plain.content


def confs(name: str, nics: list[str]) -> dict[str, list[str]]:
    ends = [LinkEnd("acme--www", nic, "02:00:00:00:00:01", ()) for nic in nics]
    text = jail.conf(specs.jail("acme--www", name=name), STORAGE, "runs", ends).decode()
    found = jailconf.parse(text, "test.conf")
    assert list(found) == ["acme__www"], "no value begins another jail"
    return {key: list(values) for key, values in found["acme__www"].items()}


@given(name=HOSTILE, nics=st.lists(HOSTILE, max_size=3, unique=True))
@example(name=BREAKOUTS[-1], nics=BREAKOUTS)
def test_no_value_changes_the_structure_of_jail_conf(name: str, nics: list[str]) -> None:
    plain, hostile = confs("www", ["x"] * len(nics)), confs(name, nics)
    assert plain.keys() == hostile.keys()
    changed = {key for key in plain if plain[key] != hostile[key]}
    assert changed <= {"host.hostname", "vnet.interface"}
    assert len(hostile["vnet.interface"]) == len(nics) + 1
    assert hostile["host.hostname"] == [name.replace("\n", "?")]


@given(amounts=st.tuples(*(st.integers(0, 1 << 50) for _ in range(4))))
def test_a_rule_of_rctl_names_its_jail_and_one_amount(amounts: tuple[int, int, int, int]) -> None:
    rules = list(jail.rctl(specs.jail("acme--www", limits=Limits(*amounts))))
    assert len(rules) == sum(map(bool, amounts))
    for rule in rules:
        subject, name, resource, action = rule.split(":")
        assert (subject, name) == ("jail", "acme__www")
        assert resource in {"vmemoryuse", "maxproc", "pcpu", "openfiles"}
        assert action.removeprefix("deny=").isdigit()


# ── what the host does in a jail ─────────────────────────────────────────────────────────────────────────────

JEXEC = '#!/bin/sh\n[ ! -e /proc/self/fd/9 ] && echo "$2" >>"$SAID" || echo "$2 has it" >>"$SAID"\nexit 1\n'
CALLS = """\
alive() { :; }
there() { :; }
ifconfig() { :; }
exec 9>/dev/null
has web em0; back web em0; enter web em0; no_tunnel web acme--x; until_runs web x 1; down web /nowhere
"""


def test_nothing_that_runs_in_a_jail_has_the_lock_of_an_apply(tmp_path: Path) -> None:
    """Its root could keep it, and no apply would ever begin again on this host."""
    (tmp_path / "jexec").write_text(JEXEC)
    (tmp_path / "jexec").chmod(0o755)
    written = [
        files("reconciler.platforms.freebsd").joinpath(name).read_text() for name in ("network.sh", "functions.sh")
    ]
    environment = {"PATH": f"{tmp_path}:/usr/bin:/bin", "SAID": str(tmp_path / "said")}
    subprocess.run(["sh", "-s"], input="\n".join([*written, CALLS]), env=environment, timeout=20, text=True)
    said = (tmp_path / "said").read_text().split("\n")[:-1]
    assert {"/sbin/ifconfig", "/bin/sh", "pkill", "pgrep"} <= set(said)
    assert not [line for line in said if line.endswith("has it")]
