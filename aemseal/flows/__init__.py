# SPDX-License-Identifier: GPL-2.0-or-later
"""Layer 4: the use cases, one function each."""
