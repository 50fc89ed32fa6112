"""Arguments of the verbs that look after records and use what was trained."""

from __future__ import annotations

import argparse
from typing import Any

from chemscale.cli import evaluating, models, store, studies, using
from chemscale.cli.arguments.common import Parser, at_least_one, verb


def stores(verbs: Any) -> None:
    """`report`, `store` and its kinds, and `export`."""
    made = verb(verbs, "report", studies.report)
    made.add_argument("store")
    made.add_argument("--out", default="report", help="folder of the page (default report)")
    _store(verbs)
    made = verb(verbs, "export", models.export)
    made.add_argument("store")
    made.add_argument("--run", help="default: the text run with the lowest test loss, else such a potential")
    made.add_argument("--out", required=True, metavar="FOLDER", help="a new folder")
    made.add_argument(
        "--program",
        default="portable",
        choices=("portable", "compiled", "none"),
        help="of a potential, for torch alone: portable between machines, or compiled for processors like this one",
    )
    made.add_argument("--licence", help="of the weights, as the hub spells it, e.g. mit, for the model card")


def _store(verbs: Any) -> None:
    door = verbs.add_parser("store", help="records: list, compact, du, merge, prune, verify")
    kinds = door.add_subparsers(required=True, metavar="WHAT", parser_class=Parser)
    for name, function in (("list", store.store_list), ("compact", store.store_compact), ("du", store.store_du)):
        verb(kinds, name, function).add_argument("store")
    made = verb(kinds, "merge", store.store_merge)
    made.add_argument("stores", nargs="+", metavar="STORE")
    made.add_argument("--into", required=True, metavar="STORE", help="a store, or a new folder")
    made.add_argument("--prefer", metavar="STORE", help="whose finished runs win where two differ")
    made = verb(kinds, "prune", store.store_prune)
    made.add_argument("store")
    made.add_argument("--keep", default="final", choices=("final", "best", "none"), help="weights that stay")
    made.add_argument("--unfinished", action="store_true", help="interrupted and failed runs, states of stopped ones")
    made.add_argument("--events", action="store_true", help="TensorBoard's event files")
    made.add_argument("--where", metavar="EXPR", help="only of these runs, e.g. \"architecture == 'painn'\"")
    made.add_argument("--dry-run", action="store_true", help="say what would go")
    made = verb(kinds, "verify", store.store_verify)
    made.add_argument("store")
    made.add_argument("--repair", action="store_true", help="remove what can go without loss")


def using_models(verbs: Any) -> None:
    """`generate`, `embed` and `evaluate`."""
    made = verb(verbs, "generate", using.generate)
    _with_text_run(made)
    made.add_argument("--n", type=int, default=20, help="strings (default 20)")
    made.add_argument("--prompt", metavar="SMILES|PREFIX", help="a scaffold, with * where it is to grow, or tokens")
    made.add_argument("--keep-only", action="store_true", help="write only what contains the scaffold, grown as marked")
    made.add_argument("--temperature", type=float, default=1.0)
    made.add_argument("--top-k", type=int, metavar="K", help="draw from the K likeliest tokens (default: all)")
    made.add_argument("--seed", type=int, default=0)
    made.add_argument("--max-tokens", type=int, help="longest string, its prompt included (default: the model's)")
    made.add_argument(
        "--processes", type=at_least_one, help="that read strings into molecules (default: all processors)"
    )
    made.add_argument("--out", help=".smi (molecules), .csv or .parquet (every string)")
    made = verb(verbs, "embed", using.embed)
    _with_text_run(made)
    made.add_argument("file", help="molecules as .smi, .csv (column smiles) or .parquet, SMILES or SELFIES; proteins")
    made.add_argument(
        "--pool", default="mean", choices=("mean", "last"), help="over a molecule's tokens (default mean)"
    )
    made.add_argument("--notation", choices=("smiles", "selfies"), help="default: what most first records look like")
    made.add_argument("--processes", type=at_least_one, help="that read molecules (default: all processors)")
    made.add_argument("--out", required=True, help="Parquet file to write")
    _evaluate(verb(verbs, "evaluate", evaluating.evaluate))


def _evaluate(made: argparse.ArgumentParser) -> None:
    made.add_argument("file", metavar="FILE|STORE", help="molecules as .smi, .csv or .parquet; a store; a potential")
    made.add_argument("structures", nargs="?", help="labelled structures, to measure a potential on")
    made.add_argument("--out", help="molecules: .json, a store: .csv or .parquet; structures: also .html")
    text = made.add_argument_group("molecules, and text runs of a store")
    text.add_argument("--reference", default="moses", metavar="moses|embedded|FILE", help="(default moses)")
    text.add_argument("--training", metavar="FILE", help="molecules that are not new (default: those of MOSES)")
    text.add_argument(
        "--first", type=at_least_one, metavar="N",
        help="strings, which FCD depends on (default: 30000 of a file, as published figures; 3000 a run)",
    )  # fmt: skip
    text.add_argument("--processes", type=at_least_one, help="that read molecules (default: all processors)")
    text.add_argument("--device", default="cpu", help="of ChemNet, or of the potential, e.g. cuda")
    atoms = made.add_argument_group("structures")
    atoms.add_argument("--run", help="default: the potential with the lowest test loss")
    atoms.add_argument("--subset", metavar="KEY", help="what names subsets (default: config_type, subset, temperature)")
    atoms.add_argument("--groups", metavar="KEY", help="what names molecules (default: group, smiles, mol_id)")
    atoms.add_argument("--energy-key", metavar="KEY", help="of the label (default: what the kind of file has)")
    atoms.add_argument("--forces-key", metavar="KEY", help="of the label (default: what the kind of file has)")
    atoms.add_argument("--labels", metavar="LEVEL", help="of several in a file: gfn2, wb97x/6-31g*, wb97x_dz …")
    atoms.add_argument("--units", help="of energy and length, e.g. 'hartree bohr' (default: those of the kind of file)")
    atoms.add_argument("--precision", choices=("float32", "float64"), help="(default: that of the weights)")
    atoms.add_argument("--bootstrap", type=int, default=1000, metavar="N", help="draws of groups (default 1000)")
    atoms.add_argument("--level", type=float, default=0.95, help="of the intervals (default 0.95)")


def _with_text_run(made: argparse.ArgumentParser) -> None:
    made.add_argument("store", metavar="STORE|FOLDER", help="a store of runs, or a folder of the hub")
    made.add_argument("--run", help="default: the text run with the lowest test loss")
