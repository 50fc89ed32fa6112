"""What strings are written in, told from the first ones, so that a file in another notation is refused in a sentence.

`[C][C][O]` is a SMILES string of three bare atoms as well as the SELFIES of ethanol: what is fed the wrong way would
be read as nonsense without a word.
"""

from __future__ import annotations

import re
from itertools import islice
from pathlib import Path

from chemscale.data.fasta import AMINO_ACIDS
from chemscale.data.readers import Layout, read_records

_LOOKED_AT = 200  # records
_SELFIES = re.compile(r"(\[[^\[\]]+\]\.?)+")
_PROTEIN = re.compile(f"[{AMINO_ACIDS}]{{10,}}\\*?")
_NAMES = {"selfies": "SELFIES", "smiles": "SMILES", "protein": "protein sequences"}


def looks_like(text: str) -> str:
    """ "selfies", "protein" or "smiles": what one string is most likely written in."""
    if _SELFIES.fullmatch(text) and text.count("[") > 2:
        return "selfies"
    return "protein" if _PROTEIN.fullmatch(text) and set(text) - set("BCFHINOPSK") else "smiles"


def refuse_other_notation(name: str, path: Path, layout: Layout) -> None:
    """Refuse a file whose first records are mostly written in another notation than it is read in.

    Args:
        name: what `Data.source` says.
        path: the file.
        layout: how it is read.

    Raises:
        ValueError: most of the first records look like another notation; the message shows one of them.
    """
    records = [(line, text) for line, text, *_ in islice(read_records(path, layout), _LOOKED_AT) if text]
    others = [(line, text, kind) for line, text in records if (kind := looks_like(text)) != layout.notation]
    if layout.notation == "protein":
        others = [other for other in others if set(other[1].upper()) - set(AMINO_ACIDS + "*-")]
    if 2 * len(others) <= len(records):
        return
    line, text, kind = others[0]
    if "protein" in (kind, layout.notation):
        use = "Data(representation='protein')" if kind == "protein" else "representation='selfies' or 'smiles'"
    else:
        use = f"Reading(notation={kind!r}) (--notation {kind})"
    shown = text if len(text) <= 40 else f"{text[:40]}…"
    raise ValueError(
        f"Data.source={name!r} holds {_NAMES[kind]} ({shown!r} on line {line}) where {_NAMES[layout.notation]} are "
        f"expected; use {use}."
    )
