# SPDX-License-Identifier: GPL-2.0-or-later
"""--pcrs and --pcr are read by every verb, and are the vault's where there is one."""

from __future__ import annotations

from pathlib import Path

import pytest
from laptop import Laptop, MakeLaptop, run
from refusals import refuses

pytestmark = [pytest.mark.tpm, pytest.mark.usefixtures("no_traceback")]

VERBS = [
    *("status", "status --check", "log", "predict", "plan", "explain"),
    *("enrol text", "reseal", "cancel", "confirm", "remove"),
    *("recover", "pin", "revoke stick"),
]
OTHERS = ["--pcrs sha256:1", "--pcrs sha1:13,17,18", "--pcr 17"]
NONSENSE = "cannot read the PCR selection 'nonsense'"


@pytest.mark.parametrize("verb", VERBS)
def test_a_selection_that_cannot_be_read_is_a_matter_of_usage(
    lent_da: Laptop, lent_new: Laptop, verb: str
) -> None:
    for laptop in (lent_da, lent_new):
        refuses(laptop, f"{verb} --pcrs nonsense", 2, NONSENSE, "sha256:13,17,18")
        both = "--pcrs and --pcr cannot be given together"
        refuses(laptop, f"--pcr 17 {verb} --pcrs sha256:17", 2, both)
        refuses(laptop, f"{verb} --pcr 99", 4, "there is no PCR 99")


def test_it_is_so_for_a_named_file_too(tmp_path: Path) -> None:
    for words in (f"hash module {__file__}", f"log {__file__}", f"record {tmp_path}/x"):
        ran = run(*words.split(), "--pcrs", "nonsense")
        assert (ran.code, ran.out, ran.error) == (2, "", NONSENSE)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("words", OTHERS)
def test_another_selection_than_the_vault_s_is_refused(
    lent_da: Laptop, verb: str, words: str
) -> None:
    message = "the secret is sealed to sha256:13,17,18, not to sha"
    refuses(lent_da, f"{verb} {words}", 4, message, "leave --pcrs out")


def test_the_vault_s_own_selection_may_be_named(own: MakeLaptop) -> None:
    laptop = own()
    assert laptop.aemseal("confirm").code == 0, "it keeps what the TPM has counted"
    for verb in ("status", "log", "predict", "plan", "explain", "confirm", "reseal"):
        before = laptop.aemseal(verb)
        named = laptop.aemseal(verb, "--pcrs", "sha256:13,17,18")
        assert (named.code, named.out) == (before.code, before.out) == (0, before.out)


def test_a_file_has_to_do_with_no_vault(lent_da: Laptop) -> None:
    words = ("hash", "module", __file__)
    assert lent_da.aemseal(*words, "--pcrs", "sha1:1").code == 0
