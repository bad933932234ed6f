# SPDX-License-Identifier: GPL-2.0-or-later
"""A machine's life in any order: updates, moves, reboots, cuts, thieves and old copies.

Hypothesis looks for an order of these that breaks a promise of the vault. The person
moves from a boot that showed the secret, or recovers from one that did not.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

from attacker import Attacker
from campaign_cases import SEED, Move, enrolling, refreshing, settling, text
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule
from lossy_disk import Tree, tree_of
from opened import NOTHING, Opened, opened, opened_by_anyone
from power_cuts import PowerCut, PowerCutError
from unsealer import connected
from vault_world import EVIL, INTERNAL, NEW, NEWER, OLD, SECRET, STICK, Boot, World

from aemseal.flows import owner
from aemseal.flows.generation import begin_anew, change_pin, retired_by
from aemseal.flows.journal import JOURNAL_FILE, Journal, parse_journal
from aemseal.flows.moves import Circumstances, cancel, confirm, stage
from aemseal.flows.revoke import revoke
from aemseal.flows.sealing import ToSeal, seal_beside
from aemseal.flows.secret import Secret
from aemseal.flows.state import VaultState
from aemseal.flows.vault import Vault
from aemseal.words.errors import AemsealError
from aemseal.world.config import Medium

KERNEL = Boot("Xen 4.17.9, another kernel", b"xen 4.17.9, linux 6.12")
LIVES = (OLD, NEW, NEWER, KERNEL, EVIL)
"""What can be booted; nobody stages the last one."""

MEDIA = tuple(replace(each, carried=True) for each in (INTERNAL, STICK))
UPDATES = st.sampled_from(LIVES[:-1])
CUTS = st.one_of(st.none(), st.integers(0, 120))
"""Before which step the power fails; most moves have 50 to 80."""


@dataclass(frozen=True)
class Copy:
    """An older copy of the whole disk, and the last count it has signed for."""

    disk: Tree
    generation: int
    last: int


class VaultMachine(RuleBasedStateMachine):
    """One World, from its enrolment on. `world` is set by who runs the search."""

    world: ClassVar[World]

    @initialize()
    def enrolled(self) -> None:
        world = self.world
        if not (world.folder / "born").exists():
            world.boot(OLD)
            with world.vault() as vault:
                enrolling(*MEDIA)(vault)
            world.snapshot("born")
        self.drawer = world.folder / "drawer"
        shutil.rmtree(self.drawer, ignore_errors=True)
        self.drawer.mkdir()
        world.restore("born")
        world.boot(OLD)
        self.running = OLD
        self.is_kept = True
        """Whether the running boot showed a secret, and nobody asked to retire it."""
        self.retired: set[str] = set()
        self.values: dict[int, dict[str, bytes]] = {1: {"text": SECRET}}
        self.copies: list[Copy] = []
        self.is_settled = True
        self.hold()

    # --- what must hold ---

    def hold(self) -> None:
        """Hold everything that can be seen from outside to what was promised."""
        anyone = opened_by_anyone(self.world, boots=LIVES)
        boots = {boot for boot, _ in anyone}
        assert EVIL.name not in boots
        assert not boots & self.retired, "a retired boot is accepted"
        assert not self.is_kept or self.running.name in boots, "the running one is not"
        if not self.is_settled:
            return
        state = self.state()
        named = self.named(state)
        assert anyone == named, "what opens is not what the state names"
        at_hand = [each for each in state.media if self.folder(each).is_dir()]
        found = opened(self.world, at_hand, boots=LIVES)
        for label, here in found.items():
            assert here <= named, label
            assert here == named or label in state.stale, label
        self.retired |= {boot.name for boot in state.retired}
        assert not {boot for boot, _ in named} & self.retired
        self.is_kept = self.running.name in boots

    def state(self) -> VaultState:
        with self.world.vault() as vault:
            return vault.require()

    def named(self, state: VaultState) -> Opened:
        """What opens, by the state: each boot of it, each secret."""
        values = self.values[state.generation]
        return frozenset(
            (boot.name, values[secret.name])
            for boot in (*state.accepted, *state.staged)
            for secret in state.secrets
        )

    def folder(self, medium: Medium) -> Path:
        return self.world.file("", medium)

    # --- what a person does ---

    def make(self, move: Move, cut: int | None = None, *, later: bool = False) -> None:
        """Settle and make a move in the running boot; `later`: settle with the next."""
        self.world.boot(self.running)
        self.is_settled = False
        try:
            with self.world.vault(PowerCut(-1 if cut is None else cut)) as vault:
                vault.settle()
                move(vault)
        except (PowerCutError, AemsealError):
            self.world.boot(self.running)
        if later:
            self.hold()
            self.copy()
        self.settle_now(later=later)
        self.hold()

    def settle_now(self, *, later: bool) -> None:
        """Settle, as the next command would, unless that cannot be or is put off."""
        if later and cut_short(self.world):
            return
        try:
            with self.world.vault() as vault:
                vault.settle()
        except AemsealError:
            return  # no medium is at hand
        self.is_settled = True

    @rule(following=UPDATES, new_only=st.booleans(), cut=CUTS, later=st.booleans())
    def stage(
        self, following: Boot, cut: int | None, *, new_only: bool, later: bool
    ) -> None:
        if new_only:
            self.is_kept = False
        running = self.running.policy
        self.make(
            lambda vault: stage(
                vault, vault.require(), running, following.sealed, new_only=new_only
            ),
            cut,
            later=later,
        )

    @rule(rotate=st.booleans(), cut=CUTS, later=st.booleans())
    def confirm(self, cut: int | None, *, rotate: bool, later: bool) -> None:
        known, running = Circumstances(rotate=rotate), self.running.sealed
        self.make(
            lambda vault: confirm(vault, vault.require(), running, known),
            cut,
            later=later,
        )

    @rule(cut=CUTS, later=st.booleans())
    def cancel(self, cut: int | None, *, later: bool) -> None:
        running = self.running.policy
        self.make(
            lambda vault: cancel(vault, vault.require(), running), cut, later=later
        )

    @rule(cut=CUTS, later=st.booleans())
    def refresh(self, cut: int | None, *, later: bool) -> None:
        self.make(refreshing, cut, later=later)

    @rule(cut=CUTS)
    def settle(self, cut: int | None) -> None:
        self.make(settling, cut)

    @rule(cut=CUTS)
    def rotate_owner(self, cut: int | None) -> None:
        self.make(lambda it: owner.rotate(it, it.require().storage, None), cut)

    @rule(medium=st.sampled_from(MEDIA), cut=CUTS)
    def revoke(self, medium: Medium, cut: int | None) -> None:
        self.make(lambda it: revoke(it, it.require(), medium.label, MEDIA), cut)

    @rule(cut=CUTS)
    def enrol_beside(self, cut: int | None) -> None:
        def move(vault: Vault) -> object:
            state = vault.require()
            self.values[state.generation]["totp"] = SEED
            return seal_beside(vault, state, ToSeal(Secret("totp", "totp", SEED)))

        self.make(move, cut)

    @rule(boot=UPDATES, cut=CUTS)
    def recover(self, boot: Boot, cut: int | None) -> None:
        """Begin anew from a boot that may have shown nothing, as its owner wants."""
        self.running = boot
        self.make(self.beginning_anew(boot), cut)

    def beginning_anew(self, boot: Boot) -> Move:
        self.is_kept = False
        self.retired.discard(boot.name)

        def move(vault: Vault) -> object:
            before = vault.require()
            state = replace(
                before,
                accepted=(boot.sealed,),
                staged=(),
                retired=retired_by(before, boot.policy),
            )
            return begin_anew(vault, before, state, self.new_text(before), "recover")

        return move

    def new_text(self, before: VaultState) -> tuple[ToSeal, ...]:
        number = before.generation + 1
        value = f"the text of generation {number}".encode()
        self.values[number] = {"text": value}
        return (text(value),)

    @rule(cut=CUTS)
    def change_pin(self, cut: int | None) -> None:
        running = self.running.policy

        def move(vault: Vault) -> object:
            old = vault.require()
            return change_pin(vault, old, running, self.new_text(old), old.media)

        self.make(move, cut)

    @rule(boot=st.sampled_from(LIVES))
    def reboot(self, boot: Boot) -> None:
        """Stay where it shows a secret; else go back."""
        self.world.boot(boot)
        at_hand = [each for each in MEDIA if self.folder(each).is_dir()]
        found = opened(self.world, at_hand, boots=(boot,))
        if any(found.values()):
            self.running, self.is_kept = boot, True

    @rule(medium=st.sampled_from(MEDIA))
    def take_or_bring(self, medium: Medium) -> None:
        here, away = self.folder(medium).parent, self.drawer / medium.label
        if here.is_dir():
            here.rename(away)
        elif away.is_dir():
            away.rename(here)
        self.world.look()

    # --- what an attacker does ---

    @precondition(lambda self: self.is_settled)
    @rule()
    def copy(self) -> None:
        """Copy the whole disk, to put it back one day."""
        with self.world.vault() as vault:
            state = vault.require()
            data = vault.files.read(JOURNAL_FILE)
            is_changing = len(owner.kept_owners(vault.files)) > 1
        journal = None if data is None else parse_journal(data)
        last = journal.after if isinstance(journal, Journal) else state.count
        if is_changing or not (journal is None or isinstance(journal, Journal)):
            return  # it knows what the TPM is to be, and may well set that
        disk = tree_of(self.world.root)
        self.copies = [*self.copies[-2:], Copy(disk, state.generation, last)]

    @precondition(lambda self: self.is_settled and self.copies)
    @rule(number=st.integers(0, 2))
    def put_an_old_copy_back(self, number: int) -> None:
        """The old copy calls boots accepted that were retired since: it is shut."""
        copy, world = self.copies[number % len(self.copies)], self.world
        now = self.state()
        if (copy.generation, copy.last) == (now.generation, now.count):
            return
        before = opened_by_anyone(world, boots=LIVES)
        disk = tree_of(world.root)
        world.put(copy.disk, world.chip_state)
        world.boot(self.running)
        self.require_shut()
        world.put(disk, world.chip_state)
        world.boot(self.running)
        assert opened_by_anyone(world, boots=LIVES) == before
        self.hold()

    @precondition(lambda self: self.is_settled)
    @rule()
    def count_on(self) -> None:
        """Shut the vault by its counter; then only a new generation opens again."""
        world, counter = self.world, self.state().counter
        value = (world.root / owner.OWNER_FILE.lstrip("/")).read_bytes()
        with connected(world.chip.tcti) as esapi:
            attacker = Attacker(esapi, value)
            attacker.increment(attacker.index(counter))
        assert opened_by_anyone(world, boots=LIVES) == NOTHING
        self.require_shut()
        for each in MEDIA:
            if (self.drawer / each.label).is_dir():
                self.take_or_bring(each)
        self.make(self.beginning_anew(self.running))
        assert self.is_kept

    def require_shut(self) -> None:
        """No move is made, by whatever the state calls accepted."""
        state = self.state()
        for boot in (*state.accepted, *state.staged):
            for move in (
                lambda it, b=boot: stage(it, it.require(), b.policy, NEWER.sealed),
                lambda it, b=boot: confirm(
                    it, it.require(), b, Circumstances(rotate=True)
                ),
                lambda it, b=boot: cancel(it, it.require(), b.policy),
                refreshing,
            ):
                self.require_refused(move)

    def require_refused(self, move: Move) -> None:
        signed = self.world.ever_seen("acceptance.")
        try:
            with self.world.vault() as vault:
                vault.settle()
                before = vault.require()
                move(vault)
                assert vault.require() == before, "a shut vault made a move"
        except AemsealError:
            pass
        assert self.world.ever_seen("acceptance.") == signed, "a shut vault signed"


def cut_short(world: World) -> bool:
    return (world.root / JOURNAL_FILE.lstrip("/")).exists()
