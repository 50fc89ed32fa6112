"""Sampling from a trained ChemGPT beside `transformers` generate with its cache: same weights, in turns, one thread.

    python -m tests.benchmarks.generate [--runs STORE:RUN ...] [--strings 1024] [--their-strings 256]
        [--their-batches 64 256] [--rounds 2] [--updates 300]

Without --runs two models are trained for so many updates on the embedded MOSES molecules: the released shape of 24
layers at width 64, and the balanced shape at width 64. The weights are copied into GPTNeoForCausalLM and the two are
held against each other before anything is timed. Prints strings a second by processor time of this process: drawing
ids, and with the reading of ids into canonical SMILES (the same code for both). All strings end by the end token.

The bound is the ratio that would be reached if all of our drawing but its matrix products took no time: their time is
torch's profiler's, by the clock, over the processor time of drawing without it: low on a crowded machine.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

import chemscale.models  # noqa: F401  registers the models
from chemscale.batch import TextManifest, TokenBatch
from chemscale.models.causal import CausalTransformer
from chemscale.models.chemgpt import ChemGPT
from chemscale.records.store import Store
from chemscale.spec import Budget, Data, Optim, Resources, RunSpec
from chemscale.sweep.preparation import prepare
from chemscale.train.session import train_here
from chemscale.use.canonical import Ids, read_ids
from chemscale.use.decoder import decoder
from chemscale.use.generate import BATCH, uniform
from chemscale.use.load import Trained, load
from chemscale.use.sampler import Draw, Sampler

AGREEMENT = 1e-4  # of logits, the largest difference allowed between the two models, float32
PRODUCTS = ("mm", "addmm", "addmm_", "bmm", "baddbmm")
LENGTH = 64  # most tokens of a string: MOSES needs 50

Rows = list[tuple[int, ...] | None]


def main() -> None:
    """Time every run beside the peer and print a line for each of the peer's batches."""
    options = _options()
    torch.set_num_threads(1)
    for trained in _trained(options):
        module, manifest = trained.module, trained.manifest
        theirs = copied(module, len(manifest.vocabulary), manifest)
        config = trained.run.model
        print(
            f"width {config.width}, {config.depth} layers, {config.heads} heads, "
            f"logits agree to {agreement(module, theirs):.0e}"
        )
        _beside(module, theirs, manifest, options)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Sampling, ours beside transformers.")
    parser.add_argument("--runs", nargs="+", metavar="STORE:RUN", default=[])
    parser.add_argument("--strings", type=int, default=1024, help="of one of our rounds")
    parser.add_argument("--their-strings", type=int, default=256, help="of one of their rounds")
    parser.add_argument("--their-batches", type=int, nargs="+", default=[64, 256])
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--updates", type=int, default=300)
    return parser.parse_args()


def _trained(options: argparse.Namespace) -> list[Trained]:
    if options.runs:
        places = [name.rpartition(":") for name in options.runs]
        return [load(Store(store), run) for store, _, run in places]
    made = []
    for shape in ("chemgpt", "balanced"):
        run = RunSpec(
            model=ChemGPT.sized(64, shape=shape, context=128),
            data=Data("moses", size=20_000),
            optim=Optim(lr=2e-3, batch=16),
            budget=Budget(updates=options.updates),
            seed=0,
        )
        with tempfile.TemporaryDirectory() as folder:
            run, store = prepare([run], Resources())[0], Store(folder, create=True)
            store.enlist("benchmark", [run])
            train_here(run, store, Resources())
            made.append(load(store, run.id))
    return made


def copied(module: CausalTransformer, vocabulary: int, manifest: TextManifest) -> Any:
    """The same function as transformers' GPTNeo; its attention has no scale, so the queries carry it."""
    import transformers

    config = module.config
    kinds = [["global", "local"], config.depth // 2] if config.window else [["global"], config.depth]
    shape = transformers.GPTNeoConfig(
        vocab_size=vocabulary,
        hidden_size=config.width,
        num_layers=config.depth,
        num_heads=config.heads,
        attention_types=[kinds],
        window_size=config.window or 256,
        activation_function=config.activation,
        max_position_embeddings=config.context,
        bos_token_id=manifest.start,
        eos_token_id=manifest.end,
        pad_token_id=manifest.pad,
    )
    theirs = transformers.GPTNeoForCausalLM(shape).eval()
    scale = (config.width // config.heads) ** -0.5 if config.attention_scale is None else config.attention_scale
    weights = {}
    for name, value in module.state_dict().items():
        renamed = name.replace(".attn.", ".attn.attention.")
        weights[f"transformer.{renamed}"] = value * scale if "q_proj" in name else value
    missing = theirs.load_state_dict(weights, strict=False).missing_keys
    assert set(missing) <= {"lm_head.weight"}, missing  # tied to the token table
    return theirs


def agreement(module: CausalTransformer, theirs: Any) -> float:
    """The largest difference of their logits on random rows."""
    vocabulary = module.wte.weight.shape[0]
    tokens = torch.randint(4, vocabulary, (8, 41), generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        ours = module(TokenBatch(tokens, torch.full((8,), 41)))
        difference = float((ours - theirs(input_ids=tokens[:, :-1]).logits).abs().max())
    assert difference < AGREEMENT, difference
    return difference


def _beside(module: CausalTransformer, theirs: Any, manifest: TextManifest, options: argparse.Namespace) -> None:
    makers: dict[str, tuple[int, Callable[[int], Rows]]] = {
        "ours": (options.strings, lambda seed: _ours(module, manifest, options.strings, seed))
    }
    for batch in options.their_batches:
        strings = max(batch, options.their_strings // batch * batch)
        makers[f"theirs, {batch} at a time"] = (
            strings,
            lambda seed, batch=batch, strings=strings: _theirs(theirs, manifest, strings, batch, seed),
        )
    drawing: dict[str, list[float]] = {name: [] for name in makers}
    reading: dict[str, list[float]] = {name: [] for name in makers}
    for seed in range(options.rounds):
        for name, (strings, make) in makers.items():
            start = time.process_time()
            rows = make(seed)
            drawn = time.process_time()
            smiles = read_ids(Ids(tuple(rows), manifest.vocabulary, manifest.representation))
            drawing[name].append((drawn - start) / strings)
            reading[name].append((time.process_time() - start) / strings)
            tokens = statistics.mean(len(row) + 1 for row in rows if row)
            share = sum(s is not None for s in smiles) / len(smiles)
            if seed == 0:
                print(f"  {name}: {strings} strings a round, {tokens:.1f} tokens each, {share:.3f} molecules")
    ours, ours_read = (statistics.median(times["ours"]) for times in (drawing, reading))
    share = _products(makers["ours"][1]) / options.strings / ours
    print(f"  ours: {1 / ours:,.0f} strings/s, as SMILES {1 / ours_read:,.0f}; {share:.0%} in matrix products")
    for name in list(makers)[1:]:
        time_, read = (statistics.median(times[name]) for times in (drawing, reading))
        ratios = f"ratio {time_ / ours:.2f}, bound {time_ / ours / share:.1f}, as SMILES {read / ours_read:.2f}"
        print(f"  {name}: {1 / time_:,.0f} strings/s, as SMILES {1 / read:,.0f}; {ratios}", flush=True)


def _products(make: Callable[[int], Rows]) -> float:
    """Seconds that a drawing spends in matrix products."""
    with profile(activities=[ProfilerActivity.CPU]) as seen:
        make(0)
    return sum(e.self_cpu_time_total for e in seen.key_averages() if e.key.removeprefix("aten::") in PRODUCTS) / 1e6


def _ours(module: CausalTransformer, manifest: TextManifest, strings: int, seed: int) -> Rows:
    never = (manifest.pad, manifest.start, manifest.unknown)
    with torch.inference_mode():
        sampler = Sampler(
            decoder(module), len(manifest.vocabulary), manifest.start, manifest.end, Draw(never=never), BATCH
        )
        return _read(sampler.write(uniform(seed, range(strings), LENGTH)).tokens, manifest.end)


def _theirs(theirs: Any, manifest: TextManifest, strings: int, batch: int, seed: int) -> Rows:
    torch.manual_seed(seed)
    rows: Rows = []
    with torch.inference_mode():
        for _ in range(strings // batch):
            start = torch.full((batch, 1), manifest.start)
            made = theirs.generate(start, do_sample=True, top_k=0, max_new_tokens=LENGTH, use_cache=True)
            rows.extend(_read(made[:, 1:], manifest.end))
    return rows


def _read(tokens: torch.Tensor, end: int) -> Rows:
    return [tuple(row[: row.index(end)]) if end in row else None for row in tokens.tolist()]


if __name__ == "__main__":
    main()
