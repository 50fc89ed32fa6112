"""What trained models are good for: generate, embed, evaluate."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from chemscale.cli.options import refuse_unused
from chemscale.cli.output import print_json, print_rows, writable, writable_parquet

if TYPE_CHECKING:
    from chemscale.records.store import Store
    from chemscale.use.generate import Request
    from chemscale.use.source import TextModel

OF_TEXT = ("reference", "training", "first", "processes")  # options of `evaluate` that potentials have no use for
OF_POTENTIALS = (
    "run", "subset", "groups", "energy_key", "forces_key", "labels", "units", "precision", "bootstrap", "level",
)  # fmt: skip
QUALITY = ("validity", "unique", "novelty", "fcd", "snn", "scaffolds")  # metrics of a run that a table shows


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


def evaluate(given: argparse.Namespace) -> None:
    """The metrics of MOSES for generated molecules or a store's text runs; a potential's errors on structures.

    The strings of a file are taken in the order in which they were sampled. A store keeps what was measured of each run
    beside its loss, and a run that was measured so before is not sampled again; --out writes the table. With a file of
    labelled structures behind a store or an exported potential: errors of energies and forces with intervals, in all
    and per subset; --out FILE.html draws parity plots, FILE.csv or .parquet holds every structure, FILE.json all
    numbers.
    """
    if given.structures is not None:
        from chemscale.cli.potentials import evaluate as evaluate_potential

        refuse_unused(given, OF_TEXT, "says nothing about structures; leave it out")
        return evaluate_potential(given)
    from chemscale.data.formats import STRUCTURE_SUFFIXES
    from chemscale.data.readers import read_strings
    from chemscale.train.exported import is_exported
    from chemscale.use.device import require_device
    from chemscale.use.find import is_store
    from chemscale.use.quality.reference import reference
    from chemscale.use.quality.score import PROTOCOL, score

    writable(given.out)
    path = Path(given.file)
    if is_store(given.file):
        return _evaluate_store(given)
    if is_exported(path):
        raise ValueError(f"{given.file!r} is an exported potential; {_structures_for(given.file)}.")
    if not path.is_file():
        raise ValueError(f"{given.file!r} is neither a store nor a file that `chemscale generate` wrote.")
    if path.name.lower().endswith(STRUCTURE_SUFFIXES):
        raise ValueError(f"{given.file!r} holds structures; {_potential_for(given.file)}.")
    refuse_unused(given, OF_POTENTIALS, f"says nothing about molecules; {_potential_for(given.file)}")
    strings = read_strings(path)
    smiles = [text for _, text in islice(strings, given.first or PROTOCOL)]
    more = given.first is None and next(strings, None) is not None
    if not smiles:
        raise ValueError(f"{given.file!r} holds no record; there is nothing to evaluate.")
    _require_ending(given.out, (".json",), "molecules")
    require_device(given.device)
    against = reference(given.reference, given.training, processes=given.processes)
    found = score(smiles, against, processes=given.processes, device=given.device)
    record = {"file": given.file, "reference": against.name, **asdict(found), "says": list(against.says)}
    if more:
        record["says"] += [
            f"The file holds more than these first {PROTOCOL:,} strings, MOSES' number; --first takes any."
        ]
    if given.out:
        from chemscale.cli.output import json_text
        from chemscale.records.place import LocalPlace

        text = json_text(record).encode()
        LocalPlace(".").write(given.out, lambda file: file.write(text))
    if given.json:
        return print_json(record)
    print(*_lines(record), sep="\n")
    return None


def _evaluate_store(given: argparse.Namespace) -> None:
    import chemscale.models  # noqa: F401  # registers the models
    from chemscale.records.store import Store
    from chemscale.use.parts import write_whole, writer_of
    from chemscale.use.quality.cells import Sampling, score_cells

    store = Store(given.file)
    _require_text_runs(store)
    refuse_unused(given, OF_POTENTIALS, "says nothing about text runs; leave it out")
    refuse_unused(given, ("device",), "says nothing of a store, whose runs are sampled on the processor; leave it out")
    _require_ending(given.out, (".csv", ".parquet"), "a store")
    how = Sampling(given.first or Sampling.n, reference=given.reference, training=given.training)
    how.require()
    write = writer_of(given.out) if given.out else None
    rows = []
    for row in score_cells(store, how, processes=given.processes):
        rows.append(row)
        print(f"{row['run_id']}: loss {row['law_loss']:.4f}, FCD {_number(row['fcd'])}", file=sys.stderr)
    if not rows:
        raise ValueError(f"{given.file!r} has no finished text run with weights; train one first.")
    if write is not None:
        import pyarrow as pa

        write_whole(write, iter([pa.Table.from_pylist(rows)]), given.out)
    if given.json:
        return print_json(rows)
    shown = ("run_id", "params", "molecules", "law_loss", *QUALITY)
    print_rows([{name: row[name] for name in shown} for row in rows], False)
    told = ", ".join(f"{name} {_ranks(rows, name)}" for name in QUALITY)
    print(f"rank correlation with the loss over {len(rows)} runs (95 % interval): {told}")
    print(*dict.fromkeys(row["says"] for row in rows if row["says"]), sep="\n")
    return None


def _require_ending(out: str | None, known: Sequence[str], of: str) -> None:
    if out is not None and Path(out).suffix.lower() not in known:
        raise ValueError(f"--out {out!r} ends in {Path(out).suffix!r}; for {of} use {' or '.join(known)}.")


def _require_text_runs(store: Store) -> None:
    if len(store.runs(columns=["run_id"], family="text", status="finished")):
        return
    potentials = len(store.runs(columns=["run_id"], family="structures", status="finished"))
    raise ValueError(
        f"{store.url} has no finished text run; {_structures_for(store.url) if potentials else 'train one first'}."
    )


def _structures_for(potential: str) -> str:
    return f"give a file of labelled structures to measure potentials on: chemscale evaluate {potential} FILE"


def _potential_for(structures: str) -> str:
    return f"name the potential to measure on structures first: chemscale evaluate STORE {structures}"


def _ranks(rows: Sequence[dict[str, Any]], metric: str) -> str:
    from chemscale.use.quality.ranks import ranks

    found = ranks(rows, metric)
    if found is None:
        return "—"
    return f"{found.value:.2f}" + (f" ({found.low:.2f} to {found.high:.2f})" if found.low is not None else "")


def _lines(record: dict[str, Any]) -> list[str]:
    """A line for each metric, with a column for each set of the reference."""
    sets = record["sets"]
    whole = [
        ("strings", record["strings"]),
        ("molecules", record["molecules"]),
        ("validity", record["validity"]),
        *((f"unique@{k}", value) for k, value in record["unique_at"].items()),
        ("unique", record["unique"]),
        ("novelty", record["novelty"]),
        ("IntDiv1", record["diversity_1"]),
        ("IntDiv2", record["diversity_2"]),
        ("filters", record["filters"]),
        *((f"{name} distance", value) for name, value in record["distances"].items()),
    ]
    head = "".join(f"{s['name']:>16}" for s in sets)
    named = [("molecules", "molecules"), ("FCD", "fcd"), ("SNN", "snn"), ("Frag", "fragments"), ("Scaf", "scaffolds")]
    return [
        *(f"{name:<16}{_number(value):>16}" for name, value in whole),
        f"{'against':<16}{head}",
        *(f"{name:<16}" + "".join(f"{_number(s[key]):>16}" for s in sets) for name, key in named),
        *record["says"],
    ]


def _number(value: float | int | None) -> str:
    return "—" if value is None else f"{value:,}" if isinstance(value, int) else f"{value:.4f}"


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
