# SPDX-License-Identifier: GPL-2.0-or-later
"""Every reason for which a prediction may be refused, and what it has to hold for.

A refusal with any other sentence is a failure, and so is one whose reason is not true
of the update: both are looked up here. A check is there where the simulated machine
tells whether the reason is true.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum

from tpm_sim.acm import is_sinit_acm
from tpm_sim.tboot_image import TbootImage
from tpm_sim.unpacked import unpacked
from update_setups import KERNEL, SKL, Form, Loaded, Setup

from aemseal.words.digest import Digest


class End(Enum):
    """What became of the next boot."""

    MEASURED = "measured"
    UNMEASURED = "not measured"
    STOPPED = "did not boot"


@dataclass(frozen=True)
class Case:
    """An update and the boot after it: what was loaded, what is in the PCRs.

    `old` and `new` are the selected PCRs before and after.
    """

    before: Setup
    after: Setup
    end: End
    old: Mapping[int, Digest]
    new: Mapping[int, Digest]

    def is_changed(self, pcr: int) -> bool:
        """Whether a PCR has another value after the update."""
        return self.old.get(pcr) != self.new.get(pcr)


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


def _handed_over(setup: Setup, loaded: Loaded) -> bytes | None:
    content = setup.files.get(loaded.path)
    if content is None or loaded.nounzip or setup.form is Form.UEFI:
        return content
    return unpacked(content)


def _sizes(setup: Setup) -> list[int]:
    return [len(_handed_over(setup, each) or b"") for each in setup.modules]


def _is_longer(case: Case, found: re.Match[str]) -> bool:
    """Some module is longer or shorter by as much; what holds the sizes changes."""
    by = int(found["by"]) * (1 if found["verb"] == "grew" else -1)
    pairs = zip(_sizes(case.before), _sizes(case.after), strict=False)
    return by in [after - before for before, after in pairs]


def _is_other_number(case: Case, found: re.Match[str]) -> bool:
    numbers = len(case.after.modules), len(case.before.modules)
    return numbers == (int(found[1]), int(found[2]))


def _is_other_kernel(case: Case, found: re.Match[str]) -> bool:
    return _kernels_differ(case)


def _kernels_differ(case: Case) -> bool:
    path = case.before.kernel.path
    return case.before.files.get(path) != case.after.files.get(path)


def _has_other_words(case: Case, found: re.Match[str]) -> bool:
    """The text of some line differs, or a variable in it."""
    return _texts(case.before) != _texts(case.after)


def _texts(setup: Setup) -> tuple[object, ...]:
    lines = (setup.kernel, *setup.modules)
    return (*((each.path, each.words) for each in lines), dict(setup.variables))


def _is_other_skl(case: Case, found: re.Match[str]) -> bool:
    return case.before.files.get(SKL) != case.after.files.get(SKL)


def _has_other_config(case: Case, found: re.Match[str]) -> bool:
    return len(case.before.xen_cfg) != len(case.after.xen_cfg)


def _has_other_sinit(case: Case, found: re.Match[str]) -> bool:
    return _sinit_files(case.before) != _sinit_files(case.after)


def _sinit_files(setup: Setup) -> list[bytes]:
    """Return the SINIT modules that the launcher may find, in order."""
    lines = [Loaded(path) for path in setup.slaunch_modules] or setup.modules[1:]
    contents = [_handed_over(setup, each) or b"" for each in lines]
    return [each for each in contents if is_sinit_acm(each)]


def _is_asked_by_others(case: Case, found: re.Match[str]) -> bool:
    """Another tboot asks, or another SINIT module offers."""
    return _kernels_differ(case) or _has_other_sinit(case, found)


def _has_other_policy(case: Case, found: re.Match[str]) -> bool:
    return case.before.policy_number != case.after.policy_number


def _other_number_beside(case: Case, found: re.Match[str]) -> bool:
    numbers = len(case.after.slaunch_modules), len(case.before.slaunch_modules)
    return numbers == (int(found[1]), int(found[2]))


def _is_not_measured(case: Case, found: re.Match[str]) -> bool:
    return case.end is End.UNMEASURED


def _does_not_boot(case: Case, found: re.Match[str]) -> bool:
    return case.end is End.STOPPED


def _fails(case: Case, found: re.Match[str]) -> bool:
    return case.end is not End.MEASURED


def _option_changes(case: Case, found: re.Match[str]) -> bool:
    return _option(case.before, found[1]) != _option(case.after, found[1])


def _has_option(case: Case, found: re.Match[str]) -> bool:
    return bool(_option(case.after, "force_pmrs"))


def _option(setup: Setup, name: str) -> list[str]:
    return [each for each in setup.kernel.words.split() if each.startswith(name)]


def _spoils_its_log(case: Case, found: re.Match[str]) -> bool:
    tboot = TbootImage.of(case.before.files[case.before.kernel.path])
    return tboot is not None and _FIRST_SPOILT <= tboot.number < _FIRST_RIGHT


_FIRST_SPOILT, _FIRST_RIGHT = (1, 9, 6), (1, 10, 1)


def _has_few_modules(case: Case, found: re.Match[str]) -> bool:
    return len(case.after.modules) < len(case.before.modules) or KERNEL not in (
        each.path for each in case.after.modules
    )


def _reason(meaning: str, pattern: str, check: Check | None = None) -> Reason:
    return Reason(meaning, re.compile(pattern, re.DOTALL), check)


_MOVES = (
    _reason(
        "a module is longer or shorter",
        r"the \w+ (?P<verb>grew|shrank) by (?P<by>\d+) bytes",
        _is_longer,
    ),
    _reason(
        "a file of slaunch_module is longer or shorter",
        r"/\S+ (?:grew|shrank) by \d+ bytes",
    ),
    _reason(
        "another number of slaunch_modules",
        r"the entry has (\d+) files of slaunch_module instead of (\d+)",
        _other_number_beside,
    ),
    _reason(
        "another number of modules",
        r"the entry loads (\d+) modules instead of (\d+)",
        _is_other_number,
    ),
    _reason("another Xen", r"Xen \(\S+\) is another one", _is_other_kernel),
    _reason(
        "Xen's file differs where it is not measured",
        r"\S+ differs in what is not measured of it",
        _is_other_kernel,
    ),
    _reason(
        "another xen.efi",
        r"xen\.efi is (?:another Xen|not the file that it was)",
        _is_other_kernel,
    ),
    _reason(
        "another command line",
        r"the command line of .* (?:changed|may have changed)",
        _has_other_words,
    ),
    _reason(
        "another command line",
        r"a command line changed \(now .*\)",
        _has_other_words,
    ),
    _reason(
        "Xen's configuration is longer or shorter",
        r"\S+\.cfg has another length",
        _has_other_config,
    ),
    _reason(
        "skl.bin takes or leaves other room",
        r"\S+ (?:has another length|leaves other room for the table)",
        _is_other_skl,
    ),
)
"""What moves what TrenchBoot hashes and no file gives."""

REASONS = (
    _reason(
        "the running tboot spoils its log",
        r"(?:ReplayError: the event log does not give PCR \d+: .*|"
        r"SelectionError: nothing extends PCR \d+ on this machine)",
        _spoils_its_log,
    ),
    _reason(
        "GrubError: the next boot is not measured",
        r"GrubError: the entry that boots next, .*, is no measured boot: .*",
        _is_not_measured,
    ),
    _reason(
        "BootFileError: a file is missing",
        r"BootFileError: .* does not exist",
        _does_not_boot,
    ),
    _reason(
        "BootFileError: what is to be launched is no image",
        r"BootFileError: \S+: (?:the image is too short for an ELF header|the image "
        r"is no ELF file|the PE header leaves the file|the image is no PE file for "
        r"x86-64) at offset \d+",
        _fails,
    ),
    _reason(
        "PredictionError: tboot would halt",
        r"PredictionError: tboot's policy lists the hashes it starts: .*",
        _does_not_boot,
    ),
    _reason(
        "an option changes what tboot extends",
        r"tboot's option (\w+) changes: what it extends then is not known before "
        r"that boot",
        _option_changes,
    ),
    _reason(
        "tboot rewrites its header: force_pmrs",
        r"tboot's option force_pmrs has \S+ rewrite its header before it is measured: "
        r"its hash cannot be known from the file",
        _has_option,
    ),
    _reason(
        "another tboot may extend another bank",
        r"tboot \S+ may extend another bank than \w+: its command line has no extpol",
        _is_other_kernel,
    ),
    _reason(
        "no default policy is known for that tboot",
        r"the default policy of tboot \S+ on the \w+ map in the \w+ bank: .*",
        _is_other_kernel,
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
        _has_other_policy,
    ),
    _reason(
        "the owner's policy is another one than the running boot had",
        r"PredictionError: event \d+ puts .* into PCR \d+ with \w+\.\.: not what .* "
        r"does on the \w+ map",
        _has_other_policy,
    ),
    _reason(
        "the owner's policy is another one than the running boot had",
        r"the TPM holds a verified-launch policy that the running boot did not have, "
        r"and tboot may take it next: .*",
        _has_other_policy,
    ),
    _reason(
        "nothing would be in a PCR",
        r"nothing that can be predicted extends it",
        _has_few_modules,
    ),
    _reason(
        "what SINIT is asked for cannot be told: a bit that depends on its offer",
        r"bits? [\w, ]+ of what SINIT is asked for next cannot be told",
        _is_asked_by_others,
    ),
    _reason(
        "what SINIT is asked for cannot be told: an option of tboot's",
        r"tboot's command line changes in .*",
        _has_other_words,
    ),
    _reason(
        "the PCR map changes with what SINIT is asked for",
        r"the PCR map changes: SINIT is asked for 0x\w+ after 0x\w+",
        _is_asked_by_others,
    ),
    _reason(
        "what SINIT is asked for is not as the files say",
        r".* asks SINIT for .*, and 0x\w+ was asked for",
        _is_asked_by_others,
    ),
    _reason(
        "which SINIT module wins: the firmware's was launched",
        r"the firmware's SINIT module was launched, and which of the next boot's files "
        r"wins over it cannot be told: .*",
        _has_other_sinit,
    ),
    _reason(
        "which SINIT module wins: for this machine or not",
        r"\S+ may be for this machine or not, which the SINIT module that was launched "
        r"\(\S+\) does not tell",
        _has_other_sinit,
    ),
    _reason(
        "no SINIT module is for this machine",
        r"no SINIT module of the next boot is for this machine, as \S+ was that was "
        r"launched",
        _has_other_sinit,
    ),
    _reason(
        "which SINIT module wins: several are for this machine",
        r"\S+ and .* are different SINIT modules for this machine",
        _has_other_sinit,
    ),
    _reason(
        "which SINIT module wins: the next is older",
        r"\S+ \(\d+\) is older than the SINIT module that was launched \(\d+\): the "
        r"firmware's own may win",
        _has_other_sinit,
    ),
    _reason(
        "the next SINIT module's header has another form",
        r"\S+ has a header of version \S+, unlike the SINIT module that was launched: "
        r"how it is hashed was not seen here",
        _has_other_sinit,
    ),
)
"""All others."""
