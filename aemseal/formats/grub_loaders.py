# SPDX-License-Identifier: GPL-2.0-or-later
"""The commands that load kernels and modules (GRUB 2.06, loader/multiboot.c).

`multiboot` drops ``--quirk-bad-kludge`` and ``--quirk-modules-after-kernel`` in
front of the file name (`multiboot2` knows neither), `module` and `module2` drop one
``--nounzip`` there. All then drop the file name; the rest is the command line.

TrenchBoot's GRUB (2.06 to 2.13, loader/slaunch/slaunch.c; loader/i386/slaunch.c before
that) adds `slaunch`, which has what is loaded after it launched by TXT or SKINIT,
`slaunch_module FILE`, a SINIT ACM or the Secure Kernel Loader, and `slaunch_state`,
which only shows text. Builds of 2019 and 2020 took `slaunch txt` or `slaunch skinit`
(loader/i386/slaunch.c); later ones ask the processor and ignore arguments.
"""

from __future__ import annotations

from collections.abc import Sequence

from aemseal.formats.grub_lexer import Place
from aemseal.formats.grub_machine import (
    BAD_ARGUMENT,
    BootedError,
    Call,
    Command,
    Machine,
    Status,
)
from aemseal.formats.grub_state import GrubLoad, State
from aemseal.formats.grub_words import is_unknown, readable

MULTIBOOT = {"multiboot": "module", "multiboot2": "module2"}
"""A kernel's command and its modules'."""

SLAUNCH = "slaunch"
SLAUNCH_MODULE = "slaunch_module"
CHAINLOADER = "chainloader"

TRENCHBOOT = frozenset({SLAUNCH, SLAUNCH_MODULE})
"""What belongs to no kernel: another kernel leaves it in place."""

SLAUNCHED = frozenset({"multiboot2", CHAINLOADER})
"""The commands whose kernel `slaunch` has GRUB launch."""

_QUIRKS = ("--quirk-bad-kludge", "--quirk-modules-after-kernel")
_FILTERS = frozenset({"gzio", "xzio", "lzopio"})

_KERNELS = """
appleloader freedos kfreebsd knetbsd kopenbsd legacy_kernel linux
linux16 linuxefi ntldr plan9 pxechainloader truecrypt xnu_kernel xnu_kernel64
xnu_resume
"""
_OTHER_KERNELS = frozenset(_KERNELS.split())

_MODULES = """
initrd initrd16 initrdefi kfreebsd_loadenv kfreebsd_module kfreebsd_module_elf
knetbsd_module knetbsd_module_elf kopenbsd_ramdisk legacy_initrd legacy_initrd_nounzip
xnu_devprop_load xnu_kext xnu_kextdir xnu_mkext xnu_ramdisk xnu_splash
"""
_OTHER_MODULES = frozenset(_MODULES.split())


def _kernel(call: Call) -> Status:
    arguments = list(call.arguments)
    while call.name == "multiboot" and arguments and arguments[0] in _QUIRKS:
        del arguments[0]
    if not arguments:
        return BAD_ARGUMENT
    _start(call.machine.state, _multiboot_load(call, arguments, nounzip=False))
    return 0


def _module(call: Call) -> Status:
    arguments = list(call.arguments)
    nounzip = arguments[:1] == ["--nounzip"]
    if nounzip:
        del arguments[0]
    if not arguments:
        return BAD_ARGUMENT
    loaded = call.machine.state.loads
    if not any(MULTIBOOT.get(load.command) == call.name for load in loaded):
        raise call.place.refuse(f"{call.name!r} follows no kernel of its kind")
    loaded.append(_multiboot_load(call, arguments, nounzip=nounzip))
    return 0


def _multiboot_load(call: Call, arguments: list[str], *, nounzip: bool) -> GrubLoad:
    for argument in arguments:
        _refuse_hex_escape(call.place, argument)
    return _load(call, arguments, nounzip=nounzip)


def _load(call: Call, arguments: Sequence[str], *, nounzip: bool) -> GrubLoad:
    """Return the file that the first argument names, with the others."""
    machine = call.machine
    device, path = split_device(machine, call.place, arguments[0])
    for argument in (path, *arguments[1:]):
        machine.require_known(call.place, argument)
    if not path.startswith("/"):
        raise call.place.refuse(f"{readable(path)!r} is no absolute path")
    return GrubLoad(
        call.name,
        readable(path),
        _device_shown(machine, device),
        tuple(readable(argument) for argument in arguments[1:]),
        nounzip,
        call.place.line,
        frozenset({"gzio"} | (machine.state.modules & _FILTERS)),
    )


def _device_shown(machine: Machine, device: str) -> str:
    found = len(device) == 1 and is_unknown(device)
    return machine.unknowns.reason(device) if found else machine.unknowns.shown(device)


def split_device(machine: Machine, place: Place, name: str) -> tuple[str, str]:
    """Return the device (else $root) and the path of "(device)/path"."""
    if not name.startswith("("):
        return machine.variable("root"), name
    device, closes, path = name[1:].partition(")")
    if not closes:
        raise place.refuse("the device of a file name is never closed")
    return device, path


def _refuse_hex_escape(place: Place, argument: str) -> None:
    r"""Refuse \xHH: Red Hat's GRUB passes it through where others double it."""
    digits = "0123456789abcdefABCDEF"
    for piece in argument.split("\\x")[1:]:
        if len(piece) > 1 and piece[0] in digits and piece[1] in digits:
            raise place.refuse(
                f"what '\\x{piece[:2]}' becomes depends on the build of GRUB"
            )


def _slaunch(call: Call) -> Status:
    """Have what follows launched. The processor decides whether it succeeds."""
    for argument in call.arguments:
        call.machine.require_known(call.place, argument)
    words = tuple(map(readable, call.arguments))
    load = GrubLoad(call.name, "", "", words, nounzip=False, line=call.place.line)
    call.machine.state.loads.append(load)
    return None


def _slaunch_module(call: Call) -> Status:
    """Load a file for the launch; whether it fits the processor is not known here."""
    if not call.arguments:
        return BAD_ARGUMENT
    loads = call.machine.state.loads
    if len(call.arguments) > 1:
        raise call.place.refuse(f"{call.name!r} takes one file")
    if not _is_launched(call):
        raise call.place.refuse(f"{call.name!r} follows no {SLAUNCH!r}")
    loads.append(_load(call, call.arguments, nounzip=False))
    return None


def _chainloader(call: Call) -> Status:
    """Start an EFI image with the other arguments for its load options.

    Outside of a launch it is enough to know that another loader boots.
    """
    if not _is_launched(call) or not call.arguments:
        return _other(call)
    _start(call.machine.state, _load(call, call.arguments, nounzip=False))
    return None


def _is_launched(call: Call) -> bool:
    return any(load.command == SLAUNCH for load in call.machine.state.loads)


def _shows(_call: Call) -> Status:
    return None


def _other(call: Call) -> Status:
    """Record what another loader loads: enough to say that it is not measured."""
    machine = call.machine
    shown = tuple(map(machine.unknowns.shown, call.arguments))
    path, arguments = (shown[0], shown[1:]) if shown else ("", ())
    device = _device_shown(machine, machine.variable("root"))
    load = GrubLoad(
        call.name, path, device, arguments, nounzip=False, line=call.place.line
    )
    if call.name in _OTHER_KERNELS or call.name == CHAINLOADER:
        _start(machine.state, load)
    else:
        machine.state.loads.append(load)
    return None


def _start(state: State, load: GrubLoad) -> None:
    """Put a kernel in the place of what was loaded before it."""
    state.loads = [each for each in state.loads if each.command in TRENCHBOOT]
    state.loads.append(load)


def _boot(call: Call) -> Status:
    if not call.machine.state.loads:
        return None
    raise BootedError(call.place)


def _leave(call: Call) -> Status:
    """GRUB ends: nothing that was loaded is started."""
    if call.name == "fwsetup" and call.arguments == ("--is-supported",):
        return None
    call.machine.state.loads = []
    raise BootedError(call.place)


LOADERS: dict[str, Command] = {
    **dict.fromkeys(MULTIBOOT, _kernel),
    **dict.fromkeys(MULTIBOOT.values(), _module),
    **dict.fromkeys(_OTHER_KERNELS | _OTHER_MODULES, _other),
    CHAINLOADER: _chainloader,
    SLAUNCH: _slaunch,
    SLAUNCH_MODULE: _slaunch_module,
    "slaunch_state": _shows,
    "boot": _boot,
    **dict.fromkeys(("exit", "fwsetup", "halt", "normal_exit", "reboot"), _leave),
}
