"""The one error of this room that is not the caller's mistake."""

from __future__ import annotations


class FitError(RuntimeError):
    """A fit that is not to be believed; the message says why and what would help.

    A caller's mistake (missing column, negative loss, too few rows, mixed table) is a `ValueError` instead.
    """
