# SPDX-License-Identifier: GPL-2.0-or-later
"""Xen in the views of a launch by GRUB: the MLE by each rule, and its entry point."""

from __future__ import annotations

from aemseal.formats.build_id import build_id
from aemseal.formats.slaunch_mle import VIEWS, XenMle, entry_bytes
from aemseal.formats.versions import XenVersion
from aemseal.words.wanted import (
    NOTE_SLAUNCH_ENTRY,
    NOTE_XEN_BUILD_ID,
    NOTE_XEN_VERSION,
    View,
)

RULES = {view: rule for rule, view in VIEWS.items()}
XEN_VIEWS = frozenset({*RULES, View.SLAUNCH_ENTRY})
"""The views that need the whole image."""


class LaunchedXen:
    """A plain Xen image, laid out once for all of its views.

    FormatError, when it is made or asked, for an image that GRUB could not launch.
    """

    def __init__(self, image: bytes) -> None:
        self._image = image
        self._entry = entry_bytes(image)
        self._mle: XenMle | None = None
        version = XenVersion()
        version.feed(image)
        self._version = version.finish()
        self._build_id = build_id(image)

    def measured_bytes(self, view: View) -> bytes:
        """Return what is hashed in one of XEN_VIEWS."""
        if view is View.SLAUNCH_ENTRY:
            return self._entry
        if self._mle is None:
            self._mle = XenMle.parse(self._image)
        return self._mle.measured_bytes(RULES[view])

    def notes(self) -> dict[str, str]:
        """Return the words that go with every view."""
        told = {NOTE_XEN_VERSION: self._version, NOTE_XEN_BUILD_ID: self._build_id}
        known = {name: value for name, value in told.items() if value is not None}
        return {NOTE_SLAUNCH_ENTRY: self._entry.hex(), **known}
