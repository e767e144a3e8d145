"""jail.conf(5): text to jails with their parameters, as jail(8) of 13.2 reads it (no `.include`).

In: the text and its file's name, for errors. Out: for each jail an ordered dict of parameter → list of values (an empty
list is a bare word), variables put in. Must not know which parameters exist.
"""

from .state import Failure

SPACE = " \t\r\n"
SPECIAL = ";={},"
UNQUOTED_END = SPACE + SPECIAL + "\"'#"
ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f", "v": "\v", "a": "\a"}


class Token:
    """A special character, `+=`, or a string: parts of it are (text, whether variables are put in)."""

    def __init__(self, kind, text, line, parts=()):
        self.kind = kind
        self.text = text
        self.line = line
        self.parts = list(parts)


# ── tokens ───────────────────────────────────────────────────────────────────────────────────────────────────


def tokens(text):
    at, line = 0, 1
    while True:
        at, line = skip(text, at, line)
        if at >= len(text):
            yield Token("end", "", line)
            return
        if text.startswith("+=", at):
            yield Token("+=", "+=", line)
            at += 2
        elif text[at] in SPECIAL:
            yield Token(text[at], text[at], line)
            at += 1
        else:
            begin, parts = at, []
            while at < len(text) and text[at] not in SPACE + SPECIAL + "#" and not text.startswith("+=", at):
                at, part = (quoted if text[at] in "\"'" else unquoted)(text, at)
                parts.append(part)
            yield Token("string", text[begin:at], line, parts)
            line += text.count("\n", begin, at)


def skip(text, at, line):
    while at < len(text):
        if text[at] == "#" or text.startswith("//", at):
            at = text.find("\n", at) % (len(text) + 1)
        elif text.startswith("/*", at):
            end = text.find("*/", at)
            end = len(text) if end < 0 else end + 2
            line += text.count("\n", at, end)
            at = end
        elif text[at] in SPACE:
            line += text[at] == "\n"
            at += 1
        else:
            break
    return at, line


def quoted(text, at):
    quote = text[at]
    at += 1
    out = ""
    while at < len(text) and text[at] != quote:
        if text[at] == "\\" and quote == '"' and at + 1 < len(text):
            at += 1
            # A dollar that was escaped is no variable's.
            out += "\0" if text[at] == "$" else ESCAPES.get(text[at], text[at])
        else:
            out += text[at]
        at += 1
    return at + 1, (out, quote == '"')


def unquoted(text, at):
    begin = at
    while at < len(text) and text[at] not in UNQUOTED_END and not text.startswith("+=", at):
        at += 2 if text[at] == "\\" else 1
    return at, (text[begin:at].replace("\\$", "\0").replace("\\", ""), True)


# ── grammar ──────────────────────────────────────────────────────────────────────────────────────────────────


class Parser:
    def __init__(self, text, file):
        self.file = file
        self.rest = list(tokens(text))
        self.sections = []
        """(the jail's name or "*", [(parameter, operator, values)]) in the order of the file."""

    def fail(self):
        token = self.rest[0]
        if token.kind == "end":
            raise Failure(f"jail: {self.file}: unexpected EOF")
        raise Failure(f"jail: {self.file} line {token.line}: {token.text}: syntax error")

    def take(self, kind):
        if self.rest[0].kind != kind:
            self.fail()
        return self.rest.pop(0)

    def conf(self):
        while self.rest[0].kind != "end":
            first = self.take("string")
            if self.rest[0].kind == "{":
                self.rest.pop(0)
                self.sections.append((plain(first), self.body()))
            else:
                self.sections.append(("*", [self.parameter(first)]))
        return self.sections

    def body(self):
        found = []
        while self.rest[0].kind != "}":
            found.append(self.parameter(self.take("string")))
        self.rest.pop(0)
        return found

    def parameter(self, first):
        operator, values = "", []
        if self.rest[0].kind in ("=", "+="):
            operator = self.rest.pop(0).kind
            values = [self.take("string").parts]
            while self.rest[0].kind == ",":
                self.rest.pop(0)
                values.append(self.take("string").parts)
        self.take(";")
        return plain(first), operator, values


def plain(token):
    return "".join(text for text, _ in token.parts)


# ── jails ────────────────────────────────────────────────────────────────────────────────────────────────────


def matches(pattern, name):
    if pattern.endswith("*"):
        return name.startswith(pattern[:-1])
    return pattern == name


def parse(text, file):
    """Name → parameters, in the order of the file; a section that comes later wins."""
    sections = Parser(text, file).conf()
    names = list(dict.fromkeys(name for name, _ in sections if "*" not in name))
    return {name: gathered(name, sections) for name in names}


def gathered(name, sections):
    found = {"name": [[(name, False)]]}
    for section, parameters in sections:
        if not matches(section, name):
            continue
        for key, operator, values in parameters:
            positive = opposite(key)
            if positive in found and positive != key:
                del found[positive]
            if operator == "+=":
                found[key] = found.get(key, []) + values
            else:
                found[key] = values
    variables = {key[1:]: values for key, values in found.items() if key.startswith("$")}
    return {
        key: [expand(name, parts, found, variables) for parts in values]
        for key, values in found.items()
        if not key.startswith("$")
    }


def opposite(key):
    """allow.noraw_sockets → allow.raw_sockets, nopersist → persist."""
    head, dot, last = key.rpartition(".")
    return head + dot + last[2:] if last.startswith("no") else head + dot + "no" + last


def expand(jail, parts, found, variables, depth=0):
    return "".join(put_in(jail, text, found, variables, depth) if put else text for text, put in parts).replace(
        "\0", "$"
    )


def put_in(jail, text, found, variables, depth):
    out = ""
    while "$" in text:
        before, _, text = text.partition("$")
        if text.startswith("{"):
            name, _, text = text[1:].partition("}")
        else:
            length = next((i for i, c in enumerate(text) if not (c.isalnum() or c == "_")), len(text))
            name, text = text[:length], text[length:]
        values = variables.get(name) or found.get(name)
        if not values or depth > 9:
            raise Failure(f'jail: {jail}: variable "{name}" not found')
        out += before + expand(jail, values[0], found, variables, depth + 1)
    return out + text
