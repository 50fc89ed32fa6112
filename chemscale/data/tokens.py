"""Molecules as strings of tokens: SMILES and SELFIES, cut up, and put together again."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

import numpy as np

from chemscale.batch import TextManifest

SPECIALS = ("<pad>", "<start>", "<end>", "<unknown>")  # ids 0 to 3 of every alphabet
PAD, START, END, UNKNOWN = range(4)

# Schwaller et al. 2019, Molecular Transformer (doi 10.1021/acscentsci.9b00576), with ring labels up to %(nnn)
SMILES_TOKEN = r"(\[[^\]]+]|Br?|Cl?|N|O|S|P|F|I|b|c|n|o|s|p|\(|\)|\.|=|#|-|\+|\\|/|:|~|@|\?|>|\*|\$|%\(\d+\)|%\d{2}|\d)"
_SMILES = re.compile(SMILES_TOKEN)


def split_string(string: str, representation: str) -> list[str]:
    """The tokens of a SELFIES or SMILES string.

    Raises:
        ValueError: part of the string is no token.
    """
    if representation == "selfies":
        return _split_selfies(string)
    tokens = _SMILES.findall(string)
    if sum(map(len, tokens)) != len(string):
        raise ValueError(f"{string!r} holds characters that are no SMILES token")
    return tokens


def write_string(smiles: str, representation: str) -> str:
    """A SMILES string in the representation that is asked for.

    Raises:
        ValueError: SELFIES cannot express the molecule, e.g. a valence above its limits.
    """
    if representation == "smiles":
        return smiles
    import selfies

    try:
        return selfies.encoder(smiles)
    except selfies.EncoderError as error:
        raise ValueError(f"SELFIES cannot express it: {_first_line(error)}") from error


def decode(manifest: TextManifest, tokens: np.ndarray) -> list[str | None]:
    """SMILES of rows of token ids.

    A row is read from its start token (which may be absent) to its first end or pad token, or to the
    row's end. None stands for a row that is empty, holds the unknown token, or is no molecule.

    Args:
        manifest: of the data that the ids belong to.
        tokens: (rows, length) integer ids.
    """
    rows = (_texts(manifest, row) for row in np.asarray(tokens))
    return [None if row is None else _molecule("".join(row), manifest.representation) for row in rows]


def _texts(manifest: TextManifest, row: np.ndarray) -> list[str] | None:
    ids = [int(i) for i in row]
    if ids[:1] == [manifest.start]:
        ids = ids[1:]
    stop = next((k for k, i in enumerate(ids) if i in (manifest.end, manifest.pad)), len(ids))
    ids = ids[:stop]
    if not ids or min(ids) <= UNKNOWN:
        return None
    return [manifest.vocabulary[i] for i in ids]


def _molecule(string: str, representation: str) -> str | None:
    if representation == "smiles":
        return string if _is_molecule(string) else None
    import selfies

    try:
        return str(selfies.decoder(string)) or None
    except selfies.DecoderError:
        return None


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


def _first_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
