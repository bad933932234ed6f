# SPDX-License-Identifier: GPL-2.0-or-later
"""A machine for the boot hook: a swtpm, a bus one can listen on, disks, a medium.

The vault here is made with tpm2-tools, openssl and hashlib from docs/slot-format.md
and the TPM specification alone: it shares no code with the package, so that the hook
is held against a second reading of the format.
"""

from __future__ import annotations

import hashlib
import shutil
import socket
import struct
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

HOOK = Path(__file__).parents[2] / "boot-hooks" / "aemseal-unseal"
TOOLS = ("swtpm", "tpm2_unseal", "cryptsetup", "openssl")
SRK_HANDLE = "0x81000001"
COUNTER = 0x01A10AE0
PCRS = (13, 17, 18, 19)
CAP = hashlib.sha256(b"aemseal cap").digest()

CC_PCR_EXTEND = 0x182
CC_PCR_EVENT = 0x13C
CC_START_AUTH_SESSION = 0x176
CC_LOAD = 0x157
CC_UNSEAL = 0x15E


def sha256(*parts: bytes) -> bytes:
    return hashlib.sha256(b"".join(parts)).digest()


# ------------------------------------------------------------------ the TPM


class Swtpm:
    """A swtpm on unix sockets: `path` for commands, `path`.ctrl for power and launch.

    Every power_on is a reset without TPM2_Shutdown, as after a power cut.
    """

    def __init__(self, state: Path) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="hook-"))
        self.path = self.folder / "tpm"
        self.process = subprocess.Popen(
            [
                *("swtpm", "socket", "--tpm2", "--tpmstate", f"dir={state}"),
                *("--server", f"type=unixio,path={self.path}"),
                *("--ctrl", f"type=unixio,path={self.path}.ctrl"),
                *("--flags", "not-need-init"),
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + 10
        while not Path(f"{self.path}.ctrl").exists() or not self.path.exists():
            assert time.monotonic() < deadline, "swtpm did not start"
            assert self.process.poll() is None, "swtpm ended"
            time.sleep(0.005)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.process.kill()
        self.process.wait()
        shutil.rmtree(self.folder)

    def control(self, *commands: bytes) -> None:
        """Send control commands (swtpm_ioctls(3)), each of which must succeed."""
        with socket.socket(socket.AF_UNIX) as channel:
            channel.settimeout(10)
            channel.connect(f"{self.path}.ctrl")
            for command in commands:
                channel.sendall(command)
                assert channel.recv(4) == bytes(4), command.hex()

    def commands(self, *commands: bytes) -> None:
        """Send TPM commands, each of which must succeed."""
        with socket.socket(socket.AF_UNIX) as channel:
            channel.settimeout(10)
            channel.connect(str(self.path))
            for command in commands:
                channel.sendall(command)
                assert channel.recv(4096)[6:10] == bytes(4), command.hex()

    def power_on(self) -> None:
        self.control(struct.pack(">II", 2, 1))  # CMD_INIT, delete volatile state
        self.commands(bytes.fromhex("8001 0000000c 00000144 0000"))  # Startup(CLEAR)

    def launch(self, boot: Boot) -> None:
        """Launch: HASH_START, DATA and END at locality 4, extends at locality 2."""
        self.control(
            struct.pack(">I", 6),
            struct.pack(">II", 7, len(boot.launched)) + boot.launched,
            struct.pack(">I", 8),
            struct.pack(">IB", 5, 2),
        )
        self.commands(*(_pcr_extend(pcr, digest) for pcr, digest in boot.extends))
        self.control(struct.pack(">IB", 5, 0))


def _pcr_extend(pcr: int, digest: bytes) -> bytes:
    body = struct.pack(">II", CC_PCR_EXTEND, pcr)
    body += bytes.fromhex("00000009 40000009 0000 00 0000")  # password session, empty
    body += bytes.fromhex("00000001 000b") + digest
    return struct.pack(">HI", 0x8002, 6 + len(body)) + body


@dataclass(frozen=True)
class Boot:
    """What a launch measures: the launched block, then extends at locality 2."""

    launched: bytes
    extends: tuple[tuple[int, bytes], ...]

    def pcrs(self, headers: tuple[bytes, ...]) -> dict[int, bytes]:
        """PCR 13 to 19 when the hook asks, `headers` measured before."""
        values = {pcr: bytes(32) for pcr in PCRS}
        values[17] = sha256(values[17], sha256(self.launched))
        for pcr, digest in self.extends:
            values[pcr] = sha256(values[pcr], digest)
        for header in headers:
            values[13] = sha256(values[13], sha256(header))
        return values


def boot(xen: bytes, initramfs: bytes = b"initramfs") -> Boot:
    return Boot(
        b"sinit acm",
        ((17, sha256(b"policy")), (18, sha256(xen)), (19, sha256(initramfs))),
    )


class Wire:
    """A bus between the tools and the TPM: records, and can act before a command.

    `connections` is one for each tool process; `commands` are (code, command,
    response).
    """

    def __init__(self, tpm: Swtpm) -> None:
        self.path = tpm.folder / "wire"
        Path(f"{self.path}.ctrl").symlink_to(f"{tpm.path}.ctrl")
        self.tpm = tpm
        self.connections = 0
        self.commands: list[tuple[int, bytes, bytes]] = []
        self.before: Callable[[int], None] = lambda code: None
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(str(self.path))
        self.listener.listen(8)
        self.thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self) -> Self:
        self.thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.listener.shutdown(socket.SHUT_RDWR)
        self.thread.join(10)
        self.listener.close()

    @property
    def codes(self) -> list[int]:
        return [code for code, _, _ in self.commands]

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            self.connections += 1
            with (
                client,
                socket.socket(socket.AF_UNIX) as tpm,
                # A tool was killed, or the TPM was: the other side will see it.
                suppress(ConnectionError, FileNotFoundError),
            ):
                tpm.connect(str(self.tpm.path))
                self._carry(client, tpm)

    def _carry(self, client: socket.socket, tpm: socket.socket) -> None:
        while command := _frame(client):
            code = int.from_bytes(command[6:10], "big")
            self.before(code)
            tpm.sendall(command)
            response = _frame(tpm)
            self.commands.append((code, command, response))
            client.sendall(response)


def _frame(channel: socket.socket) -> bytes:
    """Read one command or response by the size in its header; b"" at the end."""
    data = b""
    while len(data) < 10 or len(data) < int.from_bytes(data[2:6], "big"):
        chunk = channel.recv(4096)
        if not chunk:
            return b""
        data += chunk
    return data


# ------------------------------------------------------------------ the vault


def policy_pcr(values: Mapping[int, bytes]) -> bytes:
    """Part 3 section 23.7: one sha256 selection of PCRS."""
    bitmap = sum(1 << pcr for pcr in PCRS).to_bytes(3, "little")
    selection = struct.pack(">IHB", 1, 0x000B, 3) + bitmap
    digest = sha256(*(values[pcr] for pcr in PCRS))
    return sha256(bytes(32), struct.pack(">I", 0x17F), selection, digest)


def policy_ref(generation: int, medium: str) -> bytes:
    return sha256(f"aemseal policy-ref 1 {generation} {medium}".encode())


class Key:
    """K: an openssl key on P-256, and its public area."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self.file = folder / "k.pem"
        run("openssl", "ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out")(
            self.file
        )
        der = run("openssl", "ec", "-pubout", "-outform", "DER", "-in")(self.file)
        x, y = der[-64:-32], der[-32:]
        self.public = bytes.fromhex("0023 000b 00040040 0000 0010 0018000b 0003 0010")
        self.public += b"\x00\x20" + x + b"\x00\x20" + y
        self.name = b"\x00\x0b" + sha256(self.public)

    def sign(self, policy: bytes, reference: bytes) -> bytes:
        """A TPMT_SIGNATURE over SHA-256(policy || reference)."""
        command = run("openssl", "dgst", "-sha256", "-sign", self.file)
        r, s = _der_integers(command(input=policy + reference))
        return bytes.fromhex("0018 000b 0020") + r + b"\x00\x20" + s


def _der_integers(der: bytes) -> tuple[bytes, bytes]:
    r_size = der[3]
    r, s = der[4 : 4 + r_size], der[6 + r_size :]
    return r.lstrip(b"\0").rjust(32, b"\0"), s.lstrip(b"\0").rjust(32, b"\0")


def run(*command: str | Path, tcti: str = "") -> Callable[..., bytes]:
    """Return a function that runs the command with more arguments and input."""

    def call(*more: str | Path, input: bytes = b"") -> bytes:  # noqa: A002, as in subprocess
        return subprocess.run(
            [str(word) for word in (*command, *more)],
            input=input,
            capture_output=True,
            check=True,
            timeout=60,
            env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "TPM2TOOLS_TCTI": tcti},
        ).stdout

    return call


# ------------------------------------------------------------------ the machine


@dataclass(frozen=True)
class Outcome:
    """What the hook left: exit code, screen, and the record's lines by their key."""

    code: int
    stdout: bytes
    stderr: str
    record: dict[str, list[str]] = field(default_factory=dict)

    @property
    def word(self) -> str:
        return self.record["outcome"][0] if self.record else ""


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

    def __init__(self, folder: Path, tpm: Swtpm, disks: Disks) -> None:
        self.folder = folder
        self.tpm = tpm
        self.disks = disks
        self.tcti = f"swtpm:path={tpm.path}"
        self.etc = folder / "etc"
        self.run = folder / "run"
        self.medium = folder / "medium"
        self.cmdline = folder / "cmdline"
        self.key = Key(folder / "key")
        self.generation = 1
        self.label = "internal"
        for place in (self.etc, self.medium):
            place.mkdir()
        (self.etc / "hook.conf").write_text(
            f"aemseal-hook 1\nbank sha256\npcrs {','.join(map(str, PCRS))}\n"
        )
        words = " ".join(f"rd.luks.uuid=luks-{uuid}" for uuid in reversed(disks.UUIDS))
        self.cmdline.write_text(f"root=/dev/x {words} rd.luks.uuid={disks.UUIDS[0]}\n")

    def tool(self, name: str, *words: str | Path, input: bytes = b"") -> bytes:  # noqa: A002
        """Run one of tpm2-tools and leave no object behind."""
        try:
            return run(name, *words, tcti=self.tcti)(input=input)
        finally:
            run("tpm2_flushcontext", "-t", tcti=self.tcti)()

    # --- enrolling ---

    def make_storage_key(self, algorithm: str = "ecc") -> None:
        context = self.folder / "primary"
        self.tool("tpm2_createprimary", "-C", "o", "-G", algorithm, "-c", context)
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

    def seal(self, secret: bytes) -> list[str]:
        """Seal in parts of 128 bytes; the `part` lines."""
        authorized = sha256(
            sha256(bytes(32), struct.pack(">I", 0x16A), self.key.name),
            policy_ref(self.generation, self.label),
        )
        policy, public, private = (self.folder / name for name in ("p", "pub", "priv"))
        policy.write_bytes(authorized)
        lines = []
        for at in range(0, len(secret), 128):
            self.tool(
                *("tpm2_create", "-C", self.etc / "srk.tr", "-L", policy, "-i", "-"),
                *("-a", "fixedtpm|fixedparent|adminwithpolicy|noda"),
                *("-u", public, "-r", private),
                input=secret[at : at + 128],
            )
            lines.append(
                f"part {public.read_bytes().hex()} {private.read_bytes().hex()}"
            )
        return lines

    def write_vault(self, secret: bytes) -> None:
        parts = self.seal(secret)
        self.write(
            "vault",
            "aemseal-vault 1",
            f"generation {self.generation}",
            f"medium {self.label}",
            f"counter {COUNTER:08x}",
            f"key {self.key.public.hex()}",
            f"policy-ref {policy_ref(self.generation, self.label).hex()}",
            f"secret text text 0 {len(parts)}",
            *parts,
        )

    def accept(
        self,
        boots: Mapping[str, Boot],
        *,
        count: int | None = None,
        key: Key | None = None,
        medium: str | None = None,
    ) -> None:
        """Write an acceptance for `count` (as it is now) of these boots by name."""
        count = self.count if count is None else count
        medium = medium or self.label
        names, digests = [], []
        for name, each in list(boots.items()) * (2 if len(boots) == 1 else 1):
            names.append(name)
            digests.append(policy_pcr(each.pcrs(self.disks.headers)))
        listing = self.tool("tpm2_nvreadpublic", hex(COUNTER)).decode()
        nv_name = bytes.fromhex(listing.split("name:")[1].split()[0])
        either = sha256(bytes(32), struct.pack(">I", 0x171), *digests)
        operand = sha256(count.to_bytes(8, "big"), bytes(2), bytes(2))
        policy = sha256(either, struct.pack(">I", 0x149), operand, nv_name)
        signature = (key or self.key).sign(policy, policy_ref(self.generation, medium))
        self.write(
            f"acceptance.{count}",
            "aemseal-acceptance 1",
            f"generation {self.generation}",
            f"medium {medium}",
            f"count {count}",
            *(
                f"branch {digest.hex()} {name}"
                for digest, name in zip(digests, names, strict=True)
            ),
            f"policy {policy.hex()}",
            f"signature {signature.hex()}",
        )

    def write(self, name: str, *lines: str) -> None:
        (self.medium / name).write_text("\n".join(lines) + "\n")

    # --- booting ---

    def boot(self, what: Boot | None) -> None:
        """Switch on, and launch if there is something to launch."""
        self.tpm.power_on()
        if what is not None:
            self.tpm.launch(what)

    def arguments(self) -> list[str]:
        return [
            *("-e", str(self.etc), "-r", str(self.run), "-m", str(self.medium)),
            *("-c", str(self.cmdline), "-d", str(self.disks.by_uuid)),
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
            env={"TPM2TOOLS_TCTI": tcti or self.tcti, "LANG": "C.UTF-8"},
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
        self.tool("tpm2_pcrread", f"sha256:{number}", "-o", out)
        return out.read_bytes()

    def pcr13_capped(self, *, measured: bool = True) -> bytes:
        """PCR 13 after the headers (if they were measured) and the cap."""
        value = bytes(32)
        for header in self.disks.headers if measured else ():
            value = sha256(value, sha256(header))
        return sha256(value, CAP)

    def left_behind(self) -> list[str]:
        """Transient objects and sessions in the TPM."""
        kinds = ("handles-transient", "handles-loaded-session", "handles-saved-session")
        listed = [run("tpm2_getcap", kind, tcti=self.tcti)().decode() for kind in kinds]
        return [line for each in listed for line in each.split()]
