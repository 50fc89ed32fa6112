"""Compiled training of text: the gradients of the uncompiled model, few compilations, or none of it."""

import os
import subprocess
import sys
import time
from dataclasses import replace

import pytest
import torch
from torch._dynamo.utils import counters

from chemscale.batch import TextManifest, TokenBatch
from chemscale.models import ChemGPT
from chemscale.records.attempt import Attempt
from chemscale.records.store import Store
from chemscale.spec import Resources
from chemscale.sweep.tuning import tune
from chemscale.train import compiled_blocks
from chemscale.train.compiled import compile_step
from chemscale.train.objectives import NextToken
from chemscale.train.parallel import recompute
from chemscale.train.precision import arithmetic
from chemscale.train.ranks import Ranks
from tests.train.group import Job, on_two_workers
from tests.train.runs import text_run, train

# Of torch's own compiler: where it is first imported, and where it traces a gradient that is written out.
pytestmark = pytest.mark.filterwarnings(
    "ignore:`torch.jit:DeprecationWarning",
    "ignore:<class 'torch.autograd.function.Function'> should not be instantiated:DeprecationWarning",
)

WINDOW = 6
CONFIG = replace(ChemGPT.sized(width=16, shape="chemgpt"), depth=2, heads=2, window=WINDOW)
VOCABULARY = tuple(map(str, range(20)))


@pytest.fixture
def traced(monkeypatch):
    """Blocks run as the compiler would get them, forward and backward, without its machine code."""
    torch.compiler.reset()
    counters.clear()
    monkeypatch.setattr(compiled_blocks, "BACKEND", "aot_eager")


def built(dtype=torch.float64, config=CONFIG):
    torch.manual_seed(0)
    return config.build(TextManifest("test", "text", "", 1, {}, {}, vocabulary=VOCABULARY)).to(dtype)


def strings(count, longest, seed=0):
    draw = torch.Generator().manual_seed(seed)
    lengths = torch.randint(3, longest + 1, (count,), generator=draw).sort().values
    lengths[-1] = longest
    return TokenBatch(torch.randint(5, len(VOCABULARY), (count, longest), generator=draw), lengths)


SHAPES = [(count, longest) for count in (2, 7, 16) for longest in (WINDOW + 2, 11, 24)]
LAYOUTS = {"packed": TokenBatch.packed, "padded": lambda batch: batch}


def slopes(module, batch, precision="float32"):
    module.zero_grad()
    with arithmetic(precision, torch.device("cpu")):
        loss = NextToken().loss(module, batch, NextToken().denominators(batch))
    loss.backward()
    return [loss.detach(), *(p.grad for p in module.parameters() if p.grad is not None)]


def assert_alike(plain, fast, batch, tolerance, precision="float32"):
    for one, other in zip(slopes(plain, batch, precision), slopes(fast, batch, precision), strict=True):
        assert (one - other).norm() <= tolerance * one.norm().clamp(min=1e-3)


def test_every_shape_of_an_epoch_has_the_gradients_of_the_model_from_two_compilations(traced):
    """The plain model runs its blocks written out by hand: another way to the same numbers, in float64."""
    plain, fast = built(), built()
    compile_step(fast)
    for layout in LAYOUTS.values():
        for k, shape in enumerate(SHAPES):
            assert_alike(plain, fast, layout(strings(*shape, seed=k)), 1e-12)
    assert fast.forward.differs is None
    assert fast.forward.seconds > 0
    assert counters["stats"]["unique_graphs"] == 2  # layers that see all, and layers that see a window
    assert not counters["graph_break"]
    assert list(fast.state_dict()) == list(plain.state_dict())


def test_activations_made_again_come_from_the_same_code(traced):
    config = replace(CONFIG, window=None)
    plain, fast = built(config=config), built(config=config)
    compile_step(fast)
    recompute(fast)
    for shape in SHAPES[:3]:
        assert_alike(plain, fast, strings(*shape).packed(), 1e-12)
    assert fast.forward.differs is None


def test_measuring_compiles_nothing(traced):
    fast = built()
    compile_step(fast)
    with torch.no_grad():
        fast(strings(4, 9))
    assert fast.forward.seconds is None


def test_a_block_that_differs_is_given_up(monkeypatch):
    monkeypatch.setattr(torch, "compile", lambda run, **how: lambda *given: run(*given) * 1.01)
    plain, fast = built(), built()
    compile_step(fast)
    with pytest.warns(RuntimeWarning, match="given up for this CausalTransformer.*a block's output differ by 1.0e-02"):
        slopes(fast, strings(4, 9))
    assert_alike(plain, fast, strings(4, 9), 1e-12)


def broken(run, **how):
    def compiled(*given):
        raise RuntimeError("no C++ compiler.\nlong story")

    return compiled


@pytest.mark.parametrize("activations", ["kept", "recomputed"])
def test_what_cannot_be_compiled_trains_as_it_is(monkeypatch, activations):
    monkeypatch.setattr(torch, "compile", broken)
    plain, fast = built(), built()
    compile_step(fast)
    if activations == "recomputed":
        recompute(fast)
    with pytest.warns(RuntimeWarning, match=r"trains uncompiled: RuntimeError: no C\+\+ compiler\.$") as told:
        assert_alike(plain, fast, strings(4, 9).packed(), 1e-12)
    assert len(told) == 1
    assert_alike(plain, fast, strings(4, 9).packed(), 1e-12)


def test_a_run_says_that_it_lives_while_it_compiles(monkeypatch, molecules, tmp_path):
    """A first step of a minute would be taken for a dead worker's elsewhere."""
    monkeypatch.setattr(torch, "compile", lambda run, **how: run)
    differs = compiled_blocks._difference
    monkeypatch.setattr(compiled_blocks, "_difference", lambda *given: time.sleep(0.5) or differs(*given))
    beats = []
    monkeypatch.setattr(Attempt, "beat", lambda attempt, step, examples: beats.append(step))
    run = text_run(molecules)
    plain = train(run, tmp_path / "plain").points()["valid_loss"].to_pylist()
    beats.clear()
    fast = train(run, tmp_path / "fast", compile="step").points()["valid_loss"].to_pylist()
    assert beats.count(0) >= 3  # four layers of half a second each, a sign twice a second
    assert fast == pytest.approx(plain, rel=1e-5)


# -- with torch's compiler itself -------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    ("dtype", "precision", "tolerance"),
    [
        (torch.float32, "float32", 1e-5),  # as measured, 1e-6, times ten
        (torch.float32, "bfloat16", 3e-2),  # rounded to 4e-3 after each operation, and to nothing within a fused one
        (torch.float32, "bfloat16_linears", 3e-2),
    ],
)
def test_compiled_gradients_are_those_of_the_model(dtype, precision, tolerance):
    torch.compiler.reset()
    plain, fast = built(dtype), built(dtype)
    compile_step(fast)
    for shape in SHAPES[::4]:
        assert_alike(plain, fast, strings(*shape).packed(), tolerance, precision)
    assert fast.forward.differs is None


@pytest.mark.slow
def test_a_run_is_the_same_run(molecules, tmp_path):
    """One id; the curve moves by rounding; what was stopped goes on, compiled or not."""
    run = text_run(molecules)
    plain = train(run, tmp_path / "plain").points()["valid_loss"].to_pylist()
    fast = Resources(compile="step", checkpoint_seconds=0)
    Job(run, str(tmp_path / "fast"), fast, stop_at=4).alone()
    Job(run, str(tmp_path / "fast"), Resources(), stop_at=7)(Ranks())
    Job(run, str(tmp_path / "fast"), fast)(Ranks())
    rows = Store(tmp_path / "fast").points().to_pylist()
    assert [row["valid_loss"] for row in rows] == pytest.approx(plain, rel=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("sharding", ["ddp", "fsdp"])
def test_two_workers_train_the_run_of_one(molecules, tmp_path, sharding):
    """Copies, or shares gathered block by block whose activations are made again: compiled on each worker."""
    run = text_run(molecules)
    plain = train(run, tmp_path / "plain").points()["valid_loss"].to_pylist()
    on = Resources(workers=2, compile="step", sharding=sharding, activations="recomputed")
    both = Job(run, str(tmp_path / "both"), on)
    on_two_workers([both], tmp_path)
    assert Store(both.store).points()["valid_loss"].to_pylist() == pytest.approx(plain, rel=1e-4)


NO_COMPILER = """
import warnings
from tests.train.test_compiled_blocks import built, compile_step, slopes, strings
fast = built()
compile_step(fast)
with warnings.catch_warnings(record=True) as told:
    warnings.simplefilter("always")
    slopes(fast, strings(4, 9).packed())
print([str(one.message) for one in told if "compile='step'" in str(one.message)])
"""


@pytest.mark.slow
def test_a_machine_without_a_compiler_says_so_in_one_sentence(tmp_path):
    without = {**os.environ, "CXX": str(tmp_path / "none"), "TORCHINDUCTOR_CACHE_DIR": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", NO_COMPILER], env=without, capture_output=True, text=True, check=True)
    assert done.stdout.count("given up for this CausalTransformer, which trains uncompiled: ") == 1
    assert "compiler" in done.stdout


@pytest.mark.slow
def test_tuning_says_when_compiling_pays(molecules):
    (tuned,) = tune([text_run(molecules)])
    (choice,) = (choice for choice in tuned.choices if choice.field == "compile")
    assert choice.value == "step"
    assert choice.pays_from > 0  # compiling takes seconds, from a cache too
    assert tuned.run.updates >= choice.pays_from or "compile" not in tuned.recommended
