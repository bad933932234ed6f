# SPDX-License-Identifier: GPL-2.0-or-later
"""The storage keys that other tools make are found again by these templates."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator

import pytest
from tpm_sim.swtpm import Swtpm
from unsealer import connected

from aemseal.formats.srk_templates import STORAGE_TEMPLATES, StorageTemplate
from aemseal.formats.tpm_policy import name_of

# isort: split
# tpm2-pytss only after unsealer, which quiets what 2.3 warns of on import
from tpm2_pytss import ESYS_TR, TPM2B_PUBLIC, TPM2B_SENSITIVE_CREATE, TPMT_PUBLIC

BY_NAME = {each.name: each for each in STORAGE_TEMPLATES}
NO_DA = 1 << 10
ATTRIBUTES = (
    "fixedtpm|fixedparent|sensitivedataorigin|userwithauth|noda|restricted|decrypt"
)


@pytest.fixture(scope="module")
def chip() -> Iterator[Swtpm]:
    with Swtpm() as chip:
        chip.power_on()
        yield chip


def derived(chip: Swtpm, template: StorageTemplate) -> tuple[bytes, bytes]:
    """CreatePrimary from a template; returns the public area and the TPM's Name."""
    area, _ = TPMT_PUBLIC.unmarshal(template.public)
    with connected(chip.tcti) as esapi:
        handle, public, *_ = esapi.create_primary(
            in_sensitive=TPM2B_SENSITIVE_CREATE(),
            in_public=TPM2B_PUBLIC(publicArea=area),
            primary_handle=ESYS_TR.OWNER,
        )
        name = bytes(esapi.tr_get_name(handle=handle))
        esapi.flush_context(flush_handle=handle)
    return bytes(public.publicArea.marshal()), name


def tool(chip: Swtpm, *words: str) -> None:
    subprocess.run(
        words,
        check=True,
        env={**os.environ, "TPM2TOOLS_TCTI": chip.tcti, "TSS2_LOG": "all+none"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        timeout=60,
    )


@pytest.mark.tpm
@pytest.mark.parametrize("template", STORAGE_TEMPLATES, ids=lambda each: each.name)
def test_a_key_made_from_a_template_matches_it_and_has_our_name(
    chip: Swtpm, template: StorageTemplate
) -> None:
    public, name = derived(chip, template)
    assert template.could_have_made(public)
    assert name_of(public) == name


@pytest.mark.tpm
@pytest.mark.parametrize("template", STORAGE_TEMPLATES, ids=lambda each: each.name)
def test_the_same_template_gives_the_same_key_and_each_template_its_own(
    chip: Swtpm, template: StorageTemplate
) -> None:
    name = derived(chip, template)[1]
    others = [derived(chip, each)[1] for each in STORAGE_TEMPLATES if each != template]
    assert derived(chip, template)[1] == name
    assert name not in others


@pytest.mark.tpm
@pytest.mark.parametrize(
    ("words", "name"),
    [
        (("-a", ATTRIBUTES), "RSA 2048, noDA"),
        (("-G", "ecc", "-a", ATTRIBUTES), "ECC P-256, noDA"),
        (("-a", ATTRIBUTES, "-p", "a password"), "RSA 2048, noDA"),
    ],
)
def test_what_tpm2_createprimary_makes_with_noda_is_known(
    chip: Swtpm, words: tuple[str, ...], name: str
) -> None:
    tool(chip, "tpm2_createprimary", "-C", "o", *words)
    transient = 0x80000000
    with connected(chip.tcti) as esapi:
        handle = esapi.tr_from_tpmpublic(handle=transient)
        public, found, _ = esapi.read_public(object_handle=handle)
        esapi.flush_context(flush_handle=handle)
    area = bytes(public.publicArea.marshal())
    assert BY_NAME[name].could_have_made(area)
    assert derived(chip, BY_NAME[name])[1] == bytes(found)


def attributes_of(template: StorageTemplate) -> int:
    return int.from_bytes(template.public[4:8], "big")


@pytest.mark.parametrize("template", STORAGE_TEMPLATES, ids=lambda each: each.name)
def test_every_template_is_a_key_that_never_left_its_tpm(
    template: StorageTemplate,
) -> None:
    # fixedTPM, fixedParent, sensitiveDataOrigin, restricted, decrypt, and not sign
    wanted = 1 << 1 | 1 << 4 | 1 << 5 | 1 << 16 | 1 << 17
    attributes = attributes_of(template)
    assert attributes & (wanted | 1 << 18) == wanted


@pytest.mark.parametrize("template", STORAGE_TEMPLATES, ids=lambda each: each.name)
def test_no_use_of_any_key_counts_towards_lockout(template: StorageTemplate) -> None:
    assert attributes_of(template) & NO_DA


@pytest.mark.parametrize("template", STORAGE_TEMPLATES, ids=lambda each: each.name)
def test_a_changed_public_area_matches_nothing(template: StorageTemplate) -> None:
    for at in range(22):  # all but the unique field (and half of RSA's exponent)
        changed = bytearray(template.public)
        changed[at] ^= 0x80
        assert not template.could_have_made(bytes(changed))


def test_a_public_area_cut_short_matches_nothing() -> None:
    for template in STORAGE_TEMPLATES:
        assert not template.could_have_made(b"")
        assert not template.could_have_made(template.public[:10])
