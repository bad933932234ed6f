# SPDX-License-Identifier: GPL-2.0-or-later
"""Options, selections, and recordings in the machine's place."""

from __future__ import annotations

from pathlib import Path

import pytest
from contract import check
from laptop import KERNEL, READING, Laptop, MakeLaptop, changed, run

pytestmark = pytest.mark.tpm

VAULT_VERBS = (
    *("enrol text", "reseal", "cancel", "confirm", "remove"),
    *("recover", "pin", "revoke stick"),
)


# --- options ---


@pytest.mark.parametrize("verb", READING)
def test_options_stand_before_the_verb_or_behind_it(lent_da: Laptop, verb: str) -> None:
    common = ("--json", "--root", str(lent_da.root), "--tcti", lent_da.machine.tcti)
    before, behind = run(*common, verb), run(verb, *common)
    assert (before.code, before.told) == (0, "")
    assert before == behind


def test_the_tpm_is_that_of_tcti_else_of_the_environment(lent_da: Laptop) -> None:
    tcti, nowhere = lent_da.machine.tcti, "device:/dev/no-such-tpm"
    root = ("log", "--json", "--root", str(lent_da.root))
    named = run(*root, "--tcti", tcti, environment={"TPM2TOOLS_TCTI": nowhere})
    assert named.code == 0
    assert run(*root, environment={"TPM2TOOLS_TCTI": tcti}) == named
    absent = run(*root, "--tcti", nowhere, environment={"TPM2TOOLS_TCTI": tcti})
    assert absent.report["message"] == f"no TPM answers at {nowhere}"


def test_an_entry_is_chosen_by_its_title(lent_da: Laptop) -> None:
    config = lent_da.path("/boot/grub/grub.cfg").read_text()
    menu = config[config.index("menuentry 'AEM") : config.index("menuentry 'Qubes")]
    other = menu.replace("'AEM Qubes", "'Rescue Qubes").replace("rhgb", "single")
    with changed(lent_da, "/boot/grub/grub.cfg", (config + other).encode()):
        usual = lent_da.aemseal("predict", "--json")
        title = "Rescue Qubes, with Xen hypervisor"
        rescue = lent_da.aemseal("predict", "--json", "--entry", title)
        planned = lent_da.aemseal("--entry", title, "plan", "--json")
        dry = lent_da.aemseal("reseal", "--dry-run", "--json", "--entry", title)
        status = lent_da.aemseal("status", "--entry", title)
    assert usual.report["entry"] == "AEM Qubes, with Xen hypervisor"
    assert rescue.report["entry"] == title
    assert rescue.report["next"] != usual.report["next"]
    assert [each["role"] for each in planned.report["changes"]] == ["kernel"]
    assert dry.report["plan"] == planned.report
    assert status.code == 0


def test_a_selection_is_read_in_both_forms(lent_new: Laptop) -> None:
    def selected(*words: str) -> str:
        found: str = lent_new.aemseal("predict", "--json", *words).report["selection"]
        return found

    assert selected() == "sha256:17,18"
    assert selected("--pcrs", "sha256:17") == "sha256:17"
    assert selected("--pcrs", "--pcr 17 --pcr 18") == "sha256:17,18"
    assert selected("--pcr", "18", "--pcr", "17") == "sha256:17,18"


def test_the_selection_of_one_machine_is_not_anothers(
    lent_new: Laptop, own: MakeLaptop
) -> None:
    """In one process: with the hook, PCR 13 is selected too; without it, never."""
    hooked = own()
    assert hooked.aemseal("remove").code == 0
    with_hook = hooked.aemseal("predict", "--json").report["selection"]
    without = lent_new.aemseal("predict", "--json").report["selection"]
    assert (with_hook, without) == ("sha256:13,17,18", "sha256:17,18")


def test_no_pcr_is_lost_between_the_verbs_two_sides(lent_new: Laptop) -> None:
    ran = lent_new.aemseal("--pcr", "18", "predict", "--pcr", "17", "--json")
    assert ran.report["selection"] == "sha256:17,18"
    for words in (("--pcrs", "sha256:17"), ("--pcr", "17")):
        other = "--pcr=17" if words[0] == "--pcrs" else "--pcrs=sha256:17"
        refused = lent_new.aemseal(*words, "predict", other)
        assert (refused.code, refused.out) == (2, "")
        assert refused.error == "--pcrs and --pcr cannot be given together"


def test_the_selection_comes_from_the_configuration_else_from_aems(
    lent_new: Laptop,
) -> None:
    aem = lent_new.write("/etc/anti-evil-maid.conf", 'SEAL="--pcr 17"\n')
    config = lent_new.path("/etc/aemseal.yaml")
    settled = config.read_bytes()
    try:
        of_aem = lent_new.aemseal("predict", "--json").report["selection"]
        config.write_bytes(settled + b'pcrs: "sha256:17,18"\n')
        of_config = lent_new.aemseal("predict", "--json").report["selection"]
    finally:
        config.write_bytes(settled)
        aem.unlink()
    assert (of_aem, of_config) == ("sha256:17", "sha256:17,18")


def test_what_is_sealed_decides_the_selection(lent_da: Laptop) -> None:
    refused = lent_da.aemseal("predict", "--pcrs", "sha256:13,17")
    assert refused.code == 4
    assert refused.error == (
        "the secret is sealed to sha256:13,17,18, not to sha256:13,17"
    )
    same = lent_da.aemseal("predict", "--pcrs", "sha256:13,17,18")
    assert same.code == 0


# --- recordings ---


@pytest.fixture
def recorded(lent: Laptop, tmp_path: Path) -> tuple[Laptop, str]:
    folder = tmp_path / "recording"
    ran = lent.aemseal("record", str(folder), "--json")
    assert ran.code == 0
    assert ran.report["schema"] == "aemseal.record/1"
    assert sorted(ran.report["files"]) == sorted(p.name for p in folder.iterdir())
    return lent, str(folder)


def test_a_recording_tells_what_the_machine_told(recorded: tuple[Laptop, str]) -> None:
    laptop, folder = recorded
    for verb in READING:
        for form in (("--json",), ()):
            live = laptop.aemseal(verb, *form)
            assert run(verb, *form, "--host", folder) == live
            assert run("--host", folder, *form, verb) == live
    status = run("status", "--check", "--host", folder)
    assert status.code == 0


def test_a_recording_of_a_changed_machine_tells_the_change(
    lent_da: Laptop, tmp_path: Path
) -> None:
    folder = str(tmp_path / "recording")
    with changed(lent_da, KERNEL, b"another kernel"):
        assert lent_da.aemseal("record", folder).code == 0
        live = lent_da.aemseal("plan", "--json")
    assert run("plan", "--json", "--host", folder) == live
    assert live.code == 3


@pytest.mark.parametrize("verb", VAULT_VERBS)
def test_nothing_is_sealed_to_a_recording(
    recorded: tuple[Laptop, str], verb: str
) -> None:
    _, folder = recorded
    refused = run(*verb.split(), "--host", folder, "--json", stdin=b"secret")
    check(refused.report, "error")
    assert refused.code == 2
    assert refused.error == "--host: a recording cannot be sealed to"


def test_what_looks_like_a_secret_in_a_recording_is_warned_of(
    lent_da: Laptop, tmp_path: Path
) -> None:
    config = lent_da.path("/boot/grub/grub.cfg").read_text()
    worded = config.replace("rhgb quiet", "rhgb rd.iscsi.password=hunter2")
    with changed(lent_da, "/boot/grub/grub.cfg", worded.encode()):
        ran = lent_da.aemseal("record", str(tmp_path / "recording"))
    assert ran.code == 0
    assert "aemseal: look before you pass this on: /boot/grub/grub.cfg" in ran.told
    assert "hunter2" not in ran.told + ran.out
