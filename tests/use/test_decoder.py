"""The fused decoder against the forward pass of the module itself, whatever its shape; lines that part and leave."""

from dataclasses import replace

import pytest
import torch

from chemscale.batch import TokenBatch
from chemscale.models.chemgpt import ChemGPT
from chemscale.use.decoder import Stepper, decoder
from chemscale.use.fused import FIRST_ROOM, FusedDecoder
from chemscale.use.kernels import Plain
from chemscale.use.native import native
from tests.use.toys import Dice, manifest

SMALL = ChemGPT(width=16, depth=3, heads=4, context=100)
SHAPES = {
    "balanced": SMALL,
    "window": replace(SMALL, window=5),
    "released": replace(SMALL, window=7, attention_scale=1.0, activation="gelu_new", init=0.02),
    "untied": replace(SMALL, tied=False),
    "one head": replace(SMALL, heads=1),
    "completep": replace(SMALL, parametrisation="completep", base_width=8, base_depth=2),
}


def built(config, dtype=torch.float32):
    torch.manual_seed(0)
    module = config.build(manifest()).eval().to(dtype)
    with torch.no_grad():
        for parameter in module.parameters():  # biases and norms too, which start at nought and one
            parameter.add_(0.1 * torch.randn_like(parameter))
    return module


def tokens(lines, length):
    return torch.randint(4, 16, (lines, length), generator=torch.Generator().manual_seed(1))


def forward(module, rows):
    whole = torch.cat([rows, rows[:, :1]], dim=1)  # the last one is not fed in
    return module(TokenBatch(whole, torch.full((len(whole),), whole.shape[1])))


def kernels(kind, config):
    if kind == "plain":
        return Plain(config.activation)
    made = native(config.heads, config.width // config.heads)
    if made is None:
        pytest.skip("no C compiler here")
    return made(config.activation)


@pytest.mark.parametrize(
    ("kind", "dtype", "close"),
    [("native", torch.float32, 1e-4), ("plain", torch.float32, 1e-4), ("plain", torch.float64, 1e-12)],
)
@pytest.mark.parametrize("shape", SHAPES)
def test_it_is_the_forward_pass_one_token_at_a_time(shape, kind, dtype, close):
    """To rounding: sums in another order, and layer norms folded into the maps that follow them."""
    module, rows = built(SHAPES[shape], dtype), tokens(3, FIRST_ROOM + 20)
    with torch.inference_mode():
        fused = FusedDecoder(module, kernels(kind, SHAPES[shape]))
        past = fused.start(rows.shape[1]).take(torch.zeros(3, dtype=torch.int64))
        found = []
        for column in rows.T:
            logits, past = fused.step(column, past)
            found.append(logits)
        assert torch.stack(found, 1) == pytest.approx(forward(module, rows), abs=close)


@pytest.mark.parametrize("kind", ["native", "plain", "stepped"])
def test_lines_part_and_leave(kind):
    """Each line of the past stays its own, whichever lines are copied, leave, or move into their places."""
    module, rows = built(SMALL), tokens(6, 12)
    with torch.inference_mode():
        stepped = Stepper(module) if kind == "stepped" else FusedDecoder(module, kernels(kind, SMALL))
        past = stepped.start(12).take(torch.zeros(6, dtype=torch.int64))
        held = torch.arange(6)
        for at, column in enumerate(rows.T):
            if at in (3, 7):
                kept = torch.tensor([0, 2, 3, 5] if at == 3 else [1, 2])
                past, order = past.keep(kept)
                held = held[order]
            if at == 5:
                past, held = past.take(torch.tensor([3, 3, 0])), held[torch.tensor([3, 3, 0])]
            if at in (8, 9):  # into places that are free, and into new ones
                past, held = past.spread(torch.tensor([1, 0])), torch.cat([held, held[torch.tensor([1, 0])]])
            logits, past = stepped.step(column[held], past)
            assert logits == pytest.approx(forward(module, rows[held, : at + 1])[:, -1], abs=1e-4)
    assert len(held) == 6


def test_a_module_that_departs_from_the_function_is_stepped_by_itself():
    module = built(SMALL)
    module.ln_f.eps = 10.0
    with torch.inference_mode():
        assert isinstance(decoder(module), Stepper)
    assert isinstance(decoder(Dice([0.0] * 16)), Stepper)
    with pytest.raises(ValueError, match="Linear cannot write strings"):
        decoder(torch.nn.Linear(2, 2))


def test_a_string_longer_than_the_context_is_refused():
    with pytest.raises(ValueError, match="context=100 is too short for 101 tokens"):
        FusedDecoder(built(SMALL), Plain("gelu")).start(101)


def test_without_a_compiler_torch_does_it(monkeypatch):
    monkeypatch.setenv("CC", "no-such-compiler")
    native.cache_clear()
    with torch.inference_mode():
        assert isinstance(decoder(built(SMALL)).kernels, Plain)
    monkeypatch.undo()
    native.cache_clear()


@pytest.mark.parametrize("activation", ["gelu", "gelu_new"])
def test_threads_share_the_lines(activation, monkeypatch):
    """Threads change nothing: no sum goes over lines. Numbers far from nought neither overflow nor become NaN."""
    run, plain = kernels("native", replace(SMALL, activation=activation)), Plain(activation)
    hidden, bias = 30 * torch.randn(600, 256, generator=torch.Generator().manual_seed(2)), torch.linspace(-9, 9, 256)
    alone = run.activate(hidden.clone(), bias)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    assert torch.equal(run.activate(hidden.clone(), bias), alone)
    assert alone == pytest.approx(plain.activate(hidden.clone(), bias), abs=1e-5, rel=1e-6)


def test_loading_the_kernels_leaves_small_numbers_alone():
    """Machine code linked with -ffast-math would make the whole process flush them to nought."""
    kernels("native", SMALL)
    assert float(torch.tensor(1e-39) * 0.5) > 0
