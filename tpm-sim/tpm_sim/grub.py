# SPDX-License-Identifier: GPL-2.0-or-later
"""What GRUB loads: grub.cfg is evaluated by GRUB itself, as the program grub-emu.

grub-emu runs a copy of grub.cfg, shows no menu (timeout 0), chooses the default entry
by its own rules and runs it. The loader commands, which grub-emu lacks, are functions
of the copy that print their arguments; `search` and `save_env` would need disks and
are renamed to such functions where they stand as commands.

Limits: grub.cfg is UTF-8 without control characters; a tab inside a quoted word is
seen as spaces; a path without a device that GRUB tests or reads (`-f /x`, `source
/x`) is not found, one below $prefix is.
Sources: grub-core/normal/menu.c of GRUB 2.06 (default, submenus, timeout),
grub-core/lib/cmdline.c (grub_create_loader_cmdline), lib/envblk.c.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from tpm_sim.errors import SimulationError
from tpm_sim.grub_emu import run_script

ROOT_DEVICE = "hd0,msdos1"
"""What `search` finds: the boot file system of a laptop that boots by BIOS."""

CONFIG_PLACES = ("boot/grub2/grub.cfg", "boot/grub/grub.cfg")

_LOADERS = (
    *("multiboot", "multiboot2", "module", "module2"),
    *("linux", "linux16", "linuxefi", "initrd", "initrd16", "initrdefi"),
    *("chainloader", "xen_hypervisor", "xen_module"),
    *("slaunch", "slaunch_module", "slaunch_state"),
)

_AFTER_DEFAULT = "Failed to boot both default"
"""GRUB prints it when an entry that it chose by itself comes back: nothing is ever
booted here, so that is the end of every run."""

_PROMPT = "grub> "
"""GRUB asks for commands when grub.cfg holds no entry."""

_COMMAND = re.compile(
    r"((?:^|[;{}\n]|\b(?:then|else|do|if|elif|while|until)\s)[ \t]*)(search|save_env)"
    r"(?=\s)"
)

_PROLOGUE = """
set root='{root}'
set prefix='(host){prefix}'
function sim_load {{
  echo "{mark} load"
  for sim_word in "$@"; do echo "{mark} word |$sim_word|{mark}"; done
}}
{loaders}
function sim_search {{
  sim_target=root
  for sim_word in "$@"; do
    if regexp --set=1:sim_name '^x--set=(.+)$' "x$sim_word"; then
      sim_target="$sim_name"
    fi
  done
  set $sim_target='{root}'
}}
function sim_save_env {{
  for sim_word in "$@"; do
    eval "sim_value=\\"\\$$sim_word\\""
    echo "{mark} save |$sim_word=$sim_value|{mark}"
  done
}}
"""

_EPILOGUE = """
unset fallback
unset timeout_style
set timeout=0
"""


@dataclass(frozen=True, slots=True)
class LoadCommand:
    """One loader command that the booted entry ran, with its arguments as parsed."""

    name: str
    arguments: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class GrubRun:
    """What GRUB did: the titles it went through, what it loaded and what it saved."""

    titles: tuple[str, ...]
    loads: tuple[LoadCommand, ...]
    saved: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class LoadedFile:
    """A file that GRUB loads for a multiboot image.

    `path` is GRUB's, without a device. `cmdline` is what GRUB hands over with it.
    """

    path: str
    cmdline: bytes
    decompress: bool


@dataclass(frozen=True, slots=True)
class LoadedEntry:
    """What an entry starts: the kernel and its modules, in order.

    `is_efi` is whether the kernel is a UEFI program, which loads its modules itself.
    With `is_launch` GRUB does a dynamic launch (`slaunch` came before the kernel);
    `launch_modules` are the files that it may do it with.
    """

    title: str
    kernel: LoadedFile
    modules: tuple[LoadedFile, ...]
    is_efi: bool = False
    is_launch: bool = False
    launch_modules: tuple[LoadedFile, ...] = ()


def find_config(root: Path) -> Path:
    """Return the grub.cfg of a machine; SimulationError when it has none."""
    for place in CONFIG_PLACES:
        if (root / place).is_file():
            return root / place
    raise SimulationError(f"there is no grub.cfg in {root / 'boot'}")


def run_grub(program: Path, config: Path) -> GrubRun:
    """Let GRUB run a grub.cfg up to the point where it would boot."""
    mark = "sim" + secrets.token_hex(8)
    text = config.read_text(encoding="utf-8")
    if re.search(r"[\x00-\x08\x0b-\x1f\x7f]", text):
        raise SimulationError(f"{config} holds control characters")
    prologue = _PROLOGUE.format(
        mark=mark,
        root=ROOT_DEVICE,
        prefix=config.resolve().parent,
        loaders="\n".join(
            f'function {name} {{ sim_load {name} "$@"; }}' for name in _LOADERS
        ),
    )
    copy = _COMMAND.sub(r"\1sim_\2", text)
    screen = run_script(program, prologue + copy + _EPILOGUE, _AFTER_DEFAULT, _PROMPT)
    return _read_screen(screen, mark)


def entry_of(run: GrubRun) -> LoadedEntry | None:
    """Return the entry that a run loaded, None when nothing of it is ever measured.

    That is any but a multiboot entry, or a UEFI program behind `slaunch`.
    """
    entry: LoadedEntry | None = None
    is_launch = False
    launch_modules: list[LoadedFile] = []
    for load in run.loads:
        if load.name == "slaunch":
            is_launch = True
        elif load.name == "slaunch_module":
            # GRUB refuses it before slaunch, and goes on with the entry.
            launch_modules += [_loaded_file(load)] if is_launch else []
        elif load.name != "slaunch_state":
            entry = _with_load(entry, load, is_launch)
    if entry is None or (entry.is_efi and not entry.is_launch):
        return None
    title = ">".join(run.titles)
    return replace(entry, title=title, launch_modules=tuple(launch_modules))


def _with_load(
    entry: LoadedEntry | None, load: LoadCommand, is_launch: bool
) -> LoadedEntry | None:
    """Return what the entry is after one more loader command."""
    if load.name in ("multiboot", "multiboot2"):
        return LoadedEntry("", _loaded_file(load), (), is_launch=is_launch)
    if load.name == "chainloader":
        program = _loaded_file(load, is_efi=True)
        return LoadedEntry("", program, (), is_efi=True, is_launch=is_launch)
    if load.name in ("module", "module2"):
        if entry is None:
            return None
        return replace(entry, modules=(*entry.modules, _loaded_file(load)))
    return None


def loader_cmdline(arguments: Sequence[str]) -> bytes:
    """Join arguments as GRUB does for the image that it loads.

    One space between them; backslash and both quotes get a backslash; an argument
    with a space in it is wrapped in double quotes; an empty one leaves nothing.
    """
    words = []
    for argument in arguments:
        word = "".join("\\" + sign if sign in "\\'\"" else sign for sign in argument)
        words.append(f'"{word}"' if " " in argument else word)
    return " ".join(words).encode()


def write_saved(config: Path, saved: Sequence[tuple[str, str]]) -> None:
    """Write variables into the grubenv beside grub.cfg, as `save_env` does."""
    block = config.parent / "grubenv"
    if not saved or not block.is_file():
        return
    lines = block.read_bytes().split(b"\n")[1:]
    values = dict(line.split(b"=", 1) for line in lines if b"=" in line)
    for name, value in saved:
        values[name.encode()] = value.encode()
    write_environment(block, values)


def write_environment(block: Path, values: dict[bytes, bytes]) -> None:
    """Write a grubenv: 1,024 bytes, padded with number signs."""
    text = b"# GRUB Environment Block\n"
    text += b"".join(name + b"=" + value + b"\n" for name, value in values.items())
    if len(text) > 1024:
        raise SimulationError("GRUB's environment block is full")
    block.write_bytes(text.ljust(1024, b"#"))


def _loaded_file(load: LoadCommand, *, is_efi: bool = False) -> LoadedFile:
    """Return the file of a command; a UEFI program gets its words as they are."""
    words = list(load.arguments)
    decompress = not is_efi
    while words and words[0].startswith("--"):
        if words.pop(0) == "--nounzip":
            decompress = False
    if not words or not words[0]:
        raise SimulationError(f"{load.name} names no file")
    path = re.sub(r"^\([^)]*\)", "", words[0])
    cmdline = " ".join(words[1:]).encode() if is_efi else loader_cmdline(words[1:])
    return LoadedFile(path, cmdline, decompress)


def _read_screen(output: str, mark: str) -> GrubRun:
    titles: list[str] = []
    loads: list[list[str]] = []
    saved: list[tuple[str, str]] = []
    pattern = re.compile(
        rf"Booting `(?P<title>.*?)'\n|{mark} (?P<load>load)\n|"
        rf"{mark} word \|(?P<word>.*?)\|{mark}\n|"
        rf"{mark} save \|(?P<name>.*?)=(?P<value>.*?)\|{mark}\n",
        re.DOTALL,
    )
    for found in pattern.finditer(output):
        if found["title"] is not None:
            titles.append(found["title"])
        elif found["load"]:
            loads.append([])
        elif found["word"] is not None:
            loads[-1].append(found["word"])
        else:
            saved.append((found["name"], found["value"]))
    if not titles:
        raise SimulationError(f"GRUB found no entry to boot: {output[-300:]!r}")
    return GrubRun(
        tuple(titles),
        tuple(LoadCommand(words[0], tuple(words[1:])) for words in loads),
        tuple(saved),
    )
