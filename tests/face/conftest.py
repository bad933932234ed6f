# SPDX-License-Identifier: GPL-2.0-or-later
"""Laptops for the tests of the command line.

`lent` is one machine for many tests: it runs an accepted boot, and every test hands
it back as it was (that is asserted). `own` makes one for a test to do with as it will.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from laptop import MODELS, Laptop, MakeLaptop, Prepared
from tpm_sim.boot_directory import make_boot_directory
from tpm_sim.cache import Cache
from tpm_sim.machine import Machine
from tpm_sim.machines import TBOOT_DA, MachineModel


class Workshop:
    """Prepares each kind of laptop once: a new one, and an enrolled one."""

    def __init__(self, cache: Cache, folder: Path) -> None:
        self.cache = cache
        self.folder = folder
        self.kept: dict[tuple[str, bool], Prepared] = {}

    def prepared(self, model: MachineModel, *, enrolled: bool) -> Prepared:
        key = (model.name, enrolled)
        if key not in self.kept:
            self.kept[key] = self._prepare(model, enrolled=enrolled)
        return self.kept[key]

    def _prepare(self, model: MachineModel, *, enrolled: bool) -> Prepared:
        folder = self.folder / f"{model.name}-{'enrolled' if enrolled else 'new'}"
        if not enrolled:
            with Machine(model, self.folder / f"{model.name}-first") as machine:
                kernel = self.folder / "vmlinuz"
                kernel.write_bytes(b"dom0's kernel, as far as a launch can tell\n" * 99)
                make_boot_directory(machine.root, self.cache, kernel=kernel)
                machine.boot()
                return Prepared.of(Laptop(machine), folder)
        new = self.prepared(model, enrolled=False)
        laptop = new.copy(self.folder / f"{model.name}-enrolling")
        with laptop.machine:
            laptop.reboot()
            assert laptop.enrol().code == 0
            assert laptop.shows_the_secret()
            assert laptop.aemseal("confirm").code == 0
            return Prepared.of(laptop, folder)


@pytest.fixture(scope="session")
def workshop(
    cache: Cache, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Workshop]:
    if shutil.which("swtpm") is None:
        pytest.skip("no swtpm: run make setup")
    folder = tmp_path_factory.mktemp("workshop")
    yield Workshop(cache, folder)
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def own(workshop: Workshop, tmp_path: Path) -> Iterator[MakeLaptop]:
    """Make a laptop that has booted, for one test."""
    with ExitStack() as stack:

        def make(
            model: MachineModel = TBOOT_DA,
            *,
            enrolled: bool = True,
            unmeasured: bool = False,
        ) -> Laptop:
            prepared = workshop.prepared(model, enrolled=enrolled)
            laptop = prepared.copy(tmp_path / f"laptop-{model.name}")
            stack.callback(shutil.rmtree, laptop.root, ignore_errors=True)
            stack.enter_context(laptop.machine)
            laptop.reboot(unmeasured=unmeasured)
            return laptop

        yield make


@pytest.fixture(scope="module")
def lenders(
    workshop: Workshop, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[MachineModel, bool], Laptop]]:
    """One booted laptop a model and module, new or enrolled."""
    kept: dict[tuple[str, bool], Laptop] = {}
    with ExitStack() as stack:

        def lend(model: MachineModel, enrolled: bool) -> Laptop:
            key = (model.name, enrolled)
            if key not in kept:
                prepared = workshop.prepared(model, enrolled=enrolled)
                kept[key] = prepared.copy(tmp_path_factory.mktemp("lent"))
                stack.enter_context(kept[key].machine)
                kept[key].reboot()
            return kept[key]

        yield lend
        for laptop in kept.values():
            shutil.rmtree(laptop.root, ignore_errors=True)


@pytest.fixture(params=list(MODELS))
def lent(
    request: pytest.FixtureRequest,
    lenders: Callable[[MachineModel, bool], Laptop],
) -> Iterator[Laptop]:
    """An enrolled laptop of each model, running an accepted boot."""
    yield from _handed_back(lenders(MODELS[request.param], True))


@pytest.fixture
def lent_da(lenders: Callable[[MachineModel, bool], Laptop]) -> Iterator[Laptop]:
    """An enrolled laptop as they are in the field."""
    yield from _handed_back(lenders(TBOOT_DA, True))


@pytest.fixture
def lent_new(lenders: Callable[[MachineModel, bool], Laptop]) -> Iterator[Laptop]:
    """A laptop on which nothing was enrolled yet."""
    yield from _handed_back(lenders(TBOOT_DA, False))


@pytest.fixture
def no_traceback(capfd: pytest.CaptureFixture[str]) -> Iterator[None]:
    """Whatever a test gives the command line, Python does not show through."""
    yield
    captured = capfd.readouterr()
    assert "Traceback" not in captured.out + captured.err


def _handed_back(laptop: Laptop) -> Iterator[Laptop]:
    before = laptop.kept()
    yield laptop
    assert laptop.kept() == before, "a lent laptop is handed back as it was"
