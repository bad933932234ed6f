# SPDX-License-Identifier: GPL-2.0-or-later
"""The command line: arguments in, one exit code out.

The only place that knows argparse. Every AemsealError becomes two lines and its exit
code; nothing else is caught, since anything else is a bug and must be seen.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn

from aemseal import __version__
from aemseal.face import doctor, enrol, looks, moves, recover, revoke
from aemseal.face.run import Run
from aemseal.face.terminal import Terminal, give_up, open_streams
from aemseal.words.errors import EXIT_INTERRUPTED, AemsealError, UsageError

Verb = Callable[[Run], int]


class _Parser(argparse.ArgumentParser):
    """argparse, with our words for a mistake, and options in full only."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**{"allow_abbrev": False, **settings})

    def error(self, message: str) -> NoReturn:
        raise UsageError(message, f"see: {self.prog} --help")


def main(
    argv: Sequence[str] | None = None, environment: Mapping[str, str] | None = None
) -> int:
    """Run one command and return its exit code."""
    environment = os.environ if environment is None else environment
    argv = sys.argv[1:] if argv is None else argv
    open_streams()
    terminal = Terminal(environment, as_json="--json" in argv)
    try:
        arguments = parser().parse_args(argv)
        with Run(arguments, terminal, environment) as run:
            run.require_selection()
            verb: Verb = arguments.verb
            return verb(run)
    except SystemExit:  # argparse has printed what --help or --version ask for
        give_up(sys.stdout)
        raise
    except AemsealError as error:
        terminal.fail(error)
        give_up(sys.stdout)
        return error.exit_code
    except BrokenPipeError:
        give_up(sys.stdout)
        return AemsealError.exit_code
    except KeyboardInterrupt:
        terminal.interrupted()
        return EXIT_INTERRUPTED


def parser() -> _Parser:
    """Build the whole command line."""
    top = _Parser(prog="aemseal", description=_ABOUT, epilog=_EXIT_CODES)
    top.formatter_class = argparse.RawDescriptionHelpFormatter
    top.add_argument("--version", action="version", version=f"aemseal {__version__}")
    _add_common(top, "pcr")
    shared = _Parser(add_help=False, argument_default=argparse.SUPPRESS)
    _add_common(shared, "more_pcr")
    commands = top.add_subparsers(title="verbs", metavar="VERB", required=True)

    def add(name: str, verb: Verb, about: str) -> argparse.ArgumentParser:
        command = commands.add_parser(
            name, help=about, description=about, parents=[shared]
        )
        command.set_defaults(verb=verb)
        return command

    checking = add("status", looks.verb_status, "what is sealed, and what to do next")
    checking.add_argument(
        "--check", action="store_true", help="hash the boot files afresh"
    )
    add("doctor", doctor.verb_doctor, "whether all is as it should be, and what to do")
    reading = add("log", looks.verb_log, "the event log, replayed and held to the TPM")
    reading.add_argument("file", nargs="?", metavar="FILE", help="only replay this log")
    add("predict", looks.verb_predict, "what the next boot will measure, and why")
    add("plan", looks.verb_plan, "what changed since the last verified boot")
    enrolling = add("enrol", enrol.verb_enrol, "seal a secret that proves the boot")
    enrolling.add_argument(
        "kind",
        metavar="KIND",
        choices=tuple(enrol.KINDS),
        help="text: from stdin or a prompt without echo; totp: codes of an app; "
        "keyfile: a key that opens the disk",
    )
    enrolling.add_argument(
        "--disk", metavar="UUID", help="whose keyfile, where the entry opens more disks"
    )
    _add_pin(enrolling)
    _add_reseal(add("reseal", moves.verb_reseal, "stage the next boot beside this one"))
    add("cancel", moves.verb_cancel, "take a staged boot back")
    confirming = add(
        "confirm", moves.verb_confirm, "keep this boot, retire the one before"
    )
    confirming.add_argument(
        "--all-media",
        action="store_true",
        help="sign nothing while a medium is away that is not stale yet",
    )
    add("explain", looks.verb_explain, "why this boot was not accepted")
    _add_recover(add("recover", recover.verb_recover, _RECOVER))
    _add_pin(add("pin", recover.verb_pin, "change the PIN, or the media"))
    revoking = add("revoke", revoke.verb_revoke, "have a lost medium open nothing")
    revoking.add_argument("label", metavar="LABEL", help="its label in the media")
    add("remove", revoke.verb_remove, "take the vault down; its secrets are lost")
    recording = add("record", looks.verb_record, "write a secret-free recording")
    recording.add_argument("directory", metavar="DIR", help="a new or empty folder")
    hashing = add("hash", looks.verb_hash, "hash one file as a launch measures it")
    _add_hash(hashing, shared)
    return top


def _add_common(command: _Parser, pcr: str) -> None:
    """Add what may stand before the verb or behind it; there it has no defaults.

    `pcr` is where --pcr collects: one place each, since the one behind the verb would
    replace the one before it, and no PCR may get lost.
    """
    command.add_argument("--json", action="store_true", help="print one JSON object")
    command.add_argument("--host", metavar="DIR", help="read from a recording")
    command.add_argument("--root", metavar="DIR", help="prefix of /boot, /etc, /var")
    command.add_argument(
        "--tcti", metavar="CONF", help="the TPM, as tpm2-tools name it"
    )
    command.add_argument(
        "--entry", metavar="TITLE", help="the GRUB entry, else the one booted next"
    )
    command.add_argument("--pcrs", metavar="SEL", help='as "sha256:13,17,18"')
    command.add_argument(
        "--pcr",
        metavar="N",
        type=int,
        action="append",
        dest=pcr,
        help="one PCR of sha256; may be repeated",
    )


def _add_pin(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--pin-file", metavar="FILE", help="read the PIN from it, else it is asked for"
    )


_RECOVER = "accept this boot by your own word, and seal everything anew"


def _add_recover(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--accept-boot",
        metavar="DIGITS",
        help="accept this boot unasked: the digits that recover says",
    )
    _add_pin(command)


def _add_reseal(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--dry-run", action="store_true", help="show what would be done, write nothing"
    )
    command.add_argument(
        "--accept",
        metavar="NAME[=HEX]",
        action="append",
        default=[],
        help="answer for a change that nobody answers for; may be repeated",
    )
    command.add_argument(
        "--new-only", action="store_true", help="retire the accepted boots right now"
    )


def _add_hash(command: argparse.ArgumentParser, shared: _Parser) -> None:
    kinds = command.add_subparsers(title="kinds", metavar="KIND", required=True)
    for kind, about in _HASH_KINDS.items():
        one = kinds.add_parser(kind, help=about, description=about, parents=[shared])
        one.add_argument("file", metavar="FILE")
        one.set_defaults(kind=kind)
        if kind in ("mle", "module"):
            one.add_argument(
                "--cmdline", metavar="S", default="", help="as GRUB hands it over"
            )
        if kind == "module":
            one.add_argument(
                "--no-decompress", action="store_true", help="as with --nounzip"
            )


_HASH_KINDS = {
    "mle": "a tboot image, as SINIT measures it (lcp2_mlehash)",
    "module": "a boot file, as tboot measures it: H(H(cmdline) || H(image))",
    "acm": "a SINIT ACM's measured bytes",
    "luks": "a LUKS header, as the boot hook measures it",
}

_ABOUT = """Ends the blind boot: predicts what the next measured boot will be, has the
TPM accept it beside the running one, and retires the old one afterwards."""

_EXIT_CODES = """exit codes:
  0  done, or nothing to do
  1  failure of the machine, or a bug
  2  usage
  3  status, plan: the next boot, or a fallback, would not be accepted
  4  refused: evidence that is absent, malformed or does not hold
  5  the TPM is absent or in lockout
  6  this boot is not an accepted one
  130  interrupted"""


if __name__ == "__main__":
    sys.exit(main())
