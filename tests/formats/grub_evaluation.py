# SPDX-License-Identifier: GPL-2.0-or-later
"""What GRUB would do with a configuration, asked for in one word."""

import pytest

from aemseal.formats.grub_config import GrubEntry, GrubLoad, evaluate
from aemseal.words.errors import GrubError

TBOOT = "multiboot /tboot.gz; module /xen"


class World:
    """Files by path; everything else is missing."""

    def __init__(self, files: dict[str, bytes]) -> None:
        self.files = files

    def exists(self, path: str, /) -> bool:
        return path in self.files or any(f.startswith(f"{path}/") for f in self.files)

    def read(self, path: str, /) -> bytes | None:
        return self.files.get(path)


def entry(config: str, files: dict[str, bytes] | None = None) -> GrubEntry:
    return evaluate(config.encode(), None, World(files or {})).default_entry()


def title(config: str, default: str | None = None) -> str:
    chosen = "" if default is None else f"set default='{default}'\n"
    return entry(chosen + config).path


def refusal(config: str, files: dict[str, bytes] | None = None) -> str:
    with pytest.raises(GrubError) as caught:
        entry(config, files)
    return caught.value.message


def load(config: str, files: dict[str, bytes] | None = None) -> GrubLoad:
    return entry(config, files).loads[0]


def words(script: str, before: str = "", files: dict[str, bytes] | None = None) -> str:
    """Return the words that reach tboot after a script in an entry."""
    body = f'{script}\nmultiboot /tboot.gz "$x"\n'
    return load(f"{before}\nmenuentry a {{\n{body}}}\n", files).arguments[0]
