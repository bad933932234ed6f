# SPDX-License-Identifier: GPL-2.0-or-later
"""What changes with the next boot and with the fallback entries, shown together."""

from __future__ import annotations

from typing import Any

from aemseal.face import render
from aemseal.flows.fallback_entries import FallbackBoot
from aemseal.flows.moves import STAGED
from aemseal.flows.reseal import NextBoot
from aemseal.measure.reports import plan_report


def plan_words(following: NextBoot) -> list[str]:
    """Show the next boot's changes, then those of each fallback entry."""
    bank = following.look.selection.algorithm
    lines = render.plan_lines(following.plan, bank)
    for each in following.fallbacks:
        if each in following.new_fallbacks:
            lines.append(f"the fallback entry {each.name!r}, {_name(each)}:")
            lines += render.plan_lines(each.plan, bank)
        elif each.problem is not None:
            lines.append(each.problem.message)
        else:
            word = each.standing if each.is_known else "the same as another boot"
            lines.append(f"the fallback entry {each.name!r}, {_name(each)}: {word}")
    return lines


def planned_report(following: NextBoot, *, done: bool = False) -> dict[str, Any]:
    """Return the "aemseal.plan/1" object, with the fallback entries in it.

    `done` says that those that were new are staged by now.
    """
    bank = following.look.selection.algorithm
    fallbacks = []
    for each in following.fallbacks:
        is_new = each in following.new_fallbacks
        fallbacks.append(
            {
                "title": each.name,
                "name": None if each.boot is None else each.boot.name,
                "standing": STAGED if done and is_new else each.standing,
                "problem": each.problem and each.problem.message,
                "plan": plan_report(each.plan, bank),
            }
        )
    return {**plan_report(following.plan, bank), "fallbacks": fallbacks}


def _name(fallback: FallbackBoot) -> str:
    return "" if fallback.boot is None else fallback.boot.name
