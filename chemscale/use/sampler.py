"""Tokens drawn from a decoder for many strings at once; strings that begin alike share one line until they part.

All strings begin with the same start token, and most with one of a few tokens, so that the first steps cost next to
nothing; a prompt that all strings share is read once. As soon as the different beginnings outgrow a batch they are cut
into fronts of a batch of strings each, which are written to their ends.

Shapes: strings (that are asked for), lines (different beginnings, each a line of the decoder's past), vocabulary,
length (most tokens of a string, after its start token).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from chemscale.use.decoder import Decoder

DROP_SHARE = 0.125  # lines leave once so many of them have ended: each drop copies as many others into their places
NO_TOKEN = -1


@dataclass(frozen=True)
class Draw:
    """How a token is drawn.

    Attributes:
        temperature: divides the logits.
        top_k: from so many likeliest tokens; None from all.
        never: ids that are never drawn; a prompt may hold them.
    """

    temperature: float = 1.0
    top_k: int | None = None
    never: tuple[int, ...] = ()


@dataclass(frozen=True)
class Prompt:
    """What a string begins with after its start token, and, where not empty, the ids that may come next."""

    tokens: tuple[int, ...]
    opening: tuple[int, ...] = ()


@dataclass(frozen=True)
class Written:
    """Strings as they were drawn.

    Attributes:
        tokens: (strings, length) int64, the end token included where it was drawn, `NO_TOKEN` behind.
        nats: (strings,) float64, log-likelihood of each string's tokens, prompt and end token included, under the model
            at temperature 1 with nothing masked.
        prompt_nats: (strings,) float64, the part of it that is the prompt's.
    """

    tokens: Tensor
    nats: Tensor
    prompt_nats: Tensor


@dataclass(frozen=True)
class _Front:
    """Strings that are being written.

    Attributes:
        strings: (open,) int64, which ones.
        line: (open,) int64, where the past of each one is.
        tokens: (lines,) int64, what each line reads next.
        past: of the lines.
        at: tokens already written after the start token.
    """

    strings: Tensor
    line: Tensor
    tokens: Tensor
    past: Any
    at: int


class Sampler:
    """Draws strings; a string's tokens follow from its own uniform numbers and prompt alone (to rounding)."""

    def __init__(self, decoder: Decoder, vocabulary: int, start: int, end: int, draw: Draw, batch: int) -> None:
        self.decoder, self.vocabulary = decoder, vocabulary
        self.begin, self.end, self.draw, self.batch = start, end, draw, batch
        self.masked = torch.zeros(vocabulary, dtype=torch.bool)
        self.masked[list(draw.never)] = True

    def write(self, uniform: Tensor, prompts: Sequence[Prompt] | None = None) -> Written:
        """Draw one string for each row of uniform numbers, (strings, length) float64, after its prompt.

        Raises:
            ValueError: a prompt is longer than `length`.
        """
        strings, length = uniform.shape
        self.uniform, self.forced = uniform, _forced(prompts, strings, length)
        self.opens, self.opening, self.openings = _openings(prompts, self.vocabulary)
        self.written = Written(
            torch.full((strings, length), NO_TOKEN),
            torch.zeros(strings, dtype=torch.float64),
            torch.zeros(strings, dtype=torch.float64),
        )
        everyone = torch.arange(strings)
        first = torch.tensor([self.begin])
        waiting = [_Front(everyone, torch.zeros_like(everyone), first, self.decoder.start(length), 0)]
        while waiting:
            waiting.extend(self._step(waiting.pop()))
        return self.written

    def _step(self, front: _Front) -> Iterable[_Front]:
        """Draw the next token of all strings of a front: what is still open then, in pieces of at most a batch."""
        logits, past = self.decoder.step(front.tokens, front.past)  # (lines, vocabulary)
        token, gained = self._choose(logits, front)
        at, strings = front.at, front.strings
        self.written.tokens[strings, at] = token
        self.written.nats[strings] += gained
        if self.forced is not None:
            self.written.prompt_nats[strings] += torch.where(self.forced[strings, at] == NO_TOKEN, 0.0, gained)
        still = (token != self.end).nonzero()[:, 0]
        if not len(still) or at + 1 == self.uniform.shape[1]:
            return []
        return self._parted(strings[still], front.line[still], token[still], past, len(logits), at + 1)

    def _choose(self, logits: Tensor, front: _Front) -> tuple[Tensor, Tensor]:
        """The token at which each string's cumulative probability passes its uniform number, and its log-likelihood."""
        if logits.shape[1] != self.vocabulary:
            raise ValueError(
                f"the manifest names {self.vocabulary} tokens, but the model writes {logits.shape[1]}; "
                "use the manifest of the data that the model was trained on."
            )
        logits = logits.double()
        allowed = logits.masked_fill(self.masked, float("-inf")).div_(self.draw.temperature)
        if self.draw.top_k is not None and self.draw.top_k < self.vocabulary:
            least = allowed.topk(self.draw.top_k, dim=1).values[:, -1:]
            allowed = allowed.masked_fill(allowed < least, float("-inf"))
        cumulative = self._opened(allowed.softmax(1)[front.line], front).cumsum(1)  # (open, vocabulary)
        below = self.uniform[front.strings, front.at, None] * cumulative[:, -1:]
        token = torch.searchsorted(cumulative, below, right=True)[:, 0]
        if self.forced is not None:
            forced = self.forced[front.strings, front.at]
            token = torch.where(forced == NO_TOKEN, token, forced)
        return token, logits.log_softmax(1)[front.line, token]

    def _opened(self, weights: Tensor, front: _Front) -> Tensor:
        """Weights of the tokens, (open, vocabulary), with only those left that may follow a prompt which ends here."""
        if self.opens is None:
            return weights
        here = (self.opens[front.strings] == front.at).nonzero()[:, 0]
        if len(here):
            may = self.openings[self.opening[front.strings[here]]]
            left = weights[here] * may
            weights[here] = torch.where(left.sum(1, keepdim=True) > 0, left, may)  # none left: all of them alike
        return weights

    def _parted(self, strings: Tensor, line: Tensor, token: Tensor, past: Any, lines: int, at: int) -> Iterable[_Front]:
        """Strings whose past or token differs on lines of their own."""
        different, place = torch.unique(line * self.vocabulary + token, return_inverse=True)  # ascending by line
        parent, tokens = different // self.vocabulary, different % self.vocabulary
        if len(different) > self.batch:
            return self._pieces(strings, place, parent, tokens, past, at)
        if len(parent) <= (1 - DROP_SHARE) * lines and len(parent) == len(torch.unique_consecutive(parent)):
            past, order = past.keep(parent)
            return [_on_lines(strings, order, parent[place], tokens[place], past, at, len(parent), lines)]
        return [self._spread(strings, place, parent, tokens, past, lines, at)]

    def _spread(
        self, strings: Tensor, place: Tensor, parent: Tensor, tokens: Tensor, past: Any, lines: int, at: int
    ) -> _Front:
        """One child of each line stays on it, the others go behind all lines; lines without one read on for nobody."""
        other = torch.zeros(len(parent), dtype=torch.bool)
        other[1:] = parent[1:] == parent[:-1]
        more = parent[other]
        if len(more) and lines + len(more) > self.batch:
            return _Front(strings, place, tokens, past.take(parent), at)
        line = parent.clone()
        line[other] = torch.arange(lines, lines + len(more))
        reading = torch.full((lines + len(more),), self.end).index_put_((line,), tokens)
        return _Front(strings, line[place], reading, past.spread(more) if len(more) else past, at)

    def _pieces(
        self, strings: Tensor, place: Tensor, parent: Tensor, tokens: Tensor, past: Any, at: int
    ) -> Iterable[_Front]:
        """Fronts of about a batch of strings each, which will be as many lines before long, cut between lines."""
        pieces = -(-len(strings) // self.batch)
        ends = torch.bincount(place, minlength=len(parent)).cumsum(0)  # (lines,) strings up to each line's last
        piece = (ends - 1) * pieces // len(strings)  # (lines,), ascending
        for lines in torch.arange(len(parent)).split(torch.unique_consecutive(piece, return_counts=True)[1].tolist()):
            mine = ((place >= lines[0]) & (place <= lines[-1])).nonzero()[:, 0]
            yield _Front(strings[mine], place[mine] - lines[0], tokens[lines], past.take(parent[lines]), at)


def _on_lines(
    strings: Tensor, order: Tensor, line: Tensor, token: Tensor, past: Any, at: int, number: int, lines: int
) -> _Front:
    """A front whose lines have moved: `order` says which old line stands at each place."""
    moved = torch.empty(lines, dtype=torch.int64)
    moved[order] = torch.arange(number)
    line = moved[line]
    return _Front(strings, line, torch.empty(number, dtype=torch.int64).index_put_((line,), token), past, at)


def _forced(prompts: Sequence[Prompt] | None, strings: int, length: int) -> Tensor | None:
    """(strings, length) int64, `NO_TOKEN` where the model is free."""
    longest = max((len(prompt.tokens) for prompt in prompts or ()), default=0)
    if not longest:
        return None
    if longest >= length:
        raise ValueError(f"a prompt of {longest} tokens leaves no room in strings of {length}; ask for longer ones.")
    rows = [[*prompt.tokens, *[NO_TOKEN] * (longest - len(prompt.tokens))] for prompt in prompts or ()]
    return functional.pad(torch.tensor(rows), (0, length - longest), value=NO_TOKEN)


def _openings(prompts: Sequence[Prompt] | None, vocabulary: int) -> tuple[Tensor | None, Tensor, Tensor]:
    """Where each string's next token is bound (-1: nowhere), to which row, and the rows: (rows, vocabulary) 0 or 1."""
    kinds = {opening: row for row, opening in enumerate(dict.fromkeys(p.opening for p in prompts or ()))}
    rows = torch.zeros(len(kinds), vocabulary, dtype=torch.float64)
    for opening, row in kinds.items():
        rows[row, list(opening)] = 1
    row = torch.tensor([kinds[p.opening] for p in prompts or ()], dtype=torch.int64)
    opens = torch.tensor([len(p.tokens) if p.opening else -1 for p in prompts or ()], dtype=torch.int64)
    return (opens if bool((opens >= 0).any()) else None), row, rows
