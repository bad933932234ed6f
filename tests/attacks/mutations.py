# SPDX-License-Identifier: GPL-2.0-or-later
"""Random mutations of a machine by someone without its encrypted root.

Each kind changes one thing of a mutant: what is booted, a file on a medium, or the
TPM. A mutation is some of them one after another, drawn from a seed.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from random import Random

from attacker import (
    AUTHREAD,
    AUTHWRITE,
    COUNTER_LIKE_OURS,
    NO_DA,
    NT_BITS,
    OWNERWRITE,
    Attacker,
)
from hierarchy_commands import (
    ANY_POLICY,
    CHANGE_PPS,
    CLEAR,
    NV_GLOBAL_WRITE_LOCK,
    NV_UNDEFINE_SPACE,
    PLATFORM,
    SET_PRIMARY_POLICY,
    send,
)
from mutated_machine import MEDIA, Mutant
from unsealer import SHA256, RefusedError, connected
from vault_world import EVIL, NEW, OLD
from victim import COUNTER

from aemseal.formats.hook_files import CAP_DATA
from aemseal.formats.slot import VAULT_FILE, Acceptance, AcceptedBranch, VaultFile
from aemseal.formats.slot import approved_policy as approved
from aemseal.formats.srk_templates import OWN_TEMPLATE
from aemseal.formats.tpm_policy import approval_digest, counter_name
from aemseal.words.errors import AemsealError
from aemseal.world.signing import SigningKey
from aemseal.world.tpm_storage import SRK_HANDLE

# isort: split
# tpm2-pytss only after unsealer, which quiets what 2.3 warns of on import
from tpm2_pytss import ESYS_TR

Kind = Callable[[Mutant, Random], None]

THEIRS = SigningKey.generate()
"""A key of the attacker's."""


# --- what is booted ---


def flip(data: bytes, random: Random) -> bytes:
    changed = bytearray(data)
    changed[random.randrange(len(changed))] ^= 1 << random.randrange(8)
    return bytes(changed)


def another_xen(mutant: Mutant, random: Random) -> None:
    mutant.inputs.xen = random.choice([OLD.xen, EVIL.xen, flip(NEW.xen, random)])


def another_command_line(mutant: Mutant, random: Random) -> None:
    mutant.inputs.policy = flip(mutant.inputs.policy, random)


def another_sinit(mutant: Mutant, random: Random) -> None:
    mutant.inputs.sinit = flip(mutant.inputs.sinit, random)


def another_header(mutant: Mutant, random: Random) -> None:
    """Flipped, left out, measured twice, or behind one of another disk."""
    (header,) = mutant.inputs.headers[:1] or [bytes(32)]
    other = flip(header, random)
    mutant.inputs.headers = random.choice(
        [[other], [], [header, header], [other, header], [header, other]]
    )


def no_launch(mutant: Mutant, random: Random) -> None:
    """The same extends, from locality 2, without the processor's part."""
    mutant.inputs.is_launched = False


def more_extends(mutant: Mutant, random: Random) -> None:
    value = hashlib.sha256(random.randbytes(4)).digest()
    pcr = random.choice([13, 14, 16, 17, 18, 19, 23])
    mutant.inputs.more.append((pcr, value, 2))


def after_the_cap(mutant: Mutant, random: Random) -> None:
    mutant.inputs.more.append((13, SHA256.hash(CAP_DATA).value, 0))


# --- files ---


def a_file(mutant: Mutant, random: Random) -> str:
    return random.choice(sorted(mutant.folder) or [VAULT_FILE])


def flip_a_bit(mutant: Mutant, random: Random) -> None:
    name = a_file(mutant, random)
    mutant.folder[name] = flip(mutant.folder.get(name) or b"\n", random)


def another_digit(mutant: Mutant, random: Random) -> None:
    """So that the file is still one, and the TPM has to say no."""
    name = a_file(mutant, random)
    data = bytearray(mutant.folder.get(name, b""))
    digits = [at for at, each in enumerate(data) if each in b"0123456789abcdef"]
    if digits:
        data[random.choice(digits)] = random.choice(b"0123456789abcdef")
    mutant.folder[name] = bytes(data)


def cut_short(mutant: Mutant, random: Random) -> None:
    name = a_file(mutant, random)
    data = mutant.folder.get(name, b"")
    mutant.folder[name] = data[: random.randrange(len(data) + 1)]


def change_lines(mutant: Mutant, random: Random) -> None:
    """Two swapped, one dropped, one twice, or one out of an older file."""
    name = a_file(mutant, random)
    lines = mutant.folder.get(name, b"\n").splitlines(keepends=True) or [b"\n"]
    one, other = random.randrange(len(lines)), random.randrange(len(lines))
    way = random.randrange(4)
    if way == 0:
        lines[one], lines[other] = lines[other], lines[one]
    elif way == 1:
        del lines[one]
    elif way == 2:
        lines.insert(other, lines[one])
    else:
        _, older = random.choice(mutant.machine.older)
        key = lines[one].split(b" ")[0]
        same = [each for each in older.splitlines(keepends=True) if each[:4] == key[:4]]
        lines[one] = random.choice(same or [b"end\n"])
    mutant.folder[name] = b"".join(lines)


def swap_parts(mutant: Mutant, random: Random) -> None:
    """The public and private half of a sealed object, or those of another medium."""
    data = mutant.folder.get(VAULT_FILE, b"")
    lines = data.splitlines(keepends=True)
    other = random.choice(MEDIA)
    theirs = mutant.machine.media[other.label][VAULT_FILE].splitlines(keepends=True)
    if random.random() < 0.5 and lines:
        word, _, rest = lines[-1].rstrip().partition(b" ")
        lines[-1] = b" ".join([word, *reversed(rest.split(b" "))]) + b"\n"
    elif lines:
        lines[-1] = theirs[-1]
    mutant.folder[VAULT_FILE] = b"".join(lines)


def an_older_version(mutant: Mutant, random: Random) -> None:
    """Under its own name, or under that of the number in force."""
    name, data = random.choice(mutant.machine.older)
    if name != VAULT_FILE and random.random() < 0.5:
        name = "acceptance.3"
        if random.random() < 0.5:
            data = data.replace(b"count 1\n", b"count 3\n")
            data = data.replace(b"count 2\n", b"count 3\n")
    mutant.folder[name] = data


def another_name(mutant: Mutant, random: Random) -> None:
    name = a_file(mutant, random)
    data = mutant.folder.pop(name, b"")
    mutant.folder[f"acceptance.{random.randrange(6)}"] = data


def files_of_the_other_medium(mutant: Mutant, random: Random) -> None:
    other = mutant.media[random.choice(MEDIA).label]
    for name in random.sample(sorted(other), random.randrange(len(other) + 1)):
        mutant.folder[name] = other[name]


def a_forged_acceptance(mutant: Mutant, random: Random) -> None:
    """Of the old Xen or of whatever boots, signed by K for another, or by theirs."""
    with suppress(AemsealError, KeyError):
        vault = VaultFile.parse(mutant.folder[VAULT_FILE])
        now = Acceptance.parse(mutant.folder["acceptance.3"])
        evil = AcceptedBranch(random.choice([OLD, EVIL]).policy, "Xen-4.17.7")
        branches = random.choice([(evil, evil), (evil, *now.branches[:1])])
        policy = approved(branches, counter_name(vault.counter), now.count)
        made = replace(now, branches=branches)
        if random.random() < 0.7:
            made = replace(made, policy=policy)
        if random.random() < 0.5:
            signature = THEIRS.sign(approval_digest(policy, vault.policy_ref))
            made = replace(made, signature=signature)
        if random.random() < 0.5:
            mutant.folder[VAULT_FILE] = replace(vault, key=THEIRS.public).to_bytes()
        mutant.folder["acceptance.3"] = made.to_bytes()


def the_other_medium_is_found(mutant: Mutant, random: Random) -> None:
    mutant.found = random.choice(MEDIA)


def another_pin(mutant: Mutant, random: Random) -> None:
    if mutant.pin:
        mutant.pin = random.choice([b"", flip(mutant.pin, random)])


# --- the TPM ---


def by_owner(mutant: Mutant, act: Callable[[Attacker], object]) -> None:
    """With the owner's value as far as the attacker knows it; refusals are refusals."""
    world = mutant.switch_on()
    with connected(world.chip.tcti) as esapi, suppress(RefusedError):
        act(Attacker(esapi, mutant.owner))


def the_owners_value_is_known(mutant: Mutant, random: Random) -> None:
    mutant.owner = mutant.machine.owner


def undefine(mutant: Mutant, random: Random) -> None:
    by_owner(mutant, lambda attacker: attacker.undefine(COUNTER))


def count_on(mutant: Mutant, random: Random) -> None:
    for _ in range(random.randrange(1, 4)):
        by_owner(mutant, lambda it: it.increment(it.index(COUNTER)))


def define_like_ours(mutant: Mutant, random: Random) -> None:
    undefine(mutant, random)
    by_owner(mutant, lambda attacker: attacker.define(COUNTER, COUNTER_LIKE_OURS))
    count_on(mutant, random)


def define_another(mutant: Mutant, random: Random) -> None:
    """An index that takes the number of any acceptance."""
    undefine(mutant, random)
    number = random.randrange(1, 4)
    is_bits = random.random() < 0.3
    attributes = OWNERWRITE | AUTHWRITE | AUTHREAD | NO_DA | (NT_BITS * is_bits)

    def write(attacker: Attacker) -> None:
        index = attacker.define(COUNTER, attributes)
        if is_bits:
            attacker.do("nv_set_bits", nv_index=index, bits=number, auth_handle=index)
        else:
            data = number.to_bytes(8, "big")
            attacker.do("nv_write", nv_index=index, data=data, auth_handle=index)

    by_owner(mutant, write)


def by_platform(mutant: Mutant, random: Random) -> None:
    world = mutant.switch_on()
    handles, parameters = b"", b""
    command = random.choice(
        [NV_UNDEFINE_SPACE, CHANGE_PPS, NV_GLOBAL_WRITE_LOCK, SET_PRIMARY_POLICY, CLEAR]
    )
    if command == NV_UNDEFINE_SPACE:
        handles = struct.pack(">I", COUNTER)
    if command == SET_PRIMARY_POLICY:
        parameters = ANY_POLICY
    if command == CLEAR:
        mutant.owner = b""
    send(world, command, PLATFORM, parameters, handles)


def plant_a_key(mutant: Mutant, random: Random) -> None:
    """Their own where the storage key is, or the storage key's twin."""

    def plant(attacker: Attacker) -> None:
        with suppress(RefusedError):
            attacker.clear_persistent(SRK_HANDLE)
        if random.random() < 0.5:
            attacker.plant_key(SRK_HANDLE, OWN_TEMPLATE.public)
        else:
            attacker.persist(attacker.primary(OWN_TEMPLATE.public), SRK_HANDLE)

    by_owner(mutant, plant)


def another_owners_value(mutant: Mutant, random: Random) -> None:
    def change(attacker: Attacker) -> None:
        attacker.do(
            "hierarchy_change_auth", auth_handle=ESYS_TR.OWNER, new_auth=b"theirs"
        )

    by_owner(mutant, change)


BOOT: tuple[Kind, ...] = (
    *(another_xen, another_command_line, another_sinit, another_header, no_launch),
    *(more_extends, after_the_cap),
)
FILES: tuple[Kind, ...] = (
    *(flip_a_bit, another_digit, cut_short, change_lines, swap_parts),
    *(an_older_version, another_name, files_of_the_other_medium, a_forged_acceptance),
    *(the_other_medium_is_found, another_pin),
)
CHIP: tuple[Kind, ...] = (
    *(the_owners_value_is_known, undefine, count_on, define_like_ours, define_another),
    *(by_platform, plant_a_key, another_owners_value),
)


def mutate(mutant: Mutant, random: Random) -> None:
    """Change one to five things; the owner's value is known in one of four."""
    kinds: list[Kind] = random.choices([*BOOT, *FILES, *CHIP], k=random.randrange(1, 6))
    if random.random() < 0.25 and any(each in CHIP for each in kinds):
        kinds.insert(0, the_owners_value_is_known)
    for kind in kinds:
        kind(mutant, random)
        mutant.done.append(kind.__name__)
