# SPDX-License-Identifier: GPL-2.0-or-later
"""Xen's and tboot's own word for their release, out of the plain image bytes.

For people only ("this is the retired Xen 4.17.5"): any byte string can carry such
words, so nothing is decided by them. None rather than a guess.

Sources: Xen xen/common/version.c (the order of its strings), xen/Makefile (XEN_BANNER:
" Xen 4.17.5" where figlet is not installed, as on Qubes OS and Fedora; an ASCII
picture elsewhere, which is not read) and Debian's patch that puts
XEN_COMPILE_SYSTEM_VERSION before the compiler and drops the banner; tboot
tboot/Config.mk (TBOOT_CHANGESET is "2022-03-04 12:00 +0100 1.10.5" in a release).
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod

_KEPT = 1024
"""Bytes kept of what went before: no version string with its neighbours is longer."""

_DENIED = b"\0<denied>\0"
"""Xen's string behind compiler, extra version, changeset and banner."""

_DENIED_LIMIT = 16
"""An image that says it more often (Xen says it once) tells no version."""

_XEN_BANNER = re.compile(rb"Xen (\d{1,3}\.\d{1,3}[!-~]{0,80})\n\0")
_COMPILER = re.compile(rb"[ -~]{0,80}(?:gcc|clang)[ -~]{0,120}")
_EXTRA = re.compile(rb"\.\d{1,3}[!-~]{0,40}")
_PACKAGE = re.compile(rb"(\d{1,3}\.\d{1,3})[!-~]{0,80}")
_TBOOT = re.compile(
    rb"-\d\d-\d\d \d\d:\d\d [+-]\d{4} (\d{1,3}\.\d{1,3}(?:\.\d{1,3})?)\n?\0"
)
"""Without the year: a pattern that begins with a fixed byte is found six times as fast
in the 29 MiB of a tboot image."""
_TBOOT_YEAR = re.compile(rb"\0\d{4}")


class _Scanner(ABC):
    """Feed an image, chunk by chunk; `finish` gives the version if there is just one.

    Keeps 1 KiB of what it saw, and takes time linear in it.
    """

    def __init__(self) -> None:
        self._before = b"\0"
        self._found: set[bytes] = set()

    def feed(self, chunk: bytes) -> None:
        """Take the image's next bytes."""
        seen = self._before + chunk
        if len(self._found) < 2:
            self._found.update(self._versions(seen))
        self._before = seen[-_KEPT:]

    def finish(self) -> str | None:
        """Return the version; None when there is none, or two that differ."""
        if len(self._found) != 1:
            return None
        return next(iter(self._found)).decode("ascii")

    @abstractmethod
    def _versions(self, seen: bytes) -> list[bytes]:
        """Return every version in these bytes."""


class XenVersion(_Scanner):
    """Finds Xen's version, for example "4.17.5+72-g01140da4e8-1" or "4.17.5"."""

    def __init__(self) -> None:
        super().__init__()
        self._denied = 0

    def _versions(self, seen: bytes) -> list[bytes]:
        banners = [
            match[1]
            for match in _XEN_BANNER.finditer(seen)
            if seen[max(match.start() - 2, 0) : match.start()].endswith((b"\0", b"\0 "))
        ]
        return banners + self._packages(seen)

    def _packages(self, seen: bytes) -> list[bytes]:
        """Return what stands before the compiler and the extra version (Debian)."""
        found = []
        # A mark within what was kept was looked at before.
        at = seen.find(_DENIED, max(len(self._before) - len(_DENIED) + 1, 0))
        while at >= 0 and self._denied < _DENIED_LIMIT:
            self._denied += 1
            texts = [text for text in seen[max(at - 512, 0) : at].split(b"\0") if text]
            for package, compiler, extra in zip(
                texts, texts[1:], texts[2:], strict=False
            ):
                version = _PACKAGE.fullmatch(package)
                if (
                    version is not None
                    and _COMPILER.fullmatch(compiler)
                    and _EXTRA.fullmatch(extra)
                    # ".5" has to continue "4.17": no host name happens to do so.
                    and package.startswith(version[1] + extra)
                ):
                    found.append(package)
            at = seen.find(_DENIED, at + 1)
        return found


class TbootVersion(_Scanner):
    """Finds tboot's release, for example "1.10.5"; None for a development build."""

    def _versions(self, seen: bytes) -> list[bytes]:
        return [
            match[1]
            for match in _TBOOT.finditer(seen)
            if _TBOOT_YEAR.fullmatch(seen, max(match.start() - 5, 0), match.start())
        ]
