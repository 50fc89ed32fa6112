"""What a fit may raise: the one error of this room that is not the caller's mistake, and naming what it is about."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any


class FitError(RuntimeError):
    """A fit that is not to be believed; the message says why and what would help.

    A caller's mistake (missing column, negative loss, too few rows, mixed table) is a `ValueError` instead.
    """


class PartialFitError(FitError):
    """Some groups of a table bear a law and others do not: `laws` by group, and `errors` by group, in sentences."""

    def __init__(self, laws: Mapping[Any, Any], errors: Mapping[Any, Exception]) -> None:
        self.laws, self.errors = dict(laws), dict(errors)
        first = next(iter(self.errors.values()))
        others = f" ({len(errors)} of {len(errors) + len(laws)} groups have no law)" if len(errors) > 1 else ""
        super().__init__(f"{first}{others}")


@contextmanager
def naming(group: str) -> Iterator[None]:
    """What is raised inside names the group."""
    try:
        yield
    except FitError as error:
        raise FitError(f"{group}: {error}") from None
    except ValueError as error:
        raise ValueError(f"{group}: {error}") from None


def require_level(level: float) -> None:
    """Raise ValueError for a level of confidence that is none."""
    if not 0 < level < 1:
        raise ValueError(f"level={level!r} must lie between 0 and 1, such as 0.95.")
