# SPDX-License-Identifier: GPL-2.0-or-later
"""Layer 1: bytes to values and back; no files, no clocks, no randomness."""
