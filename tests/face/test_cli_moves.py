# SPDX-License-Identifier: GPL-2.0-or-later
"""An update, from enrol to confirm and back, by the commands that a person gives.

After every step `status` names the one thing to do next.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from laptop import MODELS, SECRET, Laptop, MakeLaptop, changed
from tpm_sim.cache import Cache
from tpm_sim.machines import TBOOT_DA, MachineModel

import aemseal.world.store
import aemseal.world.tpm
from aemseal.world.seam import Seam

pytestmark = pytest.mark.tpm

NOTHING = "nothing: the next boot will show the secret"
RESEAL = "stage the next boot before you reboot: aemseal reseal"
REBOOT = "reboot: the staged boot will show the secret"
CONFIRM = "keep this boot and retire the one before it: aemseal confirm"
CHECK = "look at the next boot: aemseal status --check"

both_maps = pytest.mark.parametrize("model", MODELS.values(), ids=list(MODELS))


def next_step(laptop: Laptop, *more: str) -> str:
    step: str = laptop.aemseal("status", "--json", *more).report["next_step"]
    return step


def names(laptop: Laptop, group: str) -> list[str]:
    boots = laptop.aemseal("status", "--json").report[group]
    return [each["name"] for each in boots]


def update(laptop: Laptop, number: int) -> None:
    """Install a kernel, as an update does: over the old one."""
    laptop.write("/boot/vmlinuz", b"kernel number %d\n" % number * 99)


@both_maps
def test_the_life_of_a_vault(own: MakeLaptop, model: MachineModel) -> None:
    laptop = own(model, enrolled=False)
    assert next_step(laptop) == "seal a secret: aemseal enrol text"
    assert laptop.enrol().code == 0
    assert next_step(laptop).startswith("reboot: the boot that enrol staged shows")
    assert laptop.shows_the_secret()
    assert next_step(laptop) == CONFIRM
    assert laptop.aemseal("confirm").code == 0
    assert next_step(laptop) == NOTHING

    update(laptop, 2)
    assert laptop.aemseal("status", "--check").code == 3
    assert next_step(laptop) == RESEAL
    assert laptop.aemseal("reseal").code == 4
    assert next_step(laptop) == RESEAL
    assert laptop.aemseal("reseal", "--accept", "kernel").code == 0
    assert next_step(laptop) == REBOOT
    assert laptop.aemseal("status").code == 0

    cancelled = laptop.aemseal("cancel")
    assert (cancelled.code, names(laptop, "staged")) == (0, [])
    assert next_step(laptop) == CHECK
    assert next_step(laptop, "--check") == RESEAL
    assert laptop.aemseal("cancel").out == "nothing to do: nothing is staged\n"

    assert laptop.aemseal("reseal", "--accept", "kernel").code == 0
    assert laptop.shows_the_secret()
    assert next_step(laptop) == CONFIRM

    update(laptop, 3)  # another update, before the first one was confirmed
    assert laptop.aemseal("reseal", "--accept", "kernel").code == 0
    assert len(names(laptop, "staged")) == 2
    assert next_step(laptop) == CONFIRM
    confirmed = laptop.aemseal("confirm", "--json")
    assert confirmed.code == 0
    assert len(confirmed.report["retired"]) == 1
    assert len(names(laptop, "staged")) == 1
    assert next_step(laptop) == REBOOT
    assert laptop.shows_the_secret()
    assert next_step(laptop) == CONFIRM
    assert laptop.aemseal("confirm").code == 0
    assert next_step(laptop) == NOTHING
    assert laptop.aemseal("status", "--check").code == 0


def test_the_dry_run_of_a_reseal_writes_nothing(lent: Laptop) -> None:
    before = lent.kept()
    with changed(lent, "/boot/vmlinuz", b"another kernel"):
        meanwhile = lent.kept()
        dry = lent.aemseal("reseal", "--dry-run", "--json")
        assert lent.kept() == meanwhile
        assert dry.code == 0
        assert (dry.report["staged"], dry.report["next_boot"]) == (None, "unknown")
        assert [each["name"] for each in dry.report["plan"]["changes"]] == ["kernel"]
        assert "would stage: " in lent.aemseal("reseal", "--dry-run").out
    assert lent.kept() == before


def test_new_only_leaves_the_old_boot_out_at_once(own: MakeLaptop) -> None:
    laptop = own()
    before = laptop.path("/boot/vmlinuz").read_bytes()
    update(laptop, 2)
    done = laptop.aemseal("reseal", "--accept", "kernel", "--new-only")
    assert done.code == 0
    report = laptop.aemseal("status", "--json").report
    assert (report["accepted"], report["this_boot"]) == ([], "retired")
    assert laptop.aemseal("reseal").code == 6
    assert laptop.aemseal("cancel").code == 6
    laptop.write("/boot/vmlinuz", before)
    assert not laptop.shows_the_secret()
    update(laptop, 2)
    assert laptop.shows_the_secret()
    assert laptop.aemseal("confirm").code == 0


def test_a_power_cut_between_stage_and_reboot_changes_nothing(own: MakeLaptop) -> None:
    laptop = own()
    update(laptop, 2)
    assert laptop.aemseal("reseal", "--accept", "kernel").code == 0
    laptop.machine.power_cut()
    assert laptop.shows_the_secret()
    assert next_step(laptop) == CONFIRM
    assert laptop.aemseal("confirm").code == 0


class PowerCutError(BaseException):
    pass


@contextmanager
def power_cut(laptop: Laptop, step: str, *, after: bool) -> Iterator[None]:
    """Cut the power at a step; what comes then, comes from the next boot."""

    class Cut(Seam):
        @contextmanager
        def step(self, what: str) -> Iterator[None]:
            if not laptop.machine.tpm.is_on:
                raise PowerCutError(what)
            hit = what == step
            if hit and not after:
                laptop.machine.power_cut()
                raise PowerCutError(what)
            yield
            if hit:
                laptop.machine.power_cut()
                raise PowerCutError(what)

    modules = (aemseal.world.store, aemseal.world.tpm)
    with pytest.MonkeyPatch.context() as patch:
        for module in modules:
            patch.setattr(module, "Seam", Cut)
        with pytest.raises(PowerCutError):
            yield


CUTS = {
    "before the counter counts": ("NV_Increment", False),
    "after the counter counts": ("NV_Increment", True),
}


@pytest.mark.parametrize(("step", "after"), CUTS.values(), ids=list(CUTS))
def test_status_names_a_stage_that_was_cut_short(
    own: MakeLaptop, step: str, after: bool
) -> None:
    laptop = own()
    kernel = laptop.path("/boot/vmlinuz").read_bytes()
    update(laptop, 2)
    with power_cut(laptop, step, after=after):
        laptop.aemseal("reseal", "--accept", "kernel")
    laptop.write("/boot/vmlinuz", kernel)  # the boot accepted before, in any case
    assert laptop.shows_the_secret()
    before = laptop.kept()
    status = laptop.aemseal("status", "--json")
    assert status.code == 4
    assert status.report["problem"] == "stage was cut short before its end"
    assert status.report["next_step"] == "finish it with: aemseal reseal"
    assert status.report["next_boot"] == "unknown"
    assert laptop.kept() == before
    settled = laptop.aemseal("reseal")
    assert settled.code == 0
    word = "finished it" if after else "undid it"
    assert f"aemseal: stage was cut short: {word}\n" in settled.told
    assert laptop.aemseal("status").code == 0
    assert laptop.shows_the_secret()


def test_an_enrolment_that_was_cut_short_is_taken_up_again(own: MakeLaptop) -> None:
    laptop = own(TBOOT_DA, enrolled=False)
    with power_cut(laptop, "NV_DefineSpace", after=True):
        laptop.enrol()
    laptop.reboot()
    status = laptop.aemseal("status", "--json")
    assert status.code == 4
    assert status.report["next_step"] == "finish it with: aemseal enrol text"
    enrolled = laptop.enrol()
    assert enrolled.code == 0
    assert "enrol was cut short: undid it" in enrolled.told
    if not laptop.aemseal("status", "--json").report["accepted"]:
        assert laptop.shows_the_secret()


def test_the_secret_is_nowhere_but_in_the_tpm(
    own: MakeLaptop, cache: Cache, capfd: pytest.CaptureFixture[str]
) -> None:
    """No output and no file has it: whole or as hex, in any 12 bytes of it."""
    laptop = own(enrolled=False)
    ran = [laptop.enrol()]
    assert laptop.shows_the_secret()
    shutil.copyfile(cache.xen_new, laptop.path("/boot/xen.gz"))
    verbs = ("status", "confirm", "status --check", "log", "predict", "plan", "explain")
    for as_json in ((), ("--json",)):
        ran += [laptop.aemseal(*verb.split(), *as_json) for verb in verbs]
    ran += [laptop.aemseal("reseal", "--accept", "xen")]
    ran += [laptop.aemseal("record", str(laptop.root / "recording"))]
    told = "".join(each.out + each.told for each in ran) + "".join(capfd.readouterr())
    secret = SECRET.encode()
    pieces = [secret[at : at + 12] for at in range(len(secret) - 11)]
    files = [path for path in laptop.root.rglob("*") if path.is_file()]
    assert len(files) > 20
    for piece in pieces:
        assert piece.decode() not in told
        assert piece.hex() not in told
    for path in files:
        content = path.read_bytes()
        for piece in pieces:
            assert piece not in content, path
            assert piece.hex().encode() not in content, path


def test_what_was_enrolled_on_an_accepted_boot_is_accepted_at_once(
    own: MakeLaptop,
) -> None:
    """Its state was lost, and the rest of the encrypted root was not."""
    laptop = own()
    laptop.path("/var/lib/aemseal/state.json").unlink()
    enrolled = laptop.enrol("--json")
    assert enrolled.code == 0
    assert enrolled.report["staged"] == []
    assert next_step(laptop) == NOTHING
    assert laptop.shows_the_secret()
