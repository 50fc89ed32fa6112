"""The row filter: `family == "painn" and structures >= 1000`, parsed and walked, never evaluated as Python.

Grammar: comparisons (== != < <= > >= in, not in), `and`, `or`, `not`, column names, numbers, strings, True, False,
None and lists of literals. A column whose name is no identifier goes in backticks: `` `loss/val` < 3 ``. A missing
value satisfies only `!=`, `not in` and `== None`.
"""

from __future__ import annotations

import ast
import operator
import re
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

Mask = NDArray[np.bool_]

COMPARE: dict[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.In: lambda a, b: a in b,
    ast.NotIn: lambda a, b: a not in b,
}
NEGATED = (ast.NotEq, ast.NotIn)
SHOWN = 60  # characters of a value in a sentence
ALLOWED = "comparisons, and, or, not, in, column names and literals"


def matches(columns: Mapping[str, list[Any]], where: str) -> Mask:
    """Which rows satisfy `where`, (rows,) of bool.

    Raises ValueError, in one sentence, for anything outside the grammar, an unknown column, or values that cannot
    be compared.
    """
    quoted: dict[str, str] = {}

    def hide(found: re.Match[str]) -> str:
        quoted[f"_quoted_{len(quoted)}"] = found[1]
        return f"_quoted_{len(quoted) - 1}"

    try:
        tree = ast.parse(re.sub(r"`([^`]+)`", hide, where.strip()), mode="eval").body
    except (SyntaxError, ValueError) as error:
        hint = "; write == for equality" if re.search(r"[^=!<>]=[^=]", where) else ""
        raise ValueError(f"where={where!r} does not parse: it takes {ALLOWED}{hint}.") from error
    rows = len(next(iter(columns.values()), []))
    walk = _Walk(columns, quoted, where)
    return np.array([walk.truth(tree, row) for row in range(rows)], dtype=bool)


def _holds(kind: ast.cmpop, left: Any, right: Any) -> bool:
    """Whether one comparison of two values holds; beside equality, only a negated one holds of a missing value."""
    if not isinstance(kind, (ast.Eq, ast.NotEq)) and (right is None or (left is None and not isinstance(right, tuple))):
        return isinstance(kind, NEGATED)
    return bool(COMPARE[type(kind)](left, right))


class _Walk:
    """Evaluates one parsed filter row by row."""

    def __init__(self, columns: Mapping[str, list[Any]], quoted: Mapping[str, str], where: str) -> None:
        self.columns, self.quoted, self.where = columns, quoted, where

    def truth(self, node: ast.expr, row: int) -> bool:
        """Whether a condition is true of a row."""
        if isinstance(node, ast.BoolOp):
            decide = all if isinstance(node.op, ast.And) else any
            return decide([self.truth(value, row) for value in node.values])
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
            return not self.truth(node.operand, row)
        if isinstance(node, ast.Compare):
            return self.compare(node, row)
        value = self.value(node, row)
        if isinstance(value, bool):
            return value
        raise self.refuse(node)

    def compare(self, node: ast.Compare, row: int) -> bool:
        """Whether every link of a chain such as `1 < N <= 5` holds in a row."""
        left_node, left = node.left, self.value(node.left, row)
        for kind, right_node in zip(node.ops, node.comparators, strict=True):
            right = self.value(right_node, row)
            if type(kind) not in COMPARE:
                raise self.refuse(node)
            try:
                holds = _holds(kind, left, right)
            except TypeError as error:
                pair = f"{self.told(left_node, left)} with {self.told(right_node, right)}"
                raise ValueError(
                    f"where={self.where!r} compares {pair}, which have no order; quote text and leave numbers bare."
                ) from error
            if not holds:
                return False
            left_node, left = right_node, right
        return True

    def told(self, node: ast.expr, value: Any) -> str:
        """A side of a comparison in a sentence: a column with what it holds in this row, or a literal."""
        text = repr(value) if len(repr(value)) <= SHOWN else f"{repr(value)[:SHOWN]}…"
        return f"the column {self.quoted.get(node.id, node.id)!r} ({text})" if isinstance(node, ast.Name) else text

    def value(self, node: ast.expr, row: int) -> Any:
        """What a column, a constant or a list of constants is in a row."""
        if isinstance(node, ast.Constant) and isinstance(node.value, (int, float, str, bool, type(None))):
            return node.value
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
            inner = self.value(node.operand, row)
            if isinstance(inner, (int, float)):
                return -inner
        if isinstance(node, (ast.List, ast.Tuple, ast.Set)):
            return tuple(self.value(item, row) for item in node.elts)
        if isinstance(node, ast.Name):
            return self.column(self.quoted.get(node.id, node.id))[row]
        raise self.refuse(node)

    def column(self, name: str) -> list[Any]:
        if name not in self.columns:
            raise ValueError(
                f"where={self.where!r} names the column {name!r}, which is not in the table; it has "
                f"{', '.join(self.columns)}. Quote text values."
            )
        return self.columns[name]

    def refuse(self, node: ast.expr) -> ValueError:
        return ValueError(f"where={self.where!r} contains {ast.unparse(node)!r}; it takes only {ALLOWED}.")
