# SPDX-License-Identifier: GPL-2.0-or-later
"""What is on record of an accepted boot, kept up to date while it runs.

Its measurements cannot change, but the files that decide without being measured can:
the SINIT modules beside one of the firmware's own, the lengths that TrenchBoot's GRUB
goes by. What was there when the boot began is not told by anything. That a file was
there is known once it was seen in an earlier boot and is the same in this one.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace

from aemseal.flows.state import SeenFiles
from aemseal.flows.survey import Survey
from aemseal.measure.baseline import Baseline
from aemseal.measure.beside import files_beside
from aemseal.measure.claims import Source
from aemseal.words.errors import AemsealError, BootFileError
from aemseal.world.host import Host

BOOT_ID = "/proc/sys/kernel/random/boot_id"
"""A random name of the running kernel's boot (Linux, random(4))."""


def seen_now(host: Host, beside: tuple[Source, ...] | None) -> SeenFiles | None:
    """Return what is to be remembered of the files beside a boot, as they are now.

    None where they are not known, or which boot this is.
    """
    try:
        boot = (host.small_file(BOOT_ID) or b"").decode("ascii", "replace").strip()
    except AemsealError:
        return None
    if beside is None or not boot:
        return None
    listed = Baseline("", "", "", (), beside).to_json()["beside"]
    data = json.dumps(listed, sort_keys=True).encode()
    return SeenFiles(boot, hashlib.sha256(data).hexdigest())


def beside_now(look: Survey) -> tuple[Source, ...] | None:
    """Return the files beside the running boot, as they are now.

    None where other files than those of now were booted, or one cannot be read.
    """
    entry = look.calibration.entry
    if entry is None:
        return None
    try:
        return files_beside(entry, look.facts)
    except BootFileError:
        return None


def refreshed(look: Survey, seen: SeenFiles | None) -> Baseline | None:
    """Return what is to be kept of the running boot; None where files are missing.

    `seen` is what was last remembered. The files beside it are those of now where an
    earlier boot saw the same, else those on record.
    """
    beside = beside_now(look)
    now = seen_now(look.host, beside)
    if beside is None or not look.calibration.is_calibrated:
        return None
    if now and seen and now.files == seen.files and now.boot != seen.boot:
        return replace(look.running, beside=beside)
    return look.running
