"""Commands about files that FreeBSD has and GNU has not, or has with other options: sha256, stat, b64decode, lockf.

In: words, files, standard input. Out: what they print; errors in FreeBSD's words. Must not know the state.
"""

import os
import stat as modes
import sys
import time

from .commands import complain, getopt
from .state import Failure

# ── digests ──────────────────────────────────────────────────────────────────────────────────────────────────


def digest(algorithm):
    label = algorithm.upper()

    def command(words):
        options, files = getopt(
            words, "bc:pqrs:tx", f"usage: {algorithm} [-pqrtx] [-c string] [-s string] [files ...]", algorithm
        )
        if "s" in options:
            print(shown(options, label, f'"{options["s"]}"', hashed(algorithm, options["s"].encode())))
            return 0
        if not files:
            print(hashed(algorithm, sys.stdin.buffer.read()))
            return 0
        return max(one(algorithm, label, options, path) for path in files)

    return command


def hashed(algorithm, data):
    module = __import__(f"_{algorithm}")
    return getattr(module, algorithm)(data).hexdigest()


def shown(options, label, path, value):
    if "q" in options:
        return value
    return f"{value} {path}" if "r" in options else f"{label} ({path}) = {value}"


def one(algorithm, label, options, path):
    try:
        with open(path, "rb") as file:
            value = hashed(algorithm, file.read())
    except OSError as error:
        complain(f"{algorithm}: {path}: {error.strerror}")
        return 1
    failed = "c" in options and options["c"].lower() != value
    print(shown(options, label, path, value) + (" [ Failed ]" if failed else ""))
    return 2 if failed else 0


# ── stat ─────────────────────────────────────────────────────────────────────────────────────────────────────

KINDS = {
    modes.S_IFREG: ("Regular File", ""),
    modes.S_IFDIR: ("Directory", "/"),
    modes.S_IFLNK: ("Symbolic Link", "@"),
    modes.S_IFCHR: ("Character Device", ""),
    modes.S_IFBLK: ("Block Device", ""),
    modes.S_IFIFO: ("Fifo File", "|"),
    modes.S_IFSOCK: ("Socket", "="),
}
USAGE = "usage: stat [-FLnq] [-f format | -l | -r | -s | -x] [-t timefmt] [file|handle ...]"


def owner(database, number):
    with open(database) as file:
        for line in file:
            fields = line.split(":")
            if len(fields) > 2 and fields[2] == str(number):
                return fields[0]
    return str(number)


def moment(seconds, layout):
    return time.strftime(layout, time.localtime(seconds))


def datum(form, sub, key, path, info, layout):
    """One conversion: the form (S, H, L or none), the part (H, M, L) and the letter."""
    if key in "am" or key in "cB":
        seconds = {"a": info.st_atime, "m": info.st_mtime, "c": info.st_ctime, "B": info.st_mtime}[key]
        return moment(seconds, layout) if form == "S" else str(int(seconds))
    if key == "p":
        if form == "S":
            return modes.filemode(info.st_mode)
        parts = {"H": info.st_mode >> 12, "M": info.st_mode >> 9 & 7, "L": info.st_mode & 0o777}
        number = parts.get(sub, info.st_mode)
        return f"{number:o}" if sub != "L" else f"{number:03o}"
    if key == "T":
        long, short = KINDS[modes.S_IFMT(info.st_mode)]
        executable = modes.S_ISREG(info.st_mode) and info.st_mode & 0o111
        return long if sub == "H" else "*" if executable else short
    if key in "ug":
        number = info.st_uid if key == "u" else info.st_gid
        return owner("/etc/passwd" if key == "u" else "/etc/group", number) if form == "S" else str(number)
    if key == "Y":
        target = os.readlink(path) if modes.S_ISLNK(info.st_mode) else ""
        return f" -> {target}" if form == "S" and target else target
    if key == "f":
        return "-" if form == "S" else "0"
    simple = {"z": info.st_size, "i": info.st_ino, "d": info.st_dev, "l": info.st_nlink, "b": info.st_blocks}
    simple |= {"k": info.st_blksize, "N": path, "R": os.path.realpath(path), "r": 0, "v": 0}
    if key not in simple:
        raise Failure(f"stat: %{form}{sub}{key}: bad format")
    return str(simple[key])


def render(layout, path, info, times):
    out, rest = "", layout
    while rest:
        character, rest = rest[0], rest[1:]
        if character != "%":
            out += character
        elif rest[:1] in ("%", "n", "t", "@"):
            out += {"%": "%", "n": "\n", "t": "\t", "@": "1"}[rest[0]]
            rest = rest[1:]
        else:
            while rest[:1] and rest[0] in "#+- 0123456789.":
                rest = rest[1:]
            form = rest[0] if rest[:1] in ("S", "O", "D", "U", "X", "F") and rest else ""
            rest = rest[len(form) :]
            sub = rest[0] if rest[:1] in ("H", "M", "L") and rest[1:2].isalpha() and rest[1:2] in "drpTYNZ" else ""
            rest = rest[len(sub) :]
            if not rest:
                raise Failure(f"stat: {layout}: bad format")
            out += datum(form, sub, rest[0], path, info, times)
            rest = rest[1:]
    return out


def stat(words):
    options, paths = getopt(words, "f:FLHlnqrst:x", USAGE, "stat")
    layout = options.get("f", '%d %i %Sp %l %Su %Sg %r %z "%Sa" "%Sm" "%Sc" "%SB" %k %b %#Xf %N')
    status = 0
    for path in paths:
        try:
            info = os.stat(path) if "L" in options else os.lstat(path)
        except OSError as error:
            if "q" not in options:
                complain(f"stat: {path}: {error.strerror}")
            status = 1
            continue
        sys.stdout.write(render(layout, path, info, options.get("t", "%b %e %T %Y")))
        sys.stdout.write("" if "n" in options else "\n")
    return status


# ── base64 ───────────────────────────────────────────────────────────────────────────────────────────────────


def source(paths):
    if not paths or paths == ["-"]:
        return sys.stdin.buffer.read()
    with open(paths[0], "rb") as file:
        return file.read()


def b64decode(words):
    import binascii

    options, paths = getopt(words, "cimo:prs", "usage: b64decode [-cimprs] [file ...]", "b64decode")
    name = paths[0] if paths else "stdin"
    data = source(paths)
    if "r" not in options:
        lines = data.splitlines(keepends=True)
        start = next((n for n, line in enumerate(lines) if line.startswith(b"begin-base64 ")), None)
        if start is None:
            raise Failure(f'b64decode: {name}: missing or bad "begin" line')
        data = b"".join(line for line in lines[start + 1 :] if line.strip() != b"====")
    try:
        body = binascii.a2b_base64(data, strict_mode=False) if is_base64(data) else None
    except binascii.Error:
        body = None
    if body is None:
        raise Failure(f"b64decode: {name}: /dev/stdout: error decoding base64 input stream")
    if "o" in options:
        with open(options["o"], "wb") as file:
            file.write(body)
    else:
        sys.stdout.buffer.write(body)
    return 0


def is_base64(data):
    return not data.strip(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/=\r\n \t")


def b64encode(words):
    import binascii

    options, names = getopt(
        words, "mo:rw:", "usage: b64encode [-r] [-w column] [-o outfile] [infile] remotefile", "b64encode"
    )
    data = source(names[:-1])
    lines = [binascii.b2a_base64(data[at : at + 57]).decode() for at in range(0, len(data), 57)]
    body = "".join(lines)
    if "r" not in options:
        body = f"begin-base64 644 {names[-1]}\n{body}====\n"
    sys.stdout.write(body)
    return 0


# ── lockf ────────────────────────────────────────────────────────────────────────────────────────────────────


def lockf(words):
    """Holds the file while the command runs; -k keeps the file. From 14.? a descriptor's number may stand for it."""
    from fcntl import LOCK_EX, LOCK_NB, flock

    options, rest = getopt(words, "knpst:w", "usage: lockf [-knsw] [-t seconds] file command [arguments]", "lockf")
    if len(rest) < 2:
        raise Failure("usage: lockf [-knsw] [-t seconds] file command [arguments]", 64)
    path, command = rest[0], rest[1:]
    if "n" in options and not os.path.exists(path):
        raise Failure(f"lockf: cannot open {path}: No such file or directory", 69)
    limit = time.monotonic() + float(options["t"]) if "t" in options else None
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            flock(descriptor, LOCK_EX | LOCK_NB)
        except OSError:
            os.close(descriptor)
            if limit is not None and time.monotonic() >= limit:
                raise Failure("" if "s" in options else f"lockf: {path}: already locked", 75) from None
            time.sleep(0.02)
            continue
        # Whoever held it before may have taken the file away.
        if os.path.exists(path) and os.path.samestat(os.fstat(descriptor), os.stat(path)):
            break
        os.close(descriptor)
    status = waited(command)
    if "k" not in options:
        os.unlink(path)
    return status


def waited(command):
    child = os.fork()
    if child == 0:
        try:
            os.execvp(command[0], command)
        except OSError as error:
            os.write(2, f"lockf: {command[0]}: {error.strerror}\n".encode())
        os._exit(69)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return 70 if status < 0 else status


def chflags(words):
    """Accepted; file flags are not modelled."""
    return 0


def fetch(words):
    options, urls = getopt(words, "146AaB:dFh:iLlMmN:no:PpqRrS:sT:UVvw:", "usage: fetch URL ...", "fetch")
    for url in urls:
        if not url.startswith("file://"):
            raise Failure(f"fetch: {url}: Connection refused")
        path = url.removeprefix("file://")
        if not os.path.exists(path):
            raise Failure(f"fetch: {url}: No such file or directory")
        with open(path, "rb") as file:
            data = file.read()
        if options.get("o") == "-":
            sys.stdout.buffer.write(data)
            continue
        with open(options.get("o", path.rpartition("/")[2]), "wb") as file:
            file.write(data)
    return 0


COMMANDS = {
    "sha256": digest("sha256"),
    "sha512": digest("sha512"),
    "md5": digest("md5"),
    "stat": stat,
    "b64decode": b64decode,
    "b64encode": b64encode,
    "lockf": lockf,
    "chflags": chflags,
    "fetch": fetch,
}
