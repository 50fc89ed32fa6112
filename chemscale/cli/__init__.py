"""The command line: one function per verb. Exit status 0 done, 1 the work failed, 2 the caller's mistake."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

DEBUG = "CHEMSCALE_DEBUG"  # set it to see the traceback behind a sentence


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit status."""
    from chemscale.cli.arguments import parser

    try:
        given = parser().parse_args(arguments)
        return given.verb(given) or 0
    except KeyboardInterrupt:
        print("chemscale: stopped; the same command goes on where this one was.", file=sys.stderr)
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        if os.environ.get(DEBUG):
            raise
        text = " ".join(str(error).split()) or type(error).__name__
        mistake = isinstance(error, ValueError)
        known = mistake or type(error).__module__.startswith("chemscale")  # our own sentences need no class name
        print(f"chemscale: {'' if known else type(error).__name__ + ': '}{text}", file=sys.stderr)
        return 2 if mistake else 1
