# SPDX-License-Identifier: GPL-2.0-or-later
"""Every machine that there is, by its name."""

from __future__ import annotations

from collections.abc import Mapping

from tpm_sim.models import HashStart, MachineModel, TbootModel, TrenchbootModel
from tpm_sim.quirk_machines import QUIRK_MACHINES
from tpm_sim.tboot_machines import TBOOT_DA, TBOOT_LEGACY, TBOOT_MACHINES
from tpm_sim.trenchboot_machines import TRENCHBOOT_MACHINES, TRENCHBOOT_SKINIT

__all__ = [
    "MACHINES",
    "TBOOT_DA",
    "TBOOT_LEGACY",
    "TRENCHBOOT_SKINIT",
    "HashStart",
    "MachineModel",
    "TbootModel",
    "TrenchbootModel",
]

MACHINES: Mapping[str, MachineModel] = {
    model.name: model
    for model in (*TBOOT_MACHINES, *QUIRK_MACHINES, *TRENCHBOOT_MACHINES)
}
"""Every machine by its name: "tboot-da", "trenchboot-skinit", ..."""
