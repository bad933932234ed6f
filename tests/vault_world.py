# SPDX-License-Identifier: GPL-2.0-or-later
"""A machine for the tests of the vault: a TPM, a disk, boots, and a power switch.

What the boot hook does (unseal by the whole policy) is written out here against the
TPM alone, from docs/slot-format.md, so that nothing of the vault vouches for itself.
"""

from __future__ import annotations

import hashlib
import shutil
import struct
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from tpm_sim.swtpm import LOCALITY_LAUNCHED, LOCALITY_OS, Swtpm

from aemseal.flows.enrol import Secret, own_the_tpm, seal, write_hook_files
from aemseal.flows.state import SealedBoot, VaultState
from aemseal.flows.vault import Vault
from aemseal.formats.slot import VAULT_FILE, Acceptance, VaultFile, acceptance_file
from aemseal.formats.tpm_policy import policy_pcr
from aemseal.measure.baseline import Baseline
from aemseal.words.digest import Digest, HashAlgorithm, PcrSelection
from aemseal.world.config import Medium
from aemseal.world.seam import Seam
from aemseal.world.store import Files
from aemseal.world.tpm import Tpm

# isort: split
# tpm2-pytss only after aemseal.world.tpm, which quiets what 2.3 warns of on import
from tpm2_pytss import (
    ESAPI,
    ESYS_TR,
    TPM2_ALG,
    TPM2_CAP,
    TPM2_EO,
    TPM2_SE,
    TPM2B_DIGEST,
    TPM2B_PRIVATE,
    TPM2B_PUBLIC,
    TPMA_SESSION,
    TPML_DIGEST,
    TPMT_PUBLIC,
    TPMT_SIGNATURE,
    PyTCTI,
    TCTILdr,
    TSS2_Exception,
)

SHA256 = HashAlgorithm.SHA256
SELECTION = PcrSelection.of(SHA256, {13, 17, 18})
INTERNAL = Medium("internal", "/boot/aemseal")
STICK = Medium("stick", "/media/stick/aemseal")
SECRET = b"the quick brown fox of 1998 jumps over a lazy Xen"
LUKS_HEADER = hashlib.sha256(b"the LUKS header of the disk").digest()
SINIT = b"the SINIT module"

_TPM_STATE = "tpm2-00.permall"
"""What swtpm keeps over a power cut."""


class PowerCutError(BaseException):
    """The power fails here. No handler of errors may see it, so no Exception."""


class PowerCut(Seam):
    """Cuts the power before or after the k-th effect; after that nothing works."""

    def __init__(self, at: int = -1, *, after: bool = False) -> None:
        self.at, self.after = at, after
        self.steps: list[str] = []
        self.off = False

    @contextmanager
    def step(self, what: str) -> Iterator[None]:
        if self.off:
            raise PowerCutError(what)
        number = len(self.steps)
        self.steps.append(what)
        if number == self.at and not self.after:
            self.off = True
            raise PowerCutError(f"before {what}")
        yield
        if number == self.at:
            self.off = True
            raise PowerCutError(f"after {what}")


class Watching(PowerCut):
    """Takes a fingerprint of everything durable before and after every effect."""

    def __init__(self, fingerprint: Callable[[], bytes]) -> None:
        super().__init__()
        self.fingerprint = fingerprint
        self.points: list[tuple[int, bool, bytes]] = []

    @contextmanager
    def step(self, what: str) -> Iterator[None]:
        number = len(self.steps)
        self.points.append((number, False, self.fingerprint()))
        with super().step(what):
            yield
        self.points.append((number, True, self.fingerprint()))

    def cuts(self) -> list[tuple[int, bool]]:
        """Where to cut so that every durable state on the way is met once.

        A state that a cut leaves is what is on the disk and in the TPM's memory: two
        cuts with nothing durable between them leave the same one.
        """
        found: list[tuple[int, bool]] = []
        last = b""
        for number, after, fingerprint in self.points:
            if fingerprint != last:
                assert after or not found, f"an effect before {self.steps[number]}"
                found.append((number, after))
            last = fingerprint
        return found


@dataclass(frozen=True)
class Boot:
    """What a machine boots: a name for it, and what its launcher measures."""

    name: str
    xen: bytes
    luks: bytes = LUKS_HEADER

    @property
    def pcrs(self) -> Mapping[int, Digest]:
        zero = SHA256.zero()
        launched = zero.extended(SHA256.hash(SINIT))
        return {
            13: zero.extended(Digest(SHA256, self.luks)),
            17: launched.extended(SHA256.hash(b"policy")),
            18: zero.extended(SHA256.hash(self.xen)),
        }

    @property
    def policy(self) -> bytes:
        return policy_pcr(SELECTION, self.pcrs)

    @property
    def sealed(self) -> SealedBoot:
        return SealedBoot(
            self.name, "2026-01-01", self.policy, Baseline(self.name, "tboot", "da", ())
        )


OLD = Boot("Xen 4.17.5", b"xen 4.17.5")
NEW = Boot("Xen 4.17.7", b"xen 4.17.7")
NEWER = Boot("Xen 4.17.9", b"xen 4.17.9")
EVIL = Boot("evil", b"the evil maid's xen")
BOOTS = (OLD, NEW, NEWER, EVIL)


class RefusedError(Exception):
    """The TPM refused an unsealing: which command, with which TPM_RC."""

    def __init__(self, command: str, code: int) -> None:
        super().__init__(f"{command}: 0x{code:x}")
        self.command, self.code = command, code


class NoAcceptanceError(Exception):
    """The medium holds no acceptance for the counter's value."""


@dataclass
class Unsealer:
    """The hook's way to the secret, one method a step, by tpm2-pytss alone.

    An attacker takes the same way with a step changed: `branches`, `key`, `operand`
    and so on may be set to something else than the files say.
    """

    esapi: Any
    vault: VaultFile
    acceptance: Acceptance
    selection: str = str(SELECTION)
    handles: list[Any] = field(default_factory=list)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for handle in reversed(self.handles):
            # An object that was refused or flushed by the TPM itself is gone.
            try:
                self.esapi.flush_context(flush_handle=handle)
            except TSS2_Exception:
                continue
        self.handles.clear()

    def do(self, name: str, /, **arguments: object) -> Any:
        """Send a command; RefusedError when the TPM says no."""
        try:
            return getattr(self.esapi, name)(**arguments)
        except TSS2_Exception as error:
            raise RefusedError(name, int(error.rc)) from None

    def _kept(self, handle: Any) -> Any:
        self.handles.append(handle)
        return handle

    def session(self) -> Any:
        handle = self.do(
            "start_auth_session",
            tpm_key=ESYS_TR.NONE,
            bind=ESYS_TR.NONE,
            session_type=TPM2_SE.POLICY,
            symmetric="aes128cfb",
            auth_hash=TPM2_ALG.SHA256,
        )
        self.esapi.trsess_set_attributes(
            session=handle, attributes=TPMA_SESSION.CONTINUESESSION
        )
        return self._kept(handle)

    def policy_pcr(self, session: Any) -> None:
        self.do(
            "policy_pcr", policy_session=session, pcr_digest=b"", pcrs=self.selection
        )

    def policy_or(self, session: Any, branches: list[bytes] | None = None) -> None:
        digests = branches or [each.policy for each in self.acceptance.branches]
        self.do("policy_or", policy_session=session, p_hash_list=digest_list(digests))

    def policy_nv(self, session: Any, operand: bytes | None = None) -> None:
        index = self.do("tr_from_tpmpublic", handle=self.vault.counter)
        self.do(
            "policy_nv",
            auth_handle=index,
            nv_index=index,
            policy_session=session,
            operand_b=operand or self.acceptance.count.to_bytes(8, "big"),
            operation=TPM2_EO.EQ,
            offset=0,
        )

    def policy_authorize(self, session: Any) -> None:
        area, _ = TPMT_PUBLIC.unmarshal(self.vault.key)
        key = self._kept(
            self.do(
                "load_external",
                in_public=TPM2B_PUBLIC(publicArea=area),
                hierarchy=ESYS_TR.OWNER,
            )
        )
        name = bytes(self.esapi.tr_get_name(handle=key))
        approved, reference = self.acceptance.policy, self.vault.policy_ref
        signature, _ = TPMT_SIGNATURE.unmarshal(self.acceptance.signature)
        ticket = self.do(
            "verify_signature",
            key_handle=key,
            digest=TPM2B_DIGEST(hashlib.sha256(approved + reference).digest()),
            signature=signature,
        )
        self.do(
            "policy_authorize",
            policy_session=session,
            approved_policy=approved,
            policy_ref=reference,
            key_sign=name,
            check_ticket=ticket,
        )
        self.esapi.flush_context(flush_handle=self.handles.pop())

    def satisfied(self) -> Any:
        """Return a session that has gone the whole way."""
        session = self.session()
        self.policy_pcr(session)
        self.policy_or(session)
        self.policy_nv(session)
        self.policy_authorize(session)
        return session

    def load(self, part: int = 0, parent: int = 0x81000001) -> Any:
        sealed = self.vault.secrets[0].parts[part]
        public, _ = TPM2B_PUBLIC.unmarshal(sealed.public)
        private, _ = TPM2B_PRIVATE.unmarshal(sealed.private)
        key = self.do("tr_from_tpmpublic", handle=parent)
        return self._kept(
            self.do("load", parent_handle=key, in_private=private, in_public=public)
        )

    def take(self, item: Any, session: Any) -> bytes:
        return bytes(self.do("unseal", item_handle=item, session1=session))

    def secret(self, parent: int = 0x81000001) -> bytes:
        """Unseal every part; RefusedError when the TPM says no."""
        secret = b""
        for part in range(len(self.vault.secrets[0].parts)):
            session = self.satisfied()
            secret += self.take(self.load(part, parent), session)
            for handle in self.handles:
                self.esapi.flush_context(flush_handle=handle)
            self.handles.clear()
        return secret


class Wire(PyTCTI):  # type: ignore[misc] # tpm2-pytss has no types
    """A listener on the TPM's bus: passes everything on and keeps a copy."""

    def __init__(self, tcti: str) -> None:
        self._line = TCTILdr.parse(tcti)
        self.heard: list[bytes] = []
        super().__init__()

    def do_transmit(self, command: bytes) -> None:
        self.heard.append(bytes(command))
        self._line.transmit(command)

    def do_receive(self, timeout: int) -> bytes:
        response = bytes(self._line.receive(timeout=timeout))
        self.heard.append(response)
        return response

    def do_finalize(self) -> None:
        self._line.close()

    def tells(self, value: bytes, window: int = 4) -> bool:
        """Whether any `window` bytes of `value` went by."""
        return any(
            value[at : at + window] in message
            for message in self.heard
            for at in range(len(value) - window + 1)
        )


@contextmanager
def connected(tcti: str) -> Iterator[Any]:
    """Speak to the TPM as anybody can."""
    esapi = ESAPI(tcti=tcti)
    try:
        yield esapi
    finally:
        esapi.close()


def digest_list(digests: list[bytes]) -> Any:
    """Return a TPML_DIGEST."""
    marshalled = struct.pack(">I", len(digests)) + b"".join(
        struct.pack(">H", len(each)) + each for each in digests
    )
    listed, _ = TPML_DIGEST.unmarshal(marshalled)
    return listed


class World:
    """One machine, with everything that an attacker ever saw of its media."""

    def __init__(
        self, folder: Path, banks: Iterable[HashAlgorithm] = (SHA256,)
    ) -> None:
        self.folder = folder
        self.root = folder / "root"
        self.chip = Swtpm(banks)
        self.seen: dict[str, set[bytes]] = {}
        for medium in (INTERNAL, STICK):
            (self.root / medium.path.lstrip("/")).mkdir(parents=True)

    def __enter__(self) -> Self:
        self.chip.power_on()
        return self

    def __exit__(self, *_: object) -> None:
        self.chip.discard()

    # --- power and boots ---

    def power_cycle(self) -> None:
        """Cut the power and switch on again: no launch yet."""
        self.chip.power_cut()
        self.chip.power_on()

    def boot(self, boot: Boot) -> None:
        """Power-cycle, launch, and let the hook measure the LUKS header."""
        self.power_cycle()
        self.extend(13, boot.luks)
        self.launch(boot)

    def launch(self, boot: Boot) -> None:
        """Launch once more (17 to 22 start anew) without a power cycle."""
        self.chip.hash_sequence(SINIT)
        self.extend(17, hashlib.sha256(b"policy").digest(), LOCALITY_LAUNCHED)
        self.extend(18, hashlib.sha256(boot.xen).digest(), LOCALITY_LAUNCHED)

    def extend(self, pcr: int, value: bytes, locality: int = LOCALITY_OS) -> None:
        """Extend the sha256 bank."""
        self.chip.extend([(pcr, {SHA256: Digest(SHA256, value)})], locality)

    @property
    def _chip_state(self) -> Path:
        return self.chip.socket_path.with_name(_TPM_STATE)

    def snapshot(self, name: str) -> None:
        """Keep the TPM's and the disk's state; the power is cut for it."""
        self.chip.power_cut()
        kept = self.folder / name
        shutil.copytree(self.root, kept / "root")
        shutil.copy(self._chip_state, kept)
        self.chip.power_on()

    def restore(self, name: str) -> None:
        """Go back to a snapshot, with nothing seen of the media; the power is off."""
        self.chip.power_cut()
        kept = self.folder / name
        shutil.rmtree(self.root)
        shutil.copytree(kept / "root", self.root)
        shutil.copy(kept / _TPM_STATE, self._chip_state)
        self.seen.clear()
        self.look()

    def fingerprint(self) -> bytes:
        """Return a hash of all files and of what the TPM keeps without power."""
        running = hashlib.sha256(self._chip_state.read_bytes())
        for each in sorted(self.root.rglob("*")):
            running.update(repr((str(each), each.stat().st_mode)).encode())
            running.update(each.read_bytes() if each.is_file() else b"")
        return running.digest()

    # --- the vault ---

    @contextmanager
    def vault(
        self, seam: Seam | None = None, wire: Wire | None = None
    ) -> Iterator[Vault]:
        """Open the vault; afterwards an attacker copies the media."""
        tcti: Any = self.chip.tcti if wire is None else wire
        try:
            with Tpm(tcti, seam) as tpm:
                yield Vault(Files(self.root, seam), tpm)
        finally:
            self.look()

    def enrol(
        self,
        *accepted: Boot,
        secret: bytes = SECRET,
        media: tuple[Medium, ...] = (INTERNAL,),
        seam: Seam | None = None,
    ) -> VaultState:
        with self.vault(seam) as vault:
            return enrol(vault, *accepted, secret=secret, media=media)

    def look(self) -> None:
        """Remember every version of every file that a medium ever held."""
        for medium in (INTERNAL, STICK):
            folder = self.root / medium.path.lstrip("/")
            for each in folder.iterdir() if folder.is_dir() else ():
                if each.is_file():
                    path = f"{medium.path}/{each.name}"
                    self.seen.setdefault(path, set()).add(each.read_bytes())

    def file(self, name: str, medium: Medium = INTERNAL) -> Path:
        return self.root / medium.path.lstrip("/") / name

    # --- the secret ---

    def unseal(self, medium: Medium = INTERNAL, parent: int = 0x81000001) -> bytes:
        """Do what the hook does, on whatever runs now."""
        vault = VaultFile.parse(self.file(VAULT_FILE, medium).read_bytes())
        with connected(self.chip.tcti) as esapi:
            path = self.file(acceptance_file(read_count(esapi, vault.counter)), medium)
            if not path.exists():
                raise NoAcceptanceError(path.name)
            acceptance = Acceptance.parse(path.read_bytes())
            with Unsealer(esapi, vault, acceptance) as unsealer:
                return unsealer.secret(parent)

    def opens(self, boot: Boot, medium: Medium = INTERNAL) -> bool:
        """Whether the hook gets the secret when this boots."""
        self.launch(boot)
        try:
            return self.unseal(medium) == SECRET
        except (RefusedError, NoAcceptanceError, FileNotFoundError):
            return False

    def opening(self, medium: Medium = INTERNAL) -> set[str]:
        """The boots that get the secret now, by name."""
        return {boot.name for boot in BOOTS if self.opens(boot, medium)}

    def opening_for_attacker(self) -> set[str]:
        """The boots that get the secret with any files that were ever seen."""
        return {boot.name for boot in BOOTS if self._opens_for_attacker(boot)}

    def _opens_for_attacker(self, boot: Boot) -> bool:
        self.launch(boot)
        vaults = self._every(VAULT_FILE, VaultFile.parse)
        acceptances = self._every("acceptance.", Acceptance.parse)
        with connected(self.chip.tcti) as esapi:
            for vault in vaults:
                for acceptance in acceptances:
                    with Unsealer(esapi, vault, acceptance) as unsealer:
                        try:
                            unsealer.secret()
                        except RefusedError:
                            continue
                        return True
        return False

    def _every(self, prefix: str, parse: Any) -> list[Any]:
        found = []
        for path, versions in self.seen.items():
            if path.rpartition("/")[2].startswith(prefix):
                found += [parse(each) for each in versions]
        return found


def enrol(
    vault: Vault,
    *accepted: Boot,
    secret: bytes = SECRET,
    media: tuple[Medium, ...] = (INTERNAL,),
    staged: tuple[Boot, ...] = (),
    foreign_owner: bytes | None = None,
) -> VaultState:
    """Enrol from nothing, as the command does."""
    key = own_the_tpm(vault, foreign_owner)
    write_hook_files(vault, key, SELECTION)
    state = VaultState(
        generation=1,
        selection=SELECTION,
        storage=key,
        counter=0,
        count=0,
        media=media,
        secrets=(),
        baseline=OLD.sealed.boot,
        accepted=tuple(boot.sealed for boot in accepted),
        staged=tuple(boot.sealed for boot in staged),
    )
    return seal(vault, state, Secret("text", "text", secret))


def lockout_count(esapi: Any) -> int:
    """Return how many failures count towards lockout (TPM_PT_LOCKOUT_COUNTER)."""
    _, data = esapi.get_capability(
        capability=TPM2_CAP.TPM_PROPERTIES, prop=0x20E, property_count=1
    )
    return int.from_bytes(bytes(data.marshal())[-4:], "big")


def read_count(esapi: Any, handle: int) -> int:
    """Read the counter as the hook does. RefusedError when it is not to be had."""
    try:
        index = esapi.tr_from_tpmpublic(handle=handle)
        data = esapi.nv_read(nv_index=index, size=8, offset=0, auth_handle=index)
    except TSS2_Exception as error:
        raise RefusedError("nv_read", int(error.rc)) from None
    return int.from_bytes(bytes(data), "big")
