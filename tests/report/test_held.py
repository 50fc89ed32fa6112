"""Molecules and parity plots come from kept weights; without them, one sentence says so."""

import math
import re

import pytest

from chemscale import data
from chemscale.audit.groups import groups_of
from chemscale.models import ChemGPT, PaiNN
from chemscale.records import Store
from chemscale.report.held import DRAWN, SAMPLED, STRUCTURES, hold
from chemscale.spec import Budget, Data, Optim, RunSpec
from chemscale.train.complete import complete
from chemscale.train.state import save_weights
from tests.report.planted import CHEMGPT, PAINN, row_of, rows_of


def kept(store, law, model, source, size):
    """A finished run whose weights are those of its fresh model."""
    data.build(source, processes=1, progress=False)
    run = complete(RunSpec(model, Data(source, size=size), Optim(lr=1e-3, batch=8), Budget(epochs=1)))
    attempt = store.claim(run, {"run_id": run.id})
    save_weights(attempt, "weights.pt", run.model.build(data.manifest(run.data)).state_dict())
    attempt.end(row_of(law, run, 5_000, 0.5, 0.01))
    return run


@pytest.fixture(scope="module")
def held(tmp_path_factory, molecules, structures):
    store = Store(tmp_path_factory.mktemp("held") / "store", create=True)
    kept(store, CHEMGPT, ChemGPT.sized(width=8), molecules, 100)
    kept(store, PAINN, PaiNN.sized(width=4), structures, 100)
    return hold(store, groups_of(rows_of(store)))


def test_molecules_are_drawn_with_their_quality(held):
    assert held.missing == ()
    assert 0 < len(held.molecules.drawings) <= DRAWN
    assert all(svg.startswith("<svg") for svg, _ in held.molecules.drawings)
    assert f"wrote {SAMPLED} strings" in held.molecules.sentence
    assert "differ" in held.molecules.sentence


def test_errors_are_told_with_their_standard_errors_and_pairs(held):
    (shown,) = held.potentials
    assert re.search(r"mean absolute force error 0.500 ± 0.00\d eV/angstrom", shown.sentence)
    assert "eV/atom" in shown.sentence
    assert 0 < len(shown.energies) <= STRUCTURES
    assert all(math.isfinite(v) for pair in shown.forces for v in pair)


def test_without_weights_a_sentence_says_so(store):
    found = hold(store, groups_of(rows_of(store)))
    assert found.molecules is None
    assert found.potentials == ()
    assert [line.split(":")[0] for line in found.missing] == ["No molecules of ChemGPT", "No parity plots of PaiNN"]
    assert all("no weights" in line for line in found.missing)
