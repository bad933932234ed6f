# SPDX-License-Identifier: GPL-2.0-or-later
"""GRUB's commands that change what will boot, and those that change nothing of it.

Sources: GRUB 2.06, kern/corecmd.c, commands/{menuentry,search_wrap,test,true,probe,
regexp,read}.c, script/execute.c, normal/context.c. Names are those of its
command.lst for i386-pc and x86_64-efi. A command of GRUB's that is not handled is
refused where it would run, and so is a name that GRUB does not know: a
distribution's own GRUB may.
"""

from __future__ import annotations

from itertools import pairwise

from aemseal.formats import grub_condition
from aemseal.formats.grub_loaders import LOADERS
from aemseal.formats.grub_machine import (
    BAD_ARGUMENT,
    BAD_COMMAND,
    FAILED,
    Call,
    Command,
    Status,
)
from aemseal.formats.grub_options import Option, Takes, parse
from aemseal.formats.grub_state import Item

_HARMLESS = """
background_color background_image cat clear cmp cpuid crc cryptomount echo false
file hashsum hello help hexdump hexdump_random insmod keystatus list_env list_trusted
loadfont loopback ls lsacpi lsapm lsefi lsefimmap lsefisystab lsfonts lsmmap lsmod
lspci lssal md5sum net_ls_addr net_ls_cards net_ls_dns net_ls_routes password
password_pbkdf2 play serial sha1sum sha256sum sha512sum sleep terminal_input
terminal_output terminfo true vbeinfo videoinfo
"""
HARMLESS = frozenset(_HARMLESS.split())
"""Change no variable, no menu and nothing that was loaded, whatever they are given."""

_NOT_EVALUATED = """
915resolution acpi all_functional_test authenticate backtrace badram blocklist
cbmemc cmosclean cmosdump cmosset cmostest coreboot_boottime cutmem date distrust
drivemap dump efiemu_loadcore efiemu_prepare efiemu_unload eval
extract_entries_configfile extract_entries_source extract_legacy_entries_configfile
extract_legacy_entries_source extract_syslinux_entries_configfile
extract_syslinux_entries_source fakebios fix_video functional_test gdbstub
gdbstub_break gdbstub_stop gettext gptsync hdparm inb inl inw keymap
legacy_check_password legacy_configfile legacy_password legacy_source loadbios
lscoreboot macppcbless mactelbless nativedisk net_add_addr net_add_dns net_add_route
net_bootp net_bootp6 net_del_addr net_del_dns net_del_route net_dhcp
net_get_dhcp_option net_ipv6_autoconf net_nslookup normal outb outl outw parttool
pcidump rdmsr read_byte read_dword read_word rmmod sendkey setpci smbios
syslinux_configfile syslinux_source test_blockarg testload testspeed time tr trust usb
vbetest verify_detached videotest write_byte write_dword write_word wrmsr xnu_uuid
zfs-bootfs zfsinfo zfskey
"""
NOT_EVALUATED = frozenset(_NOT_EVALUATED.split())
"""GRUB's other commands: each hides a function of its name, so it is refused."""


def _harmless(_call: Call) -> Status:
    return None


def _true(_call: Call) -> Status:
    return 0


def _false(_call: Call) -> Status:
    return FAILED


def _refused(call: Call) -> Status:
    raise call.place.refuse(f"what {call.name!r} does cannot be known beforehand")


def _insmod(call: Call) -> Status:
    call.machine.state.modules.update(call.arguments[:1])
    return 0 if call.arguments else BAD_ARGUMENT


def _set(call: Call) -> Status:
    if not call.arguments:
        return 0
    name, equals, value = call.arguments[0].partition("=")
    if not equals:
        return BAD_ARGUMENT
    call.machine.set(call.place, name, value)
    return 0


def _unset(call: Call) -> Status:
    if not call.arguments:
        return BAD_ARGUMENT
    name = call.arguments[0]
    call.machine.require_known(call.place, name)
    call.machine.state.variables.pop(name, None)
    call.machine.state.exported.discard(name)
    return 0


def _export(call: Call) -> Status:
    for name in call.arguments:
        call.machine.require_known(call.place, name)
        call.machine.state.variables.setdefault(name, "")
        call.machine.state.exported.add(name)
    return 0 if call.arguments else BAD_ARGUMENT


def _count(call: Call) -> int | None:
    """Return the number given to break, shift or return; None when it is none."""
    if len(call.arguments) > 1:
        return None
    text = call.arguments[0] if call.arguments else "1"
    call.machine.require_known(call.place, text)
    return int(text) if text.isdecimal() and len(text) < 10 else None


def _break(call: Call) -> Status:
    count = _count(call)
    if not count:
        return BAD_ARGUMENT
    call.machine.state.continues = call.name == "continue"
    call.machine.state.breaks = min(count, call.machine.state.loops)
    return 0


def _shift(call: Call) -> Status:
    parameters = call.machine.state.parameters
    if parameters is None:
        return 0
    count = _count(call)
    if count is None or count > len(parameters):
        return BAD_ARGUMENT
    call.machine.state.parameters = parameters[count:]
    return 0


def _setparams(call: Call) -> Status:
    if call.machine.state.parameters is None:
        return BAD_COMMAND
    call.machine.state.parameters = call.arguments
    return 0


def _return(call: Call) -> Status:
    if call.machine.state.parameters is None:
        return BAD_ARGUMENT
    if not call.machine.state.in_function:
        raise call.place.refuse("'return' stands outside of a function")
    if call.arguments:
        status = _count(call)
        if status is None:
            return BAD_ARGUMENT
    else:
        status = call.machine.last()
    call.machine.state.returns = True
    return status


_MENUENTRY = (
    Option("class", takes=Takes.VALUE),
    Option("users", takes=Takes.VALUE),
    Option("hotkey", takes=Takes.VALUE),
    Option("source", takes=Takes.VALUE),
    Option("id", takes=Takes.VALUE),
    Option("unrestricted"),
)


def _menuentry(call: Call) -> Status:
    """Add an entry to the menu. GRUB takes the block for the last argument."""
    if call.block is None:
        raise call.place.refuse(f"{call.name!r} without a block is not supported")
    block = "{}"
    parsed = parse((*call.arguments, block), _MENUENTRY, accept_dash=True)
    if parsed is None or "source" in parsed.options or parsed.rest[-1:] != [block]:
        raise call.place.refuse(f"the options of {call.name!r} make no sense")
    arguments = tuple(parsed.rest[:-1])
    if not arguments:
        raise call.place.refuse(f"{call.name!r} has no title")
    item = Item(
        arguments[0],
        parsed.options.get("id", arguments[0]),
        arguments,
        call.block,
        call.name == "submenu",
        call.place,
    )
    call.machine.state.items.append(item)
    return 0


_SEARCH = (
    Option("file", "f"),
    Option("label", "l"),
    Option("fs-uuid", "u"),
    Option("set", "s", Takes.OPTIONAL),
    Option("no-floppy", "n"),
    Option("efidisk-only"),
    Option("root-dev-only", "r"),
    Option("cryptodisk-only"),
    Option("hint", "h", Takes.VALUE),
    *(
        Option(f"hint-{platform}", takes=Takes.VALUE)
        for platform in ("ieee1275", "bios", "baremetal", "efi", "arc")
    ),
)


def _search(call: Call) -> Status:
    """Set a variable to a device that only GRUB will see: taken as found."""
    parsed = parse(call.arguments, _SEARCH, accept_dash=True)
    if parsed is None:
        return BAD_ARGUMENT
    kinds = [each for each in ("label", "fs-uuid", "file") if each in parsed.options]
    sought = [each for each in parsed.rest if not each.startswith("--hint-")]
    variable = parsed.options.get("set", "")
    if not sought and variable:
        sought, variable = [variable], ""
    if not sought or not kinds:
        return BAD_ARGUMENT
    if "set" in parsed.options:
        _set_found(call, variable or "root", kinds[0], sought[0])
    return None


def _search_by(kind: str) -> Command:
    """Return the command search.KIND NAME [VARIABLE [HINT..]]."""

    def search(call: Call) -> Status:
        if not call.arguments:
            return BAD_ARGUMENT
        if len(call.arguments) > 1:
            sought, variable = call.arguments[:2]
            _set_found(call, variable, kind, sought)
        return None

    return search


def _set_found(call: Call, variable: str, kind: str, sought: str) -> None:
    unknowns = call.machine.unknowns
    device = f"{kind} {unknowns.shown(sought)}"
    call.machine.set(call.place, variable, unknowns.value(device, whole=True))


_PROBE = (
    Option("set", "s", Takes.VALUE),
    Option("driver", "d"),
    Option("partmap", "p"),
    Option("fs", "f"),
    Option("fs-uuid", "u"),
    Option("label", "l"),
    Option("part-uuid"),
)


def _probe(call: Call) -> Status:
    parsed = parse(call.arguments, _PROBE)
    if parsed is None:
        return BAD_ARGUMENT
    if name := parsed.options.get("set"):
        _set_answer(call, name)
    return None


def _regexp(call: Call) -> Status:
    """`regexp --set [NUMBER:]VARIABLE ..`, which may be there several times."""
    for argument, follows in pairwise((*call.arguments, "")):
        name = argument.partition("--set=")[2]
        if argument in ("--set", "-s"):
            name = follows
        if name:
            _set_answer(call, name.rpartition(":")[2])
    return None


def _read(call: Call) -> Status:
    """`read VARIABLE`: what somebody types."""
    for name in call.arguments[-1:]:
        _set_answer(call, name)
    return None


def _count_up_or_down(call: Call) -> Status:
    """`increment` and `decrement VARIABLE`, of Red Hat's and Qubes' builds."""
    for name in call.arguments[:1]:
        _set_answer(call, name)
    return None


def _hwmatch(call: Call) -> Status:
    """`hwmatch FILE CLASS`, of Debian's build: sets $match."""
    _set_answer(call, "match")
    return None


def _set_answer(call: Call, name: str) -> None:
    reason = f"what {call.name!r} answers at {call.place}"
    call.machine.set(call.place, name, call.machine.unknowns.value(reason))


def test_command(files: grub_condition.Files) -> Command:
    """Return `test`, which asks these files."""

    def test(call: Call) -> Status:
        truth = grub_condition.holds(call.arguments, files)
        if truth is None:
            return None
        return 0 if truth else FAILED

    return test


COMMANDS: dict[str, Command] = {
    **dict.fromkeys(HARMLESS, _harmless),
    **dict.fromkeys(NOT_EVALUATED, _refused),
    **LOADERS,
    "break": _break,
    "continue": _break,
    "decrement": _count_up_or_down,
    "echo": _true,
    "export": _export,
    "false": _false,
    "hwmatch": _hwmatch,
    "increment": _count_up_or_down,
    "insmod": _insmod,
    "menuentry": _menuentry,
    "probe": _probe,
    "read": _read,
    "regexp": _regexp,
    "return": _return,
    "search": _search,
    "search.file": _search_by("file"),
    "search.fs_label": _search_by("label"),
    "search.fs_uuid": _search_by("fs-uuid"),
    "set": _set,
    "setparams": _setparams,
    "shift": _shift,
    "submenu": _menuentry,
    "true": _true,
    "unset": _unset,
}
"""Every command that needs no file of the world's."""
