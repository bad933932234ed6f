# SPDX-License-Identifier: GPL-2.0-or-later
"""A new generation on a medium that has the one before it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from vault_world import OLD, called, enrolled

from aemseal.flows.provision import free_place
from aemseal.flows.sealing import ToSeal, seal_generation
from aemseal.flows.secret import Secret

pytestmark = pytest.mark.tpm


def test_its_acceptance_never_has_the_name_of_the_one_in_force(tmp_path: Path) -> None:
    """A TPM may begin a new counter at the value that the old one has."""
    with enrolled(tmp_path) as world, world.vault() as vault:
        before = vault.require()
        assert world.opening() == called(OLD)
        new = seal_generation(
            vault,
            replace(before, generation=2, counter=free_place(vault, before.media)),
            (ToSeal(Secret("text", "text", b"another text")),),
            before=before,
        )
        assert before.count == 1
        assert new.count == 2
