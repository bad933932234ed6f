# SPDX-License-Identifier: GPL-2.0-or-later
"""Benchmarks: what an unsealing costs, by ourselves and by others (README.md)."""
