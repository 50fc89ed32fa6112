"""Plain values: one spelling for each, so that equal ones hash equally, and one sentence for those not allowed."""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Mapping
from typing import Any, TypeGuard, TypeVar

T = TypeVar("T")


def canonical_json(value: Any) -> str:
    """JSON with sorted keys, no spaces and one spelling per number (1.0 is 1), so that equal values hash equally."""
    return json.dumps(_canonical(value), sort_keys=True, separators=(",", ":"), allow_nan=False, ensure_ascii=True)


def _canonical(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(k): _canonical(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_canonical(v) for v in value]
    if value is None or isinstance(value, bool | str):
        return value
    if hasattr(value, "item"):  # a NumPy or torch scalar
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"a run holds the number {value}, which has no place in an id; use a finite number or None.")
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, int | float):
        return value
    raise ValueError(f"a run holds {value!r} of type {type(value).__name__}; use numbers, strings, lists or mappings.")


def own_number(value: Any) -> Any:
    """Python's own number for one of NumPy's or torch's, and any other value as it is."""
    return value.item() if hasattr(value, "item") and getattr(value, "ndim", None) == 0 else value


def own_numbers(cls: type[T]) -> type[T]:
    """Let a dataclass take NumPy's numbers too, e.g. of `np.logspace`, and hold Python's: equal, and printed alike."""
    init: Any = cls.__init__

    @functools.wraps(init)
    def converting(self: Any, *given: Any, **named: Any) -> None:
        init(self, *map(own_number, given), **{name: own_number(value) for name, value in named.items()})

    cls.__init__ = converting  # type: ignore[method-assign]
    return cls


def is_number(value: Any) -> TypeGuard[float]:
    """Whether a value is a finite number, and no bool."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def positive(name: str, value: Any, *, optional: bool = False) -> None:
    """Refuse what is not a number above 0 (or None where that is allowed)."""
    if value is None and optional:
        return
    require(is_number(value) and value > 0.0, name, value, "a number above 0" + (" or None" if optional else ""))


def counted(name: str, value: Any, *, optional: bool = False) -> None:
    """Refuse what is not a whole number above 0 (or None where that is allowed)."""
    if value is None and optional:
        return
    good = isinstance(value, int) and not isinstance(value, bool) and value > 0
    require(good, name, value, "a whole number above 0" + (" or None" if optional else ""))


def one_of(name: str, value: Any, allowed: tuple[str, ...]) -> None:
    """Refuse what is not one of some names."""
    require(value in allowed, name, value, "one of " + ", ".join(allowed))


def require(good: bool, name: str, value: Any, allowed: str, hint: str = "") -> None:
    """Raise a ValueError of one sentence, `name=value is not allowed: it must be allowed; hint`, unless `good`."""
    if not good:
        if hasattr(value, "item") and not hint:
            hint = "give Python's own number, int(…) or float(…)"
        raise ValueError(f"{name}={value!r} is not allowed: it must be {allowed}{'; ' + hint if hint else ''}.")
