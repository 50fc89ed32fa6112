"""What the arguments of several verbs share."""

from __future__ import annotations

import argparse
import sys
from typing import Any, NoReturn


class Parser(argparse.ArgumentParser):
    """Says a mistake in one sentence."""

    def error(self, message: str) -> NoReturn:
        print(f"{self.prog}: {message}; `{self.prog} --help` shows what there is.", file=sys.stderr)
        sys.exit(2)


def at_least_one(text: str) -> int:
    """A whole number above 0, for options that count something."""
    try:
        number = int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number") from None
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number} is not allowed: it must be at least 1")
    return number


def verb(verbs: Any, name: str, function: Any) -> argparse.ArgumentParser:
    """One verb or kind of a verb, whose help is the first sentence of its function."""
    made = verbs.add_parser(name, help=function.__doc__.split(".")[0].split("\n")[0], description=function.__doc__)
    made.set_defaults(verb=function, usual=made.get_default)
    made.add_argument("--json", action="store_true", help="print for programs")
    return made


def with_resources(made: argparse.ArgumentParser) -> None:
    """Options that become `chemscale.Resources`; see there."""
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
    group.add_argument("--compile", default="none", choices=("none", "step"), help="step: slow to begin, then faster")
    group.add_argument("--kernels", default="plain", choices=("plain", "cuequivariance"), help="of products of irreps")
    group.add_argument("--micro-batch", type=int, help="examples of one forward pass")
    group.add_argument(
        "--concurrent", type=int, help="runs at a time; a cluster may grow for them (default: as many as fit)"
    )
    group.add_argument("--checkpoint-seconds", type=float, default=15.0, help="least time between two (default 15)")
    group.add_argument("--patience", type=float, default=600, help="seconds that a store may be unreachable")
    group.add_argument("--spool-bytes", type=float, default=2e9, help="of records that wait meanwhile, at most")
    group.add_argument("--keep", default="final", choices=("final", "best", "none"), help="weights that stay")
