"""The disk of a lab host: this machine's root below, and above it what makes it a bare Debian server.

In: a folder on a real file system, a name, the public key that may log in.
Out: in that folder `upper` (the disk that survives reboots), `work`, `root`, `data`, `fstab`, for boot.sh.
Files are written straight into `upper`: nothing is mounted here. Must not know of networks or processes.
"""

import os
import secrets
import stat
import subprocess
import uuid
from collections.abc import Mapping
from pathlib import Path

SHOWN = {"bin", "etc", "lib", "lib32", "lib64", "libx32", "sbin", "usr", "var"}
EMPTY = {"boot": 0o755, "dev": 0o755, "home": 0o755, "media": 0o755, "mnt": 0o755, "opt": 0o755, "proc": 0o555,
         "root": 0o700, "run": 0o755, "srv": 0o755, "sys": 0o555, "tmp": 0o1777}  # fmt: skip
HIDDEN = ("etc/ssh", "etc/systemd", "etc/sysctl.d", "etc/tmpfiles.d", "usr/lib/sysctl.d", "usr/local", "var/log")
HIDDEN_ETC_FILES = ("environment", "fstab", "resolv.conf", "sysctl.conf")
LOCAL = ("bin", "etc", "games", "include", "lib", "sbin", "share", "src")

# the network and devices come from outside, and there is no console to log in on
MASKED = ("systemd-udevd.service", "systemd-udevd-control.socket", "systemd-udevd-kernel.socket",
          "systemd-udev-trigger.service", "getty.target", "console-getty.service",
          "dev-hugepages.mount", "sys-kernel-config.mount", "sys-kernel-debug.mount",
          "sys-kernel-tracing.mount", "sys-fs-fuse-connections.mount",
          "proc-sys-fs-binfmt_misc.automount")  # fmt: skip

SSHD_CONFIG = """\
HostKey /etc/ssh/ssh_host_ed25519_key
UsePAM no
PermitRootLogin prohibit-password
PasswordAuthentication no
UseDNS no
MaxStartups 100:30:200
MaxSessions 100
AcceptEnv LANG LC_*
Subsystem sftp internal-sftp
"""
# Mounted below the host's root before its PID 1 starts.
# - idmapped mounts and container roots do not work on an overlay: /srv and /var/lib/reconciler are real folders
# - the kernel's own boot id is the machine's and outlives a host, so a file covers it; but a user namespace may
#   mount a /proc only where it sees one that nothing covers, so there is such a one elsewhere
FSTAB = """\
proc /proc proc nosuid,nodev,noexec 0 0
sysfs /sys sysfs nosuid,nodev,noexec 0 0
tmpfs /dev tmpfs mode=755,size=16m 0 0
devpts /dev/pts devpts newinstance,ptmxmode=0666,mode=620,gid=5,X-mount.mkdir 0 0
tmpfs /dev/shm tmpfs mode=1777,X-mount.mkdir 0 0
tmpfs /run tmpfs mode=755 0 0
proc /run/lab/proc proc nosuid,nodev,noexec,X-mount.mkdir 0 0
{folder}/boot_id /proc/sys/kernel/random/boot_id none bind 0 0
{folder}/data/srv /srv none bind 0 0
{folder}/data/reconciler /var/lib/reconciler none bind 0 0
"""
HOSTS = "127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n"


def make_disk(folder: Path, name: str, login_key: str) -> str:
    """Writes the disk; returns the public ssh key of the host."""
    upper = folder / "upper"
    for part in ("upper", "work", "root", "data/srv", "data/reconciler"):
        _folder(folder / part)
    _hide_machine(upper)
    _write_identity(upper, name)
    _enable_units(upper)
    _folder(upper / "root/.ssh", 0o700)
    (upper / "root/.ssh/authorized_keys").write_text(login_key)
    return _make_host_key(upper / "etc/ssh", name)


def prepare_boot(folder: Path, more_mounts: str) -> None:
    """Writes what differs from boot to boot: the boot id, and the mounts with those of the caller."""
    (folder / "boot_id").write_text(f"{uuid.uuid4()}\n")
    (folder / "fstab").write_text(FSTAB.format(folder=_escaped(folder)) + more_mounts)


def shown(folders: Mapping[str, Path]) -> str:
    """Mounts of this machine's folders, read-only, where the host has nothing."""
    return "".join(f"{_escaped(here)} {there} none bind,ro,X-mount.mkdir 0 0\n" for there, here in folders.items())


def _escaped(path: Path) -> str:
    return str(path).replace(" ", r"\040")


def _hide_machine(upper: Path) -> None:
    for entry in os.scandir("/"):
        if entry.name not in SHOWN | EMPTY.keys():
            os.mknod(upper / entry.name, stat.S_IFCHR, 0)  # overlayfs: "deleted"
    for name, mode in EMPTY.items():
        _opaque(upper / name, mode)
    for path in ("etc", "usr", "var", "var/lib"):
        _folder(upper / path)
    for path in HIDDEN:
        _opaque(upper / path)
    _opaque(upper / "var/tmp", 0o1777)
    for path in LOCAL:
        _folder(upper / "usr/local" / path)
    _folder(upper / "var/lib/reconciler")
    for file in HIDDEN_ETC_FILES:
        (upper / "etc" / file).write_text("")


def _write_identity(upper: Path, name: str) -> None:
    etc = upper / "etc"
    (etc / "hostname").write_text(f"{name}\n")
    (etc / "hosts").write_text(f"{HOSTS}127.0.1.1 {name}\n")
    (etc / "machine-id").write_text(f"{secrets.token_hex(16)}\n")
    names = [line.split(":", 1)[0] for line in Path("/etc/passwd").read_text().splitlines()]
    # no password, but not "!" either: sshd without PAM takes that for a locked account
    (etc / "shadow").write_text("".join(f"{user}:*:19000:0:99999:7:::\n" for user in names))
    (etc / "shadow").chmod(0o600)


def _enable_units(upper: Path) -> None:
    system = upper / "etc/systemd/system"
    _folder(system / "multi-user.target.wants")
    (system / "multi-user.target.wants/ssh.service").symlink_to("/lib/systemd/system/ssh.service")
    for unit in MASKED:
        (system / unit).symlink_to("/dev/null")
    # generators would turn the machine's init scripts, databases and partitions into units
    generators = upper / "etc/systemd/system-generators"
    _folder(generators)
    for generator in Path("/usr/lib/systemd/system-generators").glob("*"):
        (generators / generator.name).symlink_to("/dev/null")


def _make_host_key(ssh: Path, name: str) -> str:
    (ssh / "sshd_config").write_text(SSHD_CONFIG)
    key = ssh / "ssh_host_ed25519_key"
    make_key(key, name)
    kind, text, _ = key.with_suffix(".pub").read_text().split()
    return f"{kind} {text}"


def make_key(file: Path, comment: str) -> None:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", comment, "-f", file], check=True)


def _folder(path: Path, mode: int = 0o755) -> None:
    """Makes a folder and its parents with exactly this mode: `upper` decides the modes of the whole disk."""
    if not path.exists():
        _folder(path.parent)
        path.mkdir()
        path.chmod(mode)


def _opaque(path: Path, mode: int = 0o755) -> None:
    """A folder that hides what the machine has at the same place."""
    _folder(path, mode)
    os.setxattr(path, "trusted.overlay.opaque", b"y")
