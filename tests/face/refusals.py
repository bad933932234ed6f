# SPDX-License-Identifier: GPL-2.0-or-later
"""What every refusal is held to, and the files that the tests of refusals spoil.

`refuses` gives a command in both forms: by name, with the exit code of the contract,
and nothing written; the hint must say what to do, or be empty where the message says
it all.
"""

from __future__ import annotations

from typing import Any

from contract import check
from laptop import Laptop, Ran

LOG = "/sys/kernel/security/txt/tpm20_binary_evtlog_tcg"
RECORD = "/run/aemseal/record"
STATE = "/var/lib/aemseal/state.json"
JOURNAL = "/var/lib/aemseal/journal.json"
CONFIG = "/etc/aemseal.yaml"
GRUB = "/boot/grub/grub.cfg"
XEN = "/boot/xen.gz"
EVIDENCE_VERBS = ("log", "predict", "plan", "explain", "reseal", "confirm")


def refuses(
    laptop: Laptop,
    command: str,
    code: int,
    message: str,
    hint: str | None = "",
    *,
    stdin: str | bytes = "",
) -> Ran:
    """Assert that a command refuses with these words and writes nothing.

    `message` and `hint` are contained; a hint of None says that there is none.
    """
    before = laptop.kept()
    words = command.split()
    ran = laptop.aemseal(*words, stdin=stdin)
    assert (ran.code, ran.out) == (code, ""), ran
    assert message in ran.error
    assert not ran.error.endswith(".")
    if hint is None:
        assert ran.hint == ""
    else:
        assert ran.hint
        assert hint in ran.hint
    as_json = laptop.aemseal(*words, "--json", stdin=stdin)
    check(as_json.report, "error")
    assert as_json.code == as_json.report["exit"] == code
    assert as_json.report["message"] == ran.error
    assert (as_json.report["hint"] or "") == ran.hint
    assert laptop.kept() == before
    return ran


def status_says(laptop: Laptop, code: int, problem: str, *more: str) -> dict[str, Any]:
    """Assert that status reports a problem, and writes nothing."""
    before = laptop.kept()
    ran = laptop.aemseal("status", "--json", *more)
    check(ran.report, "status")
    assert ran.code == code
    assert problem in ran.report["problem"]
    assert (
        f"problem:   {ran.report['problem']}\n" in laptop.aemseal("status", *more).out
    )
    assert laptop.kept() == before
    return ran.report


PROBLEM_STEP = "put right what the problem says, then look again: aemseal status"
