# SPDX-License-Identifier: GPL-2.0-or-later
"""Layer 2: what a boot measures and what the next one will; pure."""
