"""ChemGPT's training beside Hugging Face's models, taking turns in one process, one thread each, processor time.

    python -m tests.benchmarks.chemgpt steps [--rounds 10] [--strings 32] [--length 64] [--vocabulary 684]
    python -m tests.benchmarks.chemgpt moses [--width 128] [--depth 24] [--steps 1250] [--precision float32]

`steps`: forward, backward and AdamW (fused in both) on full rows: the released shape, 24 layers of width 128, beside
GPTNeo (eager attention is all that it has); six layers of width 128 and 256 beside Llama with SDPA of as many layers
and about as many parameters. `moses`: whole steps on 20,000 MOSES molecules, batch 16, the same molecules in the same
order from the same weights: ours by the package's own step, from its store; GPTNeo's from ready lists of ids, padded to
the longest as its collator does. Prints useful tokens a second, the ratio, and how far apart the losses are.
"""

from __future__ import annotations

import argparse
import math
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch
import transformers
from torch import nn
from torch.nn import functional

from chemscale import data
from chemscale.batch import TextManifest, TokenBatch
from chemscale.models.chemgpt import ChemGPT
from chemscale.spec import Budget, Data, Optim, Resources, RunSpec
from chemscale.train.complete import complete
from chemscale.train.objectives import NextToken
from chemscale.train.optim import build_optimiser
from chemscale.train.order import step_positions
from chemscale.train.parallel import spread
from chemscale.train.precision import keep_freed_memory, parameter_type
from chemscale.train.ranks import Ranks
from chemscale.train.step import Stepper

Step = Callable[[], float]
LR = 3e-4
AGREE = 1e-3  # relative, of losses after hundreds of steps: rounding that training amplifies


def main() -> None:
    """Run what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    kinds = parser.add_subparsers(required=True)
    steps = kinds.add_parser("steps")
    steps.set_defaults(run=_all_steps)
    steps.add_argument("--rounds", type=int, default=10)
    steps.add_argument("--strings", type=int, default=32)
    steps.add_argument("--length", type=int, default=64)
    moses = kinds.add_parser("moses")
    moses.set_defaults(run=_moses)
    moses.add_argument("--width", type=int, default=128)
    moses.add_argument("--depth", type=int, default=24)
    moses.add_argument("--steps", type=int, default=1250)
    moses.add_argument("--batch", type=int, default=16)
    moses.add_argument("--precision", default="float32")
    for kind in (steps, moses):
        kind.add_argument("--vocabulary", type=int, default=684)
    options = parser.parse_args()
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    keep_freed_memory()  # for both: glibc's own settings cost GPTNeo more pages still
    print(
        f"torch {torch.__version__}, transformers {transformers.__version__}, {torch.backends.cpu.get_cpu_capability()}"
    )
    options.run(options)


# -- full rows --------------------------------------------------------------------------------------------------------


def _all_steps(options: argparse.Namespace) -> None:
    released = ChemGPT.sized(width=128, shape="chemgpt")
    _row("GPTNeo", released, _neo(released, options.vocabulary), options)
    for width in (128, 256):
        config = ChemGPT(width=width, depth=6, heads=width // 16)
        _row("Llama", config, _llama(config, options.vocabulary), options)


def _row(name: str, config: ChemGPT, peer: nn.Module, options: argparse.Namespace) -> None:
    tokens = torch.randint(5, options.vocabulary, (options.strings, options.length + 1))
    words = tuple(map(str, range(options.vocabulary)))
    ours = config.build(TextManifest("benchmark", "text", "", 1, {}, {}, vocabulary=words))
    steps = {"ours": _our_step(ours, tokens), name: _their_step(peer, tokens[:, :-1], tokens[:, 1:])}
    times = _interleaved(steps, options.rounds)
    sizes = [sum(p.numel() for n, p in m.named_parameters() if not _embeds(n)) for m in (ours, peer)]
    rates = {key: tokens[:, 1:].numel() / seconds for key, seconds in times.items()}
    print(
        f"{config.depth} layers of width {config.width}, non-embedding {sizes[0]:,} / {sizes[1]:,}: "
        f"ours {rates['ours']:,.0f}, {name} {rates[name]:,.0f} tokens/s, ratio {rates['ours'] / rates[name]:.2f}",
        flush=True,
    )


def _embeds(name: str) -> bool:
    return any(part in name for part in ("wte", "wpe", "embed", "head"))


def _neo(config: ChemGPT, vocabulary: int) -> nn.Module:
    layers = {"num_layers": config.depth, "attention_types": [[["global", "local"], config.depth // 2]]}
    return transformers.GPTNeoForCausalLM(
        transformers.GPTNeoConfig(
            hidden_size=config.width, num_heads=config.heads, vocab_size=vocabulary, bos_token_id=2, eos_token_id=3,
            max_position_embeddings=config.context, use_cache=False, **layers,
        )
    ).train()  # fmt: skip


def _llama(config: ChemGPT, vocabulary: int) -> nn.Module:
    return transformers.LlamaForCausalLM(
        transformers.LlamaConfig(
            num_hidden_layers=config.depth, hidden_size=config.width, num_attention_heads=config.heads,
            intermediate_size=8 * config.width // 3 // 8 * 8,  # three matrices of 8/3 hold as much as two of 4
            vocab_size=vocabulary, max_position_embeddings=512, attn_implementation="sdpa", use_cache=False,
            bos_token_id=2, eos_token_id=3,
        )
    ).train()  # fmt: skip


def _our_step(module: nn.Module, tokens: torch.Tensor) -> Step:
    batch = TokenBatch(tokens, torch.full((len(tokens),), tokens.shape[1])).packed()
    return _step(module, lambda: NextToken().loss(module, batch, NextToken().denominators(batch)))


def _their_step(module: nn.Module, inputs: torch.Tensor, targets: torch.Tensor) -> Step:
    def loss() -> torch.Tensor:
        logits = module(input_ids=inputs).logits
        return functional.cross_entropy(logits.flatten(0, 1), targets.flatten())

    return _step(module, loss)


def _step(module: nn.Module, loss: Callable[[], torch.Tensor]) -> Step:
    optimiser = torch.optim.AdamW(module.parameters(), lr=LR, fused=True)

    def step() -> float:
        value = loss()
        value.backward()
        optimiser.step()
        optimiser.zero_grad()
        return float(value.detach())

    return step


def _interleaved(steps: dict[str, Step], rounds: int) -> dict[str, float]:
    """Median processor seconds of one step of each, taking turns, after one to warm up."""
    times: dict[str, list[float]] = {name: [] for name in steps}
    for turn in range(rounds + 1):
        for name, step in steps.items():
            start = time.process_time()
            step()
            if turn:
                times[name].append(time.process_time() - start)
    return {name: statistics.median(seconds) for name, seconds in times.items()}


# -- whole steps on molecules -----------------------------------------------------------------------------------------


def _moses(options: argparse.Namespace) -> None:
    data.build("moses", progress=False)
    run = complete(
        RunSpec(
            model=replace(ChemGPT.sized(width=options.width, shape="chemgpt"), depth=options.depth),
            data=Data("moses", size=20_000),
            optim=Optim(lr=LR, batch=options.batch, warmup=0.0, cooldown=0.0, clip=None, beta2=0.999),
            budget=Budget(epochs=1),
            precision=options.precision,
        )
    )
    examples = data.open_data(run.data, run.model.view)
    ids = examples.subset(run.data.size, run.data.key, None)
    words = examples.manifest.vocabulary
    words += tuple(f"[{k}]" for k in range(options.vocabulary - len(words)))
    torch.manual_seed(0)
    ours = run.model.build(replace(examples.manifest, vocabulary=words)).to(parameter_type(run.precision))
    theirs = _same_weights(ours, _neo(run.model, len(words)))
    layout = spread(ours, Ranks(), Resources())
    stepper = Stepper(run, examples, ids, NextToken(), layout, build_optimiser(layout.module, run.optim))
    peer = torch.optim.AdamW(theirs.parameters(), lr=LR, betas=(0.9, 0.999), weight_decay=0.0, fused=True)
    batches, useful = _lists(run, examples, ids, options.steps)
    seconds, losses = np.zeros((2, options.steps)), np.zeros((2, options.steps))
    for k in range(options.steps):
        for side, step in enumerate((lambda k=k: stepper.step(k, save_due=False).loss, lambda k=k: _peer_step(
            theirs, peer, batches[k], examples.manifest.pad))):  # fmt: skip
            start = time.process_time()
            losses[side, k] = step()
            seconds[side, k] = time.process_time() - start
    _said(options, useful, seconds, losses)


def _lists(run: RunSpec, examples: Any, ids: np.ndarray, steps: int) -> tuple[list[list[torch.Tensor]], np.ndarray]:
    """Ids of each string of each step, as a tokenizer leaves them, and the targets in each step."""
    batches = []
    for k in range(steps):
        where = step_positions(k, batch=run.optim.batch, size=len(ids), seed=run.seed, total=run.examples)
        batch = examples.batch(ids[where])
        batches.append([row[:length] for row, length in zip(batch.tokens, batch.lengths.tolist(), strict=True)])
    return batches, np.array([sum(len(row) - 1 for row in batch) for batch in batches], dtype=float)


def _peer_step(module: nn.Module, optimiser: torch.optim.Optimizer, rows: list[torch.Tensor], pad: int) -> float:
    """Pad to the longest, mask, and let the model make its own loss."""
    inputs = nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=pad)
    labels = nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=-100)
    loss = module(input_ids=inputs, attention_mask=(labels != -100).long(), labels=labels).loss
    loss.backward()
    optimiser.step()
    optimiser.zero_grad()
    return float(loss.detach())


def _same_weights(ours: nn.Module, theirs: nn.Module) -> nn.Module:
    names = {
        f"transformer.{name.replace('.attn.', '.attn.attention.')}": value for name, value in ours.state_dict().items()
    }
    missing = theirs.load_state_dict(names, strict=False)
    assert not missing.unexpected_keys and all(_embeds(n) or "bias" in n for n in missing.missing_keys), missing
    return theirs


def _said(options: argparse.Namespace, useful: np.ndarray, seconds: np.ndarray, losses: np.ndarray) -> None:
    warm = slice(min(3, options.steps - 1), None)  # the first steps allocate
    rates = useful[warm].sum() / seconds[:, warm].sum(axis=1)
    apart = np.abs(losses[0] / losses[1] - 1)
    tail = np.abs(losses[:, -50:].mean(axis=1)[0] / losses[:, -50:].mean(axis=1)[1] - 1)
    shape = f"{options.depth} layers of width {options.width}, {options.precision}"
    print(
        f"{shape}, batch {options.batch}, {options.steps} steps: "
        f"ours {rates[0]:,.0f}, GPTNeo {rates[1]:,.0f} useful tokens/s, ratio {rates[0] / rates[1]:.2f}; "
        f"losses apart by at most {apart.max():.1e} of a step's, {tail:.1e} over the last 50 "
        f"({'within' if tail < AGREE else 'beyond'} {AGREE:g}); last loss {losses[0, -1]:.4f}, "
        f"uniform {math.log(options.vocabulary):.2f}",
        flush=True,
    )


if __name__ == "__main__":
    main()
