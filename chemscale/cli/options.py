"""Options that were given where they say nothing."""

from __future__ import annotations

import argparse
from collections.abc import Iterable


def refuse_unused(given: argparse.Namespace, names: Iterable[str], why: str) -> None:
    """Refuse options that this kind of work has no use for, lest somebody believe that they did something.

    Args:
        names: of the options, as attributes.
        why: goes on with a sentence that begins with the option.

    Raises:
        ValueError: one of them is not at its default.
    """
    for name in names:
        if getattr(given, name) != given.usual(name):
            raise ValueError(f"--{name.replace('_', '-')} {why}.")
