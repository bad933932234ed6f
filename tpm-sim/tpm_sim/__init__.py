# SPDX-License-Identifier: GPL-2.0-or-later
"""The other machine: a simulated laptop with a TPM, a dynamic launch and a log.

Imports nothing of aemseal but its words (layer 0). Nothing measured here may come
from the predictor: GRUB evaluates grub.cfg, tboot's own tools and coreutils hash.
"""
