# SPDX-License-Identifier: GPL-2.0-or-later
"""The verbs that take away: revoke, remove."""

from __future__ import annotations

from contextlib import suppress

from aemseal.face.run import Run
from aemseal.words.errors import EXIT_DONE, AemsealError


def verb_revoke(run: Run) -> int:
    """Have a medium open nothing any more, wherever it is."""
    from aemseal.flows.revoke import revoke  # loads the TPM's library

    label = run.arguments.label
    with run.vault() as vault:
        done = revoke(vault, vault.require(), label, run.config.media)
    report = {
        "schema": "aemseal.revoke/1",
        "revoked": label,
        "removed_files": done.removed_files,
        "media": [each.label for each in done.state.media],
        "stale_media": list(done.state.stale),
    }
    lines = [f"revoked: {label}"]
    if any(each.label == label for each in run.config.media):
        lines.append(
            "take it out of media in /etc/aemseal.yaml: else aemseal pin and aemseal "
            "recover seal to it again"
        )
    lines += [f"not refreshed: {each}" for each in done.state.stale]
    run.terminal.result(report, lines)
    return EXIT_DONE


def verb_remove(run: Run) -> int:
    """Take the vault down."""
    from aemseal.flows.enrol import read_foreign_owner  # load the TPM's library
    from aemseal.flows.remove import remove

    with run.vault(must_settle=False) as vault:
        foreign_owner = None
        with suppress(AemsealError):
            foreign_owner = read_foreign_owner(vault, run.config)
        left = remove(vault, run.config.media, foreign_owner)
    run.terminal.result(
        {"schema": "aemseal.remove/1", "left": left},
        ["removed: what was sealed is gone", *(f"left: {each}" for each in left)],
    )
    return EXIT_DONE
