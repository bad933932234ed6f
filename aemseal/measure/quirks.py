# SPDX-License-Identifier: GPL-2.0-or-later
"""Quirks of real machines as a table: what is odd, by what it is known, what follows.

Not one is decided by a machine's name or a setting: each row's `evidence` is in the
log, the TPM, the boot files or the text that the launcher printed. Where a row stands
in the tool is in `room`; each has a machine in tpm-sim that has it
(tests/sim/test_quirks.py holds the two together).
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Quirk:
    """An event that was not replayed literally: its number, a name, what was done."""

    event: int
    name: str
    effect: str


@dataclass(frozen=True, slots=True)
class QuirkRow:
    """One oddity. `evidence` is what shows it, `answer` what the tool does then."""

    name: str
    evidence: str
    answer: str
    room: str
    source: str


VALUE_LOGGED = "hash-start-logs-pcr-value"
LISTED_TWICE = "hash-start-listed-twice"
BANK_CAPPED = "bank-capped"
RANDOM_VALUE = "random-value"

QUIRKS = (
    QuirkRow(
        VALUE_LOGGED,
        "0x402's digest is H(0 || H(data)); without data, only so PCR 17 is met",
        "PCR 17 is that digest; what was extended is H(data)",
        "measure/replay.py",
        "T460p, NUC5i5MYHE, X200's table (opencit issue 63; tboot-devel 2022-01-31)",
    ),
    QuirkRow(
        LISTED_TWICE,
        "a HASH_START that repeats the record in front of it",
        "extended once: a second launch would have reset the PCR",
        "measure/replay.py",
        "NUC5i5MYHE (opencit issue 63)",
    ),
    QuirkRow(
        "bank-not-covered",
        "events of a selected PCR have no digest in the bank",
        "the bank is refused, naming the first such event",
        "measure/replay.py",
        "E5470: tboot's extpol extends one bank (tboot tpm_20.c)",
    ),
    QuirkRow(
        BANK_CAPPED,
        "the constant 01 00.. was extended into the bank",
        "the bank is refused: it holds nothing of what follows",
        "measure/replay.py",
        "Intel TXT Software Development Guide appendix G (0x4ff); Xen tpm.c",
    ),
    QuirkRow(
        RANDOM_VALUE,
        "an event of type 0x4fe in a selected PCR",
        "the PCR is refused: it is another one in each boot",
        "measure/sinit.py, measure/trenchboot_predict.py",
        "Intel TXT Software Development Guide appendix G (NPW modules)",
    ),
    QuirkRow(
        "combined-hash",
        "0x403 in place of single events, 76 or 80 bytes that hash to its digest",
        "carried over, or computed where tboot's own hash stands in it",
        "measure/sinit.py",
        "TPM 1.2 with the legacy map: T460p, X200",
    ),
    QuirkRow(
        "no-event-log",
        "the OsSinitData table is older than version 6 and has no log element",
        "rebuilt from SINIT's table and tboot's printed list, and shown as rebuilt",
        "formats/tboot_tables.py",
        "GM45 and Q45 modules (tboot-devel 2020-05-29)",
    ),
    QuirkRow(
        "misplaced-records",
        "the crypto-agile log ends before tboot's records and misses the live PCRs",
        "the text log is taken, which has them; without it the log is refused",
        "flows/evidence.py",
        "tboot 1.9.7 to 1.10.0 (changeset 1cea5ca)",
    ),
    QuirkRow(
        "capabilities-by-version",
        "0x40f's data is what one reading of tboot's and the module's words gives",
        "computed for the next tboot or module where all such readings agree",
        "measure/sinit_capabilities.py",
        "tboot 1.9.6, 1.10.1 and 1.11.6 ask for more (OpenXT 1051, 1081)",
    ),
    QuirkRow(
        "policy-by-version",
        "the logged policy is a default one of the running tboot's version",
        "the next version's default policy of the same kind of machine",
        "measure/tboot_tables.py",
        "tboot policy.c, 1.7 to 1.11",
    ),
    QuirkRow(
        "own-policy",
        "the policy read from the TPM or a file has the logged digest",
        "modules go where that policy says",
        "measure/tboot_places.py",
        "tboot policy.c; X200",
    ),
    QuirkRow(
        "firmware-sinit",
        "0x402's data is of no SINIT file in /boot",
        "carried over; a changed SINIT file is refused, as it may win next time",
        "measure/sinit_choice.py",
        "tboot acmod.c, GRUB i386/txt.c: the newer of the two is launched",
    ),
    QuirkRow(
        "boot-guard-events",
        "0x415 to 0x41a among SINIT's events",
        "carried over in their order, as every event that is not known",
        "measure/tboot.py",
        "an Ice Lake server (tboot-devel 2021-12-01)",
    ),
    QuirkRow(
        "mle-by-generation",
        "which of three rules gives Xen's digest in the log",
        "the same rule for the next Xen",
        "formats/slaunch_mle.py",
        "TrenchBoot's GRUB v0.3, v0.4.0, v0.4.1",
    ),
)
