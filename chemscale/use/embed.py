"""Hidden states of a text model for files of any size: read, encoded, pooled and written in parts.

Shapes: molecules (of a part), length (tokens fed in: the start token and a molecule's own), width.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from chemscale.batch import TextManifest, TokenBatch
from chemscale.data.parallel import in_chunks, in_processes
from chemscale.data.readers import read_strings
from chemscale.use.encode import NOTATIONS, PROTEIN, Task, encode_task, model_of, notation_of
from chemscale.use.generate import evaluating

POOLS = ("mean", "last")
PART = 4096  # molecules that are written together
TOKENS = 8192  # of one pass through the model
LOOKED_AT = 200  # first records, which tell a file's notation


def embed_tables(
    model: Any,
    manifest: TextManifest,
    path: Path,
    *,
    pool: str = "mean",
    notation: str | None = None,
    first: int = 0,
    processes: int | None = None,
) -> Iterator[pa.Table]:
    """Tables of `PART` records of a file in its order, from part `first` on.

    Columns: line (or row of a Parquet file), string as it is in the file, embedding (width float32; null where the
    model cannot read the molecule) and reason (why not; null where it can).

    Args:
        pool: "mean" over a molecule's tokens, or "last": the state after them all, which foretells the end token.
        notation: "smiles" or "selfies"; None is what most of the first records look like. A record in the other one
            is a null row. A model of proteins reads sequences alone.
        processes: that read molecules; None is one per processor.

    Raises:
        ValueError: `pool` or `notation` is unknown, or the model has no hidden states to give.
    """
    notations = (PROTEIN,) if manifest.representation == PROTEIN else NOTATIONS
    for name, value, allowed in (("pool", pool, POOLS), ("notation", notation, (None, *notations))):
        if value not in allowed:
            known = " or ".join(a for a in allowed if a)
            raise ValueError(f"embed({name}={value!r}) is not allowed: it must be {known} for this model.")
    if not isinstance(getattr(model, "ln_f", None), torch.nn.Module):
        raise ValueError(f"{type(model).__name__} cannot embed; it needs a last layer norm `ln_f`, as ChemGPT.")
    protein = manifest.representation == PROTEIN
    records = read_strings(path, PROTEIN if protein else notation)
    head = list(islice(records, LOOKED_AT))
    notation = PROTEIN if protein else notation or notation_of(text for _, text in head)
    reads = model_of(manifest, model.config.context)
    waiting: list[list[tuple[int, str]]] = []

    def tasks() -> Iterator[Task]:
        for chunk in in_chunks(islice(chain(head, records), first * PART, None), PART):
            waiting.append(chunk)
            yield Task(tuple(text for _, text in chunk), notation, reads)

    for encoded in in_processes(encode_task, tasks(), processes):
        yield _table(waiting.pop(0), encoded, _pooled(model, manifest, encoded, pool))


def _table(chunk: Sequence[tuple[int, str]], encoded: Sequence[Any], vectors: np.ndarray) -> pa.Table:
    bad = np.array([isinstance(one, str) for one in encoded])
    width = vectors.shape[1]
    embedding = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), width, mask=pa.array(bad))
    return pa.table(
        {
            "line": pa.array([line for line, _ in chunk], pa.int64()),
            "string": pa.array([text for _, text in chunk], pa.string()),
            "embedding": embedding,
            "reason": pa.array([one if isinstance(one, str) else None for one in encoded], pa.string()),
        }
    )


def _pooled(model: Any, manifest: TextManifest, encoded: Sequence[Any], pool: str) -> np.ndarray:
    """(molecules, width) float32, zeros where there are no ids; molecules of like length go together."""
    vectors = np.zeros((len(encoded), model.config.width), dtype=np.float32)
    lengths = np.array([0 if isinstance(ids, str) else len(ids) for ids in encoded])
    order = np.argsort(lengths, kind="stable")
    order = order[lengths[order] > 0]
    with evaluating(model), _states(model) as states:
        while len(order):
            longest = lengths[order[-1]]
            rows = order[-max(1, TOKENS // (longest + 2)) :]
            order = order[: len(order) - len(rows)]
            batch = _batch([encoded[i] for i in rows], manifest)
            model(batch.to(next(model.parameters()).device))
            held = states[0].float().cpu().reshape(len(rows), -1, vectors.shape[1])  # (rows, length, width)
            vectors[rows] = _pool(held, batch.lengths - 2, pool).numpy()
    return vectors


def _batch(rows: Sequence[Sequence[int]], manifest: TextManifest) -> TokenBatch:
    whole = [torch.tensor([manifest.start, *ids, manifest.end]) for ids in rows]
    tokens = torch.nn.utils.rnn.pad_sequence(whole, batch_first=True, padding_value=manifest.pad)
    return TokenBatch(tokens, torch.tensor([len(row) for row in whole]))


def _pool(states: Tensor, tokens: Tensor, pool: str) -> Tensor:
    """(molecules, length, width) to (molecules, width); a molecule's tokens stand at 1 to `tokens`."""
    if pool == "last":
        return states[torch.arange(len(states)), tokens]
    place = torch.arange(states.shape[1])
    inside = (place >= 1) & (place <= tokens[:, None])  # (molecules, length)
    return (states * inside[..., None]).sum(1) / tokens[:, None]


@contextmanager
def _states(model: Any) -> Iterator[list[Tensor]]:
    """A list whose one element is what the last layer norm gave in the latest pass, row by row."""
    held: list[Tensor] = []

    def hold(_module: Any, _inputs: Any, output: Tensor) -> None:
        held[:] = [output]

    hook = model.ln_f.register_forward_hook(hold)
    try:
        yield held
    finally:
        hook.remove()
