"""What a training step of ChemGPT could reach: the share of its matrix products, and what compiling a block brings.

    python -m tests.benchmarks.step_bound shares [--rounds 2] [--strings 32] [--length 64]
    python -m tests.benchmarks.step_bound compiled [--rounds 25]

`shares`: our step and the peer's of `tests.benchmarks.chemgpt` in turns under torch's profiler. The bound is the ratio
that would be reached if all of our step but its matrix products took no time. `compiled`: forward and backward of one
block, as it trains, beside the same function by `torch.compile` (inductor; needs a C++ compiler), processor time.
"""

from __future__ import annotations

import argparse
import math
import statistics
import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import torch
import transformers
from torch import Tensor
from torch.nn import functional
from torch.profiler import ProfilerActivity, profile

from chemscale.batch import TextManifest
from chemscale.models import mixing
from chemscale.models.chemgpt import ChemGPT
from chemscale.train.precision import keep_freed_memory
from tests.benchmarks import chemgpt

PRODUCTS = ("mm", "addmm", "bmm", "baddbmm")
ATTENTION = ("_scaled_dot_product_flash_attention_for_cpu", "_scaled_dot_product_flash_attention_for_cpu_backward")
SHAPES: tuple[tuple[str, ChemGPT, Callable[[ChemGPT, int], torch.nn.Module]], ...] = (
    ("GPTNeo", ChemGPT.sized(width=128, shape="chemgpt"), chemgpt._neo),
    ("Llama", ChemGPT(width=128, depth=6, heads=8), chemgpt._llama),
    ("Llama", ChemGPT(width=256, depth=6, heads=16), chemgpt._llama),
)


def main() -> None:
    """Run what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    kinds = parser.add_subparsers(required=True)
    for name, run, rounds in (("shares", _shares, 2), ("compiled", _compiled, 25)):
        kind = kinds.add_parser(name)
        kind.set_defaults(run=run)
        kind.add_argument("--rounds", type=int, default=rounds)
        kind.add_argument("--strings", type=int, default=32)
        kind.add_argument("--length", type=int, default=64)
        kind.add_argument("--vocabulary", type=int, default=684)
    options = parser.parse_args()
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    keep_freed_memory()
    print(f"torch {torch.__version__}, {torch.backends.cpu.get_cpu_capability()}")
    for peer, config, made in SHAPES:
        options.run(peer, config, made, options)


def _built(config: ChemGPT, vocabulary: int) -> Any:
    torch.manual_seed(0)
    return config.build(TextManifest("benchmark", "text", "", 1, {}, {}, vocabulary=tuple(map(str, range(vocabulary)))))


def _shares(peer: str, config: ChemGPT, made: Callable[..., torch.nn.Module], options: argparse.Namespace) -> None:
    tokens = torch.randint(5, options.vocabulary, (options.strings, options.length + 1))
    theirs = chemgpt._their_step(made(config, options.vocabulary), tokens[:, :-1], tokens[:, 1:])
    steps = {"ours": chemgpt._our_step(_built(config, options.vocabulary), tokens), peer: theirs}
    spent: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for turn in range(options.rounds + 1):
        for name, step in steps.items():
            with profile(activities=[ProfilerActivity.CPU]) as seen:
                step()
            each = {e.key.removeprefix("aten::"): e.self_cpu_time_total / 1e3 for e in seen.key_averages()}
            if turn:
                spent[name].append((sum(each.values()), sum(each.get(key, 0.0) for key in (*PRODUCTS, *ATTENTION))))
    (ours, products), (other, its) = (
        (statistics.median(values) for values in zip(*spent[n], strict=True)) for n in steps
    )
    print(
        f"{config.depth} layers of width {config.width}: ours {ours:.0f} ms, {products / ours:.0%} of it in products; "
        f"{peer} {other:.0f} ms, {its / other:.0%}; ratio {other / ours:.2f}, bound {other / products:.2f}",
        flush=True,
    )


def _compiled(peer: str, config: ChemGPT, made: Any, options: argparse.Namespace) -> None:
    module = _built(config, options.vocabulary)
    strings, length = options.strings, options.length
    x = torch.randn(strings * length, config.width, requires_grad=True)
    fed, positions = torch.full((strings,), length), torch.arange(length).repeat(strings)
    plan, block = module._plan(x, mixing.Strings(fed, positions, length)), module.h[0]
    compiled = torch.compile(_layer_of(config, block, strings, length), dynamic=False)
    forward = {"ours": lambda: block(x, plan), "compiled": lambda: compiled(x)}
    grad, times = torch.randn_like(x), defaultdict(list)
    start = time.time()
    forward["compiled"]().backward(grad)
    spent = time.time() - start
    apart = (forward["ours"]() - forward["compiled"]()).abs().max()
    for turn in range(options.rounds + 2):
        for name, run in forward.items():
            start = time.process_time()
            run().backward(grad)
            if turn > 1:
                times[name].append(time.process_time() - start)
    ours, theirs = (statistics.median(times[name]) * 1e3 for name in forward)
    print(
        f"one block of width {config.width}, {config.heads} heads: {ours:.1f} ms, compiled {theirs:.1f} ms, ratio "
        f"{theirs / ours:.2f}; compiled in {spent:.0f} s, {apart:.0e} apart",
        flush=True,
    )


def _layer_of(config: ChemGPT, block: Any, strings: int, length: int) -> Callable[[Tensor], Tensor]:
    """The block's function on a full grid, in torch's own operations."""
    width, heads = config.width, config.heads
    head = width // heads
    scale = head**-0.5 if config.logit_scale is None else config.logit_scale
    hidden = torch.full((length, length), -math.inf).triu(1)
    approximate = "tanh" if config.activation == "gelu_new" else "none"
    attn, mlp = block.attn, block.mlp

    def layer(x: Tensor) -> Tensor:
        weight = torch.cat((attn.q_proj.weight, attn.k_proj.weight, attn.v_proj.weight))
        parts = (block.ln_1(x) @ weight.t()).view(strings, length, 3, heads, head).permute(2, 0, 3, 1, 4)
        query, key, value = (part.reshape(strings * heads, length, head) for part in parts.unbind(0))
        share = torch.baddbmm(hidden, query, key.transpose(1, 2), alpha=scale).softmax(-1)
        mixed = torch.bmm(share, value).view(strings, heads, length, head).transpose(1, 2).reshape(-1, width)
        x = x + mixed @ attn.out_proj.weight.t() + attn.out_proj.bias
        inner = block.ln_2(x) @ mlp.c_fc.weight.t() + mlp.c_fc.bias
        return x + functional.gelu(inner, approximate=approximate) @ mlp.c_proj.weight.t() + mlp.c_proj.bias

    return layer


if __name__ == "__main__":
    main()
