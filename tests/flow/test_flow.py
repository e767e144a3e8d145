"""The story of a company by the command line alone: each test is a page of it, and they are read in order."""

from __future__ import annotations

import re
import shutil
import signal
import subprocess

import ryaml

from linux.world import opens, page

from .company import COMMAND, Company, until

SHOP, SHOP_FILE = "2001:db8:ca00:1::1bf4:cc34", "customers/acme/jails/shop.yaml"
BLOG, BLOG_FILE = "2001:db8:1000:2::d1e:188f", "customers/uirig/jails/blog.yaml"
KILN_FILE = "customers/kiln/jails/www.yaml"
DIGEST = re.compile(r"^  plan ([0-9a-f]{16})$", re.MULTILINE)


def status(company: Company, path: str) -> dict[str, object]:
    found: dict[str, object] = ryaml.loads(company.status(path))["status"]
    return found


def head(company: Company) -> str:
    return company.git("rev-parse", "main", folder=company.remote).strip()


def applied(company: Company, *words: str) -> str:
    done = company.run("apply", *words)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def nothing_to_do(company: Company) -> None:
    done = company.run("plan")
    assert (done.returncode, done.stdout) == (0, "host a: as it should be\nhost b: as it should be\n")


# ── from nothing to everything ───────────────────────────────────────────────────────────────────────────────


def test_a_plan_changes_nothing(company: Company) -> None:
    done = company.run("plan")
    assert done.returncode == 2
    assert "  + create jail acme--shop\n" in done.stdout
    assert "Traceback" not in done.stderr
    assert company.run("plan").stdout == done.stdout
    assert company.status_commits() == []
    assert company.hosts["a"].run("ls -A /etc/reconciler /var/lib/reconciler", check=False).stdout.count("\n") <= 3


def test_an_apply_leaves_nothing_to_do(company: Company) -> None:
    assert "done create jail acme--shop" in applied(company)
    nothing_to_do(company)
    assert "Welcome to the ACME shop" in page(SHOP, 8080)


def test_the_status_branch_tells_it(company: Company) -> None:
    readme = company.status("README.md")
    assert f"In force: commit `{head(company)[:12]}`. 7 of 7 jails are ready, 2 of 2 hosts." in readme
    shop = status(company, SHOP_FILE)
    assert shop["conditions"] == [
        {"type": "Ready", "status": "True", "reason": "Running", "message": "as it should be"}
    ]
    assert shop["appliedRevision"] == head(company)
    assert (shop["host"], shop["address"], shop["endpoints"]) == ("a", SHOP, [f"[{SHOP}]:8080/tcp"])
    assert shop["names"] == ["shop.acme.example"]
    trailers = company.git("log", "-1", "--format=%(trailers:only)", "status/main", folder=company.remote)
    assert re.fullmatch(
        rf"Applied-Revision: {head(company)}\n(Plan-Digest: [0-9a-f]{{16}}\n){{2}}Instance: main\n\n", trailers
    )
    assert company.git("rev-list", "--max-parents=0", "status/main", folder=company.remote).strip() != head(company)


def test_a_second_apply_writes_no_commit(company: Company) -> None:
    before = company.status_commits()
    assert applied(company) == "host a: as it should be\nhost b: as it should be\n"
    assert company.status_commits() == before


def test_a_lost_cache_changes_nothing(company: Company) -> None:
    before = company.status_commits()
    shutil.rmtree(company.cache)
    nothing_to_do(company)
    assert applied(company) == "host a: as it should be\nhost b: as it should be\n"
    assert company.status_commits() == before


def test_the_secret_is_in_the_jail_and_nowhere_else(company: Company) -> None:
    secret = company.hosts["a"].run(
        "cat /proc/$(machinectl show -p Leader --value acme--db)/root/run/secrets/db-password"
    )
    words = secret.stdout.strip()
    assert words
    paths = company.git("ls-tree", "-r", "--name-only", "status/main", folder=company.remote).split()
    assert not [path for path in paths if words in company.status(path)]
    assert words not in company.run("plan", "--format", "json").stdout


def test_logs_of_a_jail(company: Company) -> None:
    done = company.run("logs", "acme/db")
    assert done.returncode == 0
    assert "Ready to accept connections" in done.stdout


def test_logs_are_followed_until_somebody_stops(company: Company) -> None:
    command = [*COMMAND, "--config", str(company.config), "logs", "-f", "kiln/www"]
    follower = "pgrep -fc '^journalctl.*[k]iln--www'"
    with subprocess.Popen(command, cwd=company.clone, env=company.environment, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline()
        assert company.hosts["a"].run(follower).stdout == "1\n"
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == 1
    until("nobody follows on the host", lambda: company.hosts["a"].run(follower, check=False).stdout == "0\n", 10)


# ── branches, digests ────────────────────────────────────────────────────────────────────────────────────────


def test_a_branch_that_is_not_merged_can_be_planned(company: Company) -> None:
    company.git("checkout", "-qb", "greeting")
    company.change(SHOP_FILE, "Welcome to the ACME shop", "Reviewed")
    company.git("commit", "-qam", "Another greeting")
    done = company.run("plan", "a", "--against", "greeting")
    assert done.returncode == 2
    assert "disrupts: restart of jail acme--shop" in done.stdout, done.stdout
    assert re.search(r"^ +-.*Welcome to the ACME shop", done.stdout, re.MULTILINE), done.stdout
    assert re.search(r"^ +\+.*Reviewed", done.stdout, re.MULTILINE)
    assert company.run("plan", "a").returncode == 0


def test_exactly_the_reviewed_plan_is_applied(company: Company) -> None:
    reviewed = DIGEST.findall(company.run("plan", "a", "--against", "greeting").stdout)[0]
    company.git("checkout", "-q", "main")
    company.git("merge", "-q", "--no-edit", "greeting")
    company.git("push", "-q", "origin", "main")
    done = company.run("apply", "a", "--digest", "0" * 16)
    assert done.returncode == 1
    assert f"the plan is {reviewed} now, not {'0' * 16}: look at it again" in done.stdout
    assert "Welcome" in page(SHOP, 8080)
    applied(company, "a", "--digest", reviewed)
    until("the reviewed greeting", lambda: "Reviewed" in page(SHOP, 8080))
    trailers = company.git("log", "-1", "--format=%(trailers:only)", "status/main", folder=company.remote)
    assert f"Plan-Digest: {reviewed}\n" in trailers
    assert status(company, SHOP_FILE)["appliedRevision"] == head(company)
    assert status(company, "customers/acme/jails/db.yaml")["appliedRevision"] != head(company)
    nothing_to_do(company)


# ── mistakes ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_mistake_holds_the_customer_who_made_it(company: Company) -> None:
    good = head(company)
    company.change(BLOG_FILE, "blueprint: nginx", "blueprint: ngimx")
    company.change(KILN_FILE, "  host: a\n", "  host: a\n  restart: 1\n")
    company.push("Two customers, one mistake")
    done = company.run("apply")
    assert done.returncode == 1
    assert f"{BLOG_FILE}:7:3: there is no blueprint ngimx\n    did you mean nginx?\n" in done.stderr
    assert "done change jail kiln--www" in done.stdout
    assert status(company, "customers/uirig/customer.yaml")["heldAt"] in company.git("log", "--format=%H", good)
    assert status(company, BLOG_FILE)["heldAt"]
    assert "Held at their last good commit: uirig. The others go on." in company.status("README.md")
    assert opens(BLOG, 80)


def test_a_mistake_of_staff_holds_everything(company: Company) -> None:
    company.change("hosts/b.yaml", "location: lon", "location: lno")
    company.change(KILN_FILE, "restart: 1", "restart: 2")
    company.push("Staff make mistakes")
    done = company.run("apply")
    assert done.returncode == 1
    assert "there is no location lno" in done.stderr
    assert "done" not in done.stdout
    assert "It holds everything" in company.status("README.md")


def test_mended_documents_are_in_force_again(company: Company) -> None:
    company.change("hosts/b.yaml", "location: lno", "location: lon")
    company.change(BLOG_FILE, "blueprint: ngimx", "blueprint: nginx")
    company.push("Mended")
    assert "done change jail kiln--www" in applied(company)
    assert company.status("customers/uirig/customer.yaml") == ""
    assert "Problems" not in company.status("README.md")


def test_an_empty_tree_removes_nothing(company: Company) -> None:
    before = status(company, SHOP_FILE)
    company.git("rm", "-rq", ".")
    company.push("Oops")
    done = company.run("apply")
    assert done.returncode == 1
    assert "done" not in done.stdout
    assert opens(SHOP, 8080)
    assert status(company, SHOP_FILE) == before
    company.git("revert", "--no-edit", "HEAD")
    company.git("push", "-q", "origin", "main")
    nothing_to_do(company)


# ── removal ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_removed_jail_stops_and_its_data_stays(company: Company) -> None:
    public = "/var/lib/reconciler/jails/uirig--blog/data/data/public"
    company.hosts["b"].run(f"mkdir -p {public} && echo precious >{public}/index.html && chmod 755 {public}")
    until("the page", lambda: "precious" in page(BLOG), 20)
    shutil.copy(company.clone / BLOG_FILE, company.folder / "blog.yaml")
    shutil.copy(company.clone / "customers/uirig/sites/blog.yaml", company.folder / "site.yaml")
    (company.clone / BLOG_FILE).unlink()
    (company.clone / "customers/uirig/sites/blog.yaml").unlink()
    company.push("No blog any more")
    told = applied(company)
    assert "done remove jail uirig--blog" in told
    assert re.search(r"done keep the data of uirig--blog, until \d{4}-\d\d-\d\d", told)
    assert not opens(BLOG, 80)
    assert company.status(BLOG_FILE) == ""
    retained = status(company, "hosts/b.yaml")["retained"]
    assert [entry["jail"] for entry in retained] == ["uirig--blog"]  # type: ignore[attr-defined]
    nothing_to_do(company)


def test_a_jail_that_comes_back_has_its_data(company: Company) -> None:
    shutil.copy(company.folder / "blog.yaml", company.clone / BLOG_FILE)
    shutil.copy(company.folder / "site.yaml", company.clone / "customers/uirig/sites/blog.yaml")
    company.push("The blog is back")
    assert "bring back data of uirig--blog, as it was left" in applied(company)
    assert "precious" in page(BLOG)
    assert "retained" not in status(company, "hosts/b.yaml")


def test_a_suspended_host_is_looked_at_and_left_as_it_is(company: Company) -> None:
    company.change("hosts/a.yaml", "spec:\n", "spec:\n  suspend: true\n")
    company.change(KILN_FILE, "restart: 2", "restart: 3")
    company.push("Wait with a")
    done = company.run("apply", "a")
    assert done.returncode == 2
    assert "host a: on hold by `suspend` in hosts/a.yaml\n" in done.stdout
    assert "jail kiln--www" in done.stdout
    assert "OnHold" in company.status("hosts/a.yaml")
    company.change("hosts/a.yaml", "  suspend: true\n", "")
    company.push("Go on")
    assert "jail kiln--www" in applied(company, "a")


def approve(company: Company, name: str, until: str) -> None:
    head = f"apiVersion: reconciler.hosting/v1\nkind: Approval\nmetadata:\n  name: {name}\n"
    company.write(f"approvals/{name}.yaml", f"{head}spec:\n  until: {until}\n  reason: ACME has moved out\n")
    company.push("ACME moves out")


def test_too_much_at_once_is_refused_with_the_numbers(company: Company) -> None:
    paths = [company.clone / f"customers/acme/jails/{name}.yaml" for name in ("www", "shop", "back-office", "db")]
    paths += [company.clone / f"customers/acme/sites/{name}.yaml" for name in ("www", "shop")]
    for path in paths:
        path.unlink()
    company.push("Spring cleaning")
    done = company.run("apply")
    assert done.returncode == 1
    assert "4 of 5 jails would be removed or restarted at once, more than 30 %" in done.stdout
    assert opens(SHOP, 8080)
    assert "Refused" in company.status("hosts/a.yaml")
    assert status(company, SHOP_FILE)["host"] == "a"
    reviewed = status(company, "hosts/a.yaml")
    assert [reviewed["plan"]] == DIGEST.findall(done.stdout)
    approve(company, str(reviewed["approval"]), until="2020-01-01")
    assert company.run("apply").returncode == 1
    approve(company, str(reviewed["approval"]), until="2099-12-31")
    company.hosts["a"].run("nft flush ruleset")
    told = applied(company, "a")
    assert "done remove jail acme--shop" in told
    assert "approval" not in status(company, "hosts/a.yaml")
    assert not opens(SHOP, 8080)
    assert company.status(SHOP_FILE) == ""


def test_data_of_a_jail_that_is_gone_is_deleted_after_its_day_by_the_approval_that_the_status_names(
    company: Company,
) -> None:
    host, home = company.hosts["a"], "/var/lib/reconciler/jails/acme--shop"
    then = r"s/\t20[0-9-]*\t\t/\t2020-01-31\t\t/"
    host.run(f"sed -i '{then}' /var/lib/reconciler/inventory; echo 2020-01-31 >{home}/retained")
    applied(company, "a")
    assert host.run(f"ls {home}").stdout
    kept = {entry["jail"]: entry["purge"] for entry in status(company, "hosts/a.yaml")["retained"]}  # type: ignore[attr-defined]
    assert f"| acme/shop | [a](hosts/a.yaml) | 2020-01-31 | `approvals/{kept['acme--shop']}.yaml` |" in company.status(
        "README.md"
    )
    approve(company, kept["acme--shop"], until="2099-12-31")
    words = f"delete the data of acme--shop, kept until 2020-01-31, approved by {kept['acme--shop']}"
    assert applied(company, "a") == f"host a: 1 change done\n  done {words}\n"
    assert host.run("ls /var/lib/reconciler/jails").stdout.split() == [
        "acme--back-office",
        "acme--db",
        "acme--www",
        "kiln--www",
    ]
    left = {entry["jail"] for entry in status(company, "hosts/a.yaml")["retained"]}  # type: ignore[attr-defined]
    assert left == {"acme--back-office", "acme--db", "acme--www"}


# ── hosts ────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_host_that_left_the_repository_is_not_wiped(company: Company) -> None:
    for path in ("hosts/b.yaml", "customers/uirig"):
        company.git("rm", "-rq", path)
    company.push("We give host b back")
    assert applied(company).startswith("host a: ")
    assert company.status("hosts/b.yaml") == ""
    assert opens(BLOG, 80)


def test_a_host_with_another_key_is_not_spoken_to(company: Company) -> None:
    wrong = company.hosts["b"].host_key
    company.change("hosts/a.yaml", company.hosts["a"].host_key, wrong)
    company.push("The wrong key")
    done = company.run("apply")
    assert done.returncode == 1
    assert re.search(
        r"host a: unreachable: .* shows the host key ssh-ed25519 \S+, not the one in its Host", done.stdout
    )
    assert "correct spec.ssh.hostKey" in done.stdout
    assert "Unreachable" in company.status("customers/kiln/jails/www.yaml")


def test_a_host_without_a_key_is_a_problem(company: Company) -> None:
    company.change("hosts/a.yaml", f"    hostKey: {company.hosts['b'].host_key}\n", "")
    assert "hostKey" in company.run("validate").stdout
