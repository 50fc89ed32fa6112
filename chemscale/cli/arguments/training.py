"""Arguments of the verbs that read data and train."""

from __future__ import annotations

import argparse
from typing import Any

from chemscale.cli import data, models, studies
from chemscale.cli.arguments.common import Parser, at_least_one, verb, with_resources
from chemscale.data.parallel import available_processors
from chemscale.data.vocabulary import NAMED
from chemscale.spec import DUPLICATES, FORMS, NOTATIONS, REPRESENTATIONS


def recipes(verbs: Any) -> None:
    """`show`, `sweep` and `search`."""
    for name, function in (("show", studies.show), ("sweep", studies.sweep), ("search", studies.search)):
        made = verb(verbs, name, function)
        made.add_argument("recipe", help="a Python file with a function `recipe`, e.g. tune_jobs/quickstart.py")
        made.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="argument of the recipe")
        if name == "show":
            made.add_argument("--tune", action="store_true", help="measure precisions, layouts, compiling, threads")
            made.add_argument("--like", metavar="SOURCE", help="reckon with the examples of this source instead")
            made.add_argument("--gpu", choices=("v100", "a100", "h100"), help="tell its hours, by arithmetic")
            made.add_argument("--utilisation", type=float, help="share of its peak that is assumed (default 0.3)")
            made.add_argument("--price", type=float, help="money for an hour of it (default 2)")
        else:
            made.add_argument("--store", required=True, help="folder of the records")
            made.add_argument("--mlflow", metavar="URI", help="log to this MLflow tracking server or database too")
            made.add_argument("--wandb", metavar="PROJECT", help="log to this project of Weights & Biases too")
        if name == "sweep":
            made.add_argument(
                "--sample", type=at_least_one, metavar="N", help="let every finished text run write N strings"
            )
            made.add_argument(
                "--reference", default="moses", metavar="moses|embedded|FILE", help="of --sample (default moses)"
            )
        with_resources(made)


def data_sources(verbs: Any) -> None:
    """`data` and its kinds."""
    door = verbs.add_parser("data", help="sources: list, build, fetch, report, label")
    kinds = door.add_subparsers(required=True, metavar="WHAT", parser_class=Parser)
    verb(kinds, "list", data.data_list)
    build = verb(kinds, "build", data.data_build)
    build.add_argument("source", help="a known name, a file, or a folder of files of structures")
    _with_reading(build)
    verb(kinds, "fetch", data.data_fetch).add_argument("name", help="e.g. moses")
    report = verb(kinds, "report", data.data_report)
    report.add_argument("source", nargs="+", help="a known name or a file; several of structures are compared")
    _with_reading(report)
    report.add_argument("--sample", type=at_least_one, help="look at about so many strings of the file (default: all)")
    label = verb(kinds, "label", data.data_label)
    label.add_argument("smiles", help="a file of SMILES; with --method wb97x a file of labels")
    label.add_argument("--method", default="gfn2", choices=("gfn2", "wb97x"), help="wb97x: label some again by DFT")
    label.add_argument("--structures", type=int, default=100, help="of a file of labels, how many (default 100)")
    label.add_argument("--out", required=True, help="Parquet file to write")
    label.add_argument("--fragments", action="store_true", help="cut larger molecules into BRICS fragments")
    label.add_argument("--max-atoms", type=int, default=25, help="atoms with hydrogens (default 25)")
    label.add_argument("--molecules", type=int, help="stop after so many molecules")
    label.add_argument("--conformers", type=int, default=4, help="structures of each molecule (default 4)")
    label.add_argument("--temperatures", default="100,300,600,1000", help="kelvin, of the displacements")
    label.add_argument("--states", default="neutral", choices=("neutral", "any"), help="any: ions and radicals too")
    label.add_argument("--charges", default="0", help="added to each molecule's own, e.g. 0,1,-1 (default 0)")
    label.add_argument(
        "--sampling", default="springs", choices=("springs", "modes", "md"), help="where geometries come from"
    )
    label.add_argument("--per-shape", type=int, default=1, help="structures from one conformer (default 1)")
    label.add_argument("--seed", type=int, default=0)
    label.add_argument("--noise", type=int, default=500, help="structures relabelled to measure the label noise")
    label.add_argument("--processes", type=at_least_one, default=available_processors(), help="default: all processors")


def _with_reading(made: argparse.ArgumentParser) -> None:
    """Options that become a `chemscale.Reading`; see there."""
    made.add_argument("--representation", choices=REPRESENTATIONS, help="default: protein for FASTA, else selfies")
    made.add_argument("--column", help="of a table, with the strings (default: smiles, selfies or sequence)")
    made.add_argument("--notation", choices=NOTATIONS, help="of the file (default: what the column's name says)")
    made.add_argument("--groups", help="column, key of FASTA headers or records, or table: what stays in one split")
    made.add_argument("--form", choices=FORMS, default=FORMS[0], help="parent: largest fragment, no stereo or isotopes")
    made.add_argument("--vocabulary", help=f"{', '.join(NAMED)}, or a tokenizer.json (default: an alphabet of its own)")
    made.add_argument(
        "--duplicates",
        choices=DUPLICATES,
        default=DUPLICATES[0],
        help="equal canonical SMILES; structures of two given splits",
    )
    made.add_argument("--valid", metavar="PORTION", help="file, FILE@:100, or @-50: of the source itself (see --test)")
    made.add_argument("--test", metavar="PORTION", help="the same; both given: all else trains (default: by group)")
    made.add_argument("--splits", help="column, or key of records, that says train, valid or test")
    made.add_argument("--longest", type=int, help="leave out what has more tokens, start and end counted")
    made.add_argument("--energy", help="of structures, key of the energies (default: what the kind of file has)")
    made.add_argument("--forces", help="of structures, key of the forces (default: what the kind of file has)")
    made.add_argument("--level", help="of structures, which labels: wb97x_dz, ccsd(t)_cbs … of ANI-1x")
    made.add_argument("--units", help="of structures, e.g. 'hartree bohr' (default: those of the kind of file)")
    made.add_argument("--isolated", help="of structures, a file of isolated atoms for the reference energies")
    where = made.add_mutually_exclusive_group()
    where.add_argument("--processes", type=at_least_one, help="of this machine (default: all processors)")
    where.add_argument("--address", help="of a Ray cluster that encodes strings, e.g. auto (default: this machine)")


def train(verbs: Any) -> None:
    """`train`."""
    made = verb(verbs, "train", models.train)
    made.add_argument("architecture", help="chemgpt, schnet, painn …; a model of your own goes through a recipe")
    made.add_argument("--width", type=int, help="with --init-from: that of the weights, their model as it is")
    made.add_argument("--data", help="source (default: the embedded one of the family)")
    made.add_argument("--size", type=int, help="training examples (default: all)")
    length = made.add_mutually_exclusive_group()
    length.add_argument("--epochs", type=float, help="passes over the data (default 1)")
    length.add_argument("--updates", type=int, help="optimiser steps, instead of epochs")
    made.add_argument("--lr", type=float, help="default: the family's rule")
    made.add_argument("--batch", type=int, default=32)
    made.add_argument("--seed", type=int, default=0)
    made.add_argument(
        "--set", action="append", default=[], metavar="FIELD=VALUE", help="any field, e.g. optim.clip=0.5"
    )
    made.add_argument(
        "--init-from", metavar="STORE|FOLDER", help="start from weights of a run, or of a hub folder or an export"
    )
    made.add_argument("--init-run", metavar="ID", help="of a store (default: the run with the lowest test loss)")
    made.add_argument("--store", required=True)
    with_resources(made)
