# SPDX-License-Identifier: GPL-2.0-or-later
"""Layer 3: every effect on disk, TPM and subprocesses."""
