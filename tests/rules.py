"""A host to which root does not log in, made as README.md tells people to make it.

In: a host of the lab. Out: on it an account that may log in with root's key, and the rule by which it becomes root. The
commands and rules are the README's own lines.
"""

from __future__ import annotations

from pathlib import Path

from lab import Host

README = (Path(__file__).parents[1] / "README.md").read_text()
ACCOUNT = "reconciler"
RULE = "/etc/sudoers.d/reconciler"


def line(begins: str) -> str:
    (found,) = (line.strip() for line in README.splitlines() if line.strip().startswith(begins))
    return found


SUDO = line("reconciler ALL=")
DOAS = line("permit nopass ")
CLOSE_ROOT = f"""
{line("useradd --system --create-home")}
install -d -o {ACCOUNT} -m 700 /home/{ACCOUNT}/.ssh
install -o {ACCOUNT} -m 600 /root/.ssh/authorized_keys /home/{ACCOUNT}/.ssh/
umask 337; cat >{RULE}
sed -i 's/^PermitRootLogin .*/PermitRootLogin no/' /etc/ssh/sshd_config
systemctl reload ssh
"""


def close_root(host: Host) -> None:
    host.run(CLOSE_ROOT, input=f"{SUDO}\n")
