"""The daemon's days: what wakes it, what it survives, and how it stops. Read in order, on one company.

It polls once an hour here: what happens soon happens because of the file watch, a webhook or a look for drift.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import ryaml

from linux.world import ask, page

from .company import Company, until, web

SHOP, SHOP_FILE = "2001:db8:ca00:1::1bf4:cc34", "customers/acme/jails/shop.yaml"
BLOG, BLOG_FILE = "2001:db8:1000:2::d1e:188f", "customers/uirig/jails/blog.yaml"
SECOND = "http://[::1]:8471"
SLOW_RESTARTS = """
[ -e /usr/bin/systemctl.real ] || mv /usr/bin/systemctl /usr/bin/systemctl.real
cat >/usr/bin/systemctl <<'END'
#!/bin/sh
[ "$1" != restart ] || { : >/run/restarting; sleep 3; }
exec /usr/bin/systemctl.real "$@"
END
chmod 755 /usr/bin/systemctl
rm -f /run/restarting
"""
QUICK_RESTARTS = "mv /usr/bin/systemctl.real /usr/bin/systemctl"
IMPATIENT = (sys.executable, "-c", "from reconciler import cli, daemon; daemon.GRACE = 0.3; cli.main()")
TARPIT = """systemctl stop ssh; systemctl kill --kill-whom=all ssh || true
cat >/run/tarpit <<'END'
import socket
listener, kept = socket.create_server(("::", 22), family=socket.AF_INET6), []
while True:
    kept.append(listener.accept())
    open("/run/caught", "w").close()
END
systemd-run --quiet --unit=tarpit python3 /run/tarpit
"""
REFUSE_STATUS = "#!/bin/sh\nwhile read old new ref; do case $ref in refs/heads/status/*) exit 1 ;; esac; done\n"


@pytest.fixture(scope="module", autouse=True)
def hourly(company: Company) -> None:
    text = company.config.read_text()
    company.config.write_text(text.replace("poll = 5", "poll = 3600").replace("drift = 3", "drift = 4"))


@pytest.fixture(scope="module")
def running(company: Company) -> Iterator[subprocess.Popen[bytes]]:
    """The daemon of the first half of the story."""
    with company.daemon() as process:
        until("ready", lambda: web("/readyz")[0] == 200)
        until("the status", lambda: "7 of 7 jails are ready" in company.status("README.md"))
        yield process


def metric(name: str) -> float:
    found = re.findall(rf"^{re.escape(name)} (\S+)$", web("/metrics")[1], re.MULTILINE)
    return float(found[0]) if found else 0.0


def looks(company: Company) -> list[float]:
    """How many passes found each host well."""
    return [metric(f'reconciler_passes_total{{host="{name}",result="ready"}}') for name in company.hosts]


def greet(company: Company, words: str) -> str:
    text = (company.clone / SHOP_FILE).read_text()
    company.write(SHOP_FILE, re.sub("GREETING: .*", f"GREETING: {words}", text))
    return company.push(words)


def greets(words: str) -> bool:
    try:
        return words in ask(SHOP, 8080)
    except OSError:
        return False


def reason(company: Company, path: str) -> str:
    text = company.status(path)
    return str(ryaml.loads(text)["status"]["conditions"][0]["reason"]) if text else ""


def applied(company: Company) -> str:
    """The revision that last changed the shop."""
    return str(ryaml.loads(company.status(SHOP_FILE))["status"].get("appliedRevision"))


def traces(company: Company) -> str:
    """What changes on the hosts when anything is done to them."""
    look = "sha256sum /var/lib/reconciler/inventory; systemctl show -p MainPID 'reconciler-jail-*'; nft list ruleset"
    return "".join(host.run(look).stdout for host in company.hosts.values())


def nothing_to_do(company: Company) -> None:
    done = company.run("plan")
    assert (done.returncode, done.stdout) == (0, "host a: as it should be\nhost b: as it should be\n"), done.stdout


@contextmanager
def slow_restarts(company: Company) -> Iterator[None]:
    """A restart of a jail on host a takes 3 seconds more."""
    host = company.hosts["a"]
    host.run(SLOW_RESTARTS)
    try:
        yield
    finally:
        host.run(QUICK_RESTARTS)


def in_the_middle(company: Company) -> None:
    until("an apply in its middle", lambda: company.hosts["a"].run("ls /run/restarting", check=False).returncode == 0)


# ── what wakes it ────────────────────────────────────────────────────────────────────────────────────────────


def test_it_makes_everything_and_tells_it(company: Company, running: subprocess.Popen[bytes]) -> None:
    assert "Welcome to the ACME shop" in page(SHOP, 8080)
    assert web("/healthz") == (200, "alive\n")
    assert web("/readyz") == (200, "ready\n")
    assert metric('reconciler_host_ready{host="a"}') == 1
    assert metric("reconciler_problems") == 0
    assert len(company.status_commits()) <= 3


def test_a_push_wakes_it_by_the_file_watch(company: Company, running: subprocess.Popen[bytes]) -> None:
    commit = greet(company, "Watched")
    until("the new greeting", lambda: greets("Watched"), 20)
    until("the status", lambda: applied(company) == commit, 20)


def test_drift_is_mended_and_told_once(company: Company, running: subprocess.Popen[bytes]) -> None:
    before = company.status_commits()
    company.hosts["a"].run("nft flush ruleset; systemctl stop reconciler-jail-acme--shop")
    until("the repair", lambda: greets("Watched"), 30)
    assert "chain jails" in company.hosts["a"].run("nft list ruleset").stdout
    until("the repair is told", lambda: company.status_commits() == ["Mend a", *before], 30)
    assert "change jail acme--shop: runs missing" in company.status("hosts/a.yaml")
    counts = looks(company)
    until("more looks", lambda: all(now >= then + 2 for now, then in zip(looks(company), counts, strict=True)))
    assert company.status_commits() == ["Mend a", *before]


def test_a_change_of_staffs_comes_to_the_others_when_the_canary_is_well(
    company: Company, running: subprocess.Popen[bytes]
) -> None:
    company.change("platform.yaml", "  guard:", "  rollout: {many: 2, shares: [], pause: 3}\n  guard:")
    company.change("hosts/b.yaml", "  platform: linux", "  platform: linux\n  canary: true")
    company.change("policies/edge.yaml", "ports: [9100]", "ports: [9100, 9101]")
    commit = company.push("Another port for the monitoring")

    def open_on(name: str) -> bool:
        return "9101" in company.hosts[name].run("nft list ruleset").stdout

    until("the canary has it", lambda: open_on("b"), 20)
    assert not open_on("a")
    until("the status says so", lambda: "go in waves" in company.status("README.md"), 20)
    until("the other one has it", lambda: open_on("a"), 30)
    until("all is well", lambda: "go in waves" not in company.status("README.md"), 30)
    assert f"revision: {commit}" in company.status("rollout.yaml")


def test_a_jail_that_fails_its_checks_is_told_and_restarted(company: Company, running: subprocess.Popen[bytes]) -> None:
    path, well = "customers/acme/jails/www.yaml", "- http: {port: 80, path: /about/, contains: ACME}"
    ill = "- {http: {port: 80, path: /nowhere}, failures: 1}"
    company.change(path, well, ill)
    company.push("Ask for what is not there")
    until("the status says it", lambda: reason(company, path) == "Unhealthy", 30)
    restart = "restart jail acme--www: http :80/nowhere answers 404"
    until("the restart", lambda: restart in company.status("hosts/a.yaml"), 30)
    assert "type: Degraded" in company.status(path)
    company.change(path, ill, well)
    company.push("Ask for what is there")
    until("it is well", lambda: reason(company, path) == "Running", 30)


# ── what it survives ─────────────────────────────────────────────────────────────────────────────────────────


def test_a_status_that_cannot_be_pushed_holds_nothing_up(company: Company, running: subprocess.Popen[bytes]) -> None:
    hook = company.remote / "hooks/pre-receive"
    hook.write_text(REFUSE_STATUS)
    hook.chmod(0o755)
    before = company.status_commits()
    try:
        commit = greet(company, "Unpublished")
        until("the new greeting", lambda: greets("Unpublished"), 20)
        until("a push that fails", lambda: metric("reconciler_status_failures_total") > 0, 20)
        assert company.status_commits() == before
    finally:
        hook.unlink()
    until("the status after all", lambda: applied(company) == commit, 30)


def test_a_host_that_says_nothing_or_is_down_stops_nobody_else(
    company: Company, running: subprocess.Popen[bytes]
) -> None:
    host = company.hosts["b"]
    host.run(TARPIT)
    until("host b is waited for", lambda: host.run("ls /run/caught", check=False).returncode == 0, 30)
    commit = greet(company, "Past a tarpit")
    until("host a goes on beside it", lambda: greets("Past a tarpit") and applied(company) == commit, 20)
    host.run("systemctl stop tarpit")
    until("the status says it", lambda: reason(company, "hosts/b.yaml") == "Unreachable", 40)
    assert reason(company, BLOG_FILE) == "Unreachable"
    commit = greet(company, "Without b")
    until("host a goes on", lambda: greets("Without b") and applied(company) == commit, 20)
    assert metric('reconciler_host_ready{host="b"}') == 0
    tries = metric('reconciler_passes_total{host="b",result="not ready"}')
    time.sleep(3)
    assert metric('reconciler_passes_total{host="b",result="not ready"}') <= tries + 2
    host.run("systemctl start ssh")
    until("host b is well", lambda: reason(company, "hosts/b.yaml") == "UpToDate", 40)
    assert reason(company, BLOG_FILE) == "Running"


def test_its_log_is_json_with_revision_host_and_change(company: Company, running: subprocess.Popen[bytes]) -> None:
    lines = [json.loads(line) for line in company.log.splitlines()]
    assert {"time", "level", "message"} <= set.intersection(*({*line} for line in lines))
    done = [line for line in lines if line["message"] == "done"]
    assert {"a", "b"} == {line["host"] for line in done}
    assert all(re.fullmatch("[0-9a-f]{40}", line["revision"]) and line["change"] for line in done)
    assert not [line for line in lines if "traceback" in line]


# ── how it stops ─────────────────────────────────────────────────────────────────────────────────────────────


def test_it_ends_an_apply_before_it_stops(company: Company, running: subprocess.Popen[bytes]) -> None:
    with slow_restarts(company):
        commit = greet(company, "Just in time")
        in_the_middle(company)
        running.send_signal(signal.SIGTERM)
        assert running.wait(40) == 0
    assert applied(company) == commit
    assert greets("Just in time")
    nothing_to_do(company)


def test_a_lost_cache_changes_nothing(company: Company) -> None:
    shutil.rmtree(company.cache)
    before, commits = traces(company), company.status_commits()
    with company.daemon() as process:
        until("ready", lambda: web("/readyz")[0] == 200)
        process.terminate()
        assert process.wait(40) == 0
    assert traces(company) == before
    assert company.status_commits() == commits


def test_a_second_one_waits_and_begins_when_the_first_one_ends(company: Company) -> None:
    config, text = company.folder / "second.toml", company.config.read_text()
    text = text.replace("[::1]:8470", "[::1]:8471").replace("poll = 3600", "poll = 1")
    config.write_text(text.replace(str(company.cache), f"{company.cache}-2"))
    held = f"waiting: the lease is held by {socket.gethostname()}:{company.cache} ("
    with company.daemon() as first:
        until("ready", lambda: web("/readyz")[0] == 200)
        with company.daemon(config):
            until("it waits", lambda: web("/readyz", at=SECOND)[1].startswith(held))
            assert web("/readyz", at=SECOND)[0] == 503
            assert web("/readyz") == (200, "ready\n")
            first.terminate()
            assert first.wait(40) == 0
            until("it begins", lambda: web("/readyz", at=SECOND) == (200, "ready\n"), 20)


@pytest.mark.parametrize(("number", "command"), [(signal.SIGKILL, None), (signal.SIGTERM, IMPATIENT)])
def test_what_it_leaves_half_done_the_next_one_mends(
    number: int, command: tuple[str, ...] | None, company: Company
) -> None:
    """Killed, or out of patience: the apply that it left under way is ended by the host or by the next pass."""
    words = f"Number {number}"
    with slow_restarts(company), begun(company, command) as process:
        commit = greet(company, words)
        in_the_middle(company)
        process.send_signal(number)
        assert process.wait(3 if command else 10) == (0 if command else -signal.SIGKILL)
    done = company.run("apply")
    assert done.returncode == 0, done.stdout + done.stderr
    until("the greeting", lambda: greets(words), 10)
    assert applied(company) == commit
    nothing_to_do(company)


@contextmanager
def begun(company: Company, command: tuple[str, ...] | None) -> Iterator[subprocess.Popen[bytes]]:
    if command is None:
        with company.daemon() as process:
            until("ready", lambda: web("/readyz")[0] == 200)
            yield process
        return
    with subprocess.Popen([*command, "--config", company.config, "run"], env=company.environment) as process:
        try:
            until("ready", lambda: web("/readyz")[0] == 200)
            yield process
        finally:
            process.kill()


# ── a repository elsewhere ───────────────────────────────────────────────────────────────────────────────────


@contextmanager
def served(company: Company) -> Iterator[None]:
    """The repository by `git daemon`, as from another machine: no file can be watched."""
    command = ["git", "daemon", "--base-path=" + str(company.folder), "--export-all", "--enable=receive-pack"]
    process = subprocess.Popen([*command, "--listen=::1", "--reuseaddr", str(company.folder)], env=company.environment)
    text = company.config.read_text()
    company.config.write_text(text.replace(f'url = "{company.remote}"', 'url = "git://[::1]/config.git"'))
    try:
        yield
    finally:
        company.config.write_text(text)
        process.terminate()
        process.wait(10)


def test_a_webhook_wakes_it(company: Company) -> None:
    body = b'{"ref": "refs/heads/somewhere-else"}'
    secret = (company.folder / "webhook.secret").read_bytes().strip()
    signature = "sha256=" + hmac.new(secret, body, hashlib.sha256).hexdigest()
    with served(company), company.daemon():
        until("ready", lambda: web("/readyz")[0] == 200)
        commit = greet(company, "By webhook")
        assert web("/hooks/github", body, X_Hub_Signature_256="sha256=" + "0" * 64)[0] == 401
        time.sleep(1.5)
        assert not greets("By webhook")
        assert web("/hooks/github", body, X_Hub_Signature_256=signature) == (202, "will look\n")
        until("the new greeting", lambda: greets("By webhook"), 20)
        until("the status", lambda: applied(company) == commit, 20)
