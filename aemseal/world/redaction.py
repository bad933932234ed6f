# SPDX-License-Identifier: GPL-2.0-or-later
"""What a recording leaves out of GRUB's files, and what it can only warn of.

GRUB's own passwords are no measured bytes and are replaced. A secret on a kernel's
command line is measured: without it the recording would predict another boot, so it
stays and the person is told. What a variable of another name holds is not seen.

Sources: GRUB manual, commands `password`, `password_pbkdf2`, `cryptomount`; lexical
rules of grub-core/script/yylex.l; grub2-setpassword (user.cfg, GRUB2_PASSWORD).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

REPLACEMENT = b"redacted"

_TOKEN = re.compile(
    rb"""(?P<space>[\ \t\r\f\v]+)
    | (?P<end>[\n;|&{}<>])
    | (?P<comment>\#[^\n]*)
    | (?P<word>(?:[^\s;|&{}<>\\'"$]+
        | \$\{[^}\s]{0,64}\} | \$
        | \\. | '[^']*' | "(?:[^"\\]|\\.)*+" )++ )
    | (?P<stray>.)""",
    re.VERBOSE | re.DOTALL,
)
_KEYWORDS = frozenset({b"if", b"elif", b"else", b"then", b"do", b"while", b"until"})
_PBKDF2 = re.compile(rb"grub\.pbkdf2\.[A-Za-z0-9.]+")
_VARIABLE = re.compile(rb"[\"']?\$(?:\{\w+\}|\w+)[\"']?")
_CONTROL = re.compile(r"[\0-\x08\x0e-\x1a\x1c-\x1f]")
_SECRET_NAME = re.compile(rb"passw|passphrase|secret|pbkdf2", re.IGNORECASE)
_ENV_LINE = re.compile(rb"^(\w+=)(.*)$", re.MULTILINE)

_SUSPECT = re.compile(
    rb"""(?<![\w.-]) (?P<key>[\w.-]*(?:password|passwd|passphrase|secret|token
        |credential|credential_binary))
      = (?!(?:yes|no|on|off|true|false|0|1|redacted)(?![^\s"'])) [^\s"'/$]
    | (?P<address>[\w+.-]{1,32}://?[^/\s:@"']{1,64}:[^/\s@"']{1,256}@)
    | (?P<iscsi>\biscsi:[^\s@:"']{1,256}:[^\s@"']{1,256}@)""",
    re.VERBOSE | re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class _Word:
    start: int
    end: int
    text: bytes
    """As GRUB sees it, quotes removed; variables stay as written."""


def is_text(data: bytes) -> bool:
    """Whether these bytes may be a script: UTF-8 without odd control characters."""
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return _CONTROL.search(text) is None


def redact_script(script: bytes) -> bytes:
    """Return a GRUB script in which no password and no password hash is left.

    Everything else is as it was, byte for byte, so that it evaluates the same.
    """
    spans: list[tuple[int, int]] = []
    for command in _commands(script, spans):
        spans.extend(_secrets_of(command, script))
    parts, at = [], 0
    for start, end in sorted(spans):
        parts += [script[at:start], REPLACEMENT]
        at = end
    parts.append(script[at:])
    return _PBKDF2.sub(REPLACEMENT, b"".join(parts))


def redact_env(block: bytes) -> bytes:
    """Return a grubenv without passwords: `x` over them, since its size is fixed."""

    def covered(match: re.Match[bytes]) -> bytes:
        hidden = _SECRET_NAME.search(match[1]) is not None
        return match[1] + b"x" * len(match[2]) if hidden else match[0]

    block = _ENV_LINE.sub(covered, block)
    return _PBKDF2.sub(lambda match: b"x" * len(match[0]), block)


def suspects(text: bytes) -> list[tuple[int, str]]:
    """Name the words that look like secrets: (12, "rd.iscsi.password=").

    Each with its line, counted from 1; never with its value. Paths
    (`rd.luks.key=/...`), variables and plain switches are no suspects.
    """
    found = []
    line, at = 1, 0
    for match in _SUSPECT.finditer(text):
        line += text.count(b"\n", at, match.start())
        at = match.start()
        key = match["key"]
        name = f"{key.decode('latin-1')}=" if key else "an address with a password"
        found.append((line, name))
    return found


def _commands(script: bytes, comments: list[tuple[int, int]]) -> Iterator[list[_Word]]:
    """Yield each simple command's words; add comments that talk of secrets."""
    words: list[_Word] = []
    for match in _TOKEN.finditer(script):
        if match.lastgroup == "word":
            text = re.sub(rb"[\\'\"]", b"", match[0])
            if words or text not in _KEYWORDS:
                words.append(_Word(match.start(), match.end(), text))
        elif match.lastgroup == "end":
            yield words
            words = []
        elif match.lastgroup == "comment" and _SECRET_NAME.search(match[0]):
            comments.append((match.start() + 1, match.end()))
    yield words


def _secrets_of(command: list[_Word], script: bytes) -> Iterator[tuple[int, int]]:
    name = command[0].text if command else b""
    if name in (b"password", b"password_pbkdf2"):
        # `password USER PASSWORD`; with fewer words no telling which is which.
        yield from _unless_variable(command[2:] or command[1:], script)
    elif name in (b"legacy_password", b"legacy_check_password"):
        yield from _unless_variable(command[1:], script)
    elif name == b"cryptomount":
        yield from _unless_variable(_cryptomount_passwords(command), script)
    else:
        assigned = command[1:] if name in (b"set", b"export") else command[:1]
        yield from _assigned_secrets(assigned, script)


def _unless_variable(words: list[_Word], script: bytes) -> Iterator[tuple[int, int]]:
    for word in words:
        if not _VARIABLE.fullmatch(script, word.start, word.end):
            yield word.start, word.end


def _cryptomount_passwords(command: list[_Word]) -> list[_Word]:
    found = []
    for before, word in pairwise(command):
        joined = word.text.startswith((b"-p", b"--password="))
        if before.text in (b"-p", b"--password") or (joined and word.text != b"-p"):
            found.append(word)
    return found


def _assigned_secrets(words: list[_Word], script: bytes) -> Iterator[tuple[int, int]]:
    for word in words:
        name, equals, _ = script[word.start : word.end].partition(b"=")
        if not equals or not _SECRET_NAME.search(name):
            continue
        value, end = word.start + len(name) + 1, word.end
        if name[:1] in (b"'", b'"') and script[end - 1 : end] == name[:1]:
            end -= 1  # set "NAME=VALUE": the closing quote stays
        if value < end and not _VARIABLE.fullmatch(script, value, end):
            yield value, end
