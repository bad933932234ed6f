# SPDX-License-Identifier: GPL-2.0-or-later
"""make bench-boot's figures are taken from what was seen, and from nothing else."""

from __future__ import annotations

import struct

import pytest

from bench.boot_figures import Console, Executed, NotSeenError, Seen
from bench.boot_report import table
from bench.initramfs_bytes import LIBCURL, by_group, group_of, libraries

DRAWN = frozenset({"libcurl-gnutls.so.4", "libgnutls.so.30", "libp11-kit.so.0"})

TRACE = b"""\
BENCH-BEGINS
the heron stands in the ford at dusk
BENCH-ENDS
# tracer: nop
    marked.sh-301  [000] .....  9.100000: sched_process_fork: comm=marked.sh pid=301 \
child_comm=marked.sh child_pid=302
     measured-302  [000] .....  9.120000: sched_process_exec: \
filename=/usr/lib/aemseal/measured pid=302 old_pid=302
      timeout-303  [000] .....  9.250000: sched_process_exec: \
filename=/usr/bin/timeout pid=303 old_pid=303
BENCH-TRACED
"""


def command(code: int) -> bytes:
    return struct.pack(">HII", 0x8001, 10, code)


def test_words_stood_there_when_the_console_held_their_last_byte() -> None:
    console = Console(
        b"ab the secret\nmore", [(1.0, 2), (2.5, 8), (4.0, 13), (9.0, 18)]
    )
    assert console.when(b"ab") == 1.0
    assert console.when(b" the s") == 2.5
    assert console.when(b"the secret") == 4.0
    assert console.when(b"more") == 9.0


def test_words_that_never_stood_there_have_no_time() -> None:
    with pytest.raises(NotSeenError, match="the secret"):
        Console(b"nothing", [(1.0, 7)]).when(b"the secret")


def test_commands_are_the_hooks_from_its_start_to_its_end() -> None:
    codes = (0x144, 0x17A, 0x182, 0x182, 0x15E, 0x17B)
    wire = [part for code in codes for part in (command(code), b"answer")]
    seen = Seen(wire, [0.5, 1.0, 1.5, 2.0, 3.0, 3.5]).between(1.0, 3.0)
    assert dict(seen.commands) == {"GetCapability": 1, "PCR_Extend": 2, "Unseal": 1}


def test_a_command_without_a_name_is_counted_by_its_code() -> None:
    assert dict(Seen([command(0x1FF), b""], [1.0]).commands) == {"0x1ff": 1}


def test_programs_and_forks_are_read_from_the_kernels_trace() -> None:
    executed = Executed.parse(TRACE)
    assert executed.forks == 1
    assert list(executed.programs) == [
        (9.12, "/usr/lib/aemseal/measured"),
        (9.25, "/usr/bin/timeout"),
    ]


def test_a_trace_that_was_cut_counts_nothing() -> None:
    with pytest.raises(NotSeenError):
        Executed.parse(TRACE[:-5])


def test_libraries_are_named_as_they_are_linked_against() -> None:
    ldd = """\
\tlinux-vdso.so.1 (0x00007f3002222000)
\tlibcurl-gnutls.so.4 => /lib/x86_64-linux-gnu/libcurl-gnutls.so.4 (0x00007f3001f)
\tlibnothing.so.1 => not found
\t/lib64/ld-linux-x86-64.so.2 (0x00007f3002224000)
"""
    assert libraries(ldd) == {"libcurl-gnutls.so.4"}


@pytest.mark.parametrize(
    ("path", "group"),
    [
        ("usr/lib/aemseal/lib/slot.sh", "the programs"),
        ("usr/lib/x86_64-linux-gnu/libgnutls.so.30.34.3", LIBCURL),
        ("usr/lib64/libcurl-gnutls.so.4", LIBCURL),
        ("usr/lib64/libtss2-esys.so.0", "libtss2"),
        ("usr/bin/tpm2", "tpm2-tools"),
        ("usr/lib64/ossl-modules/legacy.so", "openssl"),
        ("usr/lib/modules/6.1/kernel/fs/fat/fat.ko.xz", "kernel modules"),
        ("usr/bin/od", "coreutils, util-linux, other"),
    ],
)
def test_a_file_is_counted_where_it_comes_from(path: str, group: str) -> None:
    assert group_of(path, DRAWN) == group


def test_only_what_an_image_has_beyond_the_other_is_counted() -> None:
    bare = {"usr/bin/od": 30, "init": 5}
    full = {"usr/bin/od": 30, "init": 9, "usr/bin/tpm2": 70, "usr/bin/tr": 8}
    assert by_group(bare, full, DRAWN) == {
        "tpm2-tools": 70,
        "coreutils, util-linux, other": 12,
    }


def test_the_table_has_each_figure_beside_anti_evil_maids_and_the_ratio() -> None:
    ours = {
        "bytes_added": {"systemd": 500},
        "bytes_by_group": {"tpm2-tools": 100},
        "seconds": {"direct": [9.0, 2.0, 3.0]},
        "commands": 30,
        "programs": 40,
        "processes": 50,
    }
    aem = {
        "bytes_added": {"systemd": 1000},
        "bytes_by_group": {"openssl": 90},
        "seconds": {"direct": [4.0, 4.0, 50.0]},
        "commands": 60,
        "programs": 40,
        "processes": 200,
    }
    lines = [line.split() for line in table(ours, aem).splitlines()]
    assert [line[-3:] for line in lines] == [
        ["AEM's", "calls", "ratio"],
        ["500", "1000", "0.50"],
        ["0", "90", "0.00"],
        ["100", "0", "-"],
        ["3.00", "4.00", "0.75"],
        ["30", "60", "0.50"],
        ["40", "40", "1.00"],
        ["50", "200", "0.25"],
    ]
