"""Strings as tokens: SELFIES, SMILES and proteins, cut up, and put together again."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from functools import partial

import numpy as np

from chemscale.batch import TextManifest

SPECIALS = ("<pad>", "<start>", "<end>", "<unknown>")  # ids 0 to 3 of every alphabet
PAD, START, END, UNKNOWN = range(4)
CONTINUES = "##"  # WordPiece: the token goes on with this entry

# Schwaller et al. 2019, Molecular Transformer (doi 10.1021/acscentsci.9b00576), with ring labels up to %(nnn)
SMILES_TOKEN = r"(\[[^\]]+]|Br?|Cl?|N|O|S|P|F|I|b|c|n|o|s|p|\(|\)|\.|=|#|-|\+|\\|/|:|~|@|\?|>|\*|\$|%\(\d+\)|%\d{2}|\d)"
_SMILES = re.compile(SMILES_TOKEN)


def split_string(string: str, representation: str) -> list[str]:
    """The tokens of a string: bracketed symbols of SELFIES, atoms and signs of SMILES, letters of a protein.

    Raises:
        ValueError: part of the string is no token.
    """
    if representation == "selfies":
        return _split_selfies(string)
    if representation == "protein":
        return list(string)
    tokens = _SMILES.findall(string)
    if sum(map(len, tokens)) != len(string):
        raise ValueError(f"{string!r} holds characters that are no SMILES token")
    return tokens


def is_plain(text: str) -> bool:
    """Whether every character may stand in SMILES or SELFIES; RDKit takes others off both ends without a word."""
    return text.isascii() and text.isprintable()


def require_plain(text: str) -> None:
    """Refuse a string that is not plain.

    Raises:
        ValueError: a character is not printable ASCII; the message is the reason to reject the string.
    """
    if not is_plain(text):
        strange = next(c for c in text if not is_plain(c))
        raise ValueError(f"a character that is not printable ASCII: {strange!a}")


def decode(manifest: TextManifest, tokens: np.ndarray) -> list[str | None]:
    """SMILES, or sequences of proteins, of rows of token ids.

    A row is read from its start token (which may be absent) to its first end or pad token, or to the
    row's end. None stands for a row that is empty, holds a special token, or is no molecule. SELFIES of
    either version are read.

    Args:
        manifest: of the data that the ids belong to.
        tokens: (rows, length) integer ids.
    """
    read = _reader(manifest)
    rows = (_string(manifest, row) for row in np.asarray(tokens))
    return [None if row is None else read(row) for row in rows]


def join(ids: Sequence[int], vocabulary: Sequence[str]) -> str:
    """The string that ids spell."""
    return "".join(vocabulary[i].removeprefix(CONTINUES) for i in ids)


def smiles_of(string: str, version: int) -> str | None:
    """SMILES of a SELFIES of version 1 or 2; None where it is none, or says no atom."""
    import selfies

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # selfies says that version 1 is old, which is known here
            return str(selfies.decoder(string, compatible=version == 1)) or None
    except selfies.DecoderError:
        return None


def version_of(vocabulary: Sequence[str]) -> int:
    """Of SELFIES, 1 or 2: which one the entries of a vocabulary are written in."""
    return 1 if any(entry.endswith("expl]") or entry == "[Branch1_1]" for entry in vocabulary) else 2


def _string(manifest: TextManifest, row: np.ndarray) -> str | None:
    ids = [int(i) for i in row]
    if ids[:1] == [manifest.start]:
        ids = ids[1:]
    stop = next((k for k, i in enumerate(ids) if i in (manifest.end, manifest.pad)), len(ids))
    ids = ids[:stop]
    if not ids or {manifest.start, manifest.unknown} & set(ids):
        return None
    return join(ids, manifest.vocabulary)


def _reader(manifest: TextManifest) -> Callable[[str], str | None]:
    if manifest.representation == "selfies":
        return partial(smiles_of, version=version_of(manifest.vocabulary))
    return {"smiles": _of_smiles, "protein": str}[manifest.representation]


def _of_smiles(string: str) -> str | None:
    return string if _is_molecule(string) else None


def _is_molecule(smiles: str) -> bool:
    from rdkit import Chem, rdBase

    with rdBase.BlockLogs():
        return Chem.MolFromSmiles(smiles) is not None


def _split_selfies(string: str) -> list[str]:
    if "." in string:
        return [token for part in _with_dots(string.split(".")) for token in part]
    return [f"[{token}]" for token in string[1:-1].split("][")]


def _with_dots(parts: Sequence[str]) -> Iterator[list[str]]:
    for place, part in enumerate(parts):
        yield ["."] if place else []
        yield _split_selfies(part)
