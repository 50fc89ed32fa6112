"""Frozen values as plain ones and back: what a hash sees, and what a stored spec holds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, field, fields
from typing import Any


def added_since(version: int, default: Any) -> Any:
    """A field that a later spec version added: it stays out of the hash while it has its default."""
    return field(default=default, metadata={"since": version})


def plain(node: Any) -> dict[str, Any]:
    """The fields of a frozen value, without those of a later version that have their default."""
    later = {f.name for f in fields(node) if "since" in f.metadata and getattr(node, f.name) == f.default}
    return {k: v for k, v in asdict(node).items() if k not in later}


def construct(cls: type, values: Mapping[str, Any]) -> Any:
    """The frozen value of these fields, lists read as tuples.

    Raises:
        ValueError: the class has no field of such a name; the message lists those it has.
    """
    known = {f.name for f in fields(cls)}
    unknown = sorted(set(values) - known)
    if unknown:
        raise ValueError(f"{cls.__name__} has no field {unknown[0]!r}; it has {', '.join(sorted(known))}.")
    return cls(**{k: tuple(v) if isinstance(v, list) else v for k, v in values.items()})
