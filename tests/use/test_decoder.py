"""The fused decoder against the forward pass of the module itself, whatever its shape; lines that part and leave."""

from dataclasses import replace

import pytest
import torch

from chemscale.batch import TokenBatch
from chemscale.models.chemgpt import ChemGPT
from chemscale.use.decoder import FIRST_ROOM, FusedDecoder, Stepper, decoder
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


@pytest.mark.parametrize(("dtype", "close"), [(torch.float32, 1e-4), (torch.float64, 1e-12)])
@pytest.mark.parametrize("shape", SHAPES)
def test_it_is_the_forward_pass_one_token_at_a_time(shape, dtype, close):
    """To rounding: sums in another order, and layer norms folded into the maps that follow them."""
    module, rows = built(SHAPES[shape], dtype), tokens(3, FIRST_ROOM + 20)
    with torch.inference_mode():
        fused = decoder(module)
        assert isinstance(fused, FusedDecoder)
        past = fused.start(rows.shape[1]).take(torch.zeros(3, dtype=torch.int64))
        found = []
        for column in rows.T:
            logits, past = fused.step(column, past)
            found.append(logits)
        assert torch.stack(found, 1) == pytest.approx(forward(module, rows), abs=close)


@pytest.mark.parametrize("kind", [FusedDecoder, Stepper])
def test_lines_part_and_leave(kind):
    """Each line of the past stays its own, whichever lines are copied, leave, or move into their places."""
    module, rows = built(SMALL), tokens(6, 12)
    with torch.inference_mode():
        stepped = kind(module)
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
        FusedDecoder(built(SMALL)).start(101)
