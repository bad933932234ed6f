# SPDX-License-Identifier: GPL-2.0-or-later
"""The one error of the simulated machine."""


class SimulationError(Exception):
    """The simulated machine cannot do this: a tool failed, or a file is not there."""
