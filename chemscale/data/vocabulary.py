"""Vocabularies made elsewhere: ids that a released model knows, and how SELFIES tokens become them.

Two ship by name, those of the ChemGPT models on the Hugging Face hub (Frey et al. 2023, doi
10.1038/s42256-023-00740-3): "chemgpt-selfies1" for SELFIES 1.0.4, that of the released weights, and "chemgpt-selfies2".
Both are WordPiece (Schuster & Nakajima 2012, doi 10.1109/ICASSP.2012.6289079): a token that is no entry is cut into the
longest entries that spell it, or is unknown as a whole.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass, field, fields
from functools import cached_property
from pathlib import Path
from typing import Any

from chemscale.batch import TextManifest
from chemscale.data.tokens import CONTINUES, SPECIALS, version_of
from chemscale.spec import Reading

NAMED = ("chemgpt-selfies1", "chemgpt-selfies2")
HUB_SPECIALS = {"pad": "[PAD]", "start": "[CLS]", "end": "[SEP]", "unknown": "[UNK]"}
OWN_SPECIALS: dict[str, str] = dict(zip(("pad", "start", "end", "unknown"), SPECIALS, strict=True))
_LONGEST_WORD = 100  # characters; WordPiece calls longer tokens unknown

_BRACKET = re.compile(r"\[([=#/\\]?)(\d*[A-Z][a-z]?[^\]]*)\]")
_COUNTED = re.compile(r"\[([-=#/\\]{0,2})(Branch|Ring)(\d)\]")
_BRANCH_KIND = {"": "1", "=": "2", "#": "3"}
_RING_BOND = {"": "", "=": "Expl=", "#": "Expl#", "//": "Expl/", "\\\\": "Expl\\"}
_ORGANIC = {"B", "C", "N", "O", "S", "P", "F", "Cl", "Br", "I"}  # atoms that version 1 writes without "expl"


@dataclass(frozen=True)
class Vocabulary:
    """Entries by id, and how tokens become entries.

    Attributes:
        name: its known name, or the file it was read from.
        entries: text of each id; a piece that continues a token begins with `##`.
        specials: the texts of "pad", "start", "end" and "unknown".
        cut: whether unknown tokens are cut into entries (WordPiece), or are unknown as a whole.
        version: of SELFIES that the entries are written in, 1 or 2.
    """

    name: str
    entries: tuple[str, ...]
    specials: dict[str, str] = field(hash=False)
    cut: bool
    version: int

    @cached_property
    def ids(self) -> dict[str, int]:
        """Id of each entry."""
        return {entry: i for i, entry in enumerate(self.entries)}

    @property
    def special_ids(self) -> dict[str, int]:
        """Ids of "pad", "start", "end" and "unknown"."""
        return {what: self.ids[text] for what, text in self.specials.items()}

    @cached_property
    def checksum(self) -> str:
        """SHA-256 of all that decides an id."""
        what = json.dumps([self.entries, sorted(self.specials.items()), self.cut, self.version])
        return hashlib.sha256(what.encode()).hexdigest()

    def spelled(self, token: str) -> tuple[str, ...] | None:
        """The entries that stand for a token of SELFIES 2 (or of SMILES); None where it is unknown."""
        text = version_1(token) if self.version == 1 else token
        if text in self.ids:
            return (text,)
        return self._pieces(text) if self.cut and len(text) <= _LONGEST_WORD else None

    def _pieces(self, text: str) -> tuple[str, ...] | None:
        pieces, start = [], 0
        while start < len(text):
            prefix = CONTINUES if start else ""
            ends = range(len(text), start, -1)
            end = next((e for e in ends if prefix + text[start:e] in self.ids), None)
            if end is None:
                return None
            pieces.append(prefix + text[start:end])
            start = end
        return tuple(pieces)


def version_1(token: str) -> str:
    """The token of SELFIES 1.0.4 that stands for one of SELFIES 2; `selfies`' `compatible=True` reads it back."""
    counted = _COUNTED.fullmatch(token)
    if counted:
        bond, what, number = counted.groups()
        if what == "Branch":
            return f"[Branch{number}_{_BRANCH_KIND[bond]}]" if bond in _BRANCH_KIND else token
        return f"[{_RING_BOND[bond]}Ring{number}]" if bond in _RING_BOND else token
    atom = _BRACKET.fullmatch(token)
    if atom is None or atom.group(2) in _ORGANIC:
        return token
    bond, body = atom.groups()
    body = re.sub(r"H0(?=[+-]|$)", "", body)
    body = re.sub(r"(?<=H)1(?=[+-]|$)", "", body)
    return f"[{bond}{re.sub(r'(?<=[+-])1$', '', body)}expl]"


def vocabulary_of(reading: Reading, representation: str) -> Vocabulary | None:
    """The vocabulary that a reading asks for; None where the training split makes its own alphabet.

    Raises:
        ValueError: it is neither a known name nor a file that holds a vocabulary, or is of other strings.
    """
    asked = reading.vocabulary
    if asked is None:
        return None
    if asked in NAMED and representation != "selfies":
        raise ValueError(
            f"Reading.vocabulary={asked!r} is of SELFIES and Data.representation={representation!r}; use 'selfies'."
        )
    if asked in NAMED:
        return _named(asked)
    path = Path(asked).expanduser()
    if not path.is_file():
        raise ValueError(
            f"Reading.vocabulary={asked!r} is neither {' nor '.join(NAMED)} nor a file on this machine; give one of "
            "these names, a Hugging Face tokenizer.json or a manifest.json of built data."
        )
    return read_vocabulary(path)


def read_vocabulary(path: Path) -> Vocabulary:
    """The vocabulary of a `tokenizer.json` (WordPiece or WordLevel) or of a `manifest.json` of built data.

    Raises:
        ValueError: the file is neither, or its ids are not 0, 1, 2 …
    """
    try:
        tree = json.loads(path.read_text())
    except ValueError as error:
        raise ValueError(f"Reading.vocabulary={str(path)!r} is no JSON file: {error}.") from error
    built = tree.get("manifest") if isinstance(tree, dict) else None
    if isinstance(built, dict) and {"vocabulary", *OWN_SPECIALS} <= set(built):
        return _of_entries(str(path), built)
    model = tree.get("model") if isinstance(tree, dict) else None
    if not isinstance(model, dict) or model.get("type") not in ("WordPiece", "WordLevel") or "vocab" not in model:
        raise ValueError(
            f"Reading.vocabulary={str(path)!r} holds no vocabulary of the kinds WordPiece or WordLevel; give a "
            "tokenizer.json of one of these kinds, or a manifest.json of built strings."
        )
    ids = {**model["vocab"], **{t["content"]: t["id"] for t in tree.get("added_tokens") or ()}}
    entries = tuple(sorted(ids, key=ids.__getitem__))
    if [ids[e] for e in entries] != list(range(len(entries))):
        raise ValueError(f"Reading.vocabulary={str(path)!r} does not number its {len(entries)} entries 0, 1, 2 …")
    return _made(str(path), entries, model["type"] == "WordPiece")


def vocabulary_in(manifest: TextManifest) -> Vocabulary:
    """The vocabulary of built data, to spell other strings for a model that was trained on them."""
    return _of_entries(manifest.source, {f.name: getattr(manifest, f.name) for f in fields(manifest)})


def _named(name: str) -> Vocabulary:
    from chemscale.data.sources import embedded

    return _made(name, tuple(embedded(f"{name}.txt").read_text().splitlines()), cut=True)


def _of_entries(name: str, tree: dict[str, Any]) -> Vocabulary:
    entries = tuple(tree["vocabulary"])
    specials = {what: entries[tree[what]] for what in OWN_SPECIALS}
    return Vocabulary(name, entries, specials, _is_cut(entries), version_of(entries))


def _made(name: str, entries: tuple[str, ...], cut: bool) -> Vocabulary:
    for specials in (HUB_SPECIALS, OWN_SPECIALS):
        if set(specials.values()) <= set(entries):
            return Vocabulary(name, entries, dict(specials), cut, version_of(entries))
    raise ValueError(
        f"Reading.vocabulary={name!r} has no special tokens {', '.join(HUB_SPECIALS.values())} (or "
        f"{', '.join(OWN_SPECIALS.values())}), which begin, end and fill a row; add them."
    )


def _is_cut(entries: tuple[str, ...]) -> bool:
    return any(entry.startswith(CONTINUES) for entry in entries)
