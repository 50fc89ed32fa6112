"""Of very many runs those that a law rests on: fair to every cell, true to the ends of the axes, and said."""

from collections import Counter

import numpy as np
import pytest

import chemscale as cs
from chemscale.audit import subject, thinning
from chemscale.audit.groups import Group
from chemscale.audit.thinning import said, thin
from tests.audit.tables import clean

PLACES = ("n", "d")


def rows_at(cells):
    return [{"n": n, "d": d, "number": i} for i, (n, d) in enumerate(cells)]


def test_every_cell_keeps_as_many_runs_as_any_other():
    rows = rows_at([(n, d) for n in (1, 2, 3) for d in (10, 20) for _ in range(50)] + [(4, 10)])
    kept, spare = thin(rows, PLACES, 37)
    counts = Counter((row["n"], row["d"]) for row in kept)
    assert len(kept) == 37 and len(spare) == len(rows) - 37
    assert {row["number"] for row in kept}.isdisjoint(row["number"] for row in spare)
    assert counts.pop((4, 10)) == 1 and set(counts.values()) == {6}


def test_axes_keep_their_ends_where_cells_are_too_many():
    rng = np.random.default_rng(0)
    rows = rows_at(rng.permutation(np.exp(rng.normal(size=(5_000, 2)))).tolist())
    kept, _ = thin(rows, PLACES, 20)
    for name in PLACES:
        assert {min(r[name] for r in rows), max(r[name] for r in rows)} <= {r[name] for r in kept}


def test_only_what_is_left_out_is_said():
    (one,) = said([("A", 5, 5), ("B", 10, 2_000)])
    assert one.startswith("B: ") and "10 of 2,000 runs" in one


def test_groups_keep_the_same_seeds(monkeypatch):
    monkeypatch.setattr(thinning, "MOST", 12)
    kept = []
    for salt in ("a", "b"):
        rows = tuple({"run_id": f"{salt}{n}{d}{s}", "params": n, "molecules": d, "seed": s, "subset_key": s}
                     for n in (1, 2) for d in (10, 20) for s in range(40))  # fmt: skip
        group = Group(salt, "text", "", "", "", "loss", "molecules", rows)
        kept.append({(row["params"], row["molecules"], row["seed"]) for row in thinning.thinned(group).rows})
        assert thinning.thinned(group).whole != rows and set(map(id, thinning.thinned(group).whole)) == set(
            map(id, rows)
        )
    assert len(kept[0]) == 12 and kept[0] == kept[1]


@pytest.mark.parametrize("order", [1, -1])
def test_a_long_table_is_thinned_and_its_copies_are_still_counted(monkeypatch, order):
    monkeypatch.setattr(subject, "MOST", 40)
    monkeypatch.setattr(thinning, "MOST", 40)
    table = {name: np.concatenate([values] * 3)[::order] for name, values in clean().items()}
    audit = cs.audit(table, params="n", data="d", loss="loss")
    found = {f.check: f for f in audit.findings}
    assert "40 of 50 runs" in audit.notes[0]
    assert found["duplicates"].numbers["rows"] == 100
    assert found["decades"].verdict == "fine"
