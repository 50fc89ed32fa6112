"""Where a source is built: a folder whose name is the hash of all that decides what is in it."""

from __future__ import annotations

import hashlib
import json
import re
import shlex
from dataclasses import asdict
from pathlib import Path
from typing import Any

from chemscale.data.sources import Source, file_checksum
from chemscale.data.splits import portion_files
from chemscale.data.store import BUILDER, MANIFEST_FILE
from chemscale.data.vocabulary import vocabulary_of
from chemscale.home import home
from chemscale.spec import Reading

STRUCTURE_RULES = 2  # rises when a file of structures would be built into other arrays, which is then built anew
_OF_STRUCTURES = ("energy", "forces", "level", "units", "isolated")  # of a reading: what text has no use for
_OF_SPLITS = ("valid", "test", "splits")


def folder_of(source: Source, representation: str, reading: Reading) -> Path:
    """Where the source is built: the name tells people what it is, the fingerprint what went in."""
    what = {"text": representation, "structures": "structures"}[source.family]
    stem = re.sub(r"[^A-Za-z0-9_.-]+", "-", Path(source.name).name)[:60]
    splits = [split for split, _ in source.files]
    kind = "".join(Path(path).suffixes[-1:][0] if path.suffix else "" for _, path in source.files)
    facts = [source.checksum, splits, kind, what, BUILDER]
    if source.family == "structures":
        facts.append(STRUCTURE_RULES)
    if reading != Reading():
        facts.append(_fingerprint(source, reading, representation))
    text = json.dumps(facts)
    return home() / "built" / f"{stem}-{what}-{hashlib.sha256(text.encode()).hexdigest()[:16]}"


def built_folder(source: Source, representation: str, reading: Reading) -> Path:
    """The folder of a source that is built.

    Raises:
        ValueError: it is not; the message names the command that builds it.
    """
    folder = folder_of(source, representation, reading)
    if not (folder / MANIFEST_FILE).is_file():
        changed = {k: v for k, v in asdict(reading).items() if v != getattr(Reading(), k)}
        if representation != "selfies":
            changed = {"representation": representation, **changed}
        if source.family == "structures":
            changed.pop("representation", None)
        options = "".join(f" --{name} {shlex.quote(str(value))}" for name, value in changed.items())
        raise ValueError(
            f"Data.source={source.name!r} is not built here; run `chemscale data build "
            f"{shlex.quote(source.name)}{options}`."
        )
    return folder


def folder_with(content: str) -> Path | None:
    """The built folder that holds this content, whatever it was built of; None where there is none."""
    for file in sorted((home() / "built").glob(f"*/{MANIFEST_FILE}")):
        if json.loads(file.read_text())["manifest"]["content"] == content:
            return file.parent
    return None


def _fingerprint(source: Source, reading: Reading, representation: str) -> dict[str, Any]:
    """What a reading says, with the contents of files in the place of their paths."""
    said = {name: value for name, value in asdict(reading).items() if name not in _OF_SPLITS}
    splits = _split_facts(source, reading)
    if source.family == "structures":
        lone = None if reading.isolated is None else Path(reading.isolated).expanduser()
        alone = file_checksum(lone) if lone is not None and lone.is_file() else reading.isolated
        kept = {"duplicates": reading.duplicates} if splits else {}
        return {name: said[name] for name in ("groups", *_OF_STRUCTURES)} | {"isolated": alone} | splits | kept
    said = {name: value for name, value in said.items() if name not in _OF_STRUCTURES}
    vocabulary = vocabulary_of(reading, representation)
    if vocabulary is not None:
        said["vocabulary"] = vocabulary.checksum
    if reading.groups is not None and Path(reading.groups).expanduser().is_file():
        said["groups"] = file_checksum(Path(reading.groups).expanduser())
    return said | splits


def _split_facts(source: Source, reading: Reading) -> dict[str, Any]:
    """What decides splits that are given; empty where none are."""
    facts: dict[str, Any] = {} if reading.splits is None else {"splits": reading.splits}
    for name, portion in reading.portions.items():
        sums = [file_checksum(path) for path in portion_files(source, name, portion)] if portion.path else []
        facts[name] = [sums, portion.slice]
    return facts
