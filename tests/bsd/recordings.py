"""Recordings of a real FreeBSD 13.2 host, and their replay on a pretended one.

In: a recording's name; `transcripts/` and the host's state when it began (`BEGIN`). Out: for each command what was
recorded and what the stand-in answered, both without what must differ. Must not judge: the tests do.
"""

import json
import re
import shlex
from dataclasses import dataclass
from pathlib import Path

from .host import Host

HERE = Path(__file__).parent / "transcripts"


@dataclass(frozen=True)
class Answer:
    status: int
    output: str
    errors: str


@dataclass(frozen=True)
class Line:
    """One command of a recording."""

    recording: str
    number: int
    command: str
    answer: Answer

    @property
    def name(self) -> str:
        return f"{self.recording}-{self.number}: {self.command[:60]}"


def lines(recording: str) -> list[Line]:
    rows = [json.loads(row) for row in (HERE / f"{recording}.jsonl").read_text().splitlines()]
    return [
        Line(recording, number, row["argv"], Answer(row["rc"], row["stdout"], row["stderr"]))
        for number, row in enumerate(rows)
    ]


# ── where each recording began ───────────────────────────────────────────────────────────────────────────────

DATASETS = """
zfs create -o mountpoint=/jails zroot/jails
zfs create zroot/jails/base && zfs snapshot zroot/jails/base@clean
zfs create zroot/jails/skel && zfs snapshot zroot/jails/skel@clean
mkdir -p /jails/base/etc /jails/base/dev /jails/base/var /jails/base/root /jails/base/tmp /jails/base/bin
"""
WEB = """
zfs clone zroot/jails/base@clean zroot/jails/web
mkdir -p /jails/web/etc /jails/web/dev
printf 'syslogd_flags="-ss"\\ncron_enable="NO"\\nsshd_enable="YES"\\n' >/jails/web/etc/rc.conf
printf 'ifconfig_epair0b="inet 10.99.0.2/24"\\nifconfig_epair0b_ipv6="inet6 fd00:99::2/64"\\n' >>/jails/web/etc/rc.conf
printf 'defaultrouter="10.99.0.1"\\nipv6_defaultrouter="fd00:99::1"\\n' >>/jails/web/etc/rc.conf
"""
BRIDGE = (
    "ifconfig bridge0 create name xbridge; ifconfig xbridge inet 10.99.0.1/24; ifconfig xbridge inet6 fd00:99::1/64\n"
)
DEAD = "ifconfig epair0 create up; ifconfig epair0a description web; ifconfig xbridge addm epair0a\n"
DEVFS = "mount -t devfs -o ruleset=5 . /jails/web/dev\n"
CLONE = "/.pool/zroot+jails+"
"""A pretended snapshot holds no files: what a clone that the recording makes is to show lies here."""
RC = f"""
mkdir -p {CLONE}web/etc {CLONE}web/dev
printf 'syslogd_flags="-ss"\\ncron_enable="NO"\\nsshd_enable="NO"\\n' >{CLONE}web/etc/rc.conf
"""
SKEL = f"""
mkdir -p /jails/skel/etc /jails/skel/var /jails/skel/root
mkdir -p {CLONE}thin.rw/etc {CLONE}thin.rw/var {CLONE}thin.rw/root
"""
ERRORS = "kldload pf; rctl -a jail:nosuchjail:memoryuse:deny=1M; sysrc pf_enable=YES\n"
BEGIN = {
    "nojails": DATASETS,
    "jail1": DATASETS + RC,
    "pf": DATASETS + WEB + BRIDGE + DEAD,
    "errors": DATASETS + SKEL + WEB + BRIDGE + DEAD + DEVFS + ERRORS,
    "jail2": DATASETS + WEB + BRIDGE,
    "extra": DATASETS + WEB,
}
FILES = {
    "/etc/jail.conf": ("jail.conf", ("jail1", "errors", "jail2", "extra")),
    "/etc/fstab.thin": ("fstab.thin", ("errors",)),
    "/etc/pf.conf": ("pf.conf", ("pf", "jail2")),
    "/etc/pf.bad": ("pf.bad", ("pf", "jail2")),
}


def put_files(host: Host, recording: str) -> None:
    for file in (HERE / "files").iterdir():
        host.write(f"/root/{file.name}", file.read_bytes())
    for path, (name, recordings) in FILES.items():
        if recording in recordings:
            host.write(path, (HERE / "files" / name).read_bytes())


def began(folder: Path, recording: str) -> Host:
    host = Host(folder, pool=True)
    done = host.run(BEGIN[recording])
    assert done.returncode == 0, done.stderr
    put_files(host, recording)
    if recording in ("pf", "errors"):
        with host.changing() as state:
            # It has come back from a jail that died: outside its group.
            next(i for i in state["interfaces"] if i["name"] == "epair0b")["groups"] = []
    return host


# ── replay ───────────────────────────────────────────────────────────────────────────────────────────────────


def replay(folder: Path, recording: str, left_out: set[int]) -> dict[int, Answer]:
    """All commands in their order, in one run; those left out are not run at all."""
    host = began(folder, recording)
    script = ["mkdir /var/answers; cd /root"]
    for line in lines(recording):
        if line.number not in left_out:
            place = f"/var/answers/{line.number}"
            script.append(
                f"sh -c {shlex.quote(line.command)} >{place}.out 2>{place}.err </dev/null; echo $? >{place}.rc"
            )
    host.run("\n".join(script) + "\n", timeout=200)
    return {line.number: answer(host, line.number) for line in lines(recording) if line.number not in left_out}


def answer(host: Host, number: int) -> Answer:
    place = f"/var/answers/{number}"
    read = {kind: host.path(f"{place}.{kind}").read_text(errors="replace") for kind in ("rc", "out", "err")}
    return Answer(int(read["rc"] or -1), read["out"], read["err"])


# ── what must differ ─────────────────────────────────────────────────────────────────────────────────────────

NORMAL = [
    (r"\b[0-9a-f]{2}(:[0-9a-f]{2}){5}\b", "MAC"),
    (r"fe80::[0-9a-f:]+(?=%epair)", "LINKLOCAL"),
    (r"(LINKLOCAL%\w+) +", r"\1 "),
    (r"0xffffffff[0-9a-f]{8}", "0xKERNEL"),
    (r"(?m)^(..)  +\d+ 0xKERNEL", r"\1 REFS 0xKERNEL"),
    (r"\b[A-Z][a-z]{2} [A-Z][a-z]{2} +\d+ \d\d:\d\d:\d\d( UTC)? \d{4}", "DATE"),
    (r"Enabled for 0 days \d\d:\d\d:\d\d", "Enabled"),
    (r"(?m)^sh: \d+: ", "sh: "),
    (r"as pid \d+", "as pid PID"),
    (r"SIGTERM to: .*", "SIGTERM to: PIDS"),
    (r"(?m)^STAND_IN_JAIL=.*\n", ""),
    (r"\t\d{5,}\t", "\tBYTES\t"),
    (r"/\.machine/bin/", ""),
    (r"(searches|match) +\d+ +\d+\.\d/s", r"\1 COUNT"),
    (r"Evaluations: \d+ +", "Evaluations: N "),
    (r"uid 0 pid \d+", "uid 0 pid PID"),
]


def normal(text: str) -> str:
    for pattern, replacement in NORMAL:
        text = re.sub(pattern, replacement, text)
    return text


def normalised(one: Answer) -> Answer:
    return Answer(one.status, normal(one.output), normal(one.errors))
