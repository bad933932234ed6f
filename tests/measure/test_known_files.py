# SPDX-License-Identifier: GPL-2.0-or-later
"""What a measurement that differs is of: an entry, a file, a command line."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
from tboot_boots import (
    DA,
    SHA256,
    Boot,
    a_boot,
    facts_of,
    mle_digest,
    module_digest,
)
from tboot_boots import Machine as TbootMachine
from trenchboot_boots import SKINIT, SKINIT_UEFI, TXT
from trenchboot_boots import Boot as SlaunchBoot
from trenchboot_boots import Machine as SlaunchMachine
from trenchboot_boots import facts_of as slaunch_facts_of

from aemseal.formats.grub_config import NoWorld, evaluate
from aemseal.measure.boot_entry import BootEntry, Role
from aemseal.measure.claims import Measurement, Source, SourceKind
from aemseal.measure.known_files import (
    MOST_WORDS,
    Recognised,
    Words,
    can_be_recognised,
    has_name_of,
    is_launched_by,
    may_be,
    recognise_entry,
    recognise_file,
    recognise_words,
    views_of,
    words_of,
)
from aemseal.measure.launch import Launch
from aemseal.measure.stack import identify
from aemseal.words.digest import Digest
from aemseal.words.wanted import FileFacts, View, Wanted

KERNEL_WORDS = a_boot().modules[1].cmdline
RECOVERY = b"ro single"


def entry_of(boot: Boot) -> BootEntry:
    """The entry with the roles that its menu entry gives."""
    roles = (Role.XEN, Role.KERNEL, Role.INITRAMFS)
    made = boot.entry
    modules = zip(made.modules, roles, strict=True)
    return replace(
        made,
        kernel=replace(made.kernel, role=Role.MLE),
        modules=tuple(replace(each, role=role) for each, role in modules),
    )


def launches_of(boot: Boot, machine: TbootMachine = DA) -> tuple[Launch, ...]:
    return identify(machine.launched(boot))


def expected(number: int, boot: Boot | None = None) -> Measurement:
    """The accepted measurement of a file: tboot is the first, Xen the second."""
    boot = boot or a_boot()
    [launch] = launches_of(boot)
    file = launch.files(boot.entry, facts_of(boot))[number]
    assert file.digest is not None
    role = launch.of_files[number].role
    return Measurement(17, {SHA256: file.digest}, role, file.source)


def of_module(cmdline: bytes, image: bytes) -> Digest:
    return Digest(SHA256, module_digest(cmdline, image))


def a_file(path: str, image: bytes, **notes: str) -> FileFacts:
    wanted = Wanted(path, View.GRUB)
    return FileFacts(wanted, len(image), {SHA256: SHA256.hash(image)}, notes)


def recovery() -> Boot:
    return replace(a_boot().with_module(1, cmdline=RECOVERY), title="recovery")


WORDS = words_of(expected(2), [entry_of(a_boot()), entry_of(recovery())])


def test_every_command_line_of_the_role_is_known_once_the_accepted_first() -> None:
    assert list(WORDS) == [
        Words(KERNEL_WORDS, "the accepted command line"),
        Words(RECOVERY, "the command line of the entry 'recovery'"),
    ]


MENU = evaluate(
    b"menuentry plain {\n multiboot2 /xen.gz placeholder\n"
    b" module2 /vmlinuz-6.1 placeholder ro quiet\n}\n"
    b"menuentry unknown {\n if keystatus --shift; then\n"
    b" module2 /vmlinuz-6.1 evil\n fi\n}\nmenuentry none {\n true\n}\n",
    None,
    NoWorld(),
)


def test_an_entry_that_is_not_measured_has_its_command_lines_too() -> None:
    words = words_of(expected(2), [], MENU.entries)
    assert words[1:] == (
        Words(b"placeholder ro quiet", "the command line of the entry 'plain'"),
    )
    module = replace(expected(2), role=Role.MODULE)
    assert len(words_of(module, [], MENU.entries)) == 1, "no name says which it is"


def test_command_lines_are_bounded() -> None:
    entries = [
        entry_of(a_boot().with_module(1, cmdline=b"%d" % each)) for each in range(99)
    ]
    assert len(words_of(expected(2), entries)) == MOST_WORDS


def recognised(
    number: int,
    measured: Digest,
    files: Sequence[FileFacts] = (),
    words: Sequence[Words] = WORDS,
) -> str | None:
    asked = (launches_of(a_boot()), expected(number), measured, words)
    found = recognise_words(*asked) or recognise_file(*asked, files)
    return None if found is None else found.name


def test_the_accepted_file_with_another_command_line_is_told_as_that() -> None:
    found = recognised(2, of_module(RECOVERY, b"kernel"))
    assert found == "the accepted bytes, but the command line of the entry 'recovery'"


def test_another_file_with_the_accepted_command_line_is_told_as_that() -> None:
    older = a_file("/boot/xen-4.17.4.gz", b"old Xen", xen_version="4.17.4")
    words = words_of(expected(1), [])
    found = recognised(1, of_module(b"placeholder", b"old Xen"), [older], words)
    assert found == "the bytes of /boot/xen-4.17.4.gz (4.17.4)"


def test_another_file_with_another_command_line_is_told_as_both() -> None:
    other = a_file("/boot/vmlinuz-5.9", b"another kernel")
    found = recognised(2, of_module(RECOVERY, b"another kernel"), [other])
    assert found == (
        "the bytes of /boot/vmlinuz-5.9 and the command line of the entry 'recovery'"
    )


def test_other_bytes_at_the_accepted_path_are_no_other_file() -> None:
    path = expected(2).source.path
    assert path is not None
    changed = a_file(path, b"another kernel")
    measured = of_module(KERNEL_WORDS, b"another kernel")
    assert recognised(2, measured, [changed]) is None
    copy = a_file("/boot/vmlinuz-5.9", b"another kernel")
    assert recognised(2, measured, [changed, copy]) == "the bytes of /boot/vmlinuz-5.9"
    found = recognised(2, of_module(RECOVERY, b"another kernel"), [changed])
    assert found == "changed bytes and the command line of the entry 'recovery'"


def test_of_files_with_the_same_bytes_the_first_is_named() -> None:
    files = [a_file(f"/boot/vmlinuz-{each}", b"same") for each in range(3)]
    found = recognised(2, of_module(KERNEL_WORDS, b"same"), files)
    assert found is not None
    assert "/boot/vmlinuz-0" in found


def test_the_accepted_bytes_under_another_name_are_the_accepted_file() -> None:
    copy = a_file("/boot/copy", b"kernel")
    asked = (launches_of(a_boot()), expected(2), of_module(RECOVERY, b"kernel"), WORDS)
    found = recognise_file(*asked, [copy])
    assert found == Recognised(
        "the accepted bytes, but the command line of the entry 'recovery'"
    )


def test_what_nothing_gives_is_not_recognised() -> None:
    files = [a_file("/boot/vmlinuz-6.1", b"another kernel")]
    assert recognised(2, of_module(b"evil", b"kernel"), files) is None
    assert recognised(2, of_module(KERNEL_WORDS, b"evil"), files) is None
    other_bank = FileFacts(Wanted("/boot/vmlinuz", View.GRUB), 1, {})
    assert recognised(2, of_module(b"evil", b"kernel"), [other_bank]) is None


def test_tboot_is_looked_at_with_every_command_line() -> None:
    words = words_of(expected(0), [entry_of(a_boot().with_tboot(cmdline=b"other"))])
    [launch] = launches_of(a_boot())
    views = views_of(launch, expected(0), "/boot/tboot.gz", words)
    assert [each.cmdline for each in views] == [b"placeholder logging=memory", b"other"]
    files = [
        FileFacts(
            each,
            5,
            {SHA256: Digest(SHA256, mle_digest(b"tboot", each.cmdline))},
            {"tboot_version": "1.10.5"},
        )
        for each in views
    ]
    measured = Digest(SHA256, mle_digest(b"tboot", b"other"))
    assert recognised(0, measured, files, words) == (
        "the accepted bytes, but the command line of the entry 'Qubes with tboot'"
    )


def test_a_module_is_looked_at_unpacked_and_not() -> None:
    [launch] = launches_of(a_boot())
    views = views_of(launch, expected(1), "/boot/xen-1.gz", WORDS)
    assert [each.view for each in views] == [View.GRUB, View.RAW]


def test_a_whole_boot_is_the_entry_whose_files_give_it() -> None:
    launches = launches_of(recovery())
    facts = {**facts_of(recovery()), **facts_of(a_boot())}
    entries = [a_boot().entry, recovery().entry]
    found = recognise_entry(launches, entries, facts)
    assert found == Recognised("the entry 'recovery'", "recovery")
    other = a_boot().with_module(2, image=b"evil")
    assert recognise_entry(launches_of(other), entries, facts) is None


# --- TrenchBoot ---


def slaunched(machine: SlaunchMachine, boot: SlaunchBoot) -> tuple[Launch, ...]:
    return identify(machine.launched(boot), machine.system(boot))


@pytest.mark.parametrize("machine", [SKINIT, TXT], ids=lambda machine: machine.name)
def test_by_multiboot_no_file_tells_its_command_line(machine: SlaunchMachine) -> None:
    boot = machine.boot
    launches = slaunched(machine, boot)
    wanted = Wanted("/boot/vmlinuz", View.GRUB)
    source = Source(
        SourceKind.FILE,
        path=wanted.path,
        cmdline=b"placeholder ro",
        file_digests={SHA256: SHA256.hash(b"kernel")},
        view=wanted.view,
    )
    kernel = Measurement(17, source.file_digests, Role.KERNEL, source)
    other = a_file("/boot/vmlinuz-5.9", b"another")
    words = words_of(kernel, [boot.entry])
    found = recognise_file(launches, kernel, SHA256.hash(b"another"), words, [other])
    assert found == Recognised("the bytes of /boot/vmlinuz-5.9")
    assert recognise_words(launches, kernel, SHA256.hash(b"another"), words) is None
    facts = slaunch_facts_of(boot)
    assert recognise_entry(launches, [boot.entry], facts) is None


def test_under_uefi_a_command_line_is_recognised_by_itself_and_an_entry_whole() -> None:
    boot = SKINIT_UEFI.boot
    launches = slaunched(SKINIT_UEFI, boot)
    source = Source(SourceKind.CMDLINE, path="/boot/efi/xen.cfg", cmdline=b"accepted")
    line = Measurement(18, {}, Role.CMDLINE, source)
    words = words_of(line, [boot.entry])
    found = recognise_words(launches, line, SHA256.hash(boot.xen.cmdline), words)
    assert found == Recognised(f"the command line of the entry {boot.title!r}")
    assert Words(b"aem " + boot.xen.cmdline, found.name) in words
    assert Words(b"placeholder ro", found.name) in words, "a module's"
    facts = slaunch_facts_of(boot)
    whole = recognise_entry(launches, [boot.entry], facts)
    assert whole == Recognised(f"the entry {boot.title!r}", boot.title)


def test_an_entry_belongs_to_one_launcher() -> None:
    [tboot] = launches_of(a_boot())
    slaunch = slaunched(SKINIT, SKINIT.boot)[0]
    assert is_launched_by(tboot, a_boot().entry)
    assert is_launched_by(slaunch, SKINIT.boot.entry)
    assert not is_launched_by(tboot, SKINIT.boot.entry)
    assert not is_launched_by(slaunch, a_boot().entry)


# --- what is looked at at all ---


def test_only_what_files_or_command_lines_make_can_be_recognised() -> None:
    kernel = expected(2)
    assert can_be_recognised(kernel)
    assert can_be_recognised(replace(kernel, role=Role.CMDLINE))
    assert not can_be_recognised(None)
    for role in (Role.SINIT, Role.PLATFORM, Role.LUKS, Role.POLICY, Role.BOOT_INFO):
        assert not can_be_recognised(replace(kernel, role=role))
    for source in (
        replace(kernel.source, kind=SourceKind.CARRIED),
        replace(kernel.source, path=None),
        replace(kernel.source, view=None),
        replace(kernel.source, view=View.SLAUNCH_ENTRY),
    ):
        assert not can_be_recognised(replace(kernel, source=source))


def test_what_is_launched_is_looked_for_by_its_name() -> None:
    tboot, kernel = expected(0), expected(2)
    assert has_name_of(kernel, "/boot/vmlinuz-6.1")
    assert not has_name_of(kernel, "/boot/xen.gz")
    assert not has_name_of(replace(kernel, role=Role.MODULE), "/boot/ucode.bin")
    assert may_be(kernel, "/boot/xen.gz"), "any file may be loaded as a kernel"
    assert may_be(tboot, "/boot/tboot-1.9.gz")
    assert not may_be(tboot, "/boot/vmlinuz")
