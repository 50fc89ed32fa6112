"""The arguments of every verb."""

from __future__ import annotations

import argparse

from chemscale import __version__
from chemscale.cli.arguments import keeping, laws, remote, training
from chemscale.cli.arguments.common import Parser


def parser() -> argparse.ArgumentParser:
    """The whole command line."""
    top = Parser(prog="chemscale", description="Scaling laws for deep models of chemistry.")
    top.add_argument("--version", action="version", version=__version__)
    verbs = top.add_subparsers(required=True, metavar="VERB", parser_class=Parser)
    training.recipes(verbs)
    training.data_sources(verbs)
    training.train(verbs)
    keeping.stores(verbs)
    keeping.using_models(verbs)
    remote.cluster_jobs(verbs)
    laws.laws_and_audits(verbs)
    laws.next_runs(verbs)
    laws.comparisons(verbs)
    return top
