# SPDX-License-Identifier: GPL-2.0-or-later
"""When a reason for refusing a prediction is true of the update, as far as one sees."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from image_strategies import LCP_V1, LCP_V2
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


def _handed_over(setup: Setup, loaded: Loaded) -> bytes | None:
    content = setup.files.get(loaded.path)
    if content is None or loaded.nounzip or setup.form is Form.UEFI:
        return content
    return unpacked(content)


def _sizes(setup: Setup) -> list[int]:
    return [len(_handed_over(setup, each) or b"") for each in setup.modules]


def is_longer(case: Case, found: re.Match[str]) -> bool:
    """Some module is longer or shorter by as much; what holds the sizes changes."""
    by = int(found["by"]) * (1 if found["verb"] == "grew" else -1)
    pairs = zip(_sizes(case.before), _sizes(case.after), strict=False)
    holds_sizes = 17 if case.after.form is Form.UEFI else 18
    is_moved = case.end is not End.MEASURED or case.is_changed(holds_sizes)
    return is_moved and by in [after - before for before, after in pairs]


def is_other_number(case: Case, found: re.Match[str]) -> bool:
    numbers = len(case.after.modules), len(case.before.modules)
    return numbers == (int(found[1]), int(found[2]))


def is_other_kernel(case: Case, found: re.Match[str]) -> bool:
    return _kernels_differ(case)


def _kernels_differ(case: Case) -> bool:
    path = case.before.kernel.path
    return case.before.files.get(path) != case.after.files.get(path)


def has_other_words(case: Case, found: re.Match[str]) -> bool:
    """The text of some line differs, or a variable in it."""
    return _texts(case.before) != _texts(case.after)


def _texts(setup: Setup) -> tuple[object, ...]:
    lines = (setup.kernel, *setup.modules)
    return (*((each.path, each.words) for each in lines), dict(setup.variables))


def is_other_skl(case: Case, found: re.Match[str]) -> bool:
    return case.before.files.get(SKL) != case.after.files.get(SKL)


def has_other_config(case: Case, found: re.Match[str]) -> bool:
    return len(case.before.xen_cfg) != len(case.after.xen_cfg)


def has_other_sinit(case: Case, found: re.Match[str]) -> bool:
    return _sinit_files(case.before) != _sinit_files(case.after)


def _sinit_files(setup: Setup) -> list[bytes]:
    """Return the SINIT modules that the launcher may find, in order."""
    lines = [Loaded(path) for path in setup.slaunch_modules] or setup.modules[1:]
    contents = [_handed_over(setup, each) or b"" for each in lines]
    return [each for each in contents if is_sinit_acm(each)]


def is_asked_by_others(case: Case, found: re.Match[str]) -> bool:
    """Another tboot asks, or another SINIT module offers."""
    return _kernels_differ(case) or has_other_sinit(case, found)


def has_other_policy(case: Case, found: re.Match[str]) -> bool:
    return case.before.policy_number != case.after.policy_number


def other_number_beside(case: Case, found: re.Match[str]) -> bool:
    numbers = len(case.after.slaunch_modules), len(case.before.slaunch_modules)
    return numbers == (int(found[1]), int(found[2]))


def is_not_measured(case: Case, found: re.Match[str]) -> bool:
    return case.end is End.UNMEASURED


def does_not_boot(case: Case, found: re.Match[str]) -> bool:
    return case.end is End.STOPPED


def fails(case: Case, found: re.Match[str]) -> bool:
    return case.end is not End.MEASURED


def option_changes(case: Case, found: re.Match[str]) -> bool:
    return _option(case.before, found[1]) != _option(case.after, found[1])


def has_option(case: Case, found: re.Match[str]) -> bool:
    return bool(_option(case.after, "force_pmrs"))


def _option(setup: Setup, name: str) -> list[str]:
    return [each for each in setup.kernel.words.split() if each.startswith(name)]


def spoils_its_log(case: Case, found: re.Match[str]) -> bool:
    tboot = TbootImage.of(case.before.files[case.before.kernel.path])
    return tboot is not None and _FIRST_SPOILT <= tboot.number < _FIRST_RIGHT


_FIRST_SPOILT, _FIRST_RIGHT = (1, 9, 6), (1, 10, 1)


def has_few_modules(case: Case, found: re.Match[str]) -> bool:
    return len(case.after.modules) < len(case.before.modules) or KERNEL not in (
        each.path for each in case.after.modules
    )


def hides_sinit(case: Case, found: re.Match[str]) -> bool:
    """A kernel or an initramfs that is not unpacked is a SINIT module."""
    return any(
        each.nounzip and is_sinit_acm(case.after.files.get(each.path, b""))
        for each in case.after.modules[1:3]
    )


def has_other_policy_data(case: Case, found: re.Match[str]) -> bool:
    """Which modules look like LCP policy data, or hide those before them, differs."""
    return _policy_data(case.before) != _policy_data(case.after)


def _policy_data(setup: Setup) -> list[bytes]:
    contents = [_handed_over(setup, each) or b"" for each in setup.modules[1:]]
    return [
        each
        for each in contents
        if each.startswith((LCP_V1, LCP_V2)) or len(each) < len(LCP_V2)
    ]
