# SPDX-License-Identifier: GPL-2.0-or-later
"""aemseal: Anti Evil Maid secrets sealed to the next boot before it happens."""

__version__ = "0.1.0"
