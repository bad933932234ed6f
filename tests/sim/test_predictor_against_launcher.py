# SPDX-License-Identifier: GPL-2.0-or-later
"""What the predictor says is what the launcher then puts into the TPM.

Random boot directories are booted on both machines by the simulated launcher, which
shares no code with the predictor: GRUB evaluates grub.cfg and decompresses, tboot's own
tool hashes the MLE, a TPM extends. Then the files are overwritten under the running
boot, as an update does, and the next boot is predicted.
"""

from __future__ import annotations

import shutil
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from boot_directories import Directory, Entry, Menu, Module
from boot_strategies import stories
from hypothesis import HealthCheck, Phase, given, reject, seed, settings
from image_strategies import (
    ACMS,
    LCP_V1,
    LCP_V2,
    MICROCODE,
    TBOOT,
    another_tboot,
    cut_tboot,
    gzipped,
    whole_tboot,
)
from tpm_sim.cache import Cache
from tpm_sim.grub import write_environment
from tpm_sim.hashing import hash_mle
from tpm_sim.machine import Machine
from tpm_sim.machines import TBOOT_DA, TBOOT_LEGACY, MachineModel

from aemseal.flows.survey import Survey, survey_against
from aemseal.measure.baseline import Baseline
from aemseal.measure.claims import Calibrated, Prediction
from aemseal.words.digest import Digest, HashAlgorithm, PcrBank, PcrSelection
from aemseal.words.errors import BootFileError, GrubError, SelectionError
from aemseal.world.host import LiveHost

pytestmark = [
    pytest.mark.sim,
    # hypothesis's, where it is about to show a story that failed
    pytest.mark.filterwarnings("ignore:Generating overly large repr"),
    pytest.mark.skipif(
        not Cache.default().is_filled, reason="make setup has not unpacked the packages"
    ),
]

SHA256 = HashAlgorithm.SHA256
MODELS = (TBOOT_DA, TBOOT_LEGACY)
LAUNCHED = (17, 18, 19)

STORIES = 64
"""For each machine, other ones on each; each story is of three boots."""

BOOTS_AT_LEAST = 100
"""Different boot directories for each machine: 200 and more over both."""

OVERWRITTEN_AT_LEAST = 40
"""Updates for each machine after which only the baseline explains the running boot."""


COMPLETE_AT_LEAST = 80
"""Updates for each machine, of 128, after which no PCR is refused."""


class Laptop:
    """A simulated machine, and what the predictor sees of it."""

    def __init__(self, machine: Machine) -> None:
        self.model = machine.model
        self._machine = machine
        self._root = machine.root

    def install(self, directory: Directory) -> None:
        """Replace all of /boot; the machine may be running meanwhile."""
        boot = self._machine.root / "boot"
        shutil.rmtree(boot, ignore_errors=True)
        (boot / "grub").mkdir(parents=True)
        self.write_grub_cfg(directory.grub_cfg)
        write_environment(boot / "grub/grubenv", directory.grubenv)
        for path, content in directory.used_files.items():
            (boot / path[1:]).write_bytes(content)

    def boot(self) -> dict[int, Digest]:
        """Switch the machine off and on; return PCR 17 to 19 after the launch."""
        self._machine.power_off()
        launched = self._machine.boot().launch
        assert launched.is_measured, launched.entry
        return self.values()

    def values(self) -> dict[int, Digest]:
        """The PCRs of the launch now; those that nothing extended left out."""
        bank = self._machine.tpm.read_pcrs(SHA256)
        return {pcr: bank[pcr] for pcr in LAUNCHED if bank[pcr] != SHA256.zero()}

    def write_grub_cfg(self, text: str) -> None:
        """Replace grub.cfg alone."""
        path = self._machine.root / "boot/grub/grub.cfg"
        path.write_text(text, encoding="utf-8")

    def survey(
        self, baseline: Baseline | None = None, wish: PcrSelection | None = None
    ) -> Survey:
        """Survey with all that is extended selected: 19 is not with Xen alone."""
        wish = wish or PcrSelection.of(SHA256, set(self.values()))
        host = LiveHost(self._root, self._pcrs)  # one host, one look at grub.cfg
        return survey_against(host, baseline, wish)

    def _pcrs(self, algorithm: HashAlgorithm) -> PcrBank:
        return PcrBank(algorithm, dict(self._machine.tpm.read_pcrs(algorithm)))


@pytest.fixture(params=MODELS, ids=lambda model: model.name)
def laptop(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Laptop]:
    model: MachineModel = request.param
    with Machine(model, tmp_path) as machine:
        yield Laptop(machine)


_OTHER_LIST = (
    "the firmware's SINIT module was launched, and which of the next boot's files wins "
    "over it cannot be told: "
)
"""These machines launch the firmware's own: another list of modules is refused."""

_OTHER_DATA = ", the launch control policy's data, "
"""What SINIT makes of another file is not simulated: it is refused everywhere."""


def predicted(prediction: Prediction) -> dict[int, Digest]:
    """The PCRs a prediction is sure of: it is of all, if SINIT finds the same files."""
    for each in prediction.refusals:
        is_of_sinit = each.reason.startswith(_OTHER_LIST) or _OTHER_DATA in each.reason
        assert is_of_sinit, each
    assert prediction.is_calibrated
    return dict(prediction.bank(SHA256).values)


def boot_and_explain(laptop: Laptop, directory: Directory) -> Survey:
    """Boot a directory and hold our rules against its own files."""
    laptop.install(directory)
    values = laptop.boot()
    return explained(laptop, values)


def explained(laptop: Laptop, values: dict[int, Digest]) -> Survey:
    """Survey a boot whose files are still there: every measurement is `now`."""
    look = laptop.survey()
    assert {each.calibrated for each in look.calibration.measured} == {Calibrated.NOW}
    assert look.calibration.entry is not None
    again = look.predict(look.calibration.entry.title, hook=False)
    assert again.is_complete
    assert predicted(again) == values
    return look


def update(laptop: Laptop, before: Survey, after: Directory) -> Survey:
    """Overwrite the files of a running boot and look again, with the baseline of it."""
    laptop.install(after)
    look = laptop.survey(before.running)
    assert look.calibration.is_calibrated
    return look


def boot_as_predicted(laptop: Laptop, look: Survey) -> Survey:
    """Boot what was installed under the running boot; `look` predicts it."""
    prediction = predicted(look.predict(None, hook=False))
    values = laptop.boot()
    assert prediction == {pcr: values[pcr] for pcr in prediction}
    return explained(laptop, values)


def test_the_prediction_is_what_the_launcher_measures(laptop: Laptop) -> None:
    booted: set[str] = set()
    overwritten: list[bool] = []
    complete: list[bool] = []

    @seed(MODELS.index(laptop.model))
    @settings(
        max_examples=STORIES,
        deadline=None,
        database=None,
        # A failing story is three launches an attempt: it is shown as it was drawn.
        phases=(Phase.generate,),
        suppress_health_check=(HealthCheck.too_slow, HealthCheck.data_too_large),
    )
    @given(stories())
    def holds(story: tuple[Directory, Directory, Directory]) -> None:
        try:
            tell(story)
        except BootFileError:  # refused by name: nothing is predicted that could hold
            reject()

    def tell(story: tuple[Directory, Directory, Directory]) -> None:
        first, *updates = story
        look = boot_and_explain(laptop, first)
        for directory in updates:
            look = update(laptop, look, directory)
            seen = {each.calibrated for each in look.calibration.measured}
            overwritten.append(Calibrated.BASELINE in seen)
            complete.append(look.predict(None, hook=False).is_complete)
            look = boot_as_predicted(laptop, look)
        booted.update(map(repr, story))

    holds()
    assert len(booted) >= BOOTS_AT_LEAST
    assert overwritten.count(True) >= OVERWRITTEN_AT_LEAST
    assert complete.count(True) >= COMPLETE_AT_LEAST


# Cases that random directories meet too rarely


def directory(
    *modules: tuple[str, bytes, str],
    tboot: bytes | None = None,
    tboot_words: str = " placeholder logging=memory",
    variables: dict[str, str] | None = None,
    menu: Menu | None = None,
) -> Directory:
    """A boot of Xen and a kernel, and of more modules: path, content and words."""
    usual = (("/xen.gz", b"Xen", " placeholder"), ("/vmlinuz", b"kernel", " ro"))
    loaded = (*usual, *modules)
    return Directory(
        files={
            TBOOT: tboot or gzipped(cut_tboot()),
            **{path: content for path, content, _ in loaded},
        },
        entry=Entry(tboot_words, tuple(Module(path, w) for path, _, w in loaded)),
        other=None,
        variables=variables or {},
        menu=menu or Menu("Qubes"),
    )


def with_header_check(content: bytes) -> bytes:
    """Pack with a CRC16 of the header (FHCRC), a flag that GRUB does not know."""
    packed = gzipped(content)
    header = packed[:3] + b"\2" + packed[4:10]
    check = (zlib.crc32(header) & 0xFFFF).to_bytes(2, "little")
    return header + check + packed[10:]


SHORT = ("/short", b"123", "")
OLD_DATA = ("/old", LCP_V1 + bytes(20), "")
NEW_DATA = ("/new", LCP_V2 + bytes(20), " words")

CASES: dict[str, Callable[[], Directory]] = {
    "tboot whole, as the package has it": lambda: directory(
        tboot=gzipped(whole_tboot())
    ),
    "another tboot": lambda: directory(tboot=another_tboot(7)),
    # One byte less than tboot keeps: with 511 lcp2_mlehash hashes another one.
    "a long command line of tboot's": lambda: directory(tboot_words=" " + "x" * 510),
    "no words at all": lambda: directory(("/a", b"a", ""), tboot_words=""),
    "a gzip file that GRUB hands over": lambda: directory(
        ("/a", with_header_check(b"a"), "")
    ),
    "an empty file, packed": lambda: directory(
        ("/a", gzipped(b""), ""), ("/b", b"", "")
    ),
    "packed twice": lambda: directory(("/a", gzipped(gzipped(b"a")), "")),
    "a space that is none": lambda: directory(
        ("/a", b"a", " $args b"), variables={"args": "'\u00a0no\u00a0split'"}
    ),
    "quotes in a variable": lambda: directory(
        ("/a", b"a", ' $args "$args"'), variables={"args": "'\"a  b\" c'"}
    ),
    "empty variables": lambda: directory(
        ("/a", b"a", ' $unset "$unset" a$empty"" $empty'), variables={"empty": "''"}
    ),
    "two files of policy data": lambda: directory(NEW_DATA, ("/b", LCP_V2, "")),
    "old policy data in front of new": lambda: directory(OLD_DATA, NEW_DATA),
    "old policy data behind new": lambda: directory(NEW_DATA, OLD_DATA),
    "policy data before a short module": lambda: directory(NEW_DATA, SHORT),
    "old policy data before a short module": lambda: directory(OLD_DATA, SHORT),
    "policy data behind a short module": lambda: directory(SHORT, NEW_DATA),
    "policy data before a SINIT module": lambda: directory(
        NEW_DATA, ("/sinit.bin", gzipped(ACMS[0]), "")
    ),
    "a SINIT module twice": lambda: directory(
        ("/sinit.bin", ACMS[0], ""), ("/a", b"a", ""), ("/sinit.bin", ACMS[0], " b")
    ),
    "a SINIT module with padding": lambda: directory(("/sinit.bin", ACMS[2], "")),
    "microcode": lambda: directory(("/ucode.bin", MICROCODE, " ucode"), SHORT),
    "saved and next entry": lambda: directory(
        menu=Menu("Q", 2, True, "title", "next_entry")
    ),
}


OTHER_POLICY_DATA = frozenset(
    {
        "two files of policy data",
        "old policy data in front of new",
        "old policy data behind new",
        "policy data behind a short module",
        "policy data before a SINIT module",
    }
)
"""Boots for which tboot takes a file for policy data: what SINIT makes of other data is
not known beforehand, so they are refused, there and back."""


@pytest.mark.parametrize("case", CASES)
def test_a_boot_before_and_after_an_update(laptop: Laptop, case: str) -> None:
    after = CASES[case]()
    listed = [
        (each.path, after.files[each.path], each.words)
        for each in after.entry.modules
        if each.path == "/sinit.bin"
    ]
    first = directory(("/a", b"before", " 'before'"), *listed)
    back = directory(("/a", b"after", ' "after all"'), *listed, tboot=another_tboot(1))
    look = boot_and_explain(laptop, first)
    for following in (after, back):
        look = update(laptop, look, following)
        prediction = look.predict(None, hook=False)
        if case in OTHER_POLICY_DATA:
            reasons = {each.reason for each in prediction.refusals}
            assert all("launch control policy's data" in each for each in reasons)
            assert not prediction.is_complete
            look = boot_and_explain(laptop, following)
        else:
            assert prediction.is_complete
            look = boot_as_predicted(laptop, look)


def test_the_tboot_of_these_tests_is_the_packages(tmp_path: Path) -> None:
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    whole.write_bytes(whole_tboot())
    cut.write_bytes(cut_tboot())
    cache = Cache.default()
    digest = hash_mle(cache, whole, b"words", SHA256)
    assert digest is not None
    assert hash_mle(cache, cut, b"words", SHA256) == digest


def test_a_next_boot_that_is_not_measured_is_refused(laptop: Laptop) -> None:
    boot_and_explain(laptop, directory())
    other = directory(menu=Menu("Qubes", place=1, choice="number"))
    laptop.install(other)
    laptop.write_grub_cfg(other.grub_cfg.replace('default="1"', 'default="0"'))
    with pytest.raises(GrubError, match="'Plain 0'") as refused:
        laptop.survey().predict(None, hook=False)
    assert "'Qubes'" in (refused.value.hint or "")


def test_a_pcr_that_xen_alone_does_not_extend_is_refused(laptop: Laptop) -> None:
    only_xen = directory()
    laptop.install(only_xen.with_modules(only_xen.entry.modules[:1]))
    assert 19 not in laptop.boot()
    wish = PcrSelection(SHA256, (17, 18, 19))
    with pytest.raises(SelectionError, match="PCR 19"):
        laptop.survey(wish=wish)
