"""Training steps of ChemGPT beside Hugging Face's models, interleaved in one process on one thread; and sampling.

    python tests/benchmarks/chemgpt.py [--widths 16 32 64 128] [--batch 32] [--length 36] [--vocabulary 26]
        [--rounds 20]

A step is forward, backward and AdamW in float32. The balanced shape stands beside Llama (SDPA, as many layers, the same
width, about as many parameters), the released shape of 24 layers beside GPT-Neo. Prints median processor time as tokens
a second, and the ratio ours / peer. Without transformers only ours are timed.
"""

from __future__ import annotations

import argparse
import importlib.util
import statistics
import time
from collections.abc import Callable

import torch
from torch import nn
from torch.nn import functional

from chemscale.batch import TextManifest, TokenBatch
from chemscale.models.chemgpt import CausalTransformer, ChemGPT
from chemscale.use.generate import generate

Step = Callable[[], None]


def main() -> None:
    """Time every width and print a line for each shape."""
    options = _options()
    torch.set_num_threads(1)
    peers = importlib.util.find_spec("transformers") is not None
    print(
        f"{options.batch} x {options.length} tokens, vocabulary {options.vocabulary}, 1 thread, transformers: {peers}"
    )
    for shape in ("balanced", "chemgpt"):
        for width in options.widths:
            _line(ChemGPT.sized(width=width, shape=shape), shape, options, peers)
    _sampling(ChemGPT.sized(width=64), options)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Training steps of ChemGPT, ours beside Hugging Face's.")
    parser.add_argument("--widths", type=int, nargs="+", default=[16, 32, 64, 128])
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--length", type=int, default=36)
    parser.add_argument("--vocabulary", type=int, default=26)
    parser.add_argument("--rounds", type=int, default=20)
    return parser.parse_args()


def _line(config: ChemGPT, shape: str, options: argparse.Namespace, peers: bool) -> None:
    tokens = torch.randint(4, options.vocabulary, (options.batch, options.length + 1))
    ours = _built(config, options.vocabulary)
    steps = {"ours": _our_step(ours, tokens)}
    if peers:
        name = "Llama" if shape == "balanced" else "GPTNeo"
        steps[name] = _their_step(_peer(name, config, options.vocabulary), tokens)
    times = _interleaved(steps, options.rounds)
    groups = ours.parameter_groups()
    parameters = sum(p.numel() for group, members in groups.items() if group != "embedding" for p in members)
    rates = {name: options.batch * options.length / seconds for name, seconds in times.items()}
    shown = "  ".join(f"{name} {rate:9,.0f} tokens/s" for name, rate in rates.items())
    ratio = "".join(f"  ratio {rates['ours'] / rate:.2f}" for name, rate in rates.items() if name != "ours")
    print(f"{shape:9s} width {config.width:4d} depth {config.depth:2d} N {parameters:11,d}  {shown}{ratio}", flush=True)


def _built(config: ChemGPT, vocabulary: int) -> CausalTransformer:
    return config.build(_manifest(vocabulary))


def _manifest(vocabulary: int) -> TextManifest:
    words = tuple("[C]" if i % 2 else "[O]" for i in range(vocabulary))
    return TextManifest("benchmark", "text", "", 1, {}, {}, vocabulary=words)


def _peer(name: str, config: ChemGPT, vocabulary: int) -> nn.Module:
    """Hugging Face's model of this shape: GPT-Neo itself, or a Llama of the same depth and about the same size."""
    import transformers

    common = {"vocab_size": vocabulary, "hidden_size": config.width, "bos_token_id": 1, "eos_token_id": 2}
    if name == "GPTNeo":
        layers = {"num_layers": config.depth, "attention_types": [[["global", "local"], config.depth // 2]]}
        shape = transformers.GPTNeoConfig(num_heads=config.heads, max_position_embeddings=2048, **layers, **common)
        return transformers.GPTNeoForCausalLM(shape)
    hidden = max(8, 8 * config.width // 3 // 8 * 8)  # three matrices of 8/3 hold as much as two of 4
    shape = transformers.LlamaConfig(
        num_hidden_layers=config.depth,
        num_attention_heads=config.heads,
        intermediate_size=hidden,
        max_position_embeddings=config.context,
        attn_implementation="sdpa",
        **common,
    )
    return transformers.LlamaForCausalLM(shape)


def _our_step(module: CausalTransformer, tokens: torch.Tensor) -> Step:
    batch = TokenBatch(tokens, torch.full((len(tokens),), tokens.shape[1]))
    return _step(module, lambda: functional.cross_entropy(module(batch).flatten(0, 1), tokens[:, 1:].flatten()))


def _their_step(module: nn.Module, tokens: torch.Tensor) -> Step:
    def loss() -> torch.Tensor:
        logits = module(input_ids=tokens[:, :-1], use_cache=False).logits
        return functional.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten())

    return _step(module, loss)


def _step(module: nn.Module, loss: Callable[[], torch.Tensor]) -> Step:
    optimiser = torch.optim.AdamW(module.parameters(), lr=1e-3, fused=True)

    def step() -> None:
        loss().backward()
        optimiser.step()
        optimiser.zero_grad()

    return step


def _interleaved(steps: dict[str, Step], rounds: int) -> dict[str, float]:
    """Median processor seconds of one step of each, taking turns."""
    times: dict[str, list[float]] = {name: [] for name in steps}
    for step in steps.values():
        step()
    for _ in range(rounds):
        for name, step in steps.items():
            start = time.process_time()
            step()
            times[name].append(time.process_time() - start)
    return {name: statistics.median(seconds) for name, seconds in times.items()}


def _sampling(config: ChemGPT, options: argparse.Namespace) -> None:
    """Strings a second from an untrained model, decoded."""
    module, n = _built(config, options.vocabulary), 512
    start = time.process_time()
    made = generate(module, _manifest(options.vocabulary), n, max_tokens=options.length)
    seconds = time.process_time() - start
    tokens = sum(len(g.tokens) + g.ended for g in made)
    rates = f"{n / seconds:,.0f} strings/s, {tokens / seconds:,.0f} tokens/s"
    print(f"sampling, width {config.width}: {rates}, strings of at most {options.length} tokens")


if __name__ == "__main__":
    main()
