"""Molecules out of a trained text model: sampled with a key/value cache, decoded, and drawn.

Shapes: rows (molecules being written), vocabulary, length (tokens of one row after its start token).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import selfies
import torch
from rdkit import Chem, rdBase
from rdkit.Chem.Draw import rdMolDraw2D
from torch import Tensor

from chemscale.batch import TextManifest

CELL = (200, 150)  # pixels of one drawn molecule
DROP_SHARE = 0.25  # rows leave once so many of them have ended: each drop copies the cache


@dataclass(frozen=True)
class Generated:
    """One sampled string.

    Attributes:
        smiles: canonical SMILES; None where the string never ended within `max_tokens` or is no molecule.
        tokens: ids between the start and the end token.
        log_likelihood: nats, of all tokens and the end token under the model at temperature 1, nothing masked.
        ended: whether the model wrote the end token.
    """

    smiles: str | None
    tokens: tuple[int, ...]
    log_likelihood: float
    ended: bool


def generate(
    model: Any,
    manifest: TextManifest,
    n: int,
    *,
    temperature: float = 1.0,
    top_k: int | None = None,
    seed: int = 0,
    batch: int = 256,
    max_tokens: int | None = None,
) -> list[Generated]:
    """Sample `n` strings from a model with `start_cache` and `step`, such as `chemscale.models.chemgpt`'s.

    String i depends on seed, i and `max_tokens` alone, whatever `n` and `batch` (to rounding). Pad, start and unknown
    tokens are never drawn.

    Args:
        temperature: divides the logits; below 1 sharpens.
        top_k: draw from so many likeliest tokens; None from all.
        batch: rows written at a time.
        max_tokens: most tokens of a string, its end token included; None is the model's context.

    Raises:
        ValueError: a number is out of range, the vocabulary is not the model's, or the model cannot be stepped.
    """
    _check_request(n=n, temperature=temperature, top_k=top_k, batch=batch, max_tokens=max_tokens)
    if not hasattr(model, "start_cache"):
        raise ValueError(f"{type(model).__name__} cannot write strings; it needs start_cache and step, as ChemGPT.")
    length = model.config.context if max_tokens is None else max_tokens
    random = torch.Generator().manual_seed(seed)
    training = model.training
    model.eval()
    try:
        with torch.inference_mode(), rdBase.BlockLogs():
            sampler = _Sampler(model, manifest, temperature, top_k)
            return [
                _decoded(ids, nats, manifest)
                for first in range(0, n, batch)
                for ids, nats in sampler.write(
                    torch.rand(min(batch, n - first), length, generator=random, dtype=torch.float64)
                )
            ]
    finally:
        model.train(training)


def decode(tokens: Sequence[int], manifest: TextManifest) -> str | None:
    """Canonical SMILES of ids without start and end token; None where RDKit reads no molecule in it."""
    text = "".join(manifest.vocabulary[i] for i in tokens)
    try:
        molecule = Chem.MolFromSmiles(selfies.decoder(text) if manifest.representation == "selfies" else text)
    except selfies.DecoderError:
        return None
    return Chem.MolToSmiles(molecule) if molecule is not None and molecule.GetNumAtoms() else None


def draw(smiles: Sequence[str | None], columns: int = 5) -> str:
    """One SVG element with a grid of molecules on a transparent ground, to embed into an HTML page.

    What RDKit cannot read is left out; `data-drawn` and `data-skipped` on the element count both, its title says them.
    """
    if columns < 1:
        raise ValueError(f"draw(columns={columns}) is not allowed: it must be at least 1.")
    with rdBase.BlockLogs():
        read = [Chem.MolFromSmiles(s) if s else None for s in smiles]
    molecules = [m for m in read if m is not None and m.GetNumAtoms()]
    drawn, skipped = len(molecules), len(read) - len(molecules)
    columns = max(1, min(columns, drawn))
    width, height = CELL[0] * columns, CELL[1] * max(1, -(-drawn // columns))
    title = f"{drawn} molecules" + (f"; {skipped} could not be drawn" if skipped else "")
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img" '
        f'style="width:100%;max-width:{width}px;height:auto" data-drawn="{drawn}" data-skipped="{skipped}">'
        f"<title>{title}</title>{_grid(molecules, width, height)}</svg>"
    )


class _Sampler:
    """Writes one batch of rows token by token; rows that have ended leave."""

    def __init__(self, model: Any, manifest: TextManifest, temperature: float, top_k: int | None) -> None:
        self.model, self.start, self.end = model, manifest.start, manifest.end
        self.temperature, self.top_k = temperature, top_k
        self.device = next(model.parameters()).device
        never = [manifest.pad, manifest.start, manifest.unknown]
        self.never = torch.tensor(never, device=self.device)
        self.vocabulary = len(manifest.vocabulary)

    def write(self, uniform: Tensor) -> Iterator[tuple[list[int], float]]:
        """Ids (with the end token, if drawn) and log-likelihood of each row of uniform numbers, (rows, length)."""
        rows, length = uniform.shape
        uniform = uniform.to(self.device)
        written = torch.full((rows, length), -1, device=self.device)
        nats = torch.zeros(rows, dtype=torch.float64, device=self.device)
        live = torch.arange(rows, device=self.device)  # the row that each line of the cache writes
        ended = torch.zeros_like(live, dtype=torch.bool)
        token, cache = torch.full_like(live, self.start), self.model.start_cache(rows, length)
        for at in range(length):
            logits, cache = self.model.step(token, cache)  # (lines, vocabulary)
            token, gained = self._choose(logits.double(), uniform[live, at])
            open_rows = live[~ended]
            written[open_rows, at], nats[open_rows] = token[~ended], nats[open_rows] + gained[~ended]
            ended = ended | (token == self.end)
            if ended.all():
                break
            if ended.double().mean() >= DROP_SHARE:
                kept = (~ended).nonzero()[:, 0]
                live, ended, token, cache = live[kept], ended[kept], token[kept], cache.rows(kept)
        for ids, total in zip(written.tolist(), nats.tolist(), strict=True):
            yield [i for i in ids if i >= 0], total

    def _choose(self, logits: Tensor, uniform: Tensor) -> tuple[Tensor, Tensor]:
        """The token at which each row's cumulative probability passes its uniform number, and its log-likelihood."""
        if logits.shape[1] != self.vocabulary:
            raise ValueError(
                f"the manifest names {self.vocabulary} tokens, but the model writes {logits.shape[1]}; "
                "use the manifest of the data that the model was trained on."
            )
        allowed = logits.index_fill(1, self.never, float("-inf")) / self.temperature
        if self.top_k is not None and self.top_k < self.vocabulary:
            least = allowed.topk(self.top_k, dim=1).values[:, -1:]
            allowed = allowed.masked_fill(allowed < least, float("-inf"))
        cumulative = allowed.softmax(1).cumsum(1)  # (rows, vocabulary)
        token = torch.searchsorted(cumulative, uniform[:, None] * cumulative[:, -1:], right=True)[:, 0]
        return token, logits.log_softmax(1).gather(1, token[:, None])[:, 0]


def _decoded(ids: list[int], nats: float, manifest: TextManifest) -> Generated:
    ended = ids[-1:] == [manifest.end]
    tokens = tuple(ids[:-1] if ended else ids)
    return Generated(decode(tokens, manifest) if ended else None, tokens, nats, ended)


def _grid(molecules: list[Chem.Mol], width: int, height: int) -> str:
    """The inner SVG of RDKit's grid: letters as text, not as paths, which makes it a third as long."""
    if not molecules:
        return '<text x="10" y="30" font-size="14">no molecule to draw</text>'
    canvas = rdMolDraw2D.MolDraw2DSVG(width, height, *CELL, True)
    canvas.drawOptions().clearBackground = False
    canvas.DrawMolecules(molecules)
    canvas.FinishDrawing()
    svg = canvas.GetDrawingText()
    return svg[svg.index(">", svg.index("<svg")) + 1 : svg.rindex("</svg>")]


def _check_request(**request: Any) -> None:
    checks: dict[str, Callable[[Any], bool]] = {name: lambda v: isinstance(v, int) and v > 0 for name in request}
    checks["temperature"] = lambda v: isinstance(v, int | float) and 0 < v < float("inf")
    for name, value in request.items():
        optional = name in ("top_k", "max_tokens")
        if not (checks[name](value) or (optional and value is None)):
            kind = "a number above 0" if name == "temperature" else "an integer above 0" + " or None" * optional
            raise ValueError(f"generate({name}={value!r}) is not allowed: it must be {kind}.")
