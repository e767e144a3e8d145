"""The one program behind all stand-in commands: looks up the name it was called by, and runs that command.

In: argv. Out: an exit status. A command is a function of its words that writes to stdout and returns a status, or
raises Failure. Only the module that holds the command is imported: starting is most of what a command costs.
"""

import sys

from .state import Failure, names

MODULES = {
    "interfaces": "ifconfig",
    "jail": "jail",
    "jls": "jls",
    "jexec": "jexec ps kill pkill pgrep daemon chroot pwd_mkdb killall procstat sockstat",
    "routes": "route netstat ndp arp ping ping6",
    "kernel": "kldload kldstat kldunload sysctl devfs rctl uname freebsd-version hostname",
    "mounts": "mount mount_nullfs umount df",
    "pf": "pfctl",
    "files": "sha256 md5 sha512 stat b64decode b64encode lockf chflags fetch",
    "services": "service sysrc rcorder pw",
    "zfs": "zfs zpool",
    "doas": "doas",
}
TABLE = {command: module for module, commands in MODULES.items() for command in commands.split()}
SLOW = names("jail jexec chroot lockf service fetch ping ping6 doas")
"""What becomes another command, or runs others, or stays a while: each is a process of its own. All else is a fork."""
STATE_ONLY = names("ifconfig jls kldstat kldload rctl devfs netstat ndp uname route")
"""What looks at nothing but the state, and says less than a pipe holds."""
BASE = names("""[ awk basename bzip2 cal cat cksum cmp comm csplit cut dd diff dirname du echo ed egrep env expand
    expr false file fold getconf gunzip gzip head hexdump iconv id join kill less ln logger mkdir
    mkfifo more mv nc nice nl nohup nproc od openssl passwd paste patch pr printf printenv pwd realpath
    rev rm rmdir script seq sh sleep split ssh ssh-keygen strings su sync tail tar tee test time
    timeout touch tput tr true truncate tsort tty uniq unlink unxz uudecode uuencode vi vmstat w wc
    which who whoami xz xzcat yes zcat zcmp zdiff zgrep""")
"""What FreeBSD's base has and a Linux machine has as well; whatever is not here is not on the host: no base64, no
flock, no bash, no perl, no `ip`. sha256sum came during 13 only, so it is left out too."""
BIN = names("""[ cat chflags chmod cp date dd df echo ed expr freebsd-version hostname kill ln ls mkdir mv ps pwd
    realpath rm rmdir sh sleep sync test unlink""")
"""What is in /bin; all else of BASE is in /usr/bin only: there is no /bin/true."""
STRICT = names("""grep egrep fgrep sed find date cp mv ln readlink realpath install mktemp ls
    tar xargs du id chmod chown mkdir rmdir rm touch tee cat wc cut tr basename dirname timeout truncate
    uniq paste sort""")
"""GNU's, by way of strict.sh."""


def main(argv):
    name = argv[0].rpartition("/")[2]
    module = __import__(f"bsd.{TABLE[name]}", fromlist=["COMMANDS"])
    try:
        status = module.COMMANDS[name](argv[1:])
        sys.stdout.flush()
    except Failure as failure:
        sys.stdout.flush()
        sys.stderr.write(failure.message + "\n" if failure.message else "")
        status = failure.status
    except BrokenPipeError:
        status = 141
    return status or 0


def complain(message):
    """What a command says on stderr and goes on; in order with what it printed."""
    sys.stdout.flush()
    sys.stderr.write(message + "\n")
    sys.stderr.flush()


def getopt(words, options, usage, name):
    """BSD getopt: ({letter: value or True}, the rest); an unknown option is a usage error, exit 1."""
    found = {}
    words = list(words)
    while words and words[0].startswith("-") and words[0] != "-":
        word = words.pop(0)
        if word == "--":
            break
        letters = word[1:]
        while letters:
            letter, letters = letters[0], letters[1:]
            where = options.find(letter)
            if where < 0 or letter == ":":
                raise Failure(f"{name}: illegal option -- {letter}\n{usage}".rstrip("\n"))
            if options[where + 1 : where + 2] != ":":
                found[letter] = True
                continue
            if not letters and not words:
                raise Failure(f"{name}: option requires an argument -- {letter}\n{usage}".rstrip("\n"))
            found[letter] = letters or words.pop(0)
            letters = ""
    return found, words
