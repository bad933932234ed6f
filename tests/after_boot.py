# SPDX-License-Identifier: GPL-2.0-or-later
"""What aemseal-confirm is run on: a root of its own, and what it tells there."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

CONFIRM = Path(__file__).parents[1] / "boot-hooks" / "aemseal-confirm"
NOTICE = CONFIRM.with_name("aemseal-notice")
NOTHING_DONE = "Nothing was confirmed, and nothing was sealed anew."


@dataclass(frozen=True)
class Told:
    """What came of it: exit code, journal, notice, and the login's two files."""

    code: int
    journal: str
    urgency: str
    headline: str
    more: tuple[str, ...]
    motd: str | None
    issue: str | None

    @property
    def is_loud(self) -> bool:
        """Whether all say that this boot is none to trust, and systemd says failed."""
        return self.urgency == "critical" and self.code != 0 and self.issue is not None


def after_boot(
    root: Path,
    aemseal: Path,
    *more: str,
    shell: tuple[str, ...] = ("dash",),
    tcti: str = "swtpm:path=/dev/null",
) -> Told:
    """Run aemseal-confirm on a machine's root, with this command as aemseal."""
    done = subprocess.run(
        [*shell, str(CONFIRM), "-r", str(root), "-a", str(aemseal), "-w", "0", *more],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        env={"PATH": os.environ["PATH"], "TPM2TOOLS_TCTI": tcti},
        timeout=240,
        check=False,
    )
    assert done.stderr == ""
    assert "Traceback" not in done.stdout
    notice = root / "run/aemseal/notice"
    assert notice.stat().st_mode & 0o777 == 0o644
    assert notice.parent.stat().st_mode & 0o777 == 0o711
    assert not (notice.parent / "after").exists()
    urgency, headline, *rest = notice.read_text().splitlines()
    assert f"aemseal: {headline}\n" in done.stdout
    motd, issue = (
        path.read_text() if path.exists() else None
        for path in (
            root / "run/motd.d/aemseal",
            root / "run/issue.d/aemseal.issue",
        )
    )
    assert (motd is None) is (urgency == "quiet")
    assert motd is None or motd.startswith(f"aemseal: {headline}\n")
    assert (issue is None) is (urgency != "critical")
    return Told(
        done.returncode, done.stdout, urgency, headline, tuple(rest), motd, issue
    )
