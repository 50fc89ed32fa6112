"""Samples of a trained model as tables, block by block, with what is known of each string."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import pyarrow as pa

from chemscale.batch import TextManifest
from chemscale.use.generate import Generated, Request, generate_blocks
from chemscale.use.grow import Grown, grow_blocks
from chemscale.use.prompt import read_prompt
from chemscale.use.sampler import Prompt
from chemscale.use.scaffold import Scaffold

SCAFFOLD_COLUMNS = ("contains_scaffold", "grown_as_marked")
COUNTS = "chemscale_counts"  # metadata of a block


def sample_tables(
    model: Any,
    manifest: TextManifest,
    request: Request,
    prompt: str | None = None,
    *,
    first: int = 0,
    processes: int | None = None,
) -> Iterator[pa.Table]:
    """Blocks of a sample, from block `first` on; a prompt is a SMILES scaffold or the beginning of a string.

    Raises:
        ValueError: as `read_prompt`, `grow_blocks` and `generate`.
    """
    start = None if prompt is None else read_prompt(prompt, manifest)
    if isinstance(start, Scaffold):
        for block in grow_blocks(model, manifest, request, start, first=first):
            yield table_of_grown(block)
        return
    prompts = None if start is None else (lambda strings: [Prompt(start)] * len(strings))
    named = "sequence" if manifest.representation == "protein" else "smiles"
    for block in generate_blocks(model, manifest, request, prompts=prompts, first=first, processes=processes):
        yield table_of(block, named)


def table_of(block: Sequence[Generated], named: str = "smiles") -> pa.Table:
    """Columns smiles (or `named`; null where a string is no molecule), log_likelihood, prompt_log_likelihood (nats) and
    ended."""
    return pa.table(
        {
            named: pa.array([one.smiles for one in block], pa.string()),
            "log_likelihood": pa.array([one.log_likelihood for one in block], pa.float64()),
            "prompt_log_likelihood": pa.array([one.prompt_log_likelihood for one in block], pa.float64()),
            "ended": pa.array([one.ended for one in block], pa.bool_()),
        }
    )


def table_of_grown(block: Sequence[Grown]) -> pa.Table:
    """The same with contains_scaffold and grown_as_marked."""
    table = table_of(block)
    table = table.append_column("contains_scaffold", pa.array([one.within for one in block], pa.bool_()))
    return table.append_column("grown_as_marked", pa.array([one.as_marked for one in block], pa.bool_()))


def counted(written: pa.Table, whole: pa.Table) -> pa.Table:
    """What is written of a block, with the counts of the whole block as metadata."""
    counts = {"strings": len(whole), "molecules": len(whole) - whole.column(0).null_count}
    for name in SCAFFOLD_COLUMNS:
        if name in whole.column_names and whole[name].null_count < len(whole):
            counts[name] = sum(whole[name].to_pylist())
    return written.replace_schema_metadata({COUNTS: json.dumps(counts)})


def counts_of(tables: Iterable[pa.Table]) -> dict[str, int]:
    """The counts of all blocks together."""
    total: Counter[str] = Counter()
    for table in tables:
        total.update(json.loads(table.schema.metadata[COUNTS.encode()]))
    return dict(total)


def kept(table: pa.Table) -> pa.Table:
    """Rows of molecules that contain the scaffold, grown as marked where it is marked."""
    wanted = [
        within if marked is None else marked
        for within, marked in zip(
            table["contains_scaffold"].to_pylist(), table["grown_as_marked"].to_pylist(), strict=True
        )
    ]
    return table.filter(pa.array(wanted, pa.bool_()))
