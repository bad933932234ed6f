# SPDX-License-Identifier: GPL-2.0-or-later
"""The verbs `recover` and `pin`: a new generation, with every secret asked for anew."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from aemseal.face import render
from aemseal.face.ask_secrets import ASKED
from aemseal.face.attended import attended
from aemseal.face.enrol import PHONE_ENTRY, setting_of
from aemseal.face.pin import read_pin
from aemseal.face.run import Run
from aemseal.flows.explain_files import explain_files
from aemseal.flows.initramfs import ImageLists
from aemseal.flows.luks_boots import lost_key
from aemseal.flows.moves import NOT_ACCEPTED
from aemseal.flows.secret import KEYFILE, TOTP, Pin, needs_pin
from aemseal.flows.state import VaultState
from aemseal.flows.status import explain_running, read_running
from aemseal.flows.survey import Survey
from aemseal.measure.explain import Verdict
from aemseal.words.errors import (
    EXIT_DONE,
    AemsealError,
    NotAcceptedError,
    UsageError,
)

if TYPE_CHECKING:
    from aemseal.flows.generation import Anew
    from aemseal.flows.recover import Answers
    from aemseal.flows.sealing import ToSeal
    from aemseal.flows.vault import Vault
    from aemseal.world.luks_headers import HeaderChange

WORD = "accept"
"""What is typed to accept a boot."""

_FIRST = (
    "accept nothing yet: first start the boot that was accepted: {}. If it shows your "
    "secret, stage the change from there (aemseal reseal): then nothing has to be "
    "sealed anew"
)
_ON_ACCEPTED = (
    "this boot is accepted: for another PIN or other media there is aemseal pin, which "
    "leaves the accepted boots as they are"
)
_TAKE_OTHERS = (
    "everything is asked for anew. Take a text and a PIN that you did not have here "
    "before: whoever could sign for the vault could read them"
)
_WHY_ANEW = (
    "everything is sealed anew, so every secret is asked for: were the PIN alone "
    "changed, the old one would open copies made before for ever"
)


@dataclass
class AskingAnew:
    """Asks for the PIN, and for a secret of each kind that is sealed now."""

    run: Run
    vault: Vault
    before: VaultState
    kinds: tuple[str, ...]
    header: HeaderChange | None = None
    answered: list[str] = field(default_factory=list)

    def __call__(self) -> Answers:
        """Ask; the passphrase of a keyfile's device comes last."""
        from aemseal.flows.recover import Answers

        media = self.run.config.media
        needing = (each for each in self.kinds if needs_pin(each, media))
        pin = read_pin(self.run, next(needing, self.kinds[0]))
        in_order = sorted(self.kinds, key=lambda kind: kind == KEYFILE)
        secrets = tuple(self._ask(kind, pin) for kind in in_order)
        return Answers(secrets, self.header)

    def _ask(self, kind: str, pin: Pin | None) -> ToSeal:
        from aemseal.flows.sealing import ToSeal

        if kind == KEYFILE:
            return self._ask_key(pin)
        secret = ASKED[kind](self.run)
        self.answered.append(kind)
        return ToSeal(secret, pin)

    def _ask_key(self, pin: Pin | None) -> ToSeal:
        from aemseal.flows.keyfile import draft_key_anew

        if pin is None:
            raise UsageError("a keyfile always has a PIN", "type one, or: --pin-file")
        passphrase = self.run.terminal.read_secret(
            "passphrase of the LUKS device of the keyfile (not shown): "
        )
        secret, self.header = draft_key_anew(self.vault, self.before, passphrase, pin)
        return secret

    def forget(self) -> None:
        """Throw a draft away that nothing was promised of, and tell of a phone's."""
        from aemseal.flows.keyfile import forget_draft

        if self.header is not None:
            forget_draft(self.vault, self.header.uuid)
        if TOTP in self.answered:
            self.run.terminal.say(f"aemseal: {PHONE_ENTRY}")


# --- recover ---


def verb_recover(run: Run) -> int:
    """Accept the running boot by the person's own word, and seal everything anew."""
    from aemseal.flows.recover import kinds_to_ask, recover

    with run.vault(must_settle=False) as vault:
        before = vault.require()
        asking = AskingAnew(run, vault, before, kinds_to_ask(before))
        _tell_trouble(run, vault, before)
        _tell_differences(run, before)
        setting = setting_of(run, vault, "recover")

        def ask(look: Survey) -> Answers:
            _require_consent(run, look)
            run.terminal.say(_TAKE_OTHERS)
            return asking()

        try:
            anew = recover(setting, before, ask)
        except (AemsealError, KeyboardInterrupt):
            asking.forget()
            raise
        _say_trouble(run, setting.lists.keep(vault.files, anew.state))
        if anew.state.accepted:
            lines = attended(vault, anew.state, run.host, is_new=True).lines
            for line in lines:
                run.terminal.say(f"aemseal: {line}")
    return _show(asking, anew, "recover")


def _tell_trouble(run: Run, vault: Vault, before: VaultState) -> None:
    """Say what is wrong with the vault itself, besides this boot."""
    try:
        vault.require_open(before)
    except AemsealError as error:
        run.terminal.say(f"aemseal: {error.message}")


def _tell_differences(run: Run, before: VaultState) -> None:
    """Say what to try first, and what of this boot is not what was accepted."""
    explanation = explain_running(run.host, before, None)
    if explanation.verdict is Verdict.ACCEPTED:
        run.terminal.say(f"aemseal: {_ON_ACCEPTED}")
    else:
        boots = (*before.accepted, *before.staged)
        entries = dict.fromkeys(f"{each.boot.title!r} ({each.name})" for each in boots)
        run.terminal.say(f"aemseal: {_FIRST.format(', '.join(entries))}")
    files = explain_files(run.host, before, explanation)
    for line in render.explanation_lines(explanation, files):
        run.terminal.say(line)


def _require_consent(run: Run, look: Survey) -> None:
    """Raise UsageError unless the person says yes, or names this very boot."""
    from aemseal.flows.recover import digits_of

    digits, named = digits_of(look), run.arguments.accept_boot
    if named is not None:
        if named.lower() == digits:
            return
        raise UsageError(
            f"--accept-boot {named}: this boot is {digits}",
            "read what differs in it, then name it",
        )
    if not run.terminal.is_asking:
        raise UsageError(
            f"this boot, {digits}, is not accepted without your word",
            f"read what differs in it; to accept it all the same: --accept-boot "
            f"{digits}",
        )
    typed = run.terminal.ask(f"to accept this boot ({digits}), type {WORD}: ")
    if typed != WORD:
        raise UsageError("nothing was accepted, and nothing changed")


# --- pin ---


def verb_pin(run: Run) -> int:
    """Change the PIN, or the media: seal everything anew for the same boots."""
    from aemseal.flows.enrol import read_foreign_owner
    from aemseal.flows.generation import change_pin, require_same_boots
    from aemseal.flows.provision import free_place
    from aemseal.flows.recover import kinds_to_ask

    with run.vault() as vault:
        before = vault.require()
        policy = read_running(run.host, before).policy(before)
        if policy is None:
            raise NotAcceptedError("this boot did not run aemseal's hook")
        require_same_boots(vault, before, policy)
        free_place(vault, run.config.media)
        foreign_owner = read_foreign_owner(vault, run.config)
        asking = AskingAnew(run, vault, before, kinds_to_ask(before))
        run.terminal.say(f"aemseal: {_WHY_ANEW}")
        try:
            answers = asking()
            anew = change_pin(
                vault,
                before,
                policy,
                answers.secrets,
                run.config.media,
                foreign_owner=foreign_owner,
                header=answers.header,
                since=run.host.now(),
            )
        except (AemsealError, KeyboardInterrupt):
            asking.forget()
            raise
        lists = ImageLists.kept(run.host)
        _say_trouble(run, lists.keep(vault.files, anew.state))
    return _show(asking, anew, "pin")


# --- what was done ---


def _say_trouble(run: Run, trouble: str | None) -> None:
    if trouble is not None:
        run.terminal.say(f"aemseal: {trouble}")


def _show(asking: AskingAnew, anew: Anew, verb: str) -> int:
    run, before, state = asking.run, asking.before, anew.state
    lost = lost_key(state)
    if lost is not None:
        run.terminal.say(f"aemseal: {lost.message}; {lost.hint}")
    boots = (*state.accepted, *state.staged)
    retired = [
        each.name
        for each in (*before.accepted, *before.staged)
        if all(each.policy != boot.policy for boot in boots)
    ]
    names = [each.name for each in state.secrets]
    report = {
        "schema": f"aemseal.{verb}/1",
        "accepted": [each.name for each in state.accepted],
        "staged": [each.name for each in state.staged],
        "retired": retired,
        "secrets": names,
        "media": [each.label for each in state.media],
        "left": list(anew.left),
    }
    lines = [
        f"sealed anew: {', '.join(names)}",
        *(f"accepted: {each.name}" for each in state.accepted),
        *(f"staged: {each.name}" for each in state.staged),
        *(f"retired: {name}" for name in retired),
        *(f"not changed: {each}" for each in anew.left),
    ]
    step = _next_step(anew, has_header=asking.header is not None)
    run.terminal.result(report, [*lines, f"next step: {step}"])
    return EXIT_DONE


def _next_step(anew: Anew, *, has_header: bool) -> str:
    checked = anew.state.checked
    if anew.must_build:
        return (
            "build the initramfs anew, which has to know where the media are; then: "
            "aemseal reseal"
        )
    if has_header:
        return "reboot, since the LUKS header is another one now; then: aemseal confirm"
    if checked is None or checked.result == NOT_ACCEPTED:
        return "look at the next boot: aemseal status --check"
    return render.reboot_step(anew.state)
