"""Compiled training of potentials: the gradients of the uncompiled model, or none of it."""

import copy
from dataclasses import replace

import pytest
import torch

from chemscale.batch import AtomicBatch
from chemscale.models import SchNet
from chemscale.records.store import Store
from chemscale.spec import Resources
from chemscale.sweep.tuning import tune
from chemscale.train import compiled
from chemscale.train.compiled import CompiledForward, compile_step, difference, traced, twice
from chemscale.train.parallel import spread
from chemscale.train.ranks import Ranks
from tests.models.batches import ARCHITECTURES, crystal, joined, loss, module, molecule
from tests.train.group import Job, on_two_workers
from tests.train.runs import atoms_run, train

# Of torch's own compiler, where it is first imported.
pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")

TRACED = joined([molecule(5), molecule(6, seed=1)])
OTHER = joined([molecule(9), molecule(4, seed=2), molecule(7, seed=3)])  # other numbers of everything


def slopes(potential, batch):
    """Gradients of a squared error; a bias that moves no energy may have none."""
    wanted = list(potential.parameters())
    found = torch.autograd.grad(loss(potential, batch), wanted, allow_unused=True)
    return [torch.zeros_like(p) if g is None else g for g, p in zip(found, wanted, strict=True)]


def assert_alike(plain, fast, batch, tolerance):
    """Relative to each gradient; where rounding has moved one of the plain model further, three times as far."""
    exact = slopes(copy.deepcopy(plain).double(), batch.astype(torch.float64))
    for true, one, other in zip(exact, slopes(plain, batch), slopes(fast, batch), strict=True):
        rounding = (one - true).norm()
        assert (one - other).norm() <= max(tolerance * float(one.norm().clamp(min=1.0)), 3 * float(rounding))


@pytest.fixture
def uncompiled(monkeypatch):
    """The graphs run as they were written down: what a compiler would get, in a twentieth of the time."""
    monkeypatch.setattr(compiled, "compiled_trace", traced)


QUICK = [a if a == "schnet" else pytest.param(a, marks=pytest.mark.slow) for a in ARCHITECTURES]


@pytest.mark.parametrize("architecture", QUICK)
def test_a_graph_has_the_parameter_gradients_of_its_model(architecture, uncompiled):
    """On a batch of other sizes than the one it was written down with; the same operations in float64."""
    plain, fast = module(architecture, depth=1), module(architecture, depth=1)
    compile_step(fast)
    fast(TRACED)
    assert fast.forward.differs is None
    assert_alike(plain, fast, OTHER, 1e-12)
    assert list(fast.state_dict()) == list(plain.state_dict())
    assert [name for name, _ in fast.named_modules()] == [name for name, _ in plain.named_modules()]


def test_a_graph_that_holds_at_one_size_alone_is_given_up(monkeypatch, uncompiled):
    plain, fast = module("schnet"), module("schnet")

    def fixed(self, batch, vectors, distances):
        return energies(self, batch, vectors, distances) + 0.0 * vectors.new_ones(len(batch.species))

    energies = type(fast).atomic_energies
    monkeypatch.setattr(type(fast), "atomic_energies", fixed)
    compile_step(fast)
    with pytest.warns(RuntimeWarning, match="compile='step' is given up for this .*, which trains uncompiled"):
        fast(TRACED)
    assert_alike(plain, fast, OTHER, 0.0)


@pytest.mark.slow
def test_periodic_structures_have_a_graph_of_their_own(uncompiled):
    plain, fast = module("schnet"), module("schnet")
    compile_step(fast)
    cell = torch.diag(torch.tensor([4.0, 4.5, 5.0])).numpy()
    for batch in (TRACED, labelled(twice(crystal(cell))), OTHER):
        assert_alike(plain, fast, batch, 1e-12)
    assert len(fast.forward._traces) == 2


def labelled(batch: AtomicBatch) -> AtomicBatch:
    """With labels to err from."""
    energy = torch.zeros(batch.structures, dtype=torch.float64)
    return replace(batch, energy=energy, forces=torch.zeros_like(batch.positions))


@pytest.mark.slow
def test_a_graph_that_loses_a_path_of_the_gradient_is_given_up(monkeypatch, uncompiled):
    """The naive graph, whose saved tensors are cut off, has the right energies and forces and the wrong gradients."""
    monkeypatch.setattr(compiled, "_uncut", lambda graph: graph)
    plain, fast = module("painn", depth=1), module("painn", depth=1)
    compile_step(fast)
    with pytest.warns(RuntimeWarning, match=r"compile='step' is given up for this PaiNN.*gradients of parameters"):
        fast(TRACED)
    assert_alike(plain, fast, OTHER, 0.0)


def test_what_cannot_be_compiled_trains_as_it_is(monkeypatch):
    def broken(potential, batch):
        raise RuntimeError("no C++ compiler\nlong story")

    monkeypatch.setattr(compiled, "compiled_trace", broken)
    fast = module("schnet")
    compile_step(fast)
    with pytest.warns(RuntimeWarning, match=r"trains uncompiled: RuntimeError: no C\+\+ compiler\.$"):
        fast(TRACED)
    fast(TRACED)  # warned once
    assert_alike(module("schnet"), fast, OTHER, 0.0)


def test_measuring_and_single_structures_compile_nothing(monkeypatch):
    monkeypatch.setattr(compiled, "compiled_trace", lambda potential, batch: pytest.fail("compiled"))
    fast = module("schnet")
    compile_step(fast)
    fast(joined([molecule(5)]))
    with torch.no_grad():
        fast(TRACED)


def test_wrong_forces_are_told_from_rounding():
    potential = module("schnet")
    assert difference(potential(TRACED), potential(TRACED), potential) is None
    wrong = potential(TRACED)._replace(forces=potential(TRACED).forces * 1.001)
    assert "forces differ by 1.0e-03" in str(difference(potential(TRACED), wrong, potential))


def test_what_is_neither_potential_nor_named_in_blocks_is_refused():
    with pytest.raises(ValueError, match="potentials and models that name their blocks, and Linear does neither"):
        compile_step(torch.nn.Linear(2, 2))


@pytest.mark.slow
def test_a_run_is_the_same_run(structures, tmp_path, uncompiled):
    """One id; the curve moves by rounding; what was stopped goes on, compiled or not."""
    run = atoms_run(structures, SchNet.sized(width=4, depth=1))
    plain = train(run, tmp_path / "plain").points()["valid_loss"].to_pylist()
    fast = Resources(compile="step", checkpoint_seconds=0)
    Job(run, str(tmp_path / "fast"), fast, stop_at=4).alone()
    Job(run, str(tmp_path / "fast"), Resources(), stop_at=7)(Ranks())
    Job(run, str(tmp_path / "fast"), fast)(Ranks())
    rows = Store(tmp_path / "fast").points().to_pylist()
    assert [row["valid_loss"] for row in rows] == pytest.approx(plain, rel=1e-5)


MINUTES = [pytest.param(a, marks=() if a == "painn" else pytest.mark.chaos) for a in ARCHITECTURES]


@pytest.mark.slow
@pytest.mark.parametrize("architecture", MINUTES)
@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float32, 1e-5), pytest.param(torch.float64, 1e-10, marks=pytest.mark.chaos)]
)
def test_compiled_gradients_are_those_of_the_model(architecture, dtype, tolerance):
    """In float32 as measured, 1e-6 and below, times ten; in float64 beyond any doubt about a lost path."""
    plain, fast = (module(architecture, dtype, width=16) for _ in range(2))
    compile_step(fast)
    fast(TRACED.astype(dtype))
    assert isinstance(fast.forward, CompiledForward)
    assert fast.forward.differs is None
    for batch in (OTHER, TRACED):
        assert_alike(plain, fast, batch.astype(dtype), tolerance)


@pytest.mark.slow
def test_two_workers_train_the_run_of_one(structures, tmp_path):
    """Each compiles for itself within DistributedDataParallel, which averages the gradients."""
    run = atoms_run(structures, SchNet.sized(width=4, depth=1))
    plain = train(run, tmp_path / "plain").points()["valid_loss"].to_pylist()
    both = Job(run, str(tmp_path / "both"), Resources(workers=2, compile="step"))
    on_two_workers([both], tmp_path)
    assert Store(both.store).points()["valid_loss"].to_pylist() == pytest.approx(plain, rel=1e-4)


@pytest.mark.slow
def test_tuning_says_when_compiling_pays(structures):
    (tuned,) = tune([atoms_run(structures, SchNet.sized(width=4, depth=1))])
    (choice,) = (choice for choice in tuned.choices if choice.field == "compile")
    assert choice.value == "step"
    assert choice.pays_from > 10  # updates of this run: nothing is compiled within so few
    assert "compile" not in tuned.recommended


def test_layouts_pass_it_on():
    potential = module("schnet")
    assert isinstance(spread(potential, Ranks(), Resources(compile="step")).module.forward, CompiledForward)
