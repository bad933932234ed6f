# SPDX-License-Identifier: GPL-2.0-or-later
r"""The command line that GRUB hands to a multiboot kernel or module.

GRUB 2.06 (and 2.04 to 2.12), grub_create_loader_cmdline in lib/cmdline.c, called
with the arguments after the file name (loader/multiboot.c): each argument has its
``\ ' "`` escaped by a backslash, is put in double quotes when it holds a space
(0x20, no other white space), and is followed by one space; the last space is cut.
An empty argument therefore leaves two spaces in a row, or one at the end.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

_ESCAPED = re.compile(rb"[\\'\"]")


def join(arguments: Sequence[bytes]) -> bytes:
    r"""Return the command line, without a NUL; b"" for no arguments.

    Whether a backslash before xHH is doubled depends on the build (Red Hat's passes
    ``\xHH`` through): `aemseal.formats.grub_config` refuses such arguments.
    """
    return b" ".join(_quoted(argument) for argument in arguments)


def _quoted(argument: bytes) -> bytes:
    escaped = _ESCAPED.sub(rb"\\\g<0>", argument)
    return b'"' + escaped + b'"' if b" " in argument else escaped
