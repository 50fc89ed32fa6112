"""Molecules out of a trained text model: sampled, decoded, and handed out block by block.

A string follows from the seed, its own number and the longest length alone, whatever else is asked for with it, so that
a sample can be continued from any block.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from chemscale.batch import TextManifest
from chemscale.data.parallel import in_chunks, in_processes
from chemscale.data.tokens import join, version_of
from chemscale.train.precision import keep_freed_memory
from chemscale.use.canonical import Ids, read_ids, read_text
from chemscale.use.decoder import decoder
from chemscale.use.sampler import NO_TOKEN, Draw, Prompt, Sampler, Written

LEAST_TEMPERATURE = 1e-6  # logits of thousands over less are no float32
BLOCK = 4096  # strings that are drawn, decoded and kept together
BATCH = 512  # lines of one step; at 256, 512, 1,024 lines 4 layers of width 64 write 770, 1,080, 1,090 strings/s
_WORDS = 4  # random 64-bit words that a Philox counter gives

Prompts = Callable[[range], Sequence[Prompt]]


@dataclass(frozen=True)
class Generated:
    """One sampled string.

    Attributes:
        smiles: canonical SMILES; None where the string never ended within `max_tokens` or is no molecule.
        tokens: ids between the start and the end token, a prompt's included.
        log_likelihood: nats, of all tokens and the end token under the model at temperature 1, nothing masked.
        ended: whether the model wrote the end token.
        prompt_log_likelihood: the part of `log_likelihood` that is the prompt's.
    """

    smiles: str | None
    tokens: tuple[int, ...]
    log_likelihood: float
    ended: bool
    prompt_log_likelihood: float = 0.0


@dataclass(frozen=True)
class Request:
    """What is to be sampled.

    Args:
        n: strings.
        temperature: divides the logits; below 1 sharpens.
        top_k: draw from so many likeliest tokens; None from all.
        seed: of the random numbers.
        max_tokens: most tokens of a string, its prompt and end token included; None is the model's context.
        never: ids that are not drawn besides the pad, start and unknown token, e.g. those that training never showed.

    Raises:
        ValueError: a number is out of range.
    """

    n: int
    temperature: float = 1.0
    top_k: int | None = None
    seed: int = 0
    max_tokens: int | None = None
    never: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        for name in ("n", "top_k", "max_tokens"):
            value = getattr(self, name)
            optional = name != "n"
            if not ((isinstance(value, int) and value > 0) or (optional and value is None)):
                kind = "an integer above 0" + " or None" * optional
                raise ValueError(f"generate({name}={value!r}) is not allowed: it must be {kind}.")
        if not (isinstance(self.temperature, int | float) and LEAST_TEMPERATURE <= self.temperature < float("inf")):
            raise ValueError(
                f"generate(temperature={self.temperature!r}) is not allowed: it must be a number from "
                f"{LEAST_TEMPERATURE:g}, which draws the likeliest token, upwards."
            )
        if not (isinstance(self.seed, int) and 0 <= self.seed < 2**64):
            raise ValueError(f"generate(seed={self.seed!r}) is not allowed: it must be an integer from 0 to 2^64 - 1.")


def generate(
    model: Any,
    manifest: TextManifest,
    n: int,
    *,
    temperature: float = 1.0,
    top_k: int | None = None,
    seed: int = 0,
    batch: int = BATCH,
    max_tokens: int | None = None,
    never: Sequence[int] = (),
    prompt: Sequence[int] = (),
) -> list[Generated]:
    """Sample `n` strings from a model with `start_cache` and `step`, such as `chemscale.models.chemgpt`'s.

    Args:
        batch: lines that the model writes at a time.
        prompt: ids that every string begins with, after the start token.

    The others are those of `Request`.

    Raises:
        ValueError: a number is out of range, the vocabulary is not the model's, or the model cannot be stepped.
    """
    request = Request(n, temperature, top_k, seed, max_tokens, tuple(never))
    prompts = (lambda strings: [Prompt(tuple(prompt))] * len(strings)) if len(prompt) else None
    blocks = generate_blocks(model, manifest, request, prompts=prompts, batch=batch, processes=1)
    return [one for block in blocks for one in block]


def generate_blocks(
    model: Any,
    manifest: TextManifest,
    request: Request,
    *,
    prompts: Prompts | None = None,
    first: int = 0,
    batch: int = BATCH,
    processes: int | None = None,
) -> Iterator[list[Generated]]:
    """The sample in blocks of `BLOCK` strings, from block `first` on; read back into molecules by worker processes.

    Args:
        prompts: ids that strings begin with, for the numbers of strings that it is given.
        processes: that decode; None is one per processor, 1 decodes here.

    Raises:
        ValueError: as `generate`.
    """
    writer = Writer(model, manifest, request, batch)
    written: list[Written] = []

    def tasks() -> Iterator[Ids]:
        for strings in in_chunks(range(first * BLOCK, request.n), BLOCK):
            written.append(writer.write(strings, prompts(range(strings[0], strings[-1] + 1)) if prompts else None))
            yield ids(written[-1], manifest)

    for smiles in in_processes(read_ids, tasks(), processes):
        yield together(written.pop(0), smiles, manifest.end)


def canonical_smiles(tokens: Sequence[int], manifest: TextManifest) -> str | None:
    """Canonical SMILES of ids without start and end token; None where RDKit reads no molecule in it."""
    vocabulary = manifest.vocabulary
    return read_text(join(tokens, vocabulary), manifest.representation, version_of(vocabulary))


def uniform(seed: int, strings: range, length: int, stage: int = 0) -> torch.Tensor:
    """Random numbers of these strings, (strings, length) float64 in [0, 1): counted, not drawn one after the other."""
    stride = -(-length // _WORDS)  # counters that a string takes
    bits = np.random.Philox(key=seed + (stage << 64)).advance(strings.start * stride)
    rows = np.random.Generator(bits).random((len(strings), stride * _WORDS))
    return torch.from_numpy(rows[:, :length])


class Writer:
    """Draws numbered strings from one model; what it was in, training or evaluating, it is in again afterwards."""

    def __init__(self, model: Any, manifest: TextManifest, request: Request, batch: int = BATCH) -> None:
        _positive("batch", batch)
        keep_freed_memory()  # each step frees and takes the same few MB; 10 to 20 % at 4 layers of width 64
        self.model, self.end, self.seed = model, manifest.end, request.seed
        self.length = model.config.context if request.max_tokens is None else request.max_tokens
        never = (manifest.pad, manifest.start, manifest.unknown, *request.never)
        draw = Draw(request.temperature, request.top_k, never)
        with evaluating(model):
            self.sampler = Sampler(decoder(model), len(manifest.vocabulary), manifest.start, manifest.end, draw, batch)

    def write(self, strings: Sequence[int], prompts: Sequence[Prompt] | None = None, stage: int = 0) -> Written:
        """Draw these strings; another `stage` draws others of the same number."""
        numbers = uniform(self.seed, range(strings[0], strings[-1] + 1), self.length, stage)
        chosen = numbers[torch.tensor(strings) - strings[0]]
        with evaluating(self.model):
            return self.sampler.write(chosen, prompts)


@contextmanager
def evaluating(model: Any) -> Iterator[None]:
    """Evaluation mode without gradients, and back."""
    training = model.training
    model.eval()
    try:
        with torch.inference_mode():
            yield
    finally:
        model.train(training)


def ids(block: Written, manifest: TextManifest) -> Ids:
    """Strings to be read back into molecules."""
    rows = (row[:-1] if row[-1:] == (manifest.end,) else None for row in _rows(block))
    return Ids(tuple(rows), tuple(manifest.vocabulary), manifest.representation)


def _rows(block: Written) -> Iterator[tuple[int, ...]]:
    lengths = (block.tokens != NO_TOKEN).sum(1).tolist()
    for ids, length in zip(block.tokens.tolist(), lengths, strict=True):
        yield tuple(ids[:length])


def together(block: Written, smiles: Sequence[str | None], end: int) -> list[Generated]:
    """Strings with what they were read as."""
    numbers = zip(_rows(block), smiles, block.nats.tolist(), block.prompt_nats.tolist(), strict=True)
    made = []
    for ids, text, nats, prompt_nats in numbers:
        ended = ids[-1:] == (end,)
        made.append(Generated(text, ids[:-1] if ended else ids, nats, ended, prompt_nats))
    return made


def _positive(name: str, value: Any) -> None:
    if not (isinstance(value, int) and value > 0):
        raise ValueError(f"generate({name}={value!r}) is not allowed: it must be an integer above 0.")
