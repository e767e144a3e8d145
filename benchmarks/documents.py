"""A git repository of N jails, the same one every time: what the benchmarks compile.

In: a folder and a number. Out: a bare repository with a branch for each question: `everything`, then one file changed a
commit on `single`, a blueprint on `blueprint`, a customer's mistake followed by others' single files on `held`. Staff's
documents are those of sample-repo, with a host for every hundred jails; each customer has ten jails on two hosts, two
sites and a secret. Documents are as long as people write them, 27 lines a jail.
"""

from __future__ import annotations

import hashlib
import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path

SAMPLE = Path(__file__).parents[1] / "sample-repo"
STAFF = ("platform.yaml", "locations", "policies", "blueprints")
COMMITS = 5
"""How many change a single file, on `single` and on `held`."""
API = "apiVersion: reconciler.hosting/v1\n"
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIIPBPphbyaw9AhyG46k7bD+mjI9upvztZCOkg4+MgYKH"
SECRET = (SAMPLE / "customers/acme/secrets/db-password.age").read_text(encoding="ascii")
RECIPIENT = "age1lsfk3522e5w2cagcnha3pa2a9r385g26pmpdtckgwencrn0v9uts0c8uh6"
JAILS = 10


def generate(folder: Path, jails: int) -> Path:
    """A bare repository with about this many jails, whole customers at a time."""
    subprocess.run(["git", "init", "-q", "--bare", "-b", "everything", folder], check=True)
    with subprocess.Popen(["git", "-C", folder, "fast-import", "--quiet"], stdin=subprocess.PIPE) as git:
        assert git.stdin is not None
        git.stdin.writelines(piece.encode() for piece in history(max(1, jails // JAILS)))
    if git.returncode:
        raise RuntimeError(f"git fast-import ended with {git.returncode}")
    return folder


def history(customers: int) -> Iterator[str]:
    """The stream for git."""
    yield from commit("everything", "", tree(customers))
    for number in range(1, COMMITS + 1):
        yield from commit("single", "everything" if number == 1 else "", [restarted(customers, number)])
    path = "blueprints/nginx.yaml"
    text = (SAMPLE / path).read_text(encoding="utf-8").replace("command: [/bin/sh", "command: [/usr/bin/sh")
    yield from commit("blueprint", "everything", [(path, text)])
    path, text = next(jails(0, customers))
    yield from commit("held", "everything", [(path, text.replace("host: h0", "host: nowhere"))])
    for number in range(1, COMMITS + 1):
        yield from commit("held", "", [restarted(customers, number)])


def restarted(customers: int, number: int) -> tuple[str, str]:
    """A jail of another customer each time."""
    path, text = next(jails(customers * number // (COMMITS + 1), customers))
    return path, text.replace("restart: 0", f"restart: {number}")


def commit(branch: str, parent: str, files: Iterable[tuple[str, str]]) -> Iterator[str]:
    yield f"commit refs/heads/{branch}\ncommitter b <b@example.org> 1767225600 +0000\ndata 0\n"
    if parent:
        yield f"from refs/heads/{parent}\n"
    for path, text in files:
        yield f"M 100644 inline {path}\ndata {len(text.encode())}\n{text}\n"
    yield "\n"


def tree(customers: int) -> Iterator[tuple[str, str]]:
    for name in STAFF:
        for file in sorted((SAMPLE / name).rglob("*.yaml")) or [SAMPLE / name]:
            yield file.relative_to(SAMPLE).as_posix(), file.read_text(encoding="utf-8")
    for number in range(hosts(customers)):
        yield host(number)
    for number in range(customers):
        yield f"customers/c{number}/customer.yaml", customer(number)
        yield f"customers/c{number}/secrets/db-password.age", SECRET
        yield from jails(number, customers)
        yield from sites(number)


def hosts(customers: int) -> int:
    return max(2, customers // 10)


def host(number: int) -> tuple[str, str]:
    """Even ones are routed in cam, odd ones bridged in lon, as in the sample."""
    routed = number % 2 == 0
    network = (
        "uplink: eth0\n  switches:\n    - name: jails0" if routed else "switches:\n    - {name: lan0, uplink: eth1}"
    )
    return f"hosts/h{number}.yaml", (
        f"{API}kind: Host\nmetadata:\n  name: h{number}\nspec:\n  platform: linux\n"
        f"  location: {'cam' if routed else 'lon'}\n"
        f"  ssh:\n    address: 2001:db8:ffff:1::{number + 1:x}\n    hostKey: {KEY}\n"
        f"  {network}\n  policy: edge\n  sysctls:\n    vm.overcommit_memory: '1'\n"
    )


def customer(number: int) -> str:
    return (
        f"{API}kind: Customer\nmetadata:\n  name: c{number}\nspec:\n  subnet: {number + 1}\n"
        f"  domains: [c{number}.example, c{number}-shop.example]\n"
        f"  quota:\n    jails: {JAILS}\n    memory: 8Gi\n  recipient: {RECIPIENT}\n"
    )


def jails(number: int, customers: int) -> Iterator[tuple[str, str]]:
    """Six web servers with releases, three applications, one database; the last four on another host."""
    for index in range(JAILS):
        name = f"www-{index}" if index < 6 else f"app-{index}" if index < 9 else "db"
        home = (number + (index >= 6)) % hosts(customers)
        text = web(number, name, home) if index < 6 else app(name, home) if index < 9 else database(home)
        yield f"customers/c{number}/jails/{name}.yaml", text


def head(name: str, blueprint: str, host: int) -> str:
    return (
        "# yaml-language-server: $schema=../../../../schemas/jail.json\n"
        f"{API}kind: Jail\nmetadata:\n  name: {name}\nspec:\n  blueprint: {blueprint}\n  host: h{host}\n"
    )


def web(customer: int, name: str, host: int) -> str:
    digest = hashlib.sha256(f"{customer} {name}".encode()).hexdigest()
    return head(name, "nginx", host) + (
        "  parameters:\n    FOLDER: public\n"
        "  # The site's own files; a new version is a new digest.\n"
        f"  release:\n    archive: https://releases.c{customer}.example/{name}.tar\n    digest: sha256:{digest}\n"
        "  publish:\n    # No `from`: everybody.\n    - port: 80\n"
        "  reach:\n    - to: [2001:db8:9a1d::/48]\n      ports: [443]\n"
        "    - to: [2001:db8:ffff:ace::/64, 2001:db8:ffff:ad0::/64]\n      ports: [25, 587]\n"
        "  limits:\n    memory: 256Mi\n    processes: 64\n  restart: 0\n"
    )


def app(name: str, host: int) -> str:
    return head(name, "app", host) + (
        f"  parameters:\n    GREETING: Welcome to {name}\n    DATABASE_HOST: db\n    DATABASE_PORT: '6379'\n"
        "  publish:\n    - port: 8080\n"
        "  # What it may reach outside is a list: the payment provider.\n"
        "  reach:\n    - to: [2001:db8:9a1d::/48]\n      ports: [443]\n"
        "  after: [db]\n  secrets: [db-password]\n"
        "  limits:\n    memory: 512Mi\n    processes: 64\n    cpu: 100\n  restart: 0\n"
    )


def database(host: int) -> str:
    return head("db", "redis", host) + (
        "  parameters:\n    MAXMEMORY: 150mb\n"
        "  publish:\n    # Only the applications.\n    - port: 6379\n      from:\n"
        "        - app-6\n        - app-7\n        - app-8\n"
        "  # Nothing outside.\n  reach: []\n"
        "  limits:\n    memory: 384Mi\n    processes: 32\n    cpu: 50\n"
        "  secrets:\n    - db-password\n  restart: 0\n"
    )


def sites(number: int) -> Iterator[tuple[str, str]]:
    for name, domain, port, backends in (
        ("www", f"c{number}.example", 80, [f"www-{index}" for index in range(6)]),
        ("shop", f"c{number}-shop.example", 8080, ["app-6", "app-7", "app-8"]),
    ):
        listed = "".join(f"    - jail: {jail}\n      port: {port}\n" for jail in backends)
        yield (
            f"customers/c{number}/sites/{name}.yaml",
            (
                f"{API}kind: Site\nmetadata:\n  name: {name}\nspec:\n"
                f"  names: [{domain}, www.{domain}]\n  backends:\n{listed}"
            ),
        )
