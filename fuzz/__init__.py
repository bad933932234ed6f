# SPDX-License-Identifier: GPL-2.0-or-later
"""Hostile bytes for every reader: the targets of `make fuzz`, and what they hold to."""
