"""doas(1), the port: who may become whom for which command, by the last rule of doas.conf(5) that matches.

In: words, /usr/local/etc/doas.conf, and who asks (`ACCOUNT`: all of a pretended host runs as root). Out: it becomes the
command, in an environment of its own. `setenv` and groups are not pretended; `tests/bsd/test_doas.py` holds what is
against Debian's doas, of the same family.
"""

import os
import shlex
import stat

from .commands import getopt
from .state import JAIL, Failure, names

CONF = "/usr/local/etc/doas.conf"
ACCOUNT = "STAND_IN_ACCOUNT"
"""The environment variable that says who is logged in."""
OPTIONS = names("nopass nolog persist keepenv")
PATH = "/bin:/sbin:/usr/bin:/usr/sbin:/usr/local/bin:/usr/local/sbin"


def doas(words):
    options, command = getopt(
        words, "nu:C:", "usage: doas [-ns] [-a style] [-C config] [-u user] command [args]", "doas"
    )
    account = os.environ.get(ACCOUNT, "root")
    target = options.get("u", "root")
    rule = judged(parsed(text_of(options.get("C"))), account, target, command)
    if "C" in options:
        print(f"permit{' nopass' if rule['nopass'] else ''}" if rule else "deny")
        return 0 if rule else 1
    if not rule:
        raise Failure("doas: Operation not permitted")
    if not rule["nopass"]:
        raise Failure("doas: Authorization required" if "n" in options else "doas: a tty is required")
    os.closerange(3, 256)
    try:
        os.execvpe(command[0], command, environment(rule, account, target))
    except FileNotFoundError:
        raise Failure(f"doas: {command[0]}: command not found") from None


def text_of(given):
    path = given or CONF
    try:
        with open(path) as file:
            about = os.fstat(file.fileno())
            text = file.read()
    except FileNotFoundError:
        reason = f"could not open config file {path}" if given else f"doas is not enabled, {path}"
        raise Failure(f"doas: {reason}: No such file or directory") from None
    if not given and about.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise Failure(f"doas: {path} is writable by group or other")
    return text


def parsed(text):
    """A rule ends with its line: the last one too."""
    rules = []
    lines = text.split("\n")
    for number, line in enumerate(lines, 1):
        words = shlex.split(line, comments=True)
        if words and (number == len(lines) or not understood(words, rules)):
            raise Failure(f"doas: syntax error at line {number}")
    return rules


def understood(words, rules):
    """permit|deny [options] identity [as target] [cmd command [args ...]]"""
    verdict = words.pop(0)
    if verdict not in ("permit", "deny"):
        return False
    rule = {
        "permit": verdict == "permit",
        "nopass": False,
        "keepenv": False,
        "target": None,
        "command": None,
        "args": None,
    }
    while words and words[0] in OPTIONS:
        rule[words.pop(0)] = True
    if not words:
        return False
    rule["account"] = words.pop(0)
    for key, name in (("as", "target"), ("cmd", "command")):
        if words[:1] == [key]:
            if len(words) < 2:
                return False
            rule[name], words[:2] = words[1], []
    if rule["command"] and words[:1] == ["args"]:
        rule["args"], words = words[1:], []
    rules.append(rule)
    return not words


def judged(rules, account, target, command):
    last = None
    for rule in rules:
        same = rule["account"] == account and rule["target"] in (None, target)
        if same and rule["command"] in (None, *command[:1]) and rule["args"] in (None, command[1:]):
            last = rule
    return last if last and last["permit"] else None


def environment(rule, account, target):
    kept = dict(os.environ) if rule["keepenv"] else {}
    kept |= {name: os.environ[name] for name in ("DISPLAY", "TERM", JAIL) if name in os.environ}
    home = "/root" if target == "root" else f"/home/{target}"
    own = {"DOAS_USER": account, "HOME": home, "LOGNAME": target, "USER": target, "SHELL": "/bin/sh", "PATH": PATH}
    return kept | own


COMMANDS = {"doas": doas}
