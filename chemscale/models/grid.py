"""Where strings laid end to end stand for attention: in grids of strings x longest, padded on the right.

Shapes: tokens (of all strings), cells (strings x longest of one grid), heads.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad
from torch.utils._python_dispatch import _get_current_dispatch_mode

from chemscale.models.block_native import ROOM, BlockKernels, block_kernels
from chemscale.models.products import PRODUCTS

PART_STRINGS, PARTS = 4, 4  # strings of a grid at least, grids at most; 64 of MOSES: 21 % padding in one, 6.5 % in 4


@dataclass(frozen=True)
class Grid:
    """Where the tokens of strings laid end to end stand in a grid of strings x longest, padded on the right.

    Attributes:
        strings, longest: the grid's two sides.
        token: (cells,) int64, the token in each cell; as many as there are tokens where the cell is empty.
        cell: (tokens,) int64, the cell of each token.
    """

    strings: int
    longest: int
    token: Tensor
    cell: Tensor

    @classmethod
    def of(cls, lengths: Tensor, positions: Tensor, longest: int, *, first: int = 0, total: int | None = None) -> Grid:
        """The grid of strings of these lengths, (strings,), whose tokens stand at `positions`, (tokens,), in them.

        Where they are a part of `total` tokens, the one at `first` is theirs to begin with.
        """
        strings, count = len(lengths), len(positions)
        row = torch.arange(strings, device=lengths.device) * longest
        cell = positions + torch.repeat_interleave(row, lengths, output_size=count)
        blank = count if total is None else total
        token = torch.full((strings * longest,), blank, dtype=torch.int64, device=lengths.device)
        token[cell] = torch.arange(first, first + count, device=lengths.device)
        return cls(strings, longest, token, cell)

    def split(self, parts: int, heads: int) -> Tensor:
        """(parts x strings x heads x longest,) rows of a (tokens + 1, parts, heads) table, in this order."""
        part = torch.arange(parts, device=self.token.device)[:, None, None, None]
        head = torch.arange(heads, device=self.token.device)[:, None]
        token = self.token.view(self.strings, 1, self.longest)
        return ((token * parts + part) * heads + head).flatten()

    def join(self, parts: int, heads: int) -> Tensor:
        """(tokens x parts x heads,) rows of a (parts, strings, heads, longest) table, in this order."""
        part = torch.arange(parts, device=self.cell.device)[:, None]
        head = torch.arange(heads, device=self.cell.device)
        string, at = self.cell // self.longest, self.cell % self.longest
        rows = ((part * self.strings + string[:, None, None]) * heads + head) * self.longest + at[:, None, None]
        return rows.flatten()


@dataclass(frozen=True)
class Part:
    """Strings that stand in one grid for attention.

    Attributes:
        grid: where their tokens stand.
        inward, outward: rows of heads, from tokens to cells for three tables and one, and back.
        hidden: {window: (longest, longest)}, 0 where a token is seen and minus infinity where it is not.
    """

    grid: Grid
    inward: tuple[Tensor, Tensor]
    outward: tuple[Tensor, Tensor]
    hidden: dict[int | None, Tensor]

    @classmethod
    def of(cls, grid: Grid, heads: int, windows: set[int | None], like: Tensor) -> Part:
        hidden = {window: hidden_tokens(grid.longest, window, like) for window in windows}
        return cls(
            grid, (grid.split(3, heads), grid.split(1, heads)), (grid.join(3, heads), grid.join(1, heads)), hidden
        )


@dataclass(frozen=True)
class Plan:
    """What every block of a forward pass needs to know of its batch, made once.

    Attributes:
        parts: the strings, a few at a time, so that short ones are not padded to the longest of all.
        heads, scale: of the attention; `scale` multiplies its logits.
        branch: factor on what each part adds to the residual stream.
        activation: "gelu" or "gelu_new". eps: of the layer norms.
        products: what linear layers multiply in; None is the tensors' type.
        kernels: what runs attention in the place of grids, then without parts; None where grids do.
        starts: for kernels, (strings + 1,) int64, where each string begins, and where the last ends.
    """

    parts: tuple[Part, ...]
    heads: int
    scale: float
    branch: float
    activation: str
    eps: float
    products: torch.dtype | None
    kernels: BlockKernels | None = None
    starts: Tensor | None = None

    @classmethod
    def of(
        cls,
        fed: Tensor,
        positions: Tensor,
        longest: int,
        *,
        heads: int,
        windows: set[int | None],
        like: Tensor,
        **more: Any,
    ) -> Plan:
        """The plan for strings of `fed` tokens, (strings,), at `positions`, (tokens,); `like` has the tensors' type."""
        kernels = _kernels(like, heads, longest)
        if kernels is not None:
            starts = pad(fed.cumsum(0), (1, 0))
            return cls((), heads, products=PRODUCTS.get(), kernels=kernels, starts=starts, **more)
        grids = _grids(fed, positions, longest)
        parts = tuple(Part.of(grid, heads, windows, like) for grid in grids)
        return cls(parts, heads, products=PRODUCTS.get(), **more)


def _kernels(like: Tensor, heads: int, longest: int) -> BlockKernels | None:
    """Kernels in C for these tensors; none under what watches torch's operations, such as a count of their FLOPs."""
    watched = _get_current_dispatch_mode() is not None
    if watched or like.device.type != "cpu" or like.dtype != torch.float32 or longest > ROOM:
        return None
    return block_kernels(heads, like.shape[-1] // heads)


def _grids(fed: Tensor, positions: Tensor, longest: int) -> list[Grid]:
    """One grid for every run of at least PART_STRINGS strings, which the trainer sorts by length."""
    count = min(PARTS, len(fed) // PART_STRINGS)
    if count <= 1 or fed.device.type == "meta":
        return [Grid.of(fed, positions, longest)]
    grids, first = [], 0
    for some in fed.tensor_split(count):
        end = first + int(some.sum())
        whole = len(positions)
        grids.append(Grid.of(some, positions[first:end], int(some.max()), first=first, total=whole))
        first = end
    return grids


def hidden_tokens(length: int, window: int | None, like: Tensor) -> Tensor:
    """(length, length): minus infinity where the column comes later than the row, or `window` or more before it."""
    later = like.new_full((length, length), -math.inf).triu(1)
    return later if window is None else later + like.new_full((length, length), -math.inf).tril(-window)
