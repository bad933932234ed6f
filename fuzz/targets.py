# SPDX-License-Identifier: GPL-2.0-or-later
"""All targets by name."""

from __future__ import annotations

from collections.abc import Mapping

from fuzz import files, images, logs, packings, scripts
from fuzz.contract import Target

TARGETS: Mapping[str, Target] = {
    each.name: each
    for module in (logs, images, packings, scripts, files)
    for each in module.TARGETS
}
