# SPDX-License-Identifier: GPL-2.0-or-later
"""One machine in QEMU with one secret, sealed by aemseal and as Anti Evil Maid does.

It boots with the initramfs of the one or the other, directly or by GRUB, tboot and
Xen. The launch is that of aemseal's files in each boot, so both secrets open: what is
compared is the work that the hooks do.
"""

from __future__ import annotations

import shutil
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from boot_world import LINUX_WORDS, SECRET, BootWorld
from tpm_sim.boot_directory import BOOT_UUID, LUKS_UUID
from tpm_sim.boot_disk import make_boot_disk
from tpm_sim.dracut import IMAGE, linked_base, run_dracut
from tpm_sim.qemu import DirectBoot, Pc
from tpm_sim.qemu_tpm import Measured, QemuTpm

from aemseal.flows.owner import OWNER_FILE
from aemseal.words.digest import Digest, HashAlgorithm
from bench.boot_figures import BEGINS, ENDS, TRACED, Console, Executed, Seen
from bench.sealed_like_aem import AEM_KEY, LikeAem

BENCH = Path(__file__).resolve().parent
HOOKS = BENCH.parent / "boot-hooks"
OURS, AEM = "aemseal's hook", "Anti Evil Maid's calls"
CHAINS = ("direct", "Xen")

_SECONDS = 300.0
_TICK = 0.01
_MODULES = {OURS: "aemseal", AEM: "aem-calls"}
_CALLED = {OURS: "usr/lib/aemseal/aemseal-boot", AEM: "usr/lib/aem-calls/boot"}
_PROGRAMS = {OURS: HOOKS / "aemseal-boot", AEM: BENCH / "boot_like_aem.sh"}


@dataclass(frozen=True, slots=True)
class Boot:
    """What was seen of one boot; times in seconds of the monotonic clock."""

    started: float
    console: Console
    seen: Seen

    @property
    def seconds(self) -> float:
        """From the hook's start until the secret stood on the console."""
        console = self.console
        return console.when(SECRET.encode()) - console.when(BEGINS)

    @property
    def seen_by_hook(self) -> Seen:
        """The TPM commands between the hook's start and its end."""
        return self.seen.between(self.console.when(BEGINS), self.console.when(ENDS))

    @property
    def executed(self) -> Executed:
        """What the hook executed, in a boot that was traced."""
        return Executed.parse(self.console.text)


@dataclass
class TimedTpm(QemuTpm):
    """Notes when each exchange on the wire has ended."""

    times: list[float] = field(default_factory=list)

    def _exchange(self, chip: socket.socket, command: bytes) -> bytes:
        response = super()._exchange(chip, command)
        self.times.append(time.monotonic())
        return response


class BenchMachine(BootWorld):
    """A context manager, as BootWorld is; `seal` comes first, then `images`."""

    def seal(self) -> None:
        """Seal the text in both manners to the boot that both ways' hooks make."""
        self.enrol()
        self.pretend_boot()
        self._extend_13(Digest(HashAlgorithm.SHA256, self._header()))
        hook = (self.root / "var/lib/aemseal/hook/hook.conf").read_text("ascii")
        bank, pcrs = (line.split()[1] for line in hook.splitlines()[1:])
        self.pcrs = f"{bank}:{pcrs}"
        with tempfile.TemporaryDirectory(dir=self.folder) as scratch:
            LikeAem(
                self.machine.tcti,
                Path(scratch),
                self.root / "boot/aem/tpms",
                (self.root / OWNER_FILE.lstrip("/")).read_text(encoding="ascii"),
                self.pcrs,
            ).seal(SECRET.encode())
        self.launch: Measured = self.measured()
        self.machine.power_off()

    def _header(self) -> bytes:
        with tempfile.TemporaryDirectory(dir=self.folder) as scratch:
            header = Path(scratch, "header")
            words = ("--header-backup-file", str(header))
            subprocess.run(
                ["cryptsetup", "luksHeaderBackup", str(self.disk), *words], check=True
            )
            return HashAlgorithm.SHA256.hash(header.read_bytes()).value

    def build(self, image: Path, way: str | None, *, systemd: bool) -> None:
        """Have dracut build an image with the hook of a way, or with none.

        Compressed as dracut does where nobody says otherwise: by zstd, level 15.
        """
        environment = {
            "AEMSEAL_PROGRAMS": str(HOOKS),
            "AEMSEAL_FILES": str(self.root / "var/lib/aemseal/hook"),
            "BENCH": str(BENCH),
        }
        modules = (BENCH if way == AEM else HOOKS) / "dracut"
        names = () if way is None else (_MODULES[way],)
        with linked_base(modules) as base:
            run_dracut(
                image,
                self.cache,
                base,
                names,
                ("--zstd",),
                systemd=systemd,
                **environment,
            )

    @contextmanager
    def on(
        self, chain: str, way: str, image: Path, *more: str
    ) -> Iterator[tuple[Pc, TimedTpm]]:
        """Switch on with an image of a way's; `more` are words for the kernel."""
        own = (f"bench.disks={BOOT_UUID},{LUKS_UUID}", f"aem.uuid={BOOT_UUID}")
        words = (*own, f"aem.key={AEM_KEY}", f"aem.pcrs={self.pcrs}", *more)
        disk, direct = self.folder / "disk", None
        with tempfile.TemporaryDirectory(dir=self.folder) as scratch:
            boot = Path(scratch, "boot")
            shutil.copytree(self.root / "boot", boot, symlinks=True)
            marked = self.folder / "marked.img"
            plain = image.read_bytes()
            padding = bytes(-len(plain) % 4)  # an archive begins at such an offset
            marked.write_bytes(plain + padding + _marks(way, Path(scratch)))
            if chain == "direct":
                line = " ".join((LINUX_WORDS.replace("hvc0", "ttyS0"), *words))
                direct = DirectBoot(self.files.kernel, marked, line)
            else:
                shutil.copy(marked, boot / Path(IMAGE).name)
                menu = boot / "grub" / "grub.cfg"
                text = menu.read_text(encoding="utf-8")
                menu.write_text(
                    text.replace(" quiet ", f" quiet {' '.join(words)} "), "utf-8"
                )
            make_boot_disk(disk, boot, BOOT_UUID, self.cache)
        with (
            TimedTpm(self.machine.tpm, self.launch) as tpm,
            Pc(tpm, (disk, self.disk), self.folder, direct=direct) as pc,
        ):
            yield pc, tpm

    def boot(self, chain: str, way: str, image: Path, *, traced: bool = False) -> Boot:
        """Boot until the hook has shown the secret and ended, then cut the power.

        SimulationError when it does not; `traced`: the kernel lists what it executes.
        """
        more = ("bench.trace",) if traced else ()
        with self.on(chain, way, image, *more) as (pc, tpm), watched(pc) as growth:
            pc.wait_for(SECRET, _SECONDS)
            pc.wait_for((TRACED if traced else ENDS).decode(), _SECONDS)
            time.sleep(5 * _TICK)
            text = (pc.folder / "console").read_bytes()
        console = Console(text, [*growth, (time.monotonic(), len(text))])
        return Boot(pc.started, console, Seen(tpm.wire, tpm.times))


@contextmanager
def watched(pc: Pc) -> Iterator[Sequence[tuple[float, int]]]:
    """Note when the console grows to which length, as long as the context lasts."""
    growth: list[tuple[float, int]] = []
    over = threading.Event()
    log = pc.folder / "console"

    def watch() -> None:
        length = 0
        while not over.wait(_TICK):
            if (now := log.stat().st_size) > length:
                length = now
                growth.append((time.monotonic(), length))

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield growth
    finally:
        over.set()
        thread.join()


def _marks(way: str, scratch: Path) -> bytes:
    """Return a second archive for an initramfs: marked.sh where the hook is called."""
    called = Path(_CALLED[way])
    tree = scratch / "marks"
    (tree / called.parent).mkdir(parents=True)
    shutil.copy(BENCH / "marked.sh", tree / called)
    shutil.copy(_PROGRAMS[way], tree / called.parent / "measured")
    names = (str(path.relative_to(tree)) for path in sorted(tree.rglob("*")))
    done = subprocess.run(
        ["cpio", "--quiet", "-o", "-H", "newc"],
        cwd=tree,
        input="\n".join(names).encode(),
        capture_output=True,
        check=True,
    )
    return done.stdout
