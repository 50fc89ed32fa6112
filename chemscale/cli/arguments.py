"""The arguments of every verb."""

from __future__ import annotations

import argparse
import os
import sys
from typing import Any, NoReturn

from chemscale import __version__
from chemscale.cli import audit, compare, data, deciding, jobs, laws, models, store, studies, using
from chemscale.data.vocabulary import NAMED
from chemscale.spec import DUPLICATES, FORMS, NOTATIONS, REPRESENTATIONS

ADDRESS = "RAY_API_SERVER_ADDRESS"  # Ray's own name for the URL of a cluster's dashboard


class _Parser(argparse.ArgumentParser):
    """Says a mistake in one sentence."""

    def error(self, message: str) -> NoReturn:
        print(f"{self.prog}: {message}; `{self.prog} --help` shows what there is.", file=sys.stderr)
        sys.exit(2)


def parser() -> argparse.ArgumentParser:
    """The whole command line."""
    top = _Parser(prog="chemscale", description="Scaling laws for deep models of chemistry.")
    top.add_argument("--version", action="version", version=__version__)
    verbs = top.add_subparsers(required=True, metavar="VERB", parser_class=_Parser)
    _recipes(verbs)
    _data(verbs)
    _train(verbs)
    _stores(verbs)
    _using(verbs)
    _jobs(verbs)
    _laws(verbs)
    _deciding(verbs)
    _compare(verbs)
    return top


def _verb(verbs: Any, name: str, function: Any) -> argparse.ArgumentParser:
    made = verbs.add_parser(name, help=function.__doc__.split(".")[0].split("\n")[0], description=function.__doc__)
    made.set_defaults(verb=function)
    made.add_argument("--json", action="store_true", help="print for programs")
    return made


def _with_resources(made: argparse.ArgumentParser) -> None:
    group = made.add_argument_group("where it runs; changes no number beyond rounding")
    group.add_argument("--workers", type=int, default=1, help="processes that share one run (default 1)")
    group.add_argument("--min-workers", type=int, help="go on with so few after a loss (default: wait for all)")
    group.add_argument("--sharding", default="ddp", choices=("ddp", "fsdp"), help="a copy or a share of the model each")
    group.add_argument("--cpus", type=float, default=1, help="processors of each worker (default 1)")
    group.add_argument("--gpus", type=float, default=0, help="GPUs of each worker, fractions too (default 0)")
    group.add_argument("--layout", default="packed", choices=("packed", "padded"), help="strings end to end, or padded")
    group.add_argument(
        "--activations",
        default="kept",
        choices=("kept", "recomputed"),
        help="recomputed: less memory, more work",
    )
    group.add_argument("--micro-batch", type=int, help="examples of one forward pass")
    group.add_argument(
        "--concurrent", type=int, help="runs at a time; a cluster may grow for them (default: as many as fit)"
    )
    group.add_argument("--checkpoint-seconds", type=float, default=15.0, help="least time between two (default 15)")
    group.add_argument("--patience", type=float, default=600, help="seconds that a store may be unreachable")
    group.add_argument("--spool-bytes", type=float, default=2e9, help="of records that wait meanwhile, at most")
    group.add_argument("--keep", default="final", choices=("final", "best", "none"), help="weights that stay")


def _recipes(verbs: Any) -> None:
    for name, function in (("show", studies.show), ("sweep", studies.sweep), ("search", studies.search)):
        made = _verb(verbs, name, function)
        made.add_argument("recipe", help="a Python file with a function `recipe`, e.g. tune_jobs/quickstart.py")
        made.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="argument of the recipe")
        if name == "show":
            made.add_argument("--tune", action="store_true", help="measure precisions, micro-batches, layouts, threads")
            made.add_argument("--like", metavar="SOURCE", help="reckon with the examples of this source instead")
            made.add_argument("--gpu", choices=("v100", "a100", "h100"), help="tell its hours, by arithmetic")
            made.add_argument("--utilisation", type=float, help="share of its peak that is assumed (default 0.3)")
            made.add_argument("--price", type=float, help="money for an hour of it (default 2)")
        else:
            made.add_argument("--store", required=True, help="folder of the records")
            made.add_argument("--mlflow", metavar="URI", help="log to this MLflow tracking server or database too")
            made.add_argument("--wandb", metavar="PROJECT", help="log to this project of Weights & Biases too")
        _with_resources(made)


def _data(verbs: Any) -> None:
    door = verbs.add_parser("data", help="sources: list, build, fetch, report, label")
    kinds = door.add_subparsers(required=True, metavar="WHAT", parser_class=_Parser)
    _verb(kinds, "list", data.data_list)
    build = _verb(kinds, "build", data.data_build)
    build.add_argument("source", help="a known name, a file, or a folder of files of structures")
    _with_reading(build)
    _verb(kinds, "fetch", data.data_fetch).add_argument("name", help="e.g. moses")
    report = _verb(kinds, "report", data.data_report)
    report.add_argument("source", nargs="+", help="a known name or a file; several of structures are compared")
    _with_reading(report)
    report.add_argument("--sample", type=int, help="look at about so many strings of the file (default: all)")
    label = _verb(kinds, "label", data.data_label)
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
    label.add_argument("--sampling", default="springs", choices=("springs", "md"), help="where geometries come from")
    label.add_argument("--per-shape", type=int, default=1, help="structures from one conformer (default 1)")
    label.add_argument("--seed", type=int, default=0)
    label.add_argument("--noise", type=int, default=500, help="structures relabelled to measure the label noise")
    label.add_argument("--processes", type=int, default=os.cpu_count() or 1, help="default: all processors")


def _with_reading(made: argparse.ArgumentParser) -> None:
    """Options that become a `chemscale.Reading`; see there."""
    made.add_argument("--representation", choices=REPRESENTATIONS, help="default: protein for FASTA, else selfies")
    made.add_argument("--column", help="of a table, with the strings (default: smiles, selfies or sequence)")
    made.add_argument("--notation", choices=NOTATIONS, help="of the file (default: what the column's name says)")
    made.add_argument("--groups", help="column, key of FASTA headers or records, or table: what stays in one split")
    made.add_argument("--form", choices=FORMS, default=FORMS[0], help="parent: largest fragment, no stereo or isotopes")
    made.add_argument("--vocabulary", help=f"{', '.join(NAMED)}, or a tokenizer.json (default: an alphabet of its own)")
    made.add_argument("--duplicates", choices=DUPLICATES, default=DUPLICATES[0], help="equal canonical SMILES")
    made.add_argument("--longest", type=int, help="leave out what has more tokens, start and end counted")
    made.add_argument("--energy", help="of structures, key of the energies (default: what the kind of file has)")
    made.add_argument("--forces", help="of structures, key of the forces (default: what the kind of file has)")
    made.add_argument("--level", help="of structures, which labels: wb97x_dz, ccsd(t)_cbs … of ANI-1x")
    made.add_argument("--units", help="of structures, e.g. 'hartree bohr' (default: those of the kind of file)")
    made.add_argument("--isolated", help="of structures, a file of isolated atoms for the reference energies")
    made.add_argument("--processes", type=int, help="of this machine (default: all processors)")
    made.add_argument("--address", help="of a Ray cluster that does the work, e.g. auto (default: this machine)")


def _train(verbs: Any) -> None:
    made = _verb(verbs, "train", models.train)
    made.add_argument("architecture", help="chemgpt, schnet or painn; a model of your own goes through a recipe")
    made.add_argument("--width", type=int, required=True)
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
    made.add_argument("--init-from", metavar="STORE|FOLDER", help="start from weights of a run or of a hub folder")
    made.add_argument("--init-run", metavar="ID", help="the run, where --init-from is a store")
    made.add_argument("--store", required=True)
    _with_resources(made)


def _stores(verbs: Any) -> None:
    made = _verb(verbs, "report", studies.report)
    made.add_argument("store")
    made.add_argument("--out", default="report", help="folder of the page (default report)")
    _store(verbs)
    made = _verb(verbs, "export", models.export)
    made.add_argument("store")
    made.add_argument("--run", help="default: the text run with the lowest test loss")
    made.add_argument("--out", required=True, metavar="FOLDER", help="a new folder")
    made.add_argument("--licence", help="of the weights, as the hub spells it, e.g. mit, for the model card")


def _store(verbs: Any) -> None:
    door = verbs.add_parser("store", help="records: list, compact, du, merge, prune, verify")
    kinds = door.add_subparsers(required=True, metavar="WHAT", parser_class=_Parser)
    for name, function in (("list", store.store_list), ("compact", store.store_compact), ("du", store.store_du)):
        _verb(kinds, name, function).add_argument("store")
    made = _verb(kinds, "merge", store.store_merge)
    made.add_argument("stores", nargs="+", metavar="STORE")
    made.add_argument("--into", required=True, metavar="STORE", help="a store, or a new folder")
    made.add_argument("--prefer", metavar="STORE", help="whose finished runs win where two differ")
    made = _verb(kinds, "prune", store.store_prune)
    made.add_argument("store")
    made.add_argument("--keep", default="final", choices=("final", "best", "none"), help="weights that stay")
    made.add_argument("--unfinished", action="store_true", help="interrupted and failed runs, states of stopped ones")
    made.add_argument("--events", action="store_true", help="TensorBoard's event files")
    made.add_argument("--where", metavar="EXPR", help="only of these runs, e.g. \"architecture == 'painn'\"")
    made.add_argument("--dry-run", action="store_true", help="say what would go")
    made = _verb(kinds, "verify", store.store_verify)
    made.add_argument("store")
    made.add_argument("--repair", action="store_true", help="remove what can go without loss")


def _using(verbs: Any) -> None:
    made = _verb(verbs, "generate", using.generate)
    _with_text_run(made)
    made.add_argument("--n", type=int, default=20, help="strings (default 20)")
    made.add_argument("--prompt", metavar="SMILES|PREFIX", help="a scaffold, with * where it is to grow, or tokens")
    made.add_argument("--keep-only", action="store_true", help="write only what contains the scaffold, grown as marked")
    made.add_argument("--temperature", type=float, default=1.0)
    made.add_argument("--top-k", type=int, metavar="K", help="draw from the K likeliest tokens (default: all)")
    made.add_argument("--seed", type=int, default=0)
    made.add_argument("--max-tokens", type=int, help="longest string, its prompt included (default: the model's)")
    made.add_argument("--processes", type=int, help="that read strings into molecules (default: all processors)")
    made.add_argument("--out", help=".smi (molecules), .csv or .parquet (every string)")
    made = _verb(verbs, "embed", using.embed)
    _with_text_run(made)
    made.add_argument("file", help="molecules as .smi, .csv (column smiles) or .parquet, SMILES or SELFIES")
    made.add_argument(
        "--pool", default="mean", choices=("mean", "last"), help="over a molecule's tokens (default mean)"
    )
    made.add_argument("--notation", choices=("smiles", "selfies"), help="default: what most first records look like")
    made.add_argument("--processes", type=int, help="that read molecules (default: all processors)")
    made.add_argument("--out", required=True, help="Parquet file to write")
    made = _verb(verbs, "evaluate", using.evaluate)
    made.add_argument("file", metavar="FILE|STORE", help="molecules as .smi, .csv or .parquet; or a store, run by run")
    made.add_argument("--reference", default="moses", metavar="moses|embedded|FILE", help="(default moses)")
    made.add_argument("--training", metavar="FILE", help="molecules that are not new (default: those of MOSES)")
    made.add_argument("--first", type=int, metavar="N", help="strings, which FCD depends on (default: all; 3000 a run)")
    made.add_argument("--processes", type=int, help="that read molecules (default: all processors)")
    made.add_argument("--device", default="cpu", help="of ChemNet, e.g. cuda")
    made.add_argument("--out", help="file for the JSON; of a store a .csv or .parquet table")


def _with_text_run(made: argparse.ArgumentParser) -> None:
    made.add_argument("store")
    made.add_argument("--run", help="default: the text run with the lowest test loss")


def _jobs(verbs: Any) -> None:
    made = _verb(verbs, "submit", jobs.submit)
    made.add_argument("recipe", help="a Python file with a function `recipe`, e.g. tune_jobs/quickstart.py")
    made.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="argument of the recipe")
    made.add_argument("--store", required=True, help="absolute path on a disk that all nodes share, or a URL")
    _with_address(made)
    made.add_argument("--working-dir", metavar="DIR", help="folder that is sent along (default: the recipe alone)")
    packages = made.add_mutually_exclusive_group()
    for tool in ("pip", "uv"):
        made_by = f"a requirements file or packages that every node installs by {tool} for this job"
        packages.add_argument(f"--{tool}", nargs="+", metavar="PACKAGE", help=made_by)
    made.add_argument("--env", action="append", default=[], metavar="NAME=VALUE", help="of the driver and its workers")
    _with_resources(made)
    made = _verb(verbs, "status", jobs.status)
    made.add_argument("what", nargs="?", metavar="STORE|JOB", help="a store, or with --address a job (default: all)")
    made.add_argument("--follow", action="store_true", help="of a store: every five seconds until all has ended")
    made.add_argument("--address", metavar="URL", help="of a head node, to ask for its jobs")
    made = _verb(verbs, "logs", jobs.logs)
    made.add_argument("job", help="its id, as `chemscale submit` printed it")
    made.add_argument("-f", "--follow", action="store_true", help="until the job ends, over connections that break")
    _with_address(made)
    made = _verb(verbs, "stop", jobs.stop)
    made.add_argument("job", help="its id, as `chemscale submit` printed it")
    _with_address(made)


def _with_address(made: argparse.ArgumentParser) -> None:
    made.add_argument(
        "--address", metavar="URL", default=os.environ.get(ADDRESS), help=f"of the head node (default: ${ADDRESS})"
    )


def _laws(verbs: Any) -> None:
    made = _verb(verbs, "fit", laws.fit)
    made.add_argument("table", help="a store, or any CSV or Parquet file with named columns")
    for axis in ("params", "data", "flops"):
        made.add_argument(f"--{axis}", metavar="COL", help=f"column of {axis}")
    made.add_argument("--seen", metavar="COL", help="column of units seen, repeats counted, for repeated")
    made.add_argument("--epochs", metavar="COL", help="makes seen of data, or data of seen: seen = data x epochs")
    made.add_argument("--loss", metavar="COL", required=True)
    made.add_argument("--where", metavar="EXPR", help="e.g. \"architecture == 'painn' and seed == 0\"")
    made.add_argument("--by", metavar="COL", help="a law for each value of this column")
    made.add_argument("--form", default="chinchilla", help="one of the forms, auto, or sliced: per amount of data")
    made.add_argument("--objective", default="huber", help="huber, lad, log_lsq or lsq")
    made.add_argument("--delta", type=float, default=1e-3, help="of huber, in log residuals (default 1e-3)")
    made.add_argument("--weights", metavar="COL", help="a column, replicates or large[:SHARE]")
    made.add_argument("--cluster", metavar="COL", help="rows that share its value are resampled together")
    made.add_argument("--noise-floor", type=float, default=0.0, help="label noise in the loss; bounds the floor")
    made.add_argument("--bootstrap", type=int, default=1000, metavar="N")
    made.add_argument("--censored", metavar="COL", help="true where the loss is an upper bound of a stopped run's end")
    made.add_argument("--interval", default="auto", help="auto, wald, pairs, wild, parametric or profile")
    made.add_argument(
        "--calibrate", type=int, default=0, metavar="N", help="coverage of the intervals in N simulations"
    )
    made.add_argument("--level", type=float, default=0.95)
    made.add_argument("--hold-out", metavar="largest[:FRACTION]|beyond:FACTOR|rolling")
    made.add_argument("--along", choices=("params", "data", "flops"))
    made.add_argument("--predict", action="append", default=[], metavar="params=…,data=…")
    made.add_argument("--seed", type=int, default=0)
    made.add_argument("--out", help="file for the JSON")
    made.add_argument("--counts", action="append", default=[], metavar="COL", help="another count of parameters")
    made = _verb(verbs, "audit", audit.audit)
    made.add_argument("what", metavar="STORE|TABLE", help="a store, or any CSV or Parquet file with named columns")
    for axis in ("params", "data", "flops", "seen"):
        made.add_argument(f"--{axis}", metavar="COL", help=f"column of {axis} (of a table, at least one axis)")
    made.add_argument("--loss", metavar="COL", help="of a table; of a store the default is each model's own")
    made.add_argument("--where", metavar="EXPR", help="e.g. \"architecture == 'painn' and seed == 0\"")
    made.add_argument("--by", metavar="COL", help="an audit for each value of this column")
    made.add_argument(
        "--form", help="of the law whose claims are marked (default: chinchilla, power_floor on one axis)"
    )
    made.add_argument("--counts", action="append", default=[], metavar="COL", help="another count of parameters")
    made.add_argument("--strict", action="store_true", help="exit status 1 where a concern or a false claim stands")


def _rule(made: Any) -> None:
    made.add_argument(
        "--rule", default="v", help="v: least error of the target (default); to compare with: d, cheapest, random"
    )


def _deciding(verbs: Any) -> None:
    made = _verb(verbs, "plan", deciding.plan)
    made.add_argument("table", help="a store, or any CSV or Parquet file with named columns")
    made.add_argument("--params", metavar="COL", default="params")
    made.add_argument("--data", metavar="COL", help="default: the unit of the loss's family")
    made.add_argument("--loss", metavar="COL", required=True)
    made.add_argument("--where", metavar="EXPR")
    made.add_argument("--by", metavar="COL", help="choose between these too, e.g. architecture: a law and a cost each")
    made.add_argument("--form", default="auto")
    made.add_argument("--bootstrap", type=int, default=1000, metavar="N")
    made.add_argument("--seed", type=int, default=0)
    budget = made.add_argument_group("the budget: one of these; --labels may go with another, as the most there are")
    budget.add_argument("--flops", type=float, help="FLOPs of training")
    budget.add_argument("--device-hours", type=float)
    budget.add_argument("--money", type=float, help="needs --price")
    budget.add_argument("--labels", type=float, help="unique data that there are")
    budget.add_argument("--price", type=float, help="money per device-hour")
    budget.add_argument(
        "--label-price", type=float, default=0.0, help="money per label beyond those of the largest run"
    )
    budget.add_argument("--cost", metavar="COL", help="FLOPs of each run (default flops; 6 N per token without)")
    more = made.add_argument_group("beyond the plan")
    more.add_argument(
        "--register", metavar="RUN|NAME", help="freeze the forecast: in a store, or as NAME.forecast.json"
    )
    more.add_argument("--next-runs", type=float, metavar="BUDGET", help="the runs that would teach most, for so much")
    more.add_argument("--target", metavar="params=…,data=…|PARAMETER", help="of those runs (default: the planned run)")
    _rule(more)
    made = _verb(verbs, "explore", deciding.explore)
    made.add_argument("recipe", help="a Python file whose `recipe` returns the Grid of runs that may be made")
    made.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="argument of the recipe")
    made.add_argument("--store", required=True, help="folder of the records")
    made.add_argument("--target", required=True, metavar="params=…,data=…|PARAMETER", help="what is to be known")
    made.add_argument(
        "--width", type=float, default=0.1, help="half the interval at which it ends, a share (default 0.1)"
    )
    made.add_argument("--flops", type=float, help="budget in FLOPs")
    made.add_argument("--device-hours", type=float, help="budget in device-hours")
    made.add_argument("--form", default="chinchilla", help="of the law (default chinchilla)")
    _rule(made)
    made.add_argument("--dry-run", action="store_true", help="say what would be trained next")
    _with_resources(made)


def _compare(verbs: Any) -> None:
    made = _verb(verbs, "compare", compare.compare)
    made.add_argument("table", help="a store, or any CSV or Parquet file with named columns")
    made.add_argument("--by", metavar="COL", default="architecture", help="what separates the groups (architecture)")
    for axis in ("params", "data", "flops"):
        made.add_argument(f"--{axis}", metavar="COL", help=f"column of {axis}")
    made.add_argument("--loss", metavar="COL", required=True)
    made.add_argument("--where", metavar="EXPR", help="e.g. \"architecture in ('painn', 'schnet')\"")
    made.add_argument("--form", help="a sum of powers (default: chinchilla, on one axis power_floor or power)")
    made.add_argument("--shared", default="", metavar="NAME,NAME", help="parameters held equal, e.g. E,B,beta")
    made.add_argument(
        "--floor", default="free", choices=("free", "tested"), help="a floor per group, or one where a test allows it"
    )
    made.add_argument("--reference", metavar="VALUE", help="the group to measure against (default: the first)")
    made.add_argument("--level", type=float, default=0.95)
    made.add_argument("--bootstrap", type=int, default=400, metavar="N", help="draws of the tests (default 400)")
    made.add_argument("--seed", type=int, default=0)
    made.add_argument("--out", help="file for the JSON")
