"""What trained text models are good for: generate, embed."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from chemscale.cli.output import print_json, writable, writable_parquet

if TYPE_CHECKING:
    from chemscale.use.generate import Request
    from chemscale.use.source import TextModel


def generate(given: argparse.Namespace) -> None:
    """Molecules from a trained text model with their log-likelihoods, from scratch or behind a prompt.

    With --out a killed command goes on where it was. A prompt is a SMILES scaffold, grown where it has marks (`*`,
    `[*:1]`), or the beginning of a string in the model's own tokens. A .smi file holds the molecules; a .csv or
    .parquet file holds every string.
    """
    from chemscale.use.generate import Request
    from chemscale.use.sampling import sample_tables

    writable(given.out)
    model = _text_model(given)
    request = Request(given.n, given.temperature, given.top_k, given.seed, given.max_tokens, model.never)
    if not given.out:
        tables = sample_tables(model.module, model.manifest, request, given.prompt, processes=given.processes)
        return _shown(given, (_kept(table, given) for table in tables), model.examples)
    counts = _to_file(given, model, request)
    if given.json:
        return print_json({"path": given.out, "model": model.name, "run_id": model.run, **counts})
    print(f"{given.out}: {_said(counts, model.examples)} of {model.name}")
    return None


def _to_file(given: argparse.Namespace, model: TextModel, request: Request) -> dict[str, int]:
    """Write the file, from where a killed command left it; what was counted on the way."""
    from chemscale.data.parallel import progress_bar
    from chemscale.use.generate import BLOCK
    from chemscale.use.parts import Parts, writer_of
    from chemscale.use.sampling import counts_of, sample_tables

    write = writer_of(given.out)
    asked = {
        "model": model.content,
        "block": BLOCK,
        "prompt": given.prompt,
        "keep_only": given.keep_only,
        **asdict(request),
    }
    parts = Parts(given.out, asked)
    with progress_bar(given.n, "strings", None) as shown:
        shown.advance(min(given.n, parts.done * BLOCK))
        for table in sample_tables(
            model.module, model.manifest, request, given.prompt, first=parts.done, processes=given.processes
        ):
            parts.add(_kept(table, given))
            shown.advance(len(table))
    counts = counts_of(parts.tables())
    parts.finish(write)
    return counts


def embed(given: argparse.Namespace) -> None:
    """Hidden states of a trained text model for every molecule of a file, as Parquet.

    A killed command goes on where it was. What the model cannot read is a null row with the reason.
    """
    from collections import Counter

    from chemscale.data.files import count_lines
    from chemscale.data.formats import STRUCTURE_SUFFIXES
    from chemscale.data.parallel import progress_bar
    from chemscale.data.sources import file_checksum
    from chemscale.use.embed import PART, embed_tables
    from chemscale.use.parts import Parts, write_parquet

    writable_parquet(given.out)
    path = Path(given.file)
    if not path.is_file() or path.name.lower().endswith(STRUCTURE_SUFFIXES):
        what = "holds structures" if path.is_file() else "is no file on this machine"
        raise ValueError(f"{given.file!r} {what}; give one of SMILES or SELFIES.")
    model = _text_model(given)
    asked = {
        "model": model.content, "file": file_checksum(path), "part": PART,
        "pool": given.pool, "notation": given.notation,
    }  # fmt: skip
    parts = Parts(given.out, asked)
    with progress_bar(count_lines(path), "molecules", None) as shown:
        shown.advance(parts.done * PART)
        for table in embed_tables(
            model.module, model.manifest, path,
            pool=given.pool, notation=given.notation, first=parts.done, processes=given.processes,
        ):  # fmt: skip
            parts.add(table)
            shown.advance(len(table))
    if not parts.done:
        raise ValueError(f"{given.file!r} holds no record; there is nothing to embed.")
    reasons: Counter[str] = Counter()
    molecules = 0
    for table in parts.tables():
        molecules += table["reason"].null_count
        reasons.update(reason for reason in table["reason"].to_pylist() if reason)
    parts.finish(write_parquet)
    record = {
        "path": given.out,
        "model": model.name,
        "run_id": model.run,
        "molecules": molecules,
        "null_rows": dict(reasons.most_common()),
    }
    if given.json:
        return print_json(record)
    print(f"{given.out}: {molecules:,} {model.examples} of width {model.width}, {model.name}")
    for reason, count in reasons.most_common(10):
        print(f"  {count:,} null rows: {reason}")
    return None


def _text_model(given: argparse.Namespace) -> TextModel:
    import chemscale.models  # noqa: F401  # registers the models
    from chemscale.use.source import text_model

    return text_model(given.store, given.run)


def _kept(table: Any, given: argparse.Namespace) -> Any:
    """What of a block is written; the counts of all of it go with it as metadata."""
    from chemscale.use.sampling import counted, kept

    if given.keep_only and "contains_scaffold" not in table.column_names:
        raise ValueError("--keep-only keeps what contains the scaffold; give one as --prompt, e.g. '*c1ccccc1'.")
    return counted(kept(table) if given.keep_only else table, table)


def _shown(given: argparse.Namespace, tables: Iterable[Any], what: str) -> None:
    """A sample on standard output, block by block; what became of a prompt or is no molecule, on standard error."""
    from chemscale.use.parts import smiles_lines
    from chemscale.use.sampling import counts_of

    if given.json:
        return print_json([row for table in tables for row in table.to_pylist()])

    def shown() -> Iterator[Any]:
        for table in tables:
            print(smiles_lines(table), end="", flush=True)
            yield table

    counts = counts_of(shown())
    if given.prompt or counts["molecules"] < counts["strings"]:
        print(_said(counts, what), file=sys.stderr)
    return None


def _said(counts: dict[str, int], what: str) -> str:
    """12 molecules of 20 strings; 11 of these contain the scaffold, 10 with something at its marks alone"""
    molecules, strings = counts["molecules"], counts["strings"]
    said = f"{molecules:,} {what} of {strings:,} strings"
    for name, words in (("contains_scaffold", "contain the scaffold"), ("grown_as_marked", "grew at its marks alone")):
        if name in counts:
            said += f", {counts[name]:,} ({counts[name] / strings:.1%} of the strings) {words}"
    return said
