# SPDX-License-Identifier: GPL-2.0-or-later
"""Layer 5: the command line: arguments in, words and exit codes out."""
