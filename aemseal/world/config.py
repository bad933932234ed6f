# SPDX-License-Identifier: GPL-2.0-or-later
"""/etc/aemseal.yaml, read strictly; the only importer of yaml.

Every key and its default: docs/configuration.md. The file is walked as YAML nodes
rather than loaded, since only nodes still know their line: doubled and unknown keys
are refused, no value is ever guessed into another type, and no tag makes an object.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from aemseal.formats.boot_conf import is_folder, is_spec
from aemseal.formats.text_lines import is_name
from aemseal.words.digest import PcrSelection
from aemseal.words.errors import AemsealError, EvidenceError, SelectionError
from aemseal.world.rooted import Rooted

CONFIG_FILE = "/etc/aemseal.yaml"
CONFIG_LIMIT = 65536
AEM_CONFIG_FILE = "/etc/anti-evil-maid.conf"
AEM_OWNER_AUTH_FILE = "/var/lib/anti-evil-maid/tpm-owner-pw"
"""Where Anti Evil Maid's tpm-setup keeps what it set (lib-tpm2, tpmtakeownership)."""

MAXIMAL_MEDIA = 8
MAXIMAL_FALLBACKS = 3
"""Eight boots are accepted at most (PolicyOR): one and three before an update, and
again one and three beside them while it is staged."""

SELECTION_LIMIT = 512

_NULL = "tag:yaml.org,2002:null"
_STRING = "tag:yaml.org,2002:str"
_BOOLEAN = "tag:yaml.org,2002:bool"


@dataclass(frozen=True, slots=True)
class Medium:
    """A place where sealed files lie: its label, and its folder below the root.

    `carried` says that its owner takes it along, so that who finds the machine does
    not find the medium: a stick, or a /boot on one. `device` is how the initramfs
    finds it (`UUID=...` or `LABEL=...`), `folder` where its files lie on it; None =
    as it is mounted now.
    """

    label: str
    path: str
    carried: bool = False
    device: str | None = None
    folder: str | None = None

    def __post_init__(self) -> None:
        if not is_name(self.label):
            raise ValueError(f"medium {self.label!r}")
        if not self.path.startswith("/"):
            raise ValueError(f"{self.path!r} is not an absolute path")


@dataclass(frozen=True, slots=True)
class Config:
    """What a person has settled for this machine; None = not settled.

    `event_log`, `grub_config` and `tboot_policy` are paths below the root. `pcrs` is
    the text of a selection that parses. `initramfs_command` is an argv, run without a
    shell. `owner_auth_file` is where another tool keeps the TPM owner's authorisation.
    `rotate` has every confirm sign anew, so that a copied medium is dead after the next
    one. `fallback_entries` are titles of GRUB entries to accept beside the next boot.
    """

    event_log: str | None = None
    grub_config: str | None = None
    pcrs: str | None = None
    media: tuple[Medium, ...] = (Medium("internal", "/boot/aemseal"),)
    initramfs_command: tuple[str, ...] | None = None
    owner_auth_file: str | None = None
    tboot_policy: str | None = None
    rotate: bool = False
    fallback_entries: tuple[str, ...] = ()


def load_config(root: Path) -> Config:
    """Read /etc/aemseal.yaml below `root`; an absent file is an empty one.

    Where it names no `pcrs`, they are Anti Evil Maid's, from the SEAL line of
    /etc/anti-evil-maid.conf; where it names no `owner_auth_file`, Anti Evil Maid's,
    if that exists. EvidenceError, naming file and line, for anything malformed.
    """
    files = Rooted(root)
    data = files.read(CONFIG_FILE, CONFIG_LIMIT, EvidenceError)
    settled = {} if data is None else _read_yaml(data)
    if "pcrs" not in settled:
        settled["pcrs"] = _aem_selection(files)
    if "owner_auth_file" not in settled and files.exists(AEM_OWNER_AUTH_FILE):
        settled["owner_auth_file"] = AEM_OWNER_AUTH_FILE
    return Config(**settled)


def _fail(node: yaml.Node, complaint: str, hint: str | None = None) -> EvidenceError:
    line = node.start_mark.line + 1
    return EvidenceError(f"{CONFIG_FILE} line {line}: {complaint}", hint)


def _read_yaml(data: bytes) -> dict[str, Any]:
    try:
        node = yaml.compose(data.decode("utf-8"), Loader=yaml.SafeLoader)
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise EvidenceError(f"{CONFIG_FILE} line {line}: not UTF-8") from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f" line {mark.line + 1}" if mark else ""
        raise EvidenceError(f"{CONFIG_FILE}{where}: {error.problem}") from None
    except yaml.YAMLError as error:
        raise EvidenceError(f"{CONFIG_FILE}: {_one_line(error)}") from None
    except RecursionError:
        raise EvidenceError(f"{CONFIG_FILE}: nested too deeply") from None
    if node is None or node.tag == _NULL:
        return {}
    return _fields(node, _KEYS, "the file")


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())


def _fields(
    node: yaml.Node, readers: Mapping[str, Callable[[str, yaml.Node], Any]], what: str
) -> dict[str, Any]:
    """Read a mapping whose keys are among `readers`, each at most once."""
    if not isinstance(node, yaml.MappingNode):
        raise _fail(node, f"{what} is not a list of `key: value`")
    found: dict[str, Any] = {}
    for key_node, value_node in node.value:
        key = key_node.value
        if not isinstance(key, str) or key not in readers:
            name = repr(key) if isinstance(key, str) else "that is not a word"
            raise _fail(
                key_node, f"unknown key {name}", f"known are: {', '.join(readers)}"
            )
        if key in found:
            raise _fail(key_node, f"{key} is there twice")
        found[key] = readers[key](key, value_node)
    return found


def _text(key: str, node: yaml.Node) -> str:
    if not isinstance(node, yaml.ScalarNode) or node.tag != _STRING:
        raise _fail(node, f"{key} is not a text", "put the value in quotes")
    text: str = node.value
    if not text or not text.isprintable():
        raise _fail(node, f"{key} is empty or holds a control character")
    return text


def _path(key: str, node: yaml.Node) -> str:
    path = _text(key, node)
    if not path.startswith("/") or ".." in path.split("/"):
        raise _fail(node, f"{key} is not an absolute path without `..`")
    return path


def _selection(key: str, node: yaml.Node) -> str:
    text = _text(key, node)
    try:
        return _parsed(text)
    except AemsealError as error:
        raise _fail(node, f"{key}: {error.message}", error.hint) from None


def _parsed(selection: str) -> str:
    """Return the text of a PCR selection that parses; its errors are the parser's."""
    if len(selection) > SELECTION_LIMIT:
        raise SelectionError(f"over {SELECTION_LIMIT} characters")
    PcrSelection.parse(selection)
    return selection


def _items(key: str, node: yaml.Node) -> Iterator[yaml.Node]:
    if not isinstance(node, yaml.SequenceNode) or not node.value:
        raise _fail(node, f"{key} is not a list of one item or more")
    yield from node.value


def _command(key: str, node: yaml.Node) -> tuple[str, ...]:
    return tuple(_text(f"a word of {key}", item) for item in _items(key, node))


def _label(key: str, node: yaml.Node) -> str:
    label = _text(key, node)
    if not is_name(label):
        raise _fail(node, f"{key} {label!r} is not 1 to 32 of A-Z a-z 0-9 . _ -")
    return label


def _yes_or_no(key: str, node: yaml.Node) -> bool:
    is_bool = isinstance(node, yaml.ScalarNode) and node.tag == _BOOLEAN
    if not is_bool or node.value not in ("true", "false"):
        raise _fail(node, f"{key} is neither true nor false")
    return bool(node.value == "true")


def _titles(key: str, node: yaml.Node) -> tuple[str, ...]:
    titles = tuple(_text(f"a title of {key}", item) for item in _items(key, node))
    if len(titles) > MAXIMAL_FALLBACKS or len(set(titles)) != len(titles):
        raise _fail(node, f"{key}: over {MAXIMAL_FALLBACKS} titles, or one twice")
    return titles


def _media(key: str, node: yaml.Node) -> tuple[Medium, ...]:
    media: list[Medium] = []
    for item in _items(key, node):
        fields = _fields(item, _MEDIUM_KEYS, f"an item of {key}")
        if not {"label", "path"} <= fields.keys():
            raise _fail(item, f"an item of {key} has a label and a path")
        medium = Medium(**fields)
        for other in media:
            if medium.label == other.label or medium.path == other.path:
                raise _fail(item, f"{key}: this label or path is there already")
        media.append(medium)
        if len(media) > MAXIMAL_MEDIA:
            raise _fail(item, f"{key}: more than {MAXIMAL_MEDIA}")
    return tuple(media)


def _device(key: str, node: yaml.Node) -> str:
    spec = _text(key, node)
    if not is_spec(spec):
        raise _fail(node, f"{key} {spec!r} is neither UUID=... nor LABEL=...")
    return spec


def _folder(key: str, node: yaml.Node) -> str:
    folder = _text(key, node)
    if not is_folder(folder):
        raise _fail(node, f"{key} {folder!r} is not a folder of A-Z a-z 0-9 . _ -")
    return folder


_MEDIUM_KEYS: dict[str, Callable[[str, yaml.Node], Any]] = {
    "label": _label,
    "path": _path,
    "carried": _yes_or_no,
    "device": _device,
    "folder": _folder,
}

_KEYS: dict[str, Callable[[str, yaml.Node], Any]] = {
    "event_log": _path,
    "grub_config": _path,
    "pcrs": _selection,
    "media": _media,
    "initramfs_command": _command,
    "owner_auth_file": _path,
    "tboot_policy": _path,
    "rotate": _yes_or_no,
    "fallback_entries": _titles,
}


def _aem_selection(files: Rooted) -> str | None:
    """Return what Anti Evil Maid seals to: its last `SEAL=` line, never run.

    None without the file or the line. A value that is more than a list of --pcr
    (a variable, another option) is refused, since only a shell knows what it means.
    """
    data = files.read(AEM_CONFIG_FILE, CONFIG_LIMIT, EvidenceError)
    found = None
    for number, line in enumerate((data or b"").split(b"\n"), start=1):
        assignment = _ASSIGNMENT.match(line.decode("utf-8", "backslashreplace"))
        if assignment:
            found = (number, assignment[1])
    if found is None:
        return None
    number, value = found
    whole = _VALUE.fullmatch(value)
    text = "" if whole is None else whole["double"] or whole["single"] or ""
    try:
        return _parsed(text)
    except AemsealError as error:
        raise EvidenceError(
            f"{AEM_CONFIG_FILE} line {number}: SEAL: {error.message}",
            f"name the PCRs in {CONFIG_FILE}, for example pcrs: sha256:13,17,18",
        ) from None


_ASSIGNMENT = re.compile(r"\s*(?:export\s+)?SEAL=(.*)")
_VALUE = re.compile(r"(?:\"(?P<double>[^\"$`\\]*)\"|'(?P<single>[^']*)')\s*(?:#.*)?")
