"""Checks on real hosts: a server that is well, answers 500 or hangs; a command in a jail; who may not be asked.

The reconciler's memory gets its clock from the test, so that minutes pass at once.
"""

from __future__ import annotations

import textwrap
import time
from collections.abc import Iterable, Iterator

import pytest

from lab import Host
from reconciler import health
from reconciler.health import Answer
from reconciler.model import Guard, Jail, Report
from reconciler.platforms import PLATFORMS
from reconciler.remote import Credentials, Remote
from reconciler.watch import Watch

from .world import World, opens

ID = "acme--patient"
STATE = f"/var/lib/reconciler/jails/{ID}/data/data/state"
HEALTH = {"checks": [{"http": {"port": 8080}, "timeout": 1}], "startTimeout": 1}
PARAMETERS = {"parameters": {"GREETING": {"description": "What a shell would expand.", "default": "$HOME"}}}
SERVER = """
    import http.server, os, time
    class Answer(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            status = open("/data/state").read().strip() if os.path.exists("/data/state") else "200"
            if status == "hang":
                time.sleep(3600)
            if status == "not HTTP":
                self.wfile.write(b"220 mail.example ESMTP\\r\\n")
                return
            if status == "for ever":
                self.send_response(200)
                self.end_headers()
                while True:
                    self.wfile.write(b".")
                    time.sleep(0.1)
            self.send_response(int(status))
            self.end_headers()
            self.wfile.write(b"said for " + self.headers["Host"].encode())
    class Server(http.server.ThreadingHTTPServer):
        address_family = __import__("socket").AF_INET6
    Server(("::", 8080), Answer).serve_forever()
"""


@pytest.fixture(scope="module")
def world(everything: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """With a jail on host a whose server answers what a test writes down, and one on host b that publishes nothing."""
    world, tree = everything, tmp_path_factory.mktemp("archive") / "patient"
    world.restore()
    tree.mkdir()
    (tree / "serve.py").write_text(textwrap.dedent(SERVER))
    source = {"archive": "file:///srv/archives/patient.tar", "digest": world.garage.pack(tree)}
    head = {"apiVersion": "reconciler.hosting/v1", "kind": "Blueprint", "metadata": {"name": "patient"}}
    command = ["/usr/bin/python3", "-B", "/app/serve.py"]
    spec = {"source": source, "command": command, "ports": [8080, 9090], "health": HEALTH, **PARAMETERS}
    world.write("blueprints/patient.yaml", {**head, "spec": spec})
    world.jail("acme", "patient", blueprint="patient", host="a", limits={"memory": "128Mi"})
    world.remove("customers/uirig/sites/www.yaml")
    world.edit("customers/uirig/jails/www.yaml", publish=None)
    world.converge("a", "b")
    yield world
    world.restore()
    for name in world.hosts:
        world.reconcile(name)


@pytest.fixture
def patient(world: World) -> Host:
    """Its host; it answers, and what it should."""
    world["a"].run(f"rm -f {STATE} /etc/reconciler/hold")
    deadline = time.monotonic() + 20
    while (told := ask(world, {"http": {"port": 8080}, "timeout": 1})) != ["well"]:
        assert time.monotonic() < deadline, told
        time.sleep(0.1)
    return world["a"]


def ask(world: World, *checks: object) -> list[str]:
    """What is told of the jail when it is asked this, or what its documents say."""
    if checks:
        world.edit("customers/acme/jails/patient.yaml", health={"checks": list(checks)})
    return sorted(f"{answer.verdict} {answer.why}".strip() for answer in answers(world))


def answers(world: World, remote: Remote | None = None) -> list[Answer]:
    return asked(world, "a", [jail for jail in world.fleet.hosts["a"].jails if jail.id == ID], remote)


def asked(world: World, name: str, jails: Iterable[Jail], remote: Remote | None = None) -> list[Answer]:
    remote = remote or world.wire(name).remote
    return health.ask(health.questions(jails), health.Host(PLATFORMS["linux"], remote.dial, remote.run))


# ── by a connection ──────────────────────────────────────────────────────────────────────────────────────────


def test_a_page_is_what_its_check_says_or_is_told_as_what_it_is(world: World, patient: Host) -> None:
    page = {"port": 8080}
    assert ask(
        world,
        {"http": {**page, "contains": "said for www.acme.example", "host": "www.acme.example"}},
        {"http": {**page, "path": "/other", "status": 204}},
        {"http": {**page, "contains": "something else"}},
        {"tcp": 8080},
        {"tcp": 9090},
    ) == [
        "fails http :8080 answers without the words “something else”",
        "fails http :8080/other answers 200, not 204",
        "fails tcp :9090 does not answer",
        "well",
        "well",
    ]
    patient.run(f"echo 500 >{STATE}")
    assert ask(world, {"http": page}, {"http": {**page, "status": 500}}) == ["fails http :8080 answers 500", "well"]


def test_a_server_that_hangs_or_speaks_for_ever_is_waited_for_no_longer_than_its_check_says(
    world: World, patient: Host
) -> None:
    begun = time.monotonic()
    for state, told in (("hang", "does not answer in time"), ("for ever", "does not answer in time")):
        patient.run(f"echo {state} >{STATE}")
        asked = {"http": {"port": 8080, "contains": "x"}, "timeout": 1}
        assert ask(world, asked) == [f"fails http :8080 {told}"]
    patient.run(f"echo 'not HTTP' >{STATE}")
    assert ask(world, {"http": {"port": 8080}}) == ["fails http :8080 answers, but not in HTTP"]
    assert time.monotonic() - begun < 6


def test_a_jail_on_a_bridge_is_asked_on_ports_that_nobody_else_may_reach(world: World) -> None:
    assert not opens(world.address("b", "uirig--www"), 80)
    jails = world.fleet.hosts["b"].jails
    assert [answer.verdict for answer in asked(world, "b", jails)] == ["well"] * len(jails)


def test_the_jails_of_the_sample_are_well_also_the_database_that_lets_in_one_jail_alone(world: World) -> None:
    jails = [jail for jail in world.fleet.hosts["a"].jails if jail.id != ID]
    found = asked(world, "a", jails)
    assert {answer.question.jail.id for answer in found} == {jail.id for jail in jails}
    assert [answer for answer in found if answer.verdict != "well"] == []


def test_a_host_whose_sshd_makes_no_connections_says_nothing_of_its_jails(world: World, patient: Host) -> None:
    patient.run("sed -i '1i AllowTcpForwarding no' /etc/ssh/sshd_config && systemctl reload ssh")
    patient.wait()
    try:
        remote = Remote(world.fleet.hosts["a"].ssh, Credentials(world.lab.key), PLATFORMS["linux"].AS_ROOT)
        (answer,) = answers(world, remote=remote)
        remote.close()
    finally:
        patient.run("sed -i 1d /etc/ssh/sshd_config && systemctl reload ssh")
    assert answer.verdict == "unasked"
    assert "AllowTcpForwarding" in answer.why


# ── by a command ─────────────────────────────────────────────────────────────────────────────────────────────


def shell(script: str, timeout: int = 1) -> dict[str, object]:
    return {"command": ["/bin/sh", "-c", "; ".join(script.split("\n"))], "timeout": timeout}


def test_a_command_has_the_jails_user_and_environment_and_nothing_of_ours(world: World, patient: Host) -> None:
    script = """set -e
        [ "$(id -u) $JAIL_NAME $GREETING" = '1000 patient $HOME' ]
        grep -q '^CapBnd:.0000000000000000$' /proc/self/status
        grep -q '^NoNewPrivs:.1$' /proc/self/status
        ! ls -l /proc/self/fd | grep -v -e /dev/null -e pipe: -e /proc/ -e total
        [ "$(hostname)" = patient ]
        ! unshare --user true"""
    begun = time.monotonic()
    asked = [shell(script, 10), shell("exit 3"), {"command": ["/nothing/there"]}, shell("sleep 60")]
    told = [
        "fails `/bin/sh -c exit 3` ends with status 3",
        "fails `/bin/sh -c sleep 60` does not end within 1 s",
        "fails `/nothing/there` ends with status 127",
        "well",
    ]
    # systemd-run ends with status 1 when a busy systemd does not answer it: that is why nobody is blamed for one round
    assert told in (ask(world, *asked) for _ in range(3))
    assert time.monotonic() - begun < 30


def test_a_command_that_stops_its_watch_and_leaves_children_ends_all_the_same(world: World, patient: Host) -> None:
    hostile = "trap '' TERM; kill -STOP $PPID; (setsid sleep 7777 &); while :; do sleep 1; done"
    begun = time.monotonic()
    assert ask(world, shell(hostile), shell("(setsid sleep 7777 &) ; exit 0"))[1:] == ["well"]
    assert time.monotonic() - begun < 12
    assert patient.run("pgrep -f 'sleep 7777'", check=False).stdout == ""


# ── what follows ─────────────────────────────────────────────────────────────────────────────────────────────


def test_a_jail_that_answers_500_is_restarted_and_then_less_and_less_often(world: World, patient: Host) -> None:
    patient.run(f"echo 500 >{STATE}")
    guard, watch = Guard(), Watch()
    jails = [jail for jail in world.fleet.hosts["a"].jails if jail.id == ID]
    watch.saw(jails, Report("a", ""), 0)

    def rounds(*times: float) -> list[str]:
        """Which restarts are due after each round."""
        found = []
        for now in times:
            watch.heard(answers(world), now)
            found.append(watch.due(guard, now).get(ID, ""))
        return found

    why = "http :8080 answers 500, 3 times in a row"
    assert rounds(10, 20, 30) == ["", "", why]
    assert watch.told(Report("a", ""), guard).unwell == {ID: why}
    pid = patient.run(MAIN).stdout
    patient.run("echo 'repairing the disk' >/etc/reconciler/hold")
    held = world.reconcile("a", unwell=watch.due(guard, 30))
    assert (held.done, held.pending, patient.run(MAIN).stdout) == ((), (), pid)
    patient.run("rm /etc/reconciler/hold")

    report = world.reconcile("a", unwell=watch.due(guard, 30))
    assert [change.words for change in report.done] == [f"restart jail {ID}: {why}"]
    assert report.ready and patient.run(MAIN).stdout != pid
    watch.saw(jails, report, 30)
    until_answers(world)
    assert rounds(40, 50, 60, 89) == ["", "", "", ""]
    assert rounds(91) == [why]
    assert watch.told(report, guard).unwell == {ID: f"{why}; restarted once, which has not helped yet"}

    patient.run(f"echo 200 >{STATE}")
    assert rounds(100) == [""]
    assert watch.told(report, guard).unwell == {}


MAIN = f"systemctl show -P MainPID reconciler-jail-{ID}"


def until_answers(world: World) -> None:
    deadline = time.monotonic() + 20
    while ask(world) == ["fails http :8080 does not answer"]:
        assert time.monotonic() < deadline
        time.sleep(0.1)
