# SPDX-License-Identifier: GPL-2.0-or-later
"""One target under atheris: `python -m fuzz.one TARGET [libFuzzer's options, FILES]`.

With FILES each of them is tried once: so an input that broke a target is repeated.
"""

from __future__ import annotations

import resource
import sys

import atheris

with atheris.instrument_imports(include=["aemseal"]):
    from fuzz.contract import MIB, hold
    from fuzz.targets import TARGETS

_MEMORY = 2048 * MIB
"""Address space beyond which an allocation fails: more than any target may take."""


def main() -> None:
    """Run libFuzzer on the target that the command line names."""
    name, *options = sys.argv[1:]
    target = TARGETS[name]
    # What is made once (patterns, tables) is not to count for one of the inputs.
    for seed in target.corpus:
        hold(target, seed, measured=False)
    resource.setrlimit(resource.RLIMIT_DATA, (_MEMORY, _MEMORY))
    atheris.Setup(
        [sys.argv[0], f"-max_len={target.most}", *options],
        lambda data: hold(target, data),
    )
    atheris.Fuzz()


if __name__ == "__main__":
    main()
