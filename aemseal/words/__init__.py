# SPDX-License-Identifier: GPL-2.0-or-later
"""Layer 0: the words every other layer speaks. Imports nothing of ours."""
