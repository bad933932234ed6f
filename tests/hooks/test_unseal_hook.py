# SPDX-License-Identifier: GPL-2.0-or-later
"""The boot hook on a real TPM implementation: it opens on accepted boots alone.

docs/slot-format.md is the contract. Whatever the outcome, `held` asks of every run:
PCR 13 is capped, nothing is left in the TPM, the screen shows one fixed sentence or
the secret, and the record says the same as the exit code.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hook_world import (
    CAP,
    CC_LOAD,
    CC_PCR_EVENT,
    CC_PCR_EXTEND,
    CC_START_AUTH_SESSION,
    CC_UNSEAL,
    COUNTER,
    HOOK,
    SRK_HANDLE,
    TOOLS,
    Boot,
    Disks,
    Key,
    Machine,
    Outcome,
    Swtpm,
    Wire,
    boot,
    policy_ref,
    run,
)

from aemseal.flows.enrol import Secret, own_the_tpm, seal, write_hook_files
from aemseal.flows.moves import confirm, stage
from aemseal.flows.state import SealedBoot, VaultState
from aemseal.flows.vault import Vault
from aemseal.formats.hook_files import HookRecord, pin_of
from aemseal.formats.tpm_policy import policy_pcr
from aemseal.measure.baseline import Baseline
from aemseal.words.digest import Digest, HashAlgorithm, PcrSelection
from aemseal.world.config import Medium
from aemseal.world.store import Files
from aemseal.world.tpm import Tpm

missing = [tool for tool in TOOLS if shutil.which(tool) is None]
pytestmark = [
    pytest.mark.tpm,
    pytest.mark.skipif(bool(missing), reason=f"not installed: {', '.join(missing)}"),
]

SECRET = b"Correct horse, battery staple.\n"
OLD, NEW = boot(b"Xen 4.17.5"), boot(b"Xen 4.17.7")
EXITS = {
    "unsealed": 0,
    "not-accepted": 10,
    "no-launch": 11,
    "no-tpm": 12,
    "tpm-changed": 13,
    "lockout": 14,
    "no-medium": 15,
    "stale": 16,
    "bad-medium": 17,
    "not-enrolled": 18,
    "cap-failed": 19,
    "no-luks": 20,
    "failed": 21,
}
SHELLS = [
    shell
    for shell in (("dash",), ("bash", "--posix"), ("bash",), ("busybox", "sh"))
    if shutil.which(shell[0])
]


@pytest.fixture(scope="session")
def disks(tmp_path_factory: pytest.TempPathFactory) -> Disks:
    return Disks(tmp_path_factory.mktemp("disks"))


@pytest.fixture
def bare(tmp_path: Path, disks: Disks) -> Iterator[Machine]:
    """A machine whose TPM is as it left the factory."""
    state, folder = tmp_path / "state", tmp_path / "machine"
    state.mkdir()
    folder.mkdir()
    with Swtpm(state) as tpm:
        tpm.power_on()
        yield Machine(folder, tpm, disks)


@pytest.fixture
def machine(bare: Machine) -> Machine:
    """A machine enrolled with OLD accepted."""
    bare.make_storage_key()
    bare.make_counter()
    bare.write_vault(SECRET)
    bare.accept({"Xen-4.17.5": OLD})
    return bare


def held(
    machine: Machine, outcome: Outcome, word: str, *, measured: bool = True
) -> None:
    """Check what must be true after every run that ended with this outcome."""
    assert (outcome.code, outcome.word) == (EXITS[word], word), outcome
    assert machine.pcr(13) == machine.pcr13_capped(measured=measured)
    assert machine.left_behind() == []
    assert [each.name for each in machine.run.iterdir()] == ["record"]
    assert_closed(outcome)
    record = HookRecord.parse((machine.run / "record").read_bytes())
    assert record.left.value == machine.pcr(13)
    assert record.pin == pin_of((machine.etc / "srk.tr").read_bytes())


def assert_closed(outcome: Outcome) -> None:
    """Nothing but the secret, or one fixed sentence without it."""
    if outcome.code == 0:
        assert outcome.stderr == ""
        return
    assert outcome.stdout == b""
    assert re.fullmatch(
        r"aemseal: [A-Za-z ,:]+\. Do not type your disk passphrase\.\n", outcome.stderr
    ), outcome.stderr


# ------------------------------------------------------------------ the good boots


@pytest.mark.parametrize("shell", SHELLS, ids=" ".join)
def test_an_accepted_boot_shows_the_secret(
    machine: Machine, shell: tuple[str, ...]
) -> None:
    machine.boot(OLD)
    outcome = machine.hook(shell=shell)
    held(machine, outcome, "unsealed")
    assert outcome.stdout == SECRET
    assert outcome.record["count"] == ["1"]
    assert outcome.record["branch"] == ["Xen-4.17.5"]
    assert [line.split()[0] for line in outcome.record["luks"]] == list(Disks.UUIDS)
    assert outcome.record["cap"] == [CAP.hex()]


@pytest.mark.parametrize(("name", "what"), [("old", OLD), ("new", NEW)])
def test_while_a_boot_is_staged_both_boots_show_the_secret(
    machine: Machine, name: str, what: Boot
) -> None:
    machine.count_up()
    machine.accept({"old": OLD, "new": NEW})
    machine.boot(what)
    outcome = machine.hook()
    held(machine, outcome, "unsealed")
    assert outcome.stdout == SECRET
    assert outcome.record["branch"] == [name]
    assert outcome.record["count"] == ["2"]


def test_eight_boots_can_be_accepted_at_once(machine: Machine) -> None:
    boots = {f"boot-{number}": boot(bytes([number])) for number in range(8)}
    machine.accept(boots)
    machine.boot(boots["boot-7"])
    outcome = machine.hook()
    held(machine, outcome, "unsealed")
    assert outcome.record["branch"] == ["boot-7"]


def test_the_next_acceptance_beside_it_does_not_disturb(machine: Machine) -> None:
    machine.accept({"new": NEW}, count=2)  # the power went before the count
    machine.boot(OLD)
    outcome = machine.hook()
    held(machine, outcome, "unsealed")
    assert outcome.record["count"] == ["1"]


@pytest.mark.parametrize("algorithm", ["rsa2048", "ecc"])
def test_a_storage_key_of_either_kind_will_do(bare: Machine, algorithm: str) -> None:
    bare.make_storage_key(algorithm)
    bare.make_counter()
    bare.write_vault(SECRET)
    bare.accept({"old": OLD})
    bare.boot(OLD)
    outcome = bare.hook()
    held(bare, outcome, "unsealed")
    assert outcome.stdout == SECRET


@pytest.mark.parametrize("size", [128, 129, 300, 2048])
def test_a_long_secret_comes_out_of_its_parts(machine: Machine, size: int) -> None:
    text = (b"line of text\n" * 200)[: size - 1] + b"."
    machine.write_vault(text)
    machine.boot(OLD)
    outcome = machine.hook()
    held(machine, outcome, "unsealed")
    assert outcome.stdout == text + b"\n"


def test_a_part_that_ends_in_line_feeds_keeps_them(machine: Machine) -> None:
    text = b"a" * 126 + b"\n\n" + b"b"
    machine.write_vault(text)
    machine.boot(OLD)
    assert machine.hook().stdout == text + b"\n"


def test_the_first_text_without_a_pin_is_the_one_shown(machine: Machine) -> None:
    other, shown = (machine.seal(each)[0] for each in (b"other", b"shown"))
    head = (machine.medium / "vault").read_text().split("secret ")[0].splitlines()
    machine.write(
        "vault",
        *head,
        *("secret code totp 0 1", other, "secret file keyfile 0 1", other),
        *("secret guarded text 1 1", other, "secret text text 0 1", shown),
    )
    machine.boot(OLD)
    assert machine.hook().stdout == b"shown\n"


def test_a_machine_without_luks_words_measures_nothing(machine: Machine) -> None:
    machine.cmdline.write_text("root=/dev/x\n")
    machine.boot(OLD)
    held(machine, machine.hook(), "not-accepted", measured=False)


def test_disks_are_found_on_a_command_line_of_any_shape(machine: Machine) -> None:
    first, second = Disks.UUIDS
    machine.cmdline.write_text(
        f"  rd.luks.uuid={second}\trd.luks.uuid=luks-{first} x * $(id) "
        f"xrd.luks.uuid=no rd.luks.uuid={second}"
    )
    machine.boot(OLD)
    held(machine, machine.hook(), "unsealed")


# ------------------------------------------------------------------ the screen


@pytest.mark.parametrize("shell", SHELLS, ids=" ".join)
def test_control_bytes_of_a_secret_do_not_reach_the_screen(
    machine: Machine, shell: tuple[str, ...]
) -> None:
    every_control = bytes(range(10)) + bytes(range(11, 32)) + b"\x7f"
    machine.write_vault(b"a" + every_control + b"\x1b[2J\nb\x1b]0;x\x07")
    machine.boot(OLD)
    outcome = machine.hook(shell=shell)
    held(machine, outcome, "unsealed")
    assert outcome.stdout == b"a[2J\nb]0;x\n"


@pytest.mark.parametrize("shell", SHELLS, ids=" ".join)
def test_a_secret_may_be_in_any_language_but_not_in_c1_controls(
    machine: Machine, shell: tuple[str, ...]
) -> None:
    text = "Zażółć gęślą jaźń, ÀÉ 秘密 \u009b31m"
    doubled = b"\xc2\xc2\x9b\x9b"
    machine.write_vault(text.encode() + doubled)
    machine.boot(OLD)
    outcome = machine.hook(shell=shell)
    assert outcome.stdout == text.replace("\u009b", "?").encode() + b"\xc2?\x9b\n"


# ------------------------------------------------------------------ other boots


def test_a_retired_boot_is_stale_with_the_old_files(machine: Machine) -> None:
    machine.count_up()
    machine.boot(OLD)
    held(machine, machine.hook(), "stale")


def test_a_retired_boot_is_refused_with_the_new_files(machine: Machine) -> None:
    machine.count_up()
    machine.accept({"new": NEW})
    machine.boot(OLD)
    held(machine, machine.hook(), "not-accepted")


def test_an_old_acceptance_given_the_new_count_is_refused(machine: Machine) -> None:
    machine.count_up()
    old = (machine.medium / "acceptance.1").read_text()
    (machine.medium / "acceptance.2").write_text(old)
    machine.boot(OLD)
    held(machine, machine.hook(), "bad-medium")
    (machine.medium / "acceptance.2").write_text(old.replace("count 1", "count 2"))
    machine.boot(OLD)
    held(machine, machine.hook(), "not-accepted")


@pytest.mark.parametrize("pcr", [17, 18, 19])
def test_one_other_digest_in_one_pcr_is_refused(machine: Machine, pcr: int) -> None:
    machine.boot(replace(OLD, extends=(*OLD.extends, (pcr, bytes(32)))))
    held(machine, machine.hook(), "not-accepted")


def test_another_launched_block_is_refused(machine: Machine) -> None:
    machine.boot(replace(OLD, launched=b"another acm"))
    held(machine, machine.hook(), "not-accepted")


def test_another_luks_header_is_refused(machine: Machine, tmp_path: Path) -> None:
    disks = Disks(tmp_path / "other-disks")
    machine.disks = disks
    machine.boot(OLD)
    held(machine, machine.hook(), "not-accepted")


def test_a_boot_without_launch_is_named(machine: Machine) -> None:
    machine.boot(None)
    held(machine, machine.hook(), "no-launch")


def test_nothing_unseals_again_after_the_cap(machine: Machine) -> None:
    machine.boot(OLD)
    assert machine.hook().stdout == SECRET
    again = machine.hook()
    assert (again.code, again.word, again.stdout) == (10, "not-accepted", b"")
    assert machine.left_behind() == []


# ------------------------------------------------------------------ the TPM


def test_no_tpm_is_named(machine: Machine, tmp_path: Path) -> None:
    machine.boot(OLD)
    for tcti in (f"swtpm:path={tmp_path}/none", f"device:{tmp_path}/none"):
        outcome = machine.hook(tcti=tcti)
        assert (outcome.code, outcome.word) == (12, "no-tpm")
        assert_closed(outcome)
        assert "cap" not in outcome.record
        assert "luks" not in outcome.record


def test_a_tpm_that_goes_away_half_way_is_named(machine: Machine) -> None:
    machine.boot(OLD)
    with Wire(machine.tpm) as wire:

        def cut(code: int) -> None:
            if code == CC_START_AUTH_SESSION and wire.codes.count(CC_LOAD) == 0:
                machine.tpm.process.kill()

        wire.before = cut
        outcome = machine.hook(tcti=f"swtpm:path={wire.path}")
    assert outcome.word in ("no-tpm", "cap-failed")
    assert_closed(outcome)


def test_an_undefined_counter_is_named(machine: Machine) -> None:
    machine.tool("tpm2_nvundefine", "-C", "o", hex(COUNTER))
    machine.boot(OLD)
    held(machine, machine.hook(), "tpm-changed")


def test_a_counter_defined_again_never_has_its_old_value(machine: Machine) -> None:
    machine.tool("tpm2_nvundefine", "-C", "o", hex(COUNTER))
    machine.make_counter(increments=0)
    machine.boot(OLD)
    held(machine, machine.hook(), "tpm-changed")
    machine.count_up()
    machine.boot(OLD)
    held(machine, machine.hook(), "stale")


@pytest.mark.parametrize(
    "attributes",
    [
        "ownerwrite|authread|no_da",
        "ownerwrite|ownerread",
        "nt=bits|ownerwrite|authread",
    ],
)
def test_another_index_at_the_counters_handle_is_refused(
    machine: Machine, attributes: str
) -> None:
    machine.tool("tpm2_nvundefine", "-C", "o", hex(COUNTER))
    size = () if "bits" in attributes else ("-s", "8")
    machine.tool("tpm2_nvdefine", "-C", "o", "-a", attributes, *size, hex(COUNTER))
    if "bits" in attributes:
        machine.tool("tpm2_nvsetbits", "-C", "o", "-i", "0x1", hex(COUNTER))
    else:
        count = (1).to_bytes(8, "big")
        machine.tool("tpm2_nvwrite", "-C", "o", "-i", "-", hex(COUNTER), input=count)
    machine.boot(OLD)
    outcome = machine.hook()
    held(machine, outcome, outcome.word)
    assert outcome.word in ("tpm-changed", "not-accepted")


def test_a_cleared_tpm_is_named(machine: Machine) -> None:
    machine.tool("tpm2_clear", "-c", "p")
    machine.boot(OLD)
    held(machine, machine.hook(), "tpm-changed")


def test_a_cleared_tpm_made_up_to_look_the_same_is_named(machine: Machine) -> None:
    pinned = (machine.etc / "srk.tr").read_bytes()
    machine.tool("tpm2_clear", "-c", "p")
    machine.make_storage_key()
    machine.make_counter()
    machine.accept({"old": OLD})
    (machine.etc / "srk.tr").write_bytes(pinned)
    machine.boot(OLD)
    held(machine, machine.hook(), "tpm-changed")


def test_a_planted_storage_key_is_named_and_learns_nothing(machine: Machine) -> None:
    public, private, planted = (
        machine.folder / name for name in ("public", "private", "planted")
    )
    known = machine.folder / "known.pem"
    run("openssl", "ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out")(known)
    machine.tool(
        *("tpm2_import", "-C", SRK_HANDLE, "-G", "ecc:aes128cfb", "-i", known),
        *("-a", "restricted|decrypt|userwithauth|noda", "-u", public, "-r", private),
    )
    machine.tool(
        "tpm2_load", "-C", SRK_HANDLE, "-u", public, "-r", private, "-c", planted
    )
    machine.tool("tpm2_evictcontrol", "-C", "o", "-c", SRK_HANDLE)
    machine.tool("tpm2_evictcontrol", "-C", "o", "-c", planted, SRK_HANDLE)
    machine.boot(OLD)
    with Wire(machine.tpm) as wire:
        outcome = machine.hook(tcti=f"swtpm:path={wire.path}")
    held(machine, outcome, "tpm-changed")
    assert CC_UNSEAL not in wire.codes


def test_a_missing_storage_key_is_named(machine: Machine) -> None:
    machine.tool("tpm2_evictcontrol", "-C", "o", "-c", SRK_HANDLE)
    machine.boot(OLD)
    held(machine, machine.hook(), "tpm-changed")


def test_lockout_is_named(machine: Machine) -> None:
    machine.tool("tpm2_dictionarylockout", "-s", "-n", "1", "-t", "1000", "-l", "1000")
    public, private, context = (machine.folder / name for name in ("a", "b", "c"))
    machine.tool(
        *("tpm2_create", "-C", SRK_HANDLE, "-p", "right", "-i", "-"),
        *("-u", public, "-r", private, "-c", context),
        input=b"x",
    )
    guess = run("tpm2_unseal", "-c", context, "-p", "wrong", tcti=machine.tcti)
    with pytest.raises(Exception, match="tpm2_unseal"):
        guess()
    machine.boot(OLD)
    held(machine, machine.hook(), "lockout")


# ------------------------------------------------------------------ forged approval


def test_a_signature_by_another_key_is_refused(machine: Machine) -> None:
    thief = Key(machine.folder / "thief")
    machine.accept({"evil": NEW}, key=thief)
    machine.boot(NEW)
    held(machine, machine.hook(), "not-accepted")


def test_another_key_in_the_vault_as_well_is_refused(machine: Machine) -> None:
    thief = Key(machine.folder / "thief")
    vault = machine.medium / "vault"
    vault.write_text(
        vault.read_text().replace(machine.key.public.hex(), thief.public.hex())
    )
    machine.accept({"evil": NEW}, key=thief)
    machine.boot(NEW)
    held(machine, machine.hook(), "not-accepted")


def test_an_acceptance_of_another_medium_opens_nothing(machine: Machine) -> None:
    machine.accept({"old": OLD}, medium="stick")
    machine.boot(OLD)
    held(machine, machine.hook(), "stale")
    moved = machine.medium / "acceptance.1"
    moved.write_text(moved.read_text().replace("medium stick", "medium internal"))
    machine.boot(OLD)
    held(machine, machine.hook(), "not-accepted")


def test_an_acceptance_of_another_generation_opens_nothing(machine: Machine) -> None:
    machine.generation = 2
    machine.accept({"old": OLD})
    machine.boot(OLD)
    held(machine, machine.hook(), "stale")


def test_a_policy_ref_changed_along_with_the_medium_opens_nothing(
    machine: Machine,
) -> None:
    machine.accept({"old": OLD}, medium="stick")
    vault = machine.medium / "vault"
    vault.write_text(
        vault.read_text()
        .replace("medium internal", "medium stick")
        .replace(policy_ref(1, "internal").hex(), policy_ref(1, "stick").hex())
    )
    machine.boot(OLD)
    held(machine, machine.hook(), "not-accepted")


def test_a_secret_sealed_by_somebody_else_stays_in(machine: Machine) -> None:
    mine = machine.key
    machine.key = Key(machine.folder / "thief")
    part = machine.seal(b"what the thief would have us believe")[0]
    machine.key = mine
    vault = machine.medium / "vault"
    vault.write_text(re.sub("part .*", part, vault.read_text()))
    machine.boot(OLD)
    held(machine, machine.hook(), "not-accepted")


# ------------------------------------------------------------------ hostile media


def test_a_missing_medium_is_named(machine: Machine) -> None:
    shutil.rmtree(machine.medium)
    machine.boot(OLD)
    held(machine, machine.hook(), "no-medium")


def test_a_missing_vault_is_named(machine: Machine) -> None:
    (machine.medium / "vault").unlink()
    machine.boot(OLD)
    held(machine, machine.hook(), "no-medium")


def test_a_missing_acceptance_is_named(machine: Machine) -> None:
    (machine.medium / "acceptance.1").unlink()
    machine.boot(OLD)
    held(machine, machine.hook(), "stale")


def instead(make: Callable[[Path], object]) -> Callable[[Path], None]:
    def change(file: Path) -> None:
        kept = file.rename(file.with_name("kept"))
        make(file)
        assert kept.exists()

    return change


NOT_FILES: dict[str, Callable[[Path], None]] = {
    "a link to the true file": instead(lambda file: file.symlink_to("kept")),
    "a link to nowhere": instead(lambda file: file.symlink_to("nowhere")),
    "a link to itself": instead(lambda file: file.symlink_to(file.name)),
    "a link to an endless device": instead(lambda file: file.symlink_to("/dev/zero")),
    "a FIFO": instead(os.mkfifo),
    "a folder": instead(Path.mkdir),
}


@pytest.mark.parametrize("name", ["vault", "acceptance.1"])
@pytest.mark.parametrize("kind", NOT_FILES)
def test_what_is_not_a_plain_file_is_not_opened(
    machine: Machine, name: str, kind: str
) -> None:
    NOT_FILES[kind](machine.medium / name)
    machine.boot(OLD)
    held(machine, machine.hook(), "bad-medium")


def test_a_medium_that_is_a_link_is_not_followed(machine: Machine) -> None:
    machine.medium.rename(machine.folder / "elsewhere")
    machine.medium.symlink_to("elsewhere")
    machine.boot(OLD)
    held(machine, machine.hook(), "bad-medium")


Edit = Callable[[bytes], bytes]


def swap(old: bytes, new: bytes) -> Edit:
    def edit(data: bytes) -> bytes:
        assert old in data
        return data.replace(old, new, 1)

    return edit


def pattern(old: bytes, new: bytes) -> Edit:
    def edit(data: bytes) -> bytes:
        edited = re.sub(old, lambda match: match.expand(new), data, count=1)
        assert edited != data
        return edited

    return edit


HOSTILE_BYTES: dict[str, Edit] = {
    "empty": lambda data: b"",
    "one line feed": lambda data: b"\n",
    "cut short": lambda data: data[: len(data) // 2],
    "cut at a line": lambda data: data[: data.rindex(b"\n", 0, -1) + 1],
    "without the last line feed": lambda data: data[:-1],
    "a line feed more": lambda data: data + b"\n",
    "a word more": lambda data: data + b"more 1\n",
    "every line twice": lambda data: data + data,
    "CR LF": lambda data: data.replace(b"\n", b"\r\n"),
    "random bytes": lambda data: bytes(range(256)) * 16,
    "zero bytes": lambda data: bytes(4096),
    "a zero byte within": lambda data: data[:40] + b"\0" + data[40:],
    "a zero byte at the end": lambda data: data + b"\0",
    "an escape within": lambda data: data[:40] + b"\x1b[2J" + data[40:],
    "a byte of the upper half": lambda data: data[:40] + b"\x9b" + data[40:],
    "a huge file": lambda data: data + b"a" * (1 << 24),
    "a huge file without a line": lambda data: b"a" * (1 << 20),
    "too many bytes by one": lambda data: data + b"x" * (32769 - len(data)),
    "version 2": pattern(rb" 1\n", b" 2\n"),
    "version 01": pattern(rb" 1\n", b" 01\n"),
    "no version": pattern(rb" 1\n", b"\n"),
    "two spaces": pattern(rb"generation ", b"generation  "),
    "a tab": pattern(rb"generation ", b"generation\t"),
    "a leading space": pattern(rb"generation", b" generation"),
    "a trailing space": pattern(rb"generation 1", b"generation 1 "),
    "generation 01": pattern(rb"generation 1", b"generation 01"),
    "generation of letters": pattern(rb"generation 1", b"generation a"),
    "generation too large": pattern(rb"generation 1", b"generation " + b"9" * 30),
    "a doubled line": pattern(rb"(generation 1\n)", rb"\1\1"),
    "a missing line": pattern(rb"generation 1\n", b""),
    "lines swapped": pattern(rb"(generation 1\n)(medium .*\n)", rb"\2\1"),
    "an unknown key": pattern(rb"generation", b"generations"),
    "a name with a slash": pattern(rb"medium \w+", b"medium ../../etc/passwd"),
    "a name too long": pattern(rb"medium \w+", b"medium " + b"a" * 33),
    "an empty name": pattern(rb"medium \w+", b"medium "),
    "a command in a name": pattern(rb"medium \w+", b"medium $(touch${IFS}/tmp/x)"),
    "a backquote in a name": pattern(rb"medium \w+", b"medium `id`"),
    "a star for a name": pattern(rb"medium \w+", b"medium *"),
    "a format for a name": pattern(rb"medium \w+", b"medium %s%n"),
    "a backslash in a name": pattern(rb"medium \w+", b"medium a\\\\b"),
}
HOSTILE_VAULTS: dict[str, Edit] = {
    **HOSTILE_BYTES,
    "another file's name": swap(b"aemseal-vault", b"aemseal-acceptance"),
    "generation 0": swap(b"generation 1", b"generation 0"),
    "no generation value": swap(b"generation 1", b"generation"),
    "a counter that is no index": swap(b"counter 01", b"counter 81"),
    "a counter with a prefix": swap(b"counter 01", b"counter 0x"),
    "a counter of letters": pattern(rb"counter \w+", b"counter owner"),
    "a short counter": swap(b"counter 0", b"counter "),
    "a key in upper case": pattern(rb"key 0023000b", b"key 0023000B"),
    "a key of odd length": swap(b"key 0", b"key "),
    "a key too long": pattern(rb"key \w+", b"key " + b"00" * 600),
    "an empty key": pattern(rb"key \w+", b"key "),
    "a key that is none": pattern(rb"key \w+", b"key 00"),
    "a key cut short": pattern(rb"(key \w+)\w{8}", rb"\1"),
    "a short policy-ref": pattern(rb"policy-ref \w\w", b"policy-ref "),
    "no secret": pattern(rb"(?s)secret text.*", b""),
    "a secret of another kind": swap(b"text text", b"text script"),
    "a secret that asks for a PIN": swap(b"text text 0", b"text text 1"),
    "a PIN of 2": swap(b"text text 0", b"text text 2"),
    "no PIN field": swap(b"text text 0 1", b"text text 1"),
    "a field more": swap(b"text text 0 1", b"text text 0 1 1"),
    "no parts": swap(b"text text 0 1", b"text text 0 0"),
    "a part missing": swap(b"text text 0 1", b"text text 0 2"),
    "17 parts": swap(b"text text 0 1", b"text text 0 17"),
    "a part too many": pattern(rb"(part .*\n)", rb"\1\1"),
    "five secrets": pattern(rb"(secret .*\npart .*\n)", rb"\1" * 5),
    "a part of one field": pattern(rb"part (\w+) \w+", rb"part \1"),
    "a part of three fields": pattern(rb"part (\w+)", rb"part \1 \1"),
    "a part that is no hex": pattern(rb"part \w\w", b"part zz"),
    "a private part damaged": pattern(rb"\w{8}\n$", b"00000000\n"),
    "a public part damaged": pattern(rb"part \w{8}", b"part ffffffff"),
    "a public part of another type": pattern(rb"part (\w{4})0008", rb"part \g<1>0001"),
    "a private part too short": pattern(rb"(part \w+) \w+", rb"\1 0000"),
}
HOSTILE_ACCEPTANCES: dict[str, Edit] = {
    **HOSTILE_BYTES,
    "another file's name": swap(b"aemseal-acceptance", b"aemseal-vault"),
    "another count": swap(b"count 1", b"count 2"),
    "count 01": swap(b"count 1", b"count 01"),
    "no branch": pattern(rb"(branch .*\n){2}", b""),
    "one branch": pattern(rb"branch .*\n", b""),
    "9 branches": pattern(rb"(branch .*\n)", rb"\1" * 8),
    "a branch without name": pattern(rb"(branch \w+) .*", rb"\1"),
    "a branch of two names": pattern(rb"(branch .*)", rb"\1 \1"),
    "a branch that is a path": pattern(rb"branch \w+", b"branch ../../../etc/passwd"),
    "a branch too short": pattern(rb"branch \w\w", b"branch "),
    "a branch name with a comma": pattern(rb"(branch \w+) .*", rb"\1 a,b"),
    "no policy": pattern(rb"policy .*\n", b""),
    "two policies": pattern(rb"(policy .*\n)", rb"\1\1"),
    "a policy too long": pattern(rb"policy ", b"policy 00"),
    "no signature": pattern(rb"signature .*\n", b""),
    "an empty signature": pattern(rb"signature .*", b"signature "),
    "a signature of odd length": pattern(rb"signature 0", b"signature "),
    "a signature that is none": pattern(rb"signature .*", b"signature 00000000"),
    "a signature of another scheme": swap(b"signature 0018", b"signature 0005"),
    "a signature cut short": pattern(rb"(signature \w+)\w{8}\n", rb"\1\n"),
    "a branch after the policy": pattern(rb"(branch .*\n)(policy .*\n)", rb"\1\2\1"),
}


@pytest.mark.parametrize("kind", HOSTILE_VAULTS)
def test_a_hostile_vault_is_refused(machine: Machine, kind: str) -> None:
    vault = machine.medium / "vault"
    vault.write_bytes(HOSTILE_VAULTS[kind](vault.read_bytes()))
    machine.boot(OLD)
    held(machine, machine.hook(), "bad-medium")


@pytest.mark.parametrize("kind", HOSTILE_ACCEPTANCES)
def test_a_hostile_acceptance_is_refused(machine: Machine, kind: str) -> None:
    acceptance = machine.medium / "acceptance.1"
    acceptance.write_bytes(HOSTILE_ACCEPTANCES[kind](acceptance.read_bytes()))
    machine.boot(OLD)
    held(machine, machine.hook(), "bad-medium")


@pytest.mark.parametrize("shell", SHELLS, ids=" ".join)
@pytest.mark.parametrize(
    "kind",
    ["zero bytes", "a zero byte within", "random bytes", "a backslash in a name"],
)
def test_every_shell_refuses_bytes_that_shells_differ_in(
    machine: Machine, kind: str, shell: tuple[str, ...]
) -> None:
    vault = machine.medium / "vault"
    vault.write_bytes(HOSTILE_VAULTS[kind](vault.read_bytes()))
    machine.boot(OLD)
    held(machine, machine.hook(shell=shell), "bad-medium")


def test_a_signature_changed_in_one_bit_is_refused(machine: Machine) -> None:
    acceptance = machine.medium / "acceptance.1"
    text = acceptance.read_text().rstrip("\n")
    acceptance.write_text(text[:-1] + f"{int(text[-1], 16) ^ 1:x}\n")
    machine.boot(OLD)
    held(machine, machine.hook(), "not-accepted")


def test_a_vault_that_names_another_counter_opens_nothing(machine: Machine) -> None:
    machine.tool(
        *("tpm2_nvdefine", "-C", "o", "-a", "nt=counter|ownerwrite|authread|no_da"),
        "0x1a10aef",
    )
    machine.tool("tpm2_nvincrement", "-C", "o", "0x1a10aef")
    vault = machine.medium / "vault"
    vault.write_bytes(
        swap(b"counter 01a10ae0", b"counter 01a10aef")(vault.read_bytes())
    )
    for count in range(4):
        acceptance = (machine.medium / "acceptance.1").read_text()
        edited = acceptance.replace("count 1", f"count {count}")
        if count != 1:
            (machine.medium / f"acceptance.{count}").write_text(edited)
    machine.boot(OLD)
    held(machine, machine.hook(), "not-accepted")


# ------------------------------------------------------------------ the initramfs


@pytest.mark.parametrize("name", ["hook.conf", "srk.tr"])
def test_an_initramfs_that_is_not_enrolled_is_capped(
    machine: Machine, name: str
) -> None:
    (machine.etc / name).unlink()
    machine.boot(OLD)
    outcome = machine.hook()
    assert (outcome.code, outcome.record) == (18, {})
    assert_closed(outcome)
    assert machine.pcr(13) == machine.pcr13_capped(measured=False)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "aemseal-hook 2\nbank sha256\npcrs 13,17\n",
        "aemseal-hook 1\nbank md5\npcrs 13,17\n",
        "aemseal-hook 1\nbank sha256\n",
        "aemseal-hook 1\nbank sha256\npcrs 17,18\n",
        "aemseal-hook 1\nbank sha256\npcrs 13,18\n",
        "aemseal-hook 1\nbank sha256\npcrs 13,17,\n",
        "aemseal-hook 1\nbank sha256\npcrs 13,,17\n",
        "aemseal-hook 1\nbank sha256\npcrs 13,17,118\n",
        "aemseal-hook 1\nbank sha256\npcrs 13,17+sha1:1\n",
        "aemseal-hook 1\nbank sha256\npcrs 13,17",
        "aemseal-hook 1\nbank sha256\npcrs 13,17\n\n",
    ],
)
def test_a_configuration_not_of_the_format_is_refused(
    machine: Machine, text: str
) -> None:
    (machine.etc / "hook.conf").write_text(text)
    machine.boot(OLD)
    outcome = machine.hook()
    assert outcome.code == EXITS["not-enrolled"]
    assert_closed(outcome)
    assert machine.pcr(13) == machine.pcr13_capped(measured=False)


@pytest.mark.parametrize(
    "word",
    [
        "rd.luks.uuid=luks-0f0e7a6c-3f0b-4a50-8c0e-6d1f3b8fffff",
        "rd.luks.uuid=luks-0f0e7a6c",
        "rd.luks.uuid=",
        "rd.luks.uuid=../../../dev/zero",
        "rd.luks.uuid=*",
        "rd.luks.uuid=0F0E7A6C-3F0B-4A50-8C0E-6D1F3B8F0001",
    ],
)
def test_a_header_that_cannot_be_read_keeps_the_secret_in(
    machine: Machine, word: str
) -> None:
    machine.cmdline.write_text(f"{machine.cmdline.read_text().strip()} {word}\n")
    machine.boot(OLD)
    held(machine, machine.hook(), "no-luks", measured=False)


def test_a_device_without_luks_header_keeps_the_secret_in(
    machine: Machine, tmp_path: Path
) -> None:
    shutil.copytree(machine.disks.by_uuid, tmp_path / "by-uuid", symlinks=True)
    (tmp_path / "by-uuid" / Disks.UUIDS[1]).unlink()
    (tmp_path / "by-uuid" / Disks.UUIDS[1]).write_bytes(bytes(1 << 20))
    machine.boot(OLD)
    words = machine.arguments()
    machine.arguments = lambda: [*words[:-1], str(tmp_path / "by-uuid")]  # type: ignore[method-assign] # this test's disks
    held(machine, machine.hook(), "no-luks", measured=False)


@pytest.mark.parametrize("words", [["-x"], ["-e"], ["word"]])
def test_a_wrong_command_line_caps_too(machine: Machine, words: list[str]) -> None:
    machine.boot(OLD)
    arguments = [*machine.arguments(), *words]
    machine.arguments = lambda: arguments  # type: ignore[method-assign] # as above
    outcome = machine.hook()
    assert outcome.code == EXITS["failed"]
    assert_closed(outcome)
    assert machine.pcr(13) == machine.pcr13_capped(measured=False)


# ------------------------------------------------------------------ every way out


def at(wire: Wire, code: int, act: Callable[[], None]) -> None:
    """Act once, before the TPM gets this command."""

    def before(found: int) -> None:
        if found == code:
            wire.before = lambda code: None
            act()

    wire.before = before


@pytest.mark.parametrize("shell", SHELLS, ids=" ".join)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
@pytest.mark.parametrize(
    "code", [CC_PCR_EXTEND, CC_START_AUTH_SESSION, CC_LOAD, CC_UNSEAL, CC_PCR_EVENT]
)
def test_a_signal_at_any_time_caps(
    machine: Machine, code: int, number: signal.Signals, shell: tuple[str, ...]
) -> None:
    machine.boot(OLD)
    with Wire(machine.tpm) as wire:
        at(wire, code, lambda: process.send_signal(number))
        process = machine.start_hook(shell=shell, tcti=f"swtpm:path={wire.path}")
        outcome = machine.finish_hook(process)
    if code == CC_PCR_EVENT:  # too late to stop it, and it need not be stopped
        held(machine, outcome, "unsealed")
        assert outcome.stdout == SECRET
    else:
        held(machine, outcome, "failed")


def altered(machine: Machine, *edits: tuple[str, str]) -> Path:
    """A copy of the hook with these texts replaced."""
    text = HOOK.read_text()
    for old, new in edits:
        assert old in text
        text = text.replace(old, new, 1)
    copy = machine.folder / "altered-hook"
    copy.write_text(text)
    return copy


TOOLS_OF_THE_HOOK = sorted(
    set(re.findall(r"\b(tpm2_[a-z]+)\b", HOOK.read_text()))
    | {"cryptsetup", "timeout", "head", "tr", "od", "sort", "sha256sum", "mkdir"}
)


def with_broken(
    machine: Machine, tool: str, script: str, *edits: tuple[str, str]
) -> Path:
    """A copy of the hook that finds this script in the place of one tool."""
    shims = machine.folder / "shims"
    shims.mkdir()
    (shims / tool).write_text(f"#!/bin/sh\n{script}\n")
    (shims / tool).chmod(0o755)
    return altered(machine, ("\nPATH=", f"\nPATH={shims}:"), *edits)


@pytest.mark.parametrize("tool", TOOLS_OF_THE_HOOK)
def test_no_tool_that_fails_lets_the_secret_out_uncapped(
    machine: Machine, tool: str
) -> None:
    machine.boot(OLD)
    outcome = machine.hook(hook=with_broken(machine, tool, "exit 1"))
    capped = machine.pcr(13) in (
        machine.pcr13_capped(),
        machine.pcr13_capped(measured=False),
    )
    # Without these two no cap is possible.
    assert capped == (tool not in ("timeout", "tpm2_pcrevent")), outcome
    if tool in ("tpm2_readpublic", "tpm2_pcrread"):  # asked only when refused
        assert outcome.stdout == SECRET
    else:
        assert outcome.code != 0
        assert_closed(outcome)


@pytest.mark.parametrize(
    "tool", ["cryptsetup", "tpm2_startauthsession", "tpm2_unseal", "head", "od"]
)
def test_a_tool_that_hangs_is_ended_and_the_boot_capped(
    machine: Machine, tool: str
) -> None:
    machine.boot(OLD)
    hook = with_broken(
        machine, tool, "exec sleep 1000", ("tool_seconds=60", "tool_seconds=1")
    )
    outcome = machine.hook(hook=hook)
    assert outcome.code not in (0, EXITS["cap-failed"])
    assert_closed(outcome)
    assert machine.pcr(13) == machine.pcr13_capped(measured=tool != "cryptsetup")


def test_without_the_cap_nothing_is_shown(machine: Machine) -> None:
    machine.boot(OLD)
    outcome = machine.hook(hook=with_broken(machine, "tpm2_pcrevent", "exit 1"))
    assert (outcome.code, outcome.word) == (EXITS["cap-failed"], "cap-failed")
    assert_closed(outcome)
    assert "cap" not in outcome.record
    assert machine.left_behind() == []


@pytest.mark.parametrize("shell", SHELLS, ids=" ".join)
@pytest.mark.parametrize("place", ["read_counter\n", "        satisfy\n"])
def test_an_error_of_the_shell_itself_caps(
    machine: Machine, place: str, shell: tuple[str, ...]
) -> None:
    machine.boot(OLD)
    hook = altered(machine, (f"\n{place}", f'\n: "$never_set"\n{place}'))
    outcome = machine.hook(shell=shell, hook=hook)
    held(machine, outcome, "failed")


# ------------------------------------------------------------------ the wire


def test_no_four_bytes_of_the_secret_are_on_the_wire(machine: Machine) -> None:
    secret = bytes(os.urandom(4).hex(), "ascii") + b" is nowhere to be heard " * 8
    machine.write_vault(secret)
    machine.boot(OLD)
    with Wire(machine.tpm) as wire:
        outcome = machine.hook(tcti=f"swtpm:path={wire.path}")
    assert outcome.stdout == secret.rstrip(b"\n") + b"\n"
    assert wire.codes.count(CC_UNSEAL) == 2
    heard = b"".join(command + response for _, command, response in wire.commands)
    for start in range(len(secret) - 3):
        assert secret[start : start + 4] not in heard


def test_the_wire_would_show_it_without_encryption(machine: Machine) -> None:
    """The control of the test above: an unsalted session is overheard."""
    machine.boot(OLD)
    unsalted = altered(
        machine, ('--policy-session -c "$etc/srk.tr"', "--policy-session")
    )
    with Wire(machine.tpm) as wire:
        outcome = machine.hook(hook=unsalted, tcti=f"swtpm:path={wire.path}")
    assert outcome.stdout == SECRET
    assert any(SECRET in response for _, _, response in wire.commands)


def test_the_cap_is_the_first_extend_after_the_unsealing(machine: Machine) -> None:
    machine.boot(OLD)
    with Wire(machine.tpm) as wire:
        machine.hook(tcti=f"swtpm:path={wire.path}")
    codes = wire.codes
    assert codes.index(CC_UNSEAL) < codes.index(CC_PCR_EVENT)
    assert CC_UNSEAL not in codes[codes.index(CC_PCR_EVENT) :]
    assert codes.count(CC_PCR_EVENT) == 1
    assert codes.count(CC_PCR_EXTEND) == len(Disks.UUIDS)


def test_an_unsealing_costs_no_more_than_it_did(machine: Machine) -> None:
    """A boot waits for every command; a real TPM takes 10 to 300 ms for each."""
    machine.boot(OLD)
    with Wire(machine.tpm) as wire:
        machine.hook(tcti=f"swtpm:path={wire.path}")
    assert len(wire.codes) <= 70


# ------------------------------------------------------------------ the other side


def selection() -> PcrSelection:
    return PcrSelection.parse("sha256:13,17,18,19")


def sealed_boot(machine: Machine, name: str, what: Boot) -> SealedBoot:
    values = {
        pcr: Digest(HashAlgorithm.SHA256, value)
        for pcr, value in what.pcrs(machine.disks.headers).items()
    }
    baseline = Baseline(title=name, stack="tboot", map="legacy", measurements=())
    policy = policy_pcr(selection(), values)
    return SealedBoot(name, "2026-01-01T00:00:00Z", policy, baseline)


@pytest.mark.parametrize("size", [1, 128, 300])
def test_the_hook_opens_what_the_package_sealed(bare: Machine, size: int) -> None:
    text = b"z" * size
    old, new = (
        sealed_boot(bare, "Xen 4.17.5", OLD),
        sealed_boot(bare, "Xen 4.17.7", NEW),
    )
    medium = bare.folder / "root" / "boot" / "aemseal"
    medium.mkdir(parents=True)
    files = Files(bare.folder / "root")
    bare.medium, bare.etc = medium, bare.folder / "root/var/lib/aemseal/hook"

    def tpm() -> Tpm:
        return Tpm(bare.tcti)

    with tpm() as esys:
        vault = Vault(files, esys)
        key = own_the_tpm(vault, None)
        state = VaultState(
            generation=1,
            selection=selection(),
            storage=key,
            counter=0,
            count=0,
            media=(Medium(label="internal", path="/boot/aemseal"),),
            secrets=(),
            baseline=old.boot,
            accepted=(old,),
        )
        write_hook_files(vault, key, selection())
        state = seal(vault, state, Secret("text", "text", text))

    def shows(what: Boot, word: str) -> None:
        bare.boot(what)
        outcome = bare.hook()
        held(bare, outcome, word)
        assert outcome.stdout == (text + b"\n" if word == "unsealed" else b"")

    shows(OLD, "unsealed")
    shows(NEW, "not-accepted")
    with tpm() as esys:
        state = stage(Vault(files, esys), state, old.policy, new)
    shows(OLD, "unsealed")
    shows(NEW, "unsealed")
    with tpm() as esys:
        confirm(Vault(files, esys), state, new)
    shows(NEW, "unsealed")
    shows(OLD, "not-accepted")
