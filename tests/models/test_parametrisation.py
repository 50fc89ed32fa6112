"""CompleteP: the published table, the base shape, and activations that keep their size while training moves them."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional

from chemscale.batch import TextManifest, TokenBatch
from chemscale.models import ChemGPT
from chemscale.models.parametrisation import HIDDEN, INPUT, OUTPUT, VECTOR, Scale, Scaling, treatments
from chemscale.spec import Optim
from chemscale.train.optim import build_optimiser, ladder_lr

TOKENS = 26
MANIFEST = TextManifest("toy", "text", "0", 1, {}, {}, vocabulary=tuple(f"[{i}]" for i in range(TOKENS)))
COMPLETE = ChemGPT.sized(width=64, parametrisation="completep")


def batch(seed):
    made = torch.randint(4, TOKENS, (8, 16), generator=torch.Generator().manual_seed(seed))
    made[:, 1::2] = made[:, 0::2]  # something to learn
    return TokenBatch(made, torch.full((8,), 16))


def built(config):
    torch.manual_seed(0)
    return config.build(MANIFEST)


def moved(config, optimiser="adamw", rate=5e-3, steps=4):
    """How far the residual stream before the last norm moves in a few steps, root mean square."""
    model, probe, seen = built(config), batch(99), []
    made = build_optimiser(model, Optim(lr=rate, name=optimiser))
    made.set_rate(rate)
    model.ln_f.register_forward_hook(lambda module, given, out: seen.append(given[0].detach()))
    model(probe)
    start = seen[-1]
    for number in range(steps):
        made.zero_grad()
        one = batch(number)
        functional.cross_entropy(model(one).flatten(0, 1), one.tokens[:, 1:].flatten()).backward()
        made.step()
    model(probe)
    return float((seen[-1] - start).square().mean().sqrt())


def slope(configs, sizes, **options):
    """Power of the size by which the stream's movement grows."""
    return np.polyfit(np.log(sizes), np.log([moved(c, **options) for c in configs]), 1)[0]


def test_factors_are_those_of_the_published_table():
    m, d = 4.0, 8.0  # Dey et al. 2025, table 1, alpha = 1
    scaling = Scaling(m, d)
    assert scaling.of(HIDDEN, within=True) == Scale(rate=1 / m, decay=m, eps=1 / (m * d))
    assert scaling.of(VECTOR, within=True) == Scale(eps=1 / (m * d))
    assert scaling.of(INPUT, within=False) == Scale(eps=1 / m) == scaling.of(OUTPUT, within=False)
    assert (scaling.branch, scaling.logits) == (1 / d, 1 / m)


def test_initial_sizes_are_those_of_the_published_table():
    base, wide = (built(replace(COMPLETE, width=w, depth=4, heads=w // 16, tied=False)) for w in (64, 256))
    ratio = {n: float(p.detach().std() / base.get_parameter(n).detach().std()) for n, p in wide.named_parameters()}
    for name in ("h.0.attn.q_proj.weight", "h.1.attn.out_proj.weight", "h.2.mlp.c_fc.weight", "h.3.mlp.c_proj.weight"):
        assert ratio[name] == pytest.approx(0.5, rel=0.06)  # 4,096 draws: 1.1 % each
    for name in ("wte.weight", "wpe.weight", "lm_head.weight"):
        assert ratio[name] == pytest.approx(1.0, rel=0.06)  # 1,664 draws: 1.7 %
    shallow, deep = (built(replace(COMPLETE, depth=d)).h[0].mlp.c_proj.weight.detach().std() for d in (4, 16))
    assert float(deep / shallow) == pytest.approx(1.0, rel=0.06)


def test_at_the_base_it_is_the_standard_one():
    standard, complete = built(ChemGPT.sized(width=64)), built(COMPLETE)
    assert torch.equal(standard(batch(0)), complete(batch(0)))
    assert {t.scale for t in treatments(complete)} == {Scale()}
    assert ladder_lr(COMPLETE) == ladder_lr(ChemGPT.sized(width=64)) == ladder_lr(replace(COMPLETE, width=256))


def test_the_cached_step_says_what_the_forward_pass_says():
    model = built(replace(COMPLETE, width=128, depth=8, heads=8)).eval()
    tokens = batch(0).tokens[:, :-1]
    with torch.no_grad():
        cache = model.start_cache(8, 15)
        for at in range(15):
            stepped, cache = model.step(tokens[:, at], cache)
        whole = model(batch(0))
    torch.testing.assert_close(stepped, whole[:, -1], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("optimiser", "widths"), [("adamw", (64, 128, 256)), ("muon", (32, 64, 128))])
def test_what_the_rate_moves_does_not_grow_with_width(optimiser, widths):
    """Muon's products are in bfloat16, which many processors have no fast way for: its widths are half."""
    standard, complete = (
        slope([replace(c, width=w, depth=4, heads=w // 16) for w in widths], widths, optimiser=optimiser)
        for c in (ChemGPT.sized(width=64), COMPLETE)
    )
    assert abs(complete) < 0.25  # theory: 0; finite widths and one seed leave 0.1 to 0.2
    assert standard > complete + 0.4  # theory: 1 under AdamW; Muon 0.5


def test_what_the_rate_moves_does_not_grow_with_depth():
    depths = (4, 8, 16)
    standard, complete = (
        slope([replace(c, width=32, heads=2, depth=d) for d in depths], depths)
        for c in (ChemGPT.sized(width=32), COMPLETE)
    )
    assert abs(complete) < 0.25 < 0.7 < standard  # theory: 0 and 1


def test_what_completep_rules_is_refused():
    with pytest.raises(ValueError, match=r"attention_scale=1.0 is not allowed with parametrisation='completep'"):
        ChemGPT(parametrisation="completep", attention_scale=1.0)
    with pytest.raises(ValueError, match=r"ChemGPT.parametrisation='mup' .* standard, completep"):
        ChemGPT(parametrisation="mup")
    assert ChemGPT.sized(width=32, shape="chemgpt", parametrisation="completep").attention_scale is None
