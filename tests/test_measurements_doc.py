# SPDX-License-Identifier: GPL-2.0-or-later
"""docs/measurements.md says what launches do: its Python gives what a TPM holds."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tpm_sim.cache import Cache
from tpm_sim.eventlog import LogRecord
from tpm_sim.launch import Launch
from tpm_sim.machine import Machine
from tpm_sim.machines import MACHINES

from aemseal.words.digest import HashAlgorithm

PAGE = Path(__file__).parent.parent / "docs/measurements.md"
SHA256 = HashAlgorithm.SHA256

pytestmark = [
    pytest.mark.sim,
    pytest.mark.skipif(
        not Cache.default().is_filled, reason="make setup has not unpacked the packages"
    ),
]


@pytest.fixture(scope="module")
def page() -> Any:
    """What the page's Python defines, run as it stands."""
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.S)
    names: dict[str, Any] = {}
    exec(compile("\n".join(blocks), str(PAGE), "exec"), names)
    return SimpleNamespace(**names)


class Booted:
    """A simulated machine that was booted, with what the page is held against."""

    def __init__(self, machine: Machine, launch: Launch) -> None:
        self.root = machine.root
        self.launch = launch
        bank = machine.tpm.read_pcrs(SHA256)
        self.pcrs = {pcr: digest.value for pcr, digest in bank.items()}

    def file(self, path: str) -> bytes:
        return (self.root / "boot" / path.lstrip("/")).read_bytes()

    @property
    def modules(self) -> list[tuple[bytes, bytes]]:
        assert self.launch.entry is not None
        return [(e.cmdline, self.file(e.path)) for e in self.launch.entry.modules]

    def logged(self, pcr: int, *, before: int = 0x501) -> list[bytes]:
        """The digests of a PCR's records, up to the first of this type."""
        found: list[bytes] = []
        for record in self.launch.records:
            if record.type >= before:
                break
            if record.pcr == pcr:
                found.append(record.digests[SHA256].value)
        return found

    def of_type(self, kind: int) -> LogRecord:
        return next(each for each in self.launch.records if each.type == kind)


@pytest.fixture
def booted(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Booted]:
    with Machine(MACHINES[request.param], tmp_path) as machine:
        machine.install()
        launch = machine.boot().launch
        assert launch.is_measured
        yield Booted(machine, launch)


@pytest.mark.parametrize("booted", ["tboot-da"], indirect=True)
def test_tboot_on_details_and_authorities(page: Any, booted: Booted) -> None:
    assert booted.launch.entry is not None
    kernel = booted.launch.entry.kernel
    mle = page.mle(booted.file(kernel.path), kernel.cmdline)
    assert mle == booted.of_type(0x404).digests[SHA256].value
    found = page.tboot_da(booted.logged(17), booted.logged(18), booted.modules)
    assert found == (booted.pcrs[17], booted.pcrs[18])
    assert booted.pcrs[19] == page.ZERO


@pytest.mark.parametrize("booted", ["tboot-legacy"], indirect=True)
def test_tboot_on_the_legacy_map(page: Any, booted: Booted) -> None:
    xen, *others = (page.module(*each) for each in booted.modules)
    mle = booted.of_type(0x404).digests[SHA256].value
    assert page.replay(mle, xen) == booted.pcrs[18]
    assert page.replay(*others) == booted.pcrs[19]


@pytest.mark.parametrize("booted", ["trenchboot-skinit"], indirect=True)
def test_trenchboot_on_skinit_by_multiboot(page: Any, booted: Booted) -> None:
    assert booted.launch.entry is not None
    files = [content for _, content in booted.modules]
    skl, xen = booted.file("skl.bin"), booted.file(booted.launch.entry.kernel.path)
    assert page.amd_multiboot_17(skl, xen, *files) == booted.pcrs[17]
    information, table = booted.logged(18, before=0x600)
    slrt_size = 0x10000 - int.from_bytes(skl[6:8], "little")
    assert page.amd_table(slrt_size) == table
    assert page.replay(information, table) == booted.pcrs[18]


@pytest.mark.parametrize("booted", ["trenchboot-txt"], indirect=True)
def test_trenchboot_on_intel_txt_by_multiboot(page: Any, booted: Booted) -> None:
    assert booted.launch.entry is not None
    files = [content for _, content in booted.modules]
    image, _ = page.xen_mle(booted.file(booted.launch.entry.kernel.path))
    assert image == booted.of_type(0x404).digests[SHA256].value
    sinit = booted.logged(17, before=0x502)
    modules = map(page.trenchboot_module, files)
    assert page.replay(*sinit, *modules) == booted.pcrs[17]


@pytest.mark.parametrize("booted", ["trenchboot-txt"], indirect=True)
def test_the_sinit_file_that_was_launched(page: Any, booted: Booted) -> None:
    acms = [
        path.read_bytes() for path in sorted((booted.root / "boot").glob("*SINIT*"))
    ]
    start = booted.of_type(0x402).digests[SHA256].value
    key = booted.of_type(0x410).digests[SHA256].value
    launched = [acm for acm in acms if page.hash_start(acm) == start]
    assert len(launched) == 1
    assert page.sinit_key(launched[0]) == key


@pytest.mark.parametrize("booted", ["trenchboot-skinit-uefi"], indirect=True)
def test_trenchboot_by_uefi(page: Any, booted: Booted) -> None:
    records = [each for each in booted.launch.records if each.pcr in (17, 18)]
    strings = [each for each in records if each.data.rstrip(b"\0").endswith(b"string")]
    config = next((booted.root / "boot/efi").rglob("*.cfg")).read_bytes()
    values = [
        line.split(b"=", 1)[1]
        for line in config.splitlines()
        if line.strip().startswith((b"kernel=", b"ramdisk="))
    ]
    assert [each.digests[SHA256].value for each in strings] == [
        page.H(value) for value in values
    ]
    for value, record in zip(values, _behind(records, strings), strict=True):
        name = value.split(b" ")[0].decode()
        content = next((booted.root / "boot/efi").rglob(name)).read_bytes()
        assert record.digests[SHA256].value == page.H(content)


def _behind(records: list[LogRecord], strings: list[LogRecord]) -> list[LogRecord]:
    """The record after each of these."""
    return [records[records.index(each) + 1] for each in strings]


def test_the_command_line_rule_is_grubs(page: Any) -> None:
    words = page.command_line("a b", "c\\'d", "", 'e"')
    assert words == b'"a b" c\\\\\\\'d  e\\"'
