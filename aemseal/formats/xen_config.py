# SPDX-License-Identifier: GPL-2.0-or-later
"""xen.efi's configuration file, and what Xen makes of it for its measurements.

Started by firmware or by GRUB's `chainloader`, xen.efi finds its configuration beside
itself, and a section of it names the modules. Here is what Xen's own reader does,
oddities included, because the resulting strings are hashed.

Sources: Xen docs/misc/efi.pandoc; xen/common/efi/boot.c (get_argv, efi_start,
point_tail, pre_parse, get_value, split_string); xen/arch/x86/efi/efi-boot.h
(place_string, efi_arch_handle_cmdline, efi_arch_handle_module,
efi_arch_cfg_file_late) as in TrenchBoot's Xen 4.17 and 4.21. The two differ in one
thing: 4.17 puts the first word of the load options before its command line.

- A control character ends a line, a tab too. ``#`` begins a comment wherever it
  stands, ``;`` at the start of a line alone. White space before a key is skipped; none
  may follow it (``kernel =`` is no key). Spaces behind the ``=`` are skipped.
- Of two sections of one name, and of two keys, the first counts.
- Without a section's name the first key of any section counts. The first word of the
  load options is taken for Xen's own name, never for the section's.
- What follows the kernel's name is looked at as a line of its own from then on.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

from aemseal.words.errors import BootFileError, FormatError

CONFIG_LIMIT = 1 << 16
"""Bytes of a configuration file that are read."""

CHAIN_LIMIT = 8
"""Files that `chain=` may lead through. Xen follows a circle for ever."""

_LINE_END = re.compile(rb"[\0-\x1f\x7f]")
_NAME = re.compile(rb"(?![. ])[A-Za-z0-9_.+~%@,= -]{1,255}(?<![. ])")
_GLOBAL = b"global"
_DEFAULT_NAME = b"xen"

_DOUBTFUL_SPACE = b"\xa0"
"""A space in the character table that Xen took from Linux (xen/common/ctype.c)."""

Read = Callable[[str], bytes | None]
"""Returns a file of xen.efi's folder by its name, None when there is none."""


@dataclass(frozen=True, slots=True)
class XenFile:
    """A module as xen.efi loads it: a file beside it, and the string Xen hashes.

    `string` is the name, and for the kernel a space and its options, without a NUL.
    """

    name: str
    string: bytes


@dataclass(frozen=True, slots=True)
class XenBoot:
    """What one start of xen.efi loads.

    `options` is Xen's command line from 4.21 on, `named_options` before that: with the
    first word of the load options, or "xen", in front. `modules` are by key (kernel,
    ramdisk, xsm, ucode), in the order in which Xen loads them; there is always a
    kernel. `configs` are the names of the files that were read, in order.
    """

    options: bytes
    image_name: bytes
    modules: Mapping[str, XenFile]
    configs: tuple[str, ...]

    @property
    def named_options(self) -> bytes:
        """The command line of Xen 4.17."""
        return _place(self.image_name, self.options)


def read_boot(image: str, load_options: bytes, read: Read) -> XenBoot:
    """Read what xen.efi, a file of this name, will load.

    `load_options` are chainloader's arguments joined by spaces. BootFileError when no
    configuration is found, or it names no kernel; FormatError, with the offset in the
    load options or the file, for what cannot be followed for certain.
    """
    words = _LoadOptions.parse(load_options)
    config = _first([words.config] if words.config else _config_names(image), read)
    names, section = [config.name], words.section
    if section is None:
        section = config.value(_GLOBAL, b"default")
        lasting = section is None
    else:
        lasting = True
    while config.value(section, b"kernel") is None:
        config = _chained(config, read, lasting)
        names.append(config.name)
        if len(names) > CHAIN_LIMIT:
            raise BootFileError(f"{config.name} is the end of {len(names)} by chain=")
    return XenBoot(
        modules=_modules(config, section),
        options=_joined_options(config.value(section, b"options"), words.rest),
        image_name=words.image,
        configs=tuple(names),
    )


def _modules(config: _Config, section: bytes | None) -> dict[str, XenFile]:
    """Take the modules in Xen's order: the kernel's options count for what follows."""
    files = {
        "kernel": config.split_file(section, b"kernel"),
        "ramdisk": config.file(section, b"ramdisk"),
        "xsm": config.file(section, b"xsm"),
        "ucode": config.named_file(section, b"ucode")
        or config.named_file(_GLOBAL, b"ucode"),
    }
    return {key: file for key, file in files.items() if file is not None}


@dataclass(frozen=True, slots=True)
class _LoadOptions:
    """The load options as efi_start reads them: `rest` is what follows "--"."""

    image: bytes
    section: bytes | None
    config: str | None
    rest: bytes | None

    @classmethod
    def parse(cls, text: bytes) -> _LoadOptions:
        for at, byte in enumerate(text):
            if not 0x20 <= byte < 0x7F and byte != 0x09:
                raise FormatError("xen.efi's load options are not plain ASCII", at)
        found = list(re.finditer(rb"[^ \t]+", text))
        words = [each[0] for each in found]
        image, rest = (words[0] if words else _DEFAULT_NAME), None
        if image == b"--":
            raise FormatError("xen.efi's load options begin with '--'", 0)
        if b"--" in words[:-1]:
            end = words.index(b"--")
            rest, words = text[found[end + 1].start() :], words[:end]
        section, config = _words_of(words[1:])
        return cls(image, section, config, rest)


def _words_of(words: list[bytes]) -> tuple[bytes | None, str | None]:
    """Return the section and the configuration file that words name; the last counts.

    Xen ignores options that it does not know, and says so.
    """
    section: bytes | None = None
    config: bytes | None = None
    left = iter(words)
    for word in left:
        option = word[1:]
        if word[:1] not in (b"-", b"/"):
            section = word
        elif option.startswith(b"cfg="):
            config = option.removeprefix(b"cfg=")
        elif option == b"cfg":
            config = next(left, b"")
        elif option in (b"help", b"?"):
            raise BootFileError("xen.efi is asked for its help and will not boot")
    return section, None if config is None else _name(config, 0)


def _config_names(image: str) -> Iterator[str]:
    """Yield the names xen.efi tries: its own, cut at the last of ``. - _``, again."""
    stem = image
    while (at := max(map(stem.rfind, ".-_"))) >= 0:
        stem = stem[:at]
        yield f"{stem}.cfg"


def _first(names: Iterable[str], read: Read) -> _Config:
    """Return the first of these files that is there."""
    tried = []
    for name in names:
        if (data := read(name)) is not None:
            return _Config.parse(name, data)
        tried.append(name)
    raise BootFileError(
        f"xen.efi has no configuration: {' or '.join(tried) or 'no name fits'}",
        "it is looked for in the folder of xen.efi: is the ESP mounted?",
    )


def _chained(config: _Config, read: Read, lasting: bool) -> _Config:
    """Return the file that `chain=` names.

    A section's name that came from default= lies in memory that Xen has given back by
    then: `lasting` is false for it.
    """
    found = config.value(_GLOBAL, b"chain")
    if found is None:
        raise BootFileError(f"{config.name} names no kernel for this section")
    if not lasting:
        raise FormatError(
            f"{config.name}: chain= with the section of default= is not certain",
            config.at(_GLOBAL, b"chain"),
            "name the section in GRUB's chainloader command",
        )
    return _first([_name(found, config.at(_GLOBAL, b"chain"))], read)


class _Config:
    """A configuration file's lines, each with its offset, as pre_parse leaves them."""

    def __init__(self, name: str, lines: list[tuple[int, bytes]]) -> None:
        self.name = name
        self._lines = lines

    @classmethod
    def parse(cls, name: str, data: bytes) -> _Config:
        if len(data) > CONFIG_LIMIT:
            raise FormatError(f"{name}: over {CONFIG_LIMIT} bytes", CONFIG_LIMIT)
        if data and _LINE_END.fullmatch(data[-1:]) is None:
            raise FormatError(
                f"{name}: the last line is not ended, and Xen reads on behind it",
                len(data),
            )
        if (at := data.find(_DOUBTFUL_SPACE)) >= 0:
            raise FormatError(f"{name}: Xen may take byte 0xa0 for a space", at)
        lines, start = [], 0
        for line in _LINE_END.split(data):
            text = line.lstrip(b" ").split(b"#")[0]
            if text and not text.startswith(b";"):
                lines.append((start + len(line) - len(line.lstrip(b" ")), text))
            start += len(line) + 1
        return cls(name, lines)

    def value(self, section: bytes | None, key: bytes) -> bytes | None:
        """Return a key's value in a section; in any when no section is named."""
        found = self._find(section, key)
        return None if found is None else found[1]

    def at(self, section: bytes | None, key: bytes) -> int:
        """Return the offset of the key's line, 0 when there is none."""
        found = self._find(section, key)
        return 0 if found is None else self._lines[found[0]][0]

    def file(self, section: bytes | None, key: bytes) -> XenFile | None:
        """Return the module whose whole value is the name."""
        value = self.value(section, key)
        if value is None:
            return None
        return XenFile(_name(value, self.at(section, key)), value)

    def named_file(self, section: bytes | None, key: bytes) -> XenFile | None:
        """Return the module whose name ends at the first space; drop the rest."""
        found = self.split_file(section, key)
        return None if found is None else XenFile(found.name, found.name.encode())

    def split_file(self, section: bytes | None, key: bytes) -> XenFile | None:
        """Return the module whose name ends at the first space, its options behind.

        From then on the options are a line of their own (split_string puts a NUL).
        """
        found = self._find(section, key)
        if found is None:
            return None
        index, value = found
        name, space, options = value.partition(b" ")
        offset, line = self._lines[index]
        if space:
            head = line[: len(line) - len(options) - 1]
            self._lines[index : index + 1] = [
                (offset, head),
                (offset + len(head) + 1, options),
            ]
        return XenFile(_name(name, offset), _place(name, options))

    def _find(self, section: bytes | None, key: bytes) -> tuple[int, bytes] | None:
        """Return the line that has this key, and its value (get_value)."""
        matches = not section
        for index, (_, line) in enumerate(self._lines):
            if line.startswith(b"["):
                if section and matches:
                    return None
                matches = matches or line.startswith(b"[%s]" % section)
            elif matches and line.startswith(key + b"="):
                return index, line[len(key) + 1 :].lstrip(b" ")
        return None


def _name(name: bytes, offset: int) -> str:
    """Return a file's name; FormatError for one that is not plainly beside xen.efi."""
    if _NAME.fullmatch(name) is None:
        shown = name.decode("ascii", "backslashreplace")
        raise FormatError(
            f"'{shown}' is no plain name of a file beside xen.efi", offset
        )
    return name.decode("ascii")


def _joined_options(configured: bytes | None, given: bytes | None) -> bytes:
    """Return Xen's command line: the configured options, then those given after "--".

    An `options=` with nothing behind it drops those given, too.
    """
    return (given or b"") if configured is None else _place(configured, given or b"")


def _place(text: bytes, before: bytes) -> bytes:
    """Put a string in front of another as place_string does: nothing drops both."""
    return b" ".join(each for each in (text, before) if each) if text else b""
