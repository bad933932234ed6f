# SPDX-License-Identifier: GPL-2.0-or-later
"""Every reason for which a prediction may be refused, and what it has to hold for.

A refusal with any other sentence is a failure, and so is one whose reason is not true
of the update: both are looked up here. A check is there where the simulated machine
tells whether the reason is true.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from update_checks import (
    Case,
    does_not_boot,
    fails,
    has_few_modules,
    has_option,
    has_other_config,
    has_other_policy,
    has_other_policy_data,
    has_other_sinit,
    has_other_words,
    hides_sinit,
    is_asked_by_others,
    is_longer,
    is_not_measured,
    is_other_kernel,
    is_other_number,
    is_other_skl,
    option_changes,
    other_number_beside,
    spoils_its_log,
)

Check = Callable[[Case, re.Match[str]], bool]


@dataclass(frozen=True)
class Reason:
    """A reason: the sentence's pattern, what it means, and when it is true."""

    meaning: str
    pattern: re.Pattern[str] = field(repr=False)
    check: Check | None = None

    def is_true(self, case: Case, found: re.Match[str]) -> bool:
        """Whether the reason is true of the update, as far as can be told."""
        return self.check is None or self.check(case, found)


def reasons_of(sentence: str) -> Iterator[tuple[Reason, re.Match[str]] | None]:
    """Yield the reasons that a sentence gives; None for a part that is not listed.

    "PCR 18 holds the multiboot information, and A and B" gives A and B.
    """
    holds = _HOLDS.fullmatch(sentence)
    parts = holds["parts"].split(" and ") if holds else [sentence]
    for part in parts:
        yield next(
            (
                (reason, found)
                for reason in (_MOVES if holds else REASONS)
                if (found := reason.pattern.fullmatch(part))
            ),
            None,
        )


_HOLDS = re.compile(
    r"PCR \d+ holds (?:the multiboot information|Xen as it lies in memory|"
    r"AMD's table|the OS to MLE data), and (?P<parts>.*)",
    re.DOTALL,
)


def _reason(meaning: str, pattern: str, check: Check | None = None) -> Reason:
    return Reason(meaning, re.compile(pattern, re.DOTALL), check)


_MOVES = (
    _reason(
        "a module is longer or shorter",
        r"the \w+ (?P<verb>grew|shrank) by (?P<by>\d+) bytes",
        is_longer,
    ),
    _reason(
        "a file of slaunch_module is longer or shorter",
        r"/\S+ (?:grew|shrank) by \d+ bytes",
    ),
    _reason(
        "another number of slaunch_modules",
        r"the entry has (\d+) files of slaunch_module instead of (\d+)",
        other_number_beside,
    ),
    _reason(
        "another number of modules",
        r"the entry loads (\d+) modules instead of (\d+)",
        is_other_number,
    ),
    _reason("another Xen", r"Xen \(\S+\) is another one", is_other_kernel),
    _reason(
        "Xen's file differs where it is not measured",
        r"\S+ differs in what is not measured of it",
        is_other_kernel,
    ),
    _reason(
        "another xen.efi",
        r"xen\.efi is (?:another Xen|not the file that it was)",
        is_other_kernel,
    ),
    _reason(
        "another command line",
        r"the command line of .* (?:changed|may have changed)",
        has_other_words,
    ),
    _reason(
        "another command line",
        r"a command line changed \(now .*\)",
        has_other_words,
    ),
    _reason(
        "Xen's configuration is longer or shorter",
        r"\S+\.cfg has another length",
        has_other_config,
    ),
    _reason(
        "skl.bin takes or leaves other room",
        r"\S+ (?:has another length|leaves other room for the table)",
        is_other_skl,
    ),
)
"""What moves what TrenchBoot hashes and no file gives."""

REASONS = (
    _reason(
        "the running tboot spoils its log",
        r"(?:ReplayError: the event log does not give PCR \d+: .*|"
        r"ReplayError: nothing extends PCR \d+ in the event log, and the TPM holds .*)",
        spoils_its_log,
    ),
    _reason(
        "GrubError: the next boot is not measured",
        r"GrubError: the entry that boots next, .*, is no measured boot: .*",
        is_not_measured,
    ),
    _reason(
        "BootFileError: a file is missing",
        r"BootFileError: .* does not exist",
        does_not_boot,
    ),
    _reason(
        "BootFileError: a SINIT module in a kernel's place",
        r"BootFileError: \S+ is a SINIT module, loaded with --nounzip as the \w+: it "
        r"is not known what tboot makes of it",
        hides_sinit,
    ),
    _reason(
        "GrubError: slaunch_module without slaunch",
        r"GrubError: grub\.cfg line \d+: 'slaunch_module' follows no 'slaunch'",
        is_not_measured,
    ),
    _reason(
        "BootFileError: what is to be launched is no image",
        r"BootFileError: \S+: (?:the image is too short for an ELF header|the image "
        r"is no ELF file|the PE header leaves the file|the image is no PE file for "
        r"x86-64) at offset \d+",
        fails,
    ),
    _reason(
        "PredictionError: tboot would halt",
        r"PredictionError: tboot's policy lists the hashes it starts: .*",
        does_not_boot,
    ),
    _reason(
        "an option changes what tboot extends",
        r"tboot's option (\w+) changes: what it extends then is not known before "
        r"that boot",
        option_changes,
    ),
    _reason(
        "tboot rewrites its header: force_pmrs",
        r"tboot's option force_pmrs has \S+ rewrite its header before it is measured: "
        r"its hash cannot be known from the file",
        has_option,
    ),
    _reason(
        "the launch control policy's data changed",
        r"/\S+, the launch control policy's data, (?:changed|is new|is gone): what .*",
        has_other_policy_data,
    ),
    _reason(
        "another tboot may extend another bank",
        r"tboot \S+ may extend another bank than \w+: its command line has no extpol",
        is_other_kernel,
    ),
    _reason(
        "no default policy is known for that tboot",
        r"the default policy of tboot \S+ on the \w+ map in the \w+ bank: .*",
        is_other_kernel,
    ),
    _reason(
        "SINIT has a random value in each boot",
        r"event \d+ is a random value, another one in each boot",
        lambda case, found: case.is_changed(17),
    ),
    _reason(
        "the policy leaves a module unmeasured",
        r"tboot's policy puts \S+ \(\w+\) into no PCR of the launch: a changed one "
        r"would not be noticed",
    ),
    _reason(
        "the owner's policy is another one than the running boot had",
        r"event \d+, a policy with \w+\.\., is not the default one of the running "
        r"tboot \(\S+\), and no custom verified-launch policy was found that gives it",
        has_other_policy,
    ),
    _reason(
        "the owner's policy is another one than the running boot had",
        r"PredictionError: event \d+ puts .* into PCR \d+ with \w+\.\.: not what .* "
        r"does on the \w+ map",
        has_other_policy,
    ),
    _reason(
        "the owner's policy is another one than the running boot had",
        r"the TPM holds a verified-launch policy that the running boot did not have, "
        r"and tboot may take it next: .*",
        has_other_policy,
    ),
    _reason(
        "nothing would be in a PCR",
        r"nothing that can be predicted extends it",
        has_few_modules,
    ),
    _reason(
        "what SINIT is asked for cannot be told: a bit that depends on its offer",
        r"bits? [\w, ]+ of what SINIT is asked for next cannot be told",
        is_asked_by_others,
    ),
    _reason(
        "what SINIT is asked for cannot be told: an option of tboot's",
        r"tboot's command line changes in .*",
        has_other_words,
    ),
    _reason(
        "the PCR map changes with what SINIT is asked for",
        r"the PCR map changes: SINIT is asked for 0x\w+ after 0x\w+",
        is_asked_by_others,
    ),
    _reason(
        "what SINIT is asked for is not as the files say",
        r".* asks SINIT for .*, and 0x\w+ was asked for",
        is_asked_by_others,
    ),
    _reason(
        "which SINIT module wins: the firmware's was launched",
        r"the firmware's SINIT module was launched, and which of the next boot's files "
        r"wins over it cannot be told: .*",
        has_other_sinit,
    ),
    _reason(
        "which SINIT module wins: for this machine or not",
        r"\S+ may be for this machine or not, which the SINIT module that was launched "
        r"\(\S+\) does not tell",
        has_other_sinit,
    ),
    _reason(
        "no SINIT module is for this machine",
        r"no SINIT module of the next boot is for this machine, as \S+ was that was "
        r"launched",
        has_other_sinit,
    ),
    _reason(
        "which SINIT module wins: several are for this machine",
        r"\S+ and .* are different SINIT modules for this machine",
        has_other_sinit,
    ),
    _reason(
        "which SINIT module wins: the next is older",
        r"\S+ \(\d+\) is older than the SINIT module that was launched \(\d+\): the "
        r"firmware's own may win",
        has_other_sinit,
    ),
    _reason(
        "the next SINIT module's header has another form",
        r"\S+ has a header of version \S+, unlike the SINIT module that was launched: "
        r"how it is hashed was not seen here",
        has_other_sinit,
    ),
)
"""All others."""
