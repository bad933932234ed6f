# SPDX-License-Identifier: GPL-2.0-or-later
"""The command line's JSON, field by field, as its contract has it.

A shape is a type, a set of values, a function of a value, a dict of fields (a key
with "?" may be absent; fields may be added), a list of one shape, or a tuple of
alternatives.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

ALGORITHMS = {"sha1", "sha256", "sha384", "sha512", "sm3_256"}
_SIZES = {"sha1": 40, "sha256": 64, "sha384": 96, "sha512": 128, "sm3_256": 64}


def hexadecimal(value: object) -> bool:
    return (
        isinstance(value, str) and re.fullmatch(r"(?:[0-9a-f]{2})*", value) is not None
    )


def event_type(value: object) -> bool:
    return (
        isinstance(value, str)
        and re.fullmatch(r"0x(?:0|[1-9a-f][0-9a-f]*)", value) is not None
    )


def time(value: object) -> bool:
    form = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ"
    return isinstance(value, str) and re.fullmatch(form, value) is not None


def digests(value: object) -> bool:
    return isinstance(value, dict) and all(
        name in ALGORITHMS and hexadecimal(each) and len(each) == _SIZES[name]
        for name, each in value.items()
    )


def banks(value: object) -> bool:
    return isinstance(value, dict) and all(
        name in ALGORITHMS
        and all(pcr in map(str, range(24)) for pcr in bank)
        and all(digests({name: each}) for each in bank.values())
        for name, bank in value.items()
    )


def coverage(value: object) -> bool:
    return isinstance(value, dict) and all(
        name in ALGORITHMS
        and all(
            pcr in map(str, range(24))
            and set(told) == {"complete", "missing"}
            and told["complete"] is not bool(told["missing"])
            and all(type(number) is int for number in told["missing"])
            for pcr, told in pcrs.items()
        )
        for name, pcrs in value.items()
    )


def selection(value: object) -> bool:
    form = r"(?:sha1|sha256|sha384|sha512|sm3_256):\d+(?:,\d+)*"
    return isinstance(value, str) and re.fullmatch(form, value) is not None


def changed_file(value: object) -> bool:
    return isinstance(value, str) and value[:2] in ("~ ", "+ ", "- ")


ROLES = {
    *("sinit", "mle", "policy", "xen", "kernel", "initramfs", "module", "luks"),
    *("platform", "skl", "cmdline", "boot-info"),
}
NONE = type(None)
RESETS = ({"count": int, "since": time, "other_tpm": bool}, NONE)
BOOTS = [{"name": str, "since": time, "fallback": bool}]
STATE = ({"path?": str, "cmdline?": str}, NONE)

SHAPES: Mapping[str, Any] = {
    "log": {
        "schema": {"aemseal.log/1"},
        "format": {
            *("tcg-agile", "tcg-sha1", "tpm2-per-bank", "txt-container", "txt-heap"),
            "tboot-text",
        },
        "algorithms": [ALGORITHMS],
        "events": [
            {
                "number": int,
                "pcr": int,
                "type": event_type,
                "name": str,
                "digests": digests,
                "data": hexadecimal,
                "file?": str,
            }
        ],
        "pcrs": banks,
        "quirks": [{"event": int, "name": str, "effect": str}],
        "coverage": coverage,
    },
    "hash": {
        "schema": {"aemseal.hash/1"},
        "kind": {"mle", "module", "acm", "luks"},
        "digests": digests,
    },
    "predict": {
        "schema": {"aemseal.predict/1"},
        "stack": {"tboot", "trenchboot-txt", "trenchboot-skinit"},
        "map": {"legacy", "da"},
        "entry": str,
        "selection": selection,
        "complete": bool,
        "calibrated": bool,
        "measurements": [
            {
                "pcr": int,
                "digests": digests,
                "role": ROLES,
                "source": {
                    "kind": {"file", "cmdline", "constant", "carried"},
                    "path?": str,
                    "cmdline?": str,
                    "event?": int,
                },
                "calibrated": {"now", "baseline", "no"},
            }
        ],
        "now": banks,
        "next": banks,
        "refusals": [{"pcr": int, "reason": str, "event": (int, NONE)}],
    },
    "status": {
        "schema": {"aemseal.status/1"},
        "accepted": BOOTS,
        "staged": BOOTS,
        "this_boot": {"accepted", "staged", "retired", "unknown", "unmeasured"},
        "next_boot": {"accepted", "staged", "not-accepted", "retired", "unknown"},
        "checked": (time, NONE),
        "next_step": str,
        "absent_media": [str],
        "overridden": bool,
        "fallbacks": [
            {
                "title": str,
                "next_boot": {"accepted", "staged", "not-accepted"},
                "problem": (str, NONE),
            }
        ],
        "secrets": [
            {"name": str, "kind": {"text", "totp", "keyfile"}, "pin": bool},
        ],
        "warnings": [str],
        "resets": RESETS,
        "tries": ({"counted": int, "left": int, "most": int}, NONE),
    },
    "plan": {
        "schema": {"aemseal.plan/1"},
        "changes": [
            {
                "role": ROLES,
                "path": (str, NONE),
                "before": STATE,
                "after": STATE,
                "pcrs": [int],
                "origin": {
                    "kind": {"measured", "package", "built", "unknown", "constant"},
                    "detail": str,
                },
                "accept": (str, NONE),
                "files": [changed_file],
                "files_note": (str, NONE),
            }
        ],
        "fallbacks": [
            {
                "title": str,
                "name": (str, NONE),
                "standing": {"accepted", "staged", "retired", "unknown"},
                "problem": (str, NONE),
                "plan": {"schema": {"aemseal.plan/1"}},
            }
        ],
    },
    "explain": {
        "schema": {"aemseal.explain/1"},
        "verdict": {
            *("accepted", "retired", "changed", "unmeasured", "tpm-changed"),
            "shut",
        },
        "pcr": (int, NONE),
        "role": (ROLES, NONE),
        "path": (str, NONE),
        "expected": ({"digests": digests}, NONE),
        "measured": ({"digests": digests}, NONE),
        "known_as": (str, NONE),
        "advice": str,
        "prediction": (
            {
                "time": time,
                "as_predicted": bool,
                "not_known": [str],
                "pcr": (int, NONE),
                "role": (ROLES, NONE),
                "path": (str, NONE),
                "expected": ({"digests": digests}, NONE),
                "measured": ({"digests": digests}, NONE),
                "differences": int,
            },
            NONE,
        ),
        "hook_outcome": (str, NONE),
        "overridden": bool,
        "files": [changed_file],
        "files_note": (str, NONE),
    },
    "confirm": {
        "schema": {"aemseal.confirm/1"},
        "accepted_as": str,
        "retired": [str],
        "stale_media": [str],
        "fallbacks": [str],
        "rotated": bool,
        "not_rotated": (str, NONE),
        "resets": RESETS,
        "tries_counted": (int, NONE),
        "tries_trouble": (str, NONE),
    },
    **{
        verb: {
            "schema": {f"aemseal.{verb}/1"},
            "accepted": [str],
            "staged": [str],
            "retired": [str],
            "secrets": [{"text", "totp", "keyfile"}],
            "media": [str],
            "left": [str],
        }
        for verb in ("recover", "pin")
    },
    "revoke": {
        "schema": {"aemseal.revoke/1"},
        "revoked": str,
        "removed_files": bool,
        "media": [str],
        "stale_media": [str],
    },
    "doctor": {
        "schema": {"aemseal.doctor/1"},
        "checks": [
            {
                "name": str,
                "result": {"ok", "warning", "failed", "skipped"},
                "message": str,
                "hint": (str, NONE),
            }
        ],
    },
    "error": {
        "schema": {"aemseal.error/1"},
        "kind": str,
        "message": str,
        "hint": (str, NONE),
        "exit": {1, 2, 4, 5, 6, 130},
    },
}


def check(report: object, shape: Any, where: str = "") -> None:
    """Assert that a report is of a shape; a name is one of SHAPES."""
    if isinstance(shape, str):
        check(report, SHAPES[shape], shape)
    elif isinstance(shape, dict):
        assert isinstance(report, dict), where
        for key, each in shape.items():
            name = key.removesuffix("?")
            assert name in report or key != name, f"{where}.{name} is missing"
            if name in report:
                check(report[name], each, f"{where}.{name}")
    elif isinstance(shape, list):
        assert isinstance(report, list), where
        for number, each in enumerate(report):
            check(each, shape[0], f"{where}[{number}]")
    elif isinstance(shape, tuple):
        assert any(_is(report, each, where) for each in shape), f"{where}: {report!r}"
    elif isinstance(shape, set):
        assert report in shape, f"{where}: {report!r}"
    elif isinstance(shape, type):
        assert type(report) is shape, f"{where}: {report!r}"
    else:
        assert shape(report), f"{where}: {report!r}"


def _is(report: object, shape: Any, where: str) -> bool:
    try:
        check(report, shape, where)
    except AssertionError:
        return False
    return True
