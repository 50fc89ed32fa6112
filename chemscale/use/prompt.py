"""What strings begin with: token prefixes, and writings of a scaffold that end in the place where it is to grow."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import selfies
import torch
from rdkit import Chem

from chemscale.batch import TextManifest, TokenBatch
from chemscale.data.tokens import split_string
from chemscale.data.vocabulary import Vocabulary, vocabulary_in
from chemscale.use.sampler import Prompt
from chemscale.use.scaffold import Scaffold, Writing, writings

CANDIDATES = 8  # writings of one molecule that the model chooses from
SCORED = 512  # prefixes of one pass through the model
_SIGN = {1: "", 2: "=", 3: "#"}
_MARK = "[At]"  # stands at the place to grow while SELFIES are written: astatine occurs in no data
_SELFIES_ATOM = re.compile(r"\[([=#]?)[/\\]?\d*[A-Z][^\]]*\]")
_NO_ATOM = re.compile(r"Branch|Ring|epsilon|nop|UNK|PAD|CLS|SEP|MASK")
_SMILES_ATOM = re.compile(r"\[[^\]]+\]|Br|Cl|[BCNOSPFIbcnops]")


def read_prompt(text: str, manifest: TextManifest) -> Scaffold | tuple[int, ...]:
    """A scaffold where the text is a SMILES string, or ids where it is the beginning of a string of this model.

    SELFIES are told by their tokens, which all must be in the vocabulary; for a model of SMILES a readable molecule is
    a scaffold, and what is open (`c1ccccc1C(`) a beginning. A model of proteins takes letters to begin with alone.

    Raises:
        ValueError: it is neither.
    """
    try:
        tokens = split_string(text, manifest.representation)
    except ValueError:
        tokens = []
    ids = ids_of(tokens, manifest) or spelled(tokens, vocabulary_in(manifest))
    if manifest.representation != "smiles" and ids and "".join(tokens) == text:
        return ids
    if manifest.representation == "protein":
        raise ValueError(f"prompt={text!r} holds letters that this model of proteins does not know; give others.")
    try:
        return Scaffold(text)
    except ValueError as reason:
        if ids:
            return ids
        kind = manifest.representation.upper()
        raise ValueError(f"{str(reason).removesuffix('.')}, or {kind} tokens of this model's vocabulary.") from None


def ids_of(tokens: Sequence[str], manifest: TextManifest) -> tuple[int, ...]:
    """Ids of tokens as they stand in the vocabulary; none where one of them does not."""
    place = {token: i for i, token in enumerate(manifest.vocabulary)}
    return tuple(place[token] for token in tokens) if place.keys() >= set(tokens) else ()


def spelled(tokens: Sequence[str], vocabulary: Vocabulary) -> tuple[int, ...]:
    """Ids of tokens of today's SELFIES, or of SMILES, as a model's vocabulary spells them; none where it cannot."""
    special = set(vocabulary.specials.values())
    entries = [vocabulary.spelled(token) for token in tokens]
    if any(one is None or special.intersection(one) for one in entries):
        return ()
    return tuple(vocabulary.ids[entry] for one in entries for entry in one or ())


class Prompter:
    """Writes molecules with one mark as prompts for one model: of several writings, the one it finds likeliest.

    Args:
        model: that scores the writings.
        manifest: of its data.
        open_end: whether a string may end where it should grow, or begin there with something else than an atom.
    """

    def __init__(self, model: Any, manifest: TextManifest, *, open_end: bool) -> None:
        self.model, self.manifest, self.open_end = model, manifest, open_end
        self.vocabulary = vocabulary_in(manifest)

    def prompts(self, molecules: Sequence[Chem.Mol]) -> list[Prompt | None]:
        """One for each molecule; None where no writing of it is made of the model's tokens."""
        found = [self._candidates(molecule) for molecule in molecules]
        nats = iter(prefix_nats(self.model, self.manifest, [ids for rows in found for ids, _ in rows]))
        best = [max(((next(nats), *row) for row in rows), default=None, key=lambda scored: scored[0]) for rows in found]
        return [None if b is None else Prompt(b[1], () if self.open_end else self.openings[b[2]]) for b in best]

    @cached_property
    def openings(self) -> dict[int, tuple[int, ...]]:
        """Ids of the atoms that may come first behind a bond of each order."""
        return {order: _atoms(self.manifest, order) for order in _SIGN}

    def _candidates(self, molecule: Chem.Mol) -> list[tuple[tuple[int, ...], int]]:
        """Ids of a few writings, shortest first, and the order of the bond that each leaves open."""
        rows: dict[tuple[int, ...], int] = {}
        for writing in writings(molecule):
            tokens = _tokens(writing, self.manifest.representation)
            if tokens and (ids := spelled(tokens, self.vocabulary)):
                rows.setdefault(ids, writing.bond)
        shortest = sorted(rows, key=len)[:CANDIDATES]
        return [(ids, rows[ids]) for ids in shortest]


def prefix_nats(model: Any, manifest: TextManifest, prefixes: Sequence[Sequence[int]]) -> list[float]:
    """Log-likelihood of each prefix behind the start token, in nats."""
    found: list[float] = []
    for first in range(0, len(prefixes), SCORED):
        rows = [torch.tensor([manifest.start, *ids]) for ids in prefixes[first : first + SCORED]]
        lengths = torch.tensor([len(row) for row in rows])
        tokens = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=manifest.pad)
        device = next(model.parameters()).device
        with torch.inference_mode():
            said = model(TokenBatch(tokens, lengths).to(device)).double().log_softmax(-1).cpu()
        gained = said.gather(2, tokens[:, 1:, None])[..., 0]  # (rows, length)
        inside = torch.arange(gained.shape[1]) < lengths[:, None] - 1
        found.extend(gained.where(inside, 0.0).sum(1).tolist())
    return found


def _tokens(writing: Writing, representation: str) -> list[str] | None:
    """Tokens of the writing up to the open bond; None where the representation cannot express it."""
    sign = _SIGN[writing.bond]
    if representation == "smiles":
        return split_string(writing.smiles + sign, representation)
    try:
        tokens = split_string(selfies.encoder(writing.smiles + sign + _MARK), representation)
    except selfies.EncoderError:
        return None
    return tokens[:-1] if tokens[-1] == f"[{sign}At]" else None


def _atoms(manifest: TextManifest, order: int) -> tuple[int, ...]:
    ids = []
    for i, token in enumerate(manifest.vocabulary):
        if manifest.representation == "smiles":
            good = _SMILES_ATOM.fullmatch(token) is not None
        else:
            found = _SELFIES_ATOM.fullmatch(token)
            good = found is not None and found[1] == _SIGN[order] and not _NO_ATOM.search(token)
        if good:
            ids.append(i)
    return tuple(ids)
