"""Blocks at once against blocks of layers, and packed strings against padded ones and against one dense mask."""

from dataclasses import replace

import pytest
import torch
from torch.nn import functional

from chemscale.batch import TokenBatch
from chemscale.models import block_native, causal, grid, machine, mixing
from chemscale.models.chemgpt import ChemGPT
from tests.models.test_chemgpt import built

LENGTHS = (12, 3, 40, 2, 25, 7, 7, 9, 30)  # two grids
SHAPES = {
    "balanced": ChemGPT.sized(width=24),
    "narrow heads": ChemGPT(width=32, depth=2, heads=8, context=64),
    "neo": ChemGPT(width=32, depth=3, heads=2, context=64, window=7, attention_scale=1.0, activation="gelu_new"),
    "completep": ChemGPT(width=32, depth=6, heads=2, context=64, parametrisation="completep", base_width=16),
    "untied": ChemGPT(width=16, depth=2, heads=4, context=64, window=9, activation="gelu_new", tied=False),
}

every_shape = pytest.mark.parametrize("shape", SHAPES)


def strings(lengths=LENGTHS, vocabulary=30):
    random = torch.Generator().manual_seed(1)
    tokens = torch.randint(4, vocabulary, (len(lengths), max(lengths)), generator=random)
    for row, length in enumerate(lengths):
        tokens[row, length:] = 0
    return TokenBatch(tokens, torch.tensor(lengths))


def losses(module, batch):
    """Nats of each packed token, and the gradients of their sum."""
    module.zero_grad()
    nats = functional.cross_entropy(module(batch), batch.targets, reduction="none")
    nats.sum().backward()
    return nats.detach(), {name: p.grad for name, p in module.named_parameters()}


@every_shape
def test_blocks_at_once_are_blocks_of_layers(shape, monkeypatch):
    """Tolerance: float64, where only the order of sums differs; torch's own autograd is the reference."""
    module, batch = built(SHAPES[shape], dtype=torch.float64), strings().packed()
    at_once, gradients = losses(module, batch)
    monkeypatch.setattr(causal, "LONGEST_GRID", 0)
    layered, expected = losses(module, batch)
    torch.testing.assert_close(at_once, layered, rtol=1e-11, atol=1e-11)
    for name, gradient in gradients.items():
        torch.testing.assert_close(gradient, expected[name], rtol=1e-10, atol=1e-11, msg=lambda m, n=name: f"{n}: {m}")


@every_shape
@pytest.mark.parametrize("threads", [1, 2])
def test_kernels_in_c_are_blocks_of_layers(shape, threads, monkeypatch):
    """Tolerance: float32 against torch's autograd in float64; e^x is exact to 2e-7, and errors add up over layers."""
    monkeypatch.setattr(machine, "SPLIT", 1)
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    batch = strings((129, *LENGTHS)).packed()
    short, exact = (built(replace(SHAPES[shape], context=128), dtype=d) for d in (torch.float32, torch.float64))
    exact.load_state_dict(short.state_dict())
    plan = short._plan(short.wte.weight, mixing.Strings(batch.fed, batch.positions, batch.longest))
    assert plan.kernels is not None and not plan.parts
    found, gradients = losses(short, batch)
    monkeypatch.setattr(causal, "LONGEST_GRID", 0)
    layered, expected = losses(exact, batch)
    torch.testing.assert_close(found.double(), layered, rtol=1e-5, atol=1e-5)
    for name, gradient in gradients.items():
        apart = (gradient - expected[name]).norm() / expected[name].norm().clamp(min=1e-3)
        assert apart < 2e-5, name


def test_without_a_compiler_strings_stand_in_grids(monkeypatch):
    monkeypatch.setenv("CC", "no-such-compiler")
    assert machine.compiled(block_native.SOURCE, HEADS=1, HEAD=8, ROOM=block_native.ROOM) is None
    batch, module = strings().packed(), built(SHAPES["neo"])
    with_kernels = losses(module, batch)[0]
    monkeypatch.setattr(grid, "block_kernels", lambda heads, head: None)
    torch.testing.assert_close(losses(module, batch)[0], with_kernels, rtol=1e-5, atol=1e-5)


def test_what_was_compiled_is_kept_for_later_processes(monkeypatch, tmp_path):
    """Each case has a folder of its own: a process loads no library twice from one path."""
    called, run = [], machine._run
    monkeypatch.setattr(machine, "_run", lambda *command: called.append(command) or run(*command))

    def compilations(home):
        monkeypatch.setenv("CHEMSCALE_HOME", str(tmp_path / home))
        called.clear()
        assert machine.compiled(block_native.SOURCE, HEADS=1, HEAD=8, ROOM=block_native.ROOM) is not None
        return sum("-shared" in command for command in called)

    assert [compilations("whole"), compilations("whole")] == [1, 0]
    (kept,) = (tmp_path / "whole" / "kernels").iterdir()
    (tmp_path / "damaged" / "kernels").mkdir(parents=True)
    (tmp_path / "damaged" / "kernels" / kept.name).write_bytes(kept.read_bytes()[:100])
    assert [compilations("damaged"), compilations("damaged")] == [1, 0]
    (tmp_path / "no folder").write_text("")
    assert [compilations("no folder"), compilations("no folder")] == [1, 1]


@every_shape
@pytest.mark.parametrize("longest", [0, 128], ids=["layers", "at once"])
def test_a_string_does_not_see_its_neighbours(shape, longest, monkeypatch):
    monkeypatch.setattr(causal, "LONGEST_GRID", longest)
    module, batch = built(SHAPES[shape], dtype=torch.float64), strings()
    packed = batch.packed()
    with torch.no_grad():
        together = module(packed).split(packed.fed.tolist())
        padded = module(batch)
        for row, length in enumerate(LENGTHS):
            alone = module(TokenBatch(batch.tokens[row : row + 1, :length], batch.lengths[row : row + 1]))[0]
            torch.testing.assert_close(together[row], alone, rtol=0, atol=1e-12)
            torch.testing.assert_close(padded[row, : length - 1], alone, rtol=0, atol=1e-12)


@pytest.mark.parametrize("window", [None, 4])
def test_attention_in_a_grid_is_attention_under_one_mask(window):
    random = torch.Generator().manual_seed(0)
    packed = strings().packed()
    here = mixing.Strings(packed.fed, packed.positions, packed.longest)
    parts = [
        torch.randn(len(packed.inputs), 3, 8, generator=random, dtype=torch.float64, requires_grad=True)
        for _ in range(3)
    ]
    found = [way(*parts, here, 0.3, window) for way in (mixing.in_grid, mixing.by_mask)]
    torch.testing.assert_close(*found, rtol=0, atol=1e-12)
    gradients = [torch.autograd.grad(mixed.square().sum(), parts) for mixed in found]
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-11)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="kernels for varying lengths are CUDA's")
@pytest.mark.parametrize("window", [None, 4])
def test_attention_by_length_is_attention_under_one_mask(window):
    """Tolerance: bfloat16 has 8 bits, shares add up to 1."""
    packed = strings().packed().to("cuda")
    here = mixing.Strings(packed.fed, packed.positions, packed.longest)
    parts = [torch.randn(len(packed.inputs), 3, 16, device="cuda", dtype=torch.bfloat16) for _ in range(3)]
    found = mixing.by_length(*parts, here, 0.3, window)
    wanted = mixing.by_mask(*(p.float() for p in parts), here, 0.3, window)
    torch.testing.assert_close(found.float(), wanted, rtol=0.02, atol=0.02)


def test_packed_strings_hold_what_padded_ones_held():
    batch = strings((4, 2, 3))
    packed = batch.packed()
    assert packed.fed.tolist() == [3, 1, 2]
    assert packed.positions.tolist() == [0, 1, 2, 0, 0, 1]
    assert (packed.longest, packed.examples, packed.lengths.tolist()) == (3, 3, [4, 2, 3])
    rows = [batch.tokens[row, :length] for row, length in enumerate((4, 2, 3))]
    assert packed.inputs.tolist() == torch.cat([row[:-1] for row in rows]).tolist()
    assert packed.targets.tolist() == torch.cat([row[1:] for row in rows]).tolist()
