# SPDX-License-Identifier: GPL-2.0-or-later
"""A machine for the boot hook: disks, a medium, an initramfs, and a TPM behind them.

The vault here is made with tpm2-tools, openssl and hashlib from docs/slot-format.md
and the TPM specification alone: it shares no code with the package, so that the hook
is held against a second reading of the format.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from copy import copy
from pathlib import Path

from hook_bus import OLD, PCRS, Boot, extended
from hook_keys import (
    Key,
    policy_auth_value,
    policy_authorize,
    policy_nv,
    policy_or,
    policy_pcr,
    policy_ref,
    run,
)
from hook_outcome import CAP, Outcome
from hook_person import PIN, Person
from hook_program import HOOK
from tpm_sim.swtpm import Swtpm

TOOLS = ("swtpm", "tpm2_unseal", "cryptsetup", "openssl", "dash", "oathtool")
SRK_HANDLE = "0x81000001"
COUNTER = 0x01A10AE0
SECRET = b"Correct horse, battery staple.\n"
KEY = bytes(range(63)) + b"\n"
"""A keyfile."""
Branch = tuple[bytes, str, str]
"""Of an acceptance: the digest, the name, and the text of the PCR values."""
BOTH = ("text text", "keyfile keyfile")
"""The record's lines for the secrets of a guarded machine."""
STAGED_MARK = hashlib.sha256(b"aemseal staged 1").digest()


class Disks:
    """LUKS2 headers in plain files, linked by UUID as udev does."""

    UUIDS = (
        "0f0e7a6c-3f0b-4a50-8c0e-6d1f3b8f0001",
        "1c2d3e4f-3f0b-4a50-8c0e-6d1f3b8f0002",
    )
    HEADER = 2 * 16384 + 262144  # two JSON areas and the key slots

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.by_uuid = folder / "by-uuid"
        self.by_uuid.mkdir(parents=True)
        for uuid in self.UUIDS:
            disk = folder / uuid
            disk.write_bytes(bytes(1 << 20))
            run("cryptsetup", "luksFormat", "--type", "luks2", "--batch-mode")(
                *("--pbkdf", "pbkdf2", "--pbkdf-force-iterations", "1000"),
                *("--luks2-metadata-size", "16k", "--luks2-keyslots-size", "256k"),
                *("--offset", "1024", "--key-slot", "0", "--uuid", uuid),
                *("--key-file", "-", disk),
                input=b"passphrase",
            )
            (self.by_uuid / uuid).symlink_to(disk)

    @property
    def headers(self) -> tuple[bytes, ...]:
        return tuple(
            (self.folder / uuid).read_bytes()[: self.HEADER] for uuid in self.UUIDS
        )


class Machine:
    """An enrolled machine. `enrol` once, then `boot` and `hook` as often as one likes.

    Its folders are the hook's arguments: etc, run, medium, by-uuid and cmdline.
    """

    def __init__(
        self, folder: Path, tpm: Swtpm, disks: Disks, bank: str = "sha256"
    ) -> None:
        folder.mkdir()
        self.key = Key(folder / "key")
        self.disks = disks
        self.bank = bank
        self.more_arguments: tuple[str, ...] = ()
        self.without_asker = False
        self.generation = 1
        self.label = "internal"
        self._settle(folder, tpm)
        for place in (self.etc, self.medium):
            place.mkdir()
        (self.etc / "hook.conf").write_text(
            f"aemseal-hook 1\nbank {bank}\npcrs {','.join(map(str, PCRS))}\n"
        )
        words = " ".join(f"rd.luks.uuid=luks-{uuid}" for uuid in reversed(disks.UUIDS))
        self.cmdline.write_text(f"root=/dev/x {words} rd.luks.uuid={disks.UUIDS[0]}\n")

    def _settle(self, folder: Path, tpm: Swtpm) -> None:
        self.folder = folder
        self.tpm = tpm
        self.etc = folder / "etc"
        self.run = folder / "run"
        self.medium = folder / "medium"
        self.cmdline = folder / "cmdline"
        self.person = Person(folder)

    def twin(self, folder: Path, tpm: Swtpm) -> Machine:
        """Return a machine that is as this one was when switched off; it is on."""
        shutil.copytree(self.folder, folder)
        for state in self.tpm.socket_path.parent.glob("tpm2-*"):
            shutil.copy(state, tpm.socket_path.parent)
        machine = copy(self)
        machine._settle(folder, tpm)
        tpm.power_on()
        return machine

    def tool(self, name: str, *words: str | Path, input: bytes = b"") -> bytes:  # noqa: A002
        """Run one of tpm2-tools and leave no object behind."""
        try:
            return run(name, *words, tcti=self.tpm.tcti)(input=input)
        finally:
            run("tpm2_flushcontext", "-t", tcti=self.tpm.tcti)()

    # --- enrolling ---

    def make_storage_key(
        self, algorithm: str = "ecc", *, guarded: bool = False
    ) -> None:
        """Make the SRK; `guarded` as tpm2-tools do by default: without noDA."""
        context = self.folder / "primary"
        attributes = (
            "fixedtpm|fixedparent|sensitivedataorigin|userwithauth|restricted|decrypt"
        )
        self.tool(
            *("tpm2_createprimary", "-C", "o", "-G", algorithm, "-c", context),
            *("-a", attributes if guarded else f"{attributes}|noda"),
        )
        self.tool(
            *("tpm2_evictcontrol", "-C", "o", "-c", context),
            *("-o", self.etc / "srk.tr", SRK_HANDLE),
        )

    def make_counter(self, increments: int = 1) -> None:
        attributes = "nt=counter|ownerwrite|authread|no_da"
        self.tool("tpm2_nvdefine", "-C", "o", "-a", attributes, hex(COUNTER))
        for _ in range(increments):
            self.count_up()

    def count_up(self) -> None:
        self.tool("tpm2_nvincrement", "-C", "o", hex(COUNTER))

    @property
    def count(self) -> int:
        return int.from_bytes(
            self.tool("tpm2_nvread", "-C", hex(COUNTER), "-s", "8", hex(COUNTER)), "big"
        )

    def seal(
        self,
        secret: bytes,
        pin: bytes | None = None,
        kind: str = "text",
        *,
        no_da: bool = False,
    ) -> list[str]:
        """Seal in labelled parts of 104 bytes; the `part` lines."""
        reference = policy_ref(self.generation, self.label)
        policy, public, private = (self.folder / name for name in ("p", "pub", "priv"))
        digest = policy_authorize(self.key.name, reference)
        attributes = "fixedtpm|fixedparent|adminwithpolicy"
        authorisation: tuple[str, ...] = ()
        if pin is None or no_da:
            attributes += "|noda"
        if pin is not None:
            digest, authorisation = (
                policy_auth_value(digest),
                ("-p", f"hex:{pin.hex()}"),
            )
        policy.write_bytes(digest)
        lines = []
        parts = -(-len(secret) // 104)
        for number in range(1, parts + 1):
            label = f"aemseal {kind} {number}/{parts}\n".encode()
            self.tool(
                *("tpm2_create", "-C", self.etc / "srk.tr", "-L", policy, "-i", "-"),
                *("-a", attributes, *authorisation),
                *("-u", public, "-r", private),
                input=label + secret[(number - 1) * 104 : number * 104],
            )
            lines.append(
                f"part {public.read_bytes().hex()} {private.read_bytes().hex()}"
            )
        return lines

    def enrol(self, algorithm: str = "ecc", *, guarded: bool = False) -> None:
        """Make every object, and accept OLD."""
        self.make_storage_key(algorithm, guarded=guarded)
        self.make_counter()
        self.write_vault(SECRET)
        self.accept({"Xen-4.17.5": OLD})

    def write_vault(self, secret: bytes) -> None:
        self.write_secrets([("text", "text", secret, None)])

    def write_secrets(
        self, secrets: Sequence[tuple[str, str, bytes, bytes | None]]
    ) -> None:
        """Write a vault of these: name, kind, value, PIN."""
        lines = []
        for name, kind, value, pin in secrets:
            parts = self.seal(value, pin, kind)
            lines += [
                f"secret {name} {kind} {int(pin is not None)} {len(parts)}",
                *parts,
            ]
        self.write(
            "vault",
            "aemseal-vault 1",
            f"generation {self.generation}",
            f"medium {self.label}",
            f"counter {COUNTER:08x}",
            f"key {self.key.public.hex()}",
            f"policy-ref {policy_ref(self.generation, self.label).hex()}",
            *lines,
        )

    def guard_all(self) -> None:
        """Have nothing in the vault but a text behind the PIN."""
        self.write_secrets([("text", "text", b"behind the PIN", PIN.encode())])

    def accept(
        self,
        boots: Mapping[str, Boot],
        staged: Mapping[str, Boot] | None = None,
        *,
        count: int | None = None,
        key: Key | None = None,
        medium: str | None = None,
    ) -> None:
        """Write an acceptance for `count` (as it is now) of these boots by name."""
        branches = [self.branch(*each) for each in boots.items()]
        if staged:
            branches.append((STAGED_MARK, "staged", "-"))
            branches += [self.branch(*each) for each in staged.items()]
        self.write_acceptance(branches, count=count, key=key, medium=medium)

    def branch(self, name: str, what: Boot) -> Branch:
        """What is written of a boot: digest, name, and its PCR values."""
        pcrs = what.pcrs(self.bank, self.disks.headers)
        values = ",".join(pcrs[pcr].hex() for pcr in sorted(pcrs))
        return policy_pcr(self.bank, pcrs), name, values

    def write_acceptance(
        self,
        branches: Sequence[Branch],
        *,
        count: int | None = None,
        key: Key | None = None,
        medium: str | None = None,
    ) -> None:
        """Sign these branches, whatever they are, and write the file."""
        count = self.count if count is None else count
        medium = medium or self.label
        branches = list(branches) * (2 if len(branches) == 1 else 1)
        listing = self.tool("tpm2_nvreadpublic", hex(COUNTER)).decode()
        nv_name = bytes.fromhex(listing.split("name:")[1].split()[0])
        policy = policy_nv(policy_or([each[0] for each in branches]), nv_name, count)
        signature = (key or self.key).sign(policy, policy_ref(self.generation, medium))
        self.write(
            f"acceptance.{count}",
            "aemseal-acceptance 2",
            f"generation {self.generation}",
            f"medium {medium}",
            f"count {count}",
            *(
                f"branch {digest.hex()} {name}\nvalues {values}"
                for digest, name, values in branches
            ),
            f"policy {policy.hex()}",
            f"signature {signature.hex()}",
        )

    def write(self, name: str, *lines: str) -> None:
        (self.medium / name).write_text("\n".join(lines) + "\n")

    # --- booting ---

    def boot(self, what: Boot | None) -> None:
        """Cut the power, switch on, and launch if there is something to launch."""
        self.tpm.power_cut()
        self.tpm.power_on()
        if what is not None:
            what.launch(self.tpm)

    def arguments(self) -> list[str]:
        return [
            *("-e", str(self.etc), "-r", str(self.run), "-m", str(self.medium)),
            *("-c", str(self.cmdline), "-d", str(self.disks.by_uuid)),
            *(() if self.without_asker else ("-p", str(self.person.program))),
            *self.more_arguments,
        ]

    def start_hook(
        self,
        *,
        shell: tuple[str, ...] = ("dash",),
        hook: Path = HOOK,
        tcti: str | None = None,
    ) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [*shell, str(hook), *self.arguments()],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={"TPM2TOOLS_TCTI": tcti or self.tpm.tcti, "LANG": "C.UTF-8"},
        )

    def finish_hook(self, process: subprocess.Popen[bytes]) -> Outcome:
        with process:
            stdout, stderr = process.communicate(timeout=120)
        record: dict[str, list[str]] = {}
        if (self.run / "record").exists():
            for line in (self.run / "record").read_text().splitlines():
                key, _, rest = line.partition(" ")
                record.setdefault(key, []).append(rest)
        return Outcome(process.returncode, stdout, stderr.decode(), record)

    def hook(
        self,
        *,
        shell: tuple[str, ...] = ("dash",),
        hook: Path = HOOK,
        tcti: str | None = None,
    ) -> Outcome:
        return self.finish_hook(self.start_hook(shell=shell, hook=hook, tcti=tcti))

    # --- looking at the TPM ---

    def pcr(self, number: int) -> bytes:
        out = self.folder / "pcr"
        self.tool("tpm2_pcrread", f"{self.bank}:{number}", "-o", out)
        return out.read_bytes()

    def pcr13_capped(self, *, measured: bool = True) -> bytes:
        """PCR 13 after the headers (if they were measured) and the cap."""
        headers = self.disks.headers if measured else ()
        return extended(self.bank, OLD.pcrs(self.bank, headers)[13], CAP)

    def left_behind(self) -> list[str]:
        """Transient objects and sessions in the TPM."""
        kinds = ("handles-transient", "handles-loaded-session", "handles-saved-session")
        listed = [
            run("tpm2_getcap", kind, tcti=self.tpm.tcti)().decode() for kind in kinds
        ]
        return [line for each in listed for line in each.split()]
