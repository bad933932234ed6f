# SPDX-License-Identifier: GPL-2.0-or-later
"""What a survey reads: each file once, whatever wants it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import ClassVar

import pytest
from tpm_sim.boot_directory import make_boot_directory
from tpm_sim.cache import Cache
from tpm_sim.machine import Machine
from tpm_sim.machines import TBOOT_DA

from aemseal.flows.survey import survey
from aemseal.words.digest import HashAlgorithm, PcrBank
from aemseal.words.wanted import Wanted
from aemseal.world.host import LiveHost, Looked

pytestmark = [
    pytest.mark.sim,
    pytest.mark.skipif(
        not Cache.default().is_filled, reason="make setup has not unpacked the packages"
    ),
]

MORE_ENTRIES = """
menuentry 'Another tboot command line' {{
  multiboot2 /tboot.gz placeholder min_ram=0x2000000
  module2 /xen.gz placeholder
  module2 /vmlinuz placeholder
  module2 {nounzip} /initramfs.img
}}
"""


class CountingHost(LiveHost):
    """Counts how often each path is looked at."""

    looked: ClassVar[Counter[str]] = Counter()

    def look(
        self, wanted: Iterable[Wanted], algorithms: Iterable[HashAlgorithm]
    ) -> Looked:
        asked = list(wanted)
        self.looked.update({each.path for each in asked})
        return super().look(asked, algorithms)


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    with Machine(TBOOT_DA, tmp_path) as machine:
        yield machine


def test_each_file_is_read_once_for_every_entry_that_wants_it(machine: Machine) -> None:
    made = make_boot_directory(machine.root, machine.cache)
    entries = [MORE_ENTRIES.format(nounzip=word) for word in ("", "--nounzip")]
    made.grub_cfg.write_text("".join([made.grub_cfg.read_text(), *entries]))
    machine.boot()
    host = CountingHost(machine.root, lambda bank: pcrs(machine, bank))
    host.looked.clear()
    made.xen.write_bytes(b"an update: no entry explains the running boot wholly")
    look = survey(host)
    assert look.calibration.entry is None, "all entries were tried"
    look.predict(None, hook=False)
    assert set(host.looked.values()) == {1}, host.looked
    assert len(host.looked) == 4


def pcrs(machine: Machine, bank: HashAlgorithm) -> PcrBank:
    return PcrBank(bank, dict(machine.tpm.read_pcrs(bank)))
