"""What a model costs, counted on the module itself: parameters by group, and exact FLOPs and bytes per example.

Nothing here knows a model's formula. The module runs the caller's work (a training step, an evaluation) on fabricated
batches of several sizes; the counts are polynomials in those sizes, which a few of them determine and one more
confirms. It runs on the meta device, which has shapes and no numbers; small modules run on the CPU, where each
operation takes a quarter of the time and counts the same.

Matrix FLOPs follow `torch.utils.flop_counter` (2 m n k for a product of m x k and k x n). Everything else that computes
(elementwise, reductions, gathers and scatters) is counted apart as elements read plus elements written, the measure of
work that is bound by memory. Views and allocations cost nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from chemscale.batch import AtomicBatch, AtomicManifest, TextManifest, TokenBatch

aten = torch.ops.aten
ALLOCATIONS = {aten.empty, aten.empty_like, aten.empty_strided, aten.new_empty}
FREE = ALLOCATIONS | {aten._unsafe_view, aten.detach, aten.lift_fresh}
VECTOR_PRODUCTS: dict[Any, Callable[[Sequence[Any]], int]] = {  # matrix work that torch's registry leaves out
    aten.mv: lambda args: 2 * args[0].numel(),
    aten.addmv: lambda args: 2 * args[1].numel(),
    aten.dot: lambda args: 2 * args[0].numel(),
}
REFINED = 3  # solutions of the counts, each of what the one before left: counts beyond 2^53 are no floats
SMALL = 2_000_000  # parameters of a module that is counted on the CPU

Work = Callable[[nn.Module, Any], Any]


@dataclass(frozen=True)
class Flops:
    """Work of two kinds: `matrix` in floating-point operations, `elementwise` in elements read plus written."""

    matrix: int
    elementwise: int


@dataclass(frozen=True)
class Polynomial:
    """A count as an exact polynomial of a batch's sizes.

    Attributes:
        terms: what is counted: "1", "tokens" and "tokens^2", or "1", "atoms" and "pairs".
        each: coefficients for every example.
        once: coefficients for the whole batch, however many examples it holds (masks, position tables, sums of
            parameter gradients); in tokens they apply to the batch's longest row.
    """

    terms: tuple[str, ...]
    each: tuple[int, ...]
    once: tuple[int, ...]

    @property
    def fixed(self) -> int:
        """What a batch costs whatever it holds."""
        return self.once[0]

    def of_batch(self, units: Mapping[str, np.ndarray]) -> float:
        """What a batch of these examples costs beside the shares of each; `units` as for a call."""
        return float(sum(c * x.max() for c, x in zip(self.once, (_column(t, units) for t in self.terms), strict=True)))

    def __call__(self, units: Mapping[str, np.ndarray]) -> np.ndarray:
        """The share of each example: (examples,) float64.

        Args:
            units: "tokens", or "atoms" and "pairs": (examples,) each.

        Raises:
            ValueError: a unit is missing.
        """
        columns = [_column(term, units) for term in self.terms]
        return sum(c * x for c, x in zip(self.each, columns, strict=True)) + np.zeros(np.broadcast(*columns).shape)


@dataclass(frozen=True)
class Cost:
    """What `work` costs for each example, as a function of the example's size.

    Attributes:
        family: "text" or "structures".
        parameters: trainable parameters by group, with "all" and "non_embedding".
        matrix, elements, saved: polynomials behind `flops`, `elementwise` and `bytes`.
    """

    family: str
    parameters: Mapping[str, int]
    matrix: Polynomial
    elements: Polynomial
    saved: Polynomial

    def flops(self, units: Mapping[str, np.ndarray]) -> np.ndarray:
        """Matrix FLOPs of each example, (examples,), from its "tokens" (fed in), or its "atoms" and "pairs"."""
        return self.matrix(units)

    def elementwise(self, units: Mapping[str, np.ndarray]) -> np.ndarray:
        """Elements that everything else reads and writes for each example: (examples,)."""
        return self.elements(units)

    def bytes(self, units: Mapping[str, np.ndarray]) -> np.ndarray:
        """Bytes of activations kept for the backward pass of each example, in float32: (examples,).

        Attention counts as its unfused form keeps it: an upper bound for text.
        """
        return self.saved(units)


def parameters(module: nn.Module) -> dict[str, int]:
    """Trainable parameters by group, with "all" of them and the "non_embedding" ones.

    Groups are the module's own (`parameter_groups()`, of which "embedding" is the one left out of "non_embedding");
    a module without that method has two, "embedding" (what its `nn.Embedding` tables hold) and "other".
    """
    own = getattr(module, "parameter_groups", None)
    groups: Mapping[str, Sequence[nn.Parameter]] = own() if own else _two_groups(module)
    counts = {name: sum(p.numel() for p in group if p.requires_grad) for name, group in groups.items()}
    everything = sum(p.numel() for p in module.parameters() if p.requires_grad)
    assert sum(counts.values()) == everything, f"{type(module).__name__}.parameter_groups() does not add up"
    return {**counts, "all": everything, "non_embedding": everything - counts.get("embedding", 0)}


def count_flops(work: Callable[[], Any]) -> Flops:
    """What a call computes, backward and double backward included; attention runs as plain matrix products."""
    with sdpa_kernel(SDPBackend.MATH), _Counter() as counter:
        work()
    return Flops(counter.matrix, counter.elementwise)


def measure(config: Any, manifest: Any, work: Work) -> Cost:
    """Count what `work(module, batch)` costs for any example of this model.

    Args:
        config: a registered model configuration.
        manifest: what its module is built for.
        work: all that an example costs, e.g. forward, loss and backward for training, forward for evaluation.

    Raises:
        ValueError: the family is unknown, or the counts are no such polynomial (work that depends on numbers or grows
            faster than the square of the tokens).
    """
    if config.family not in PROBES:
        known = " or ".join(PROBES)
        raise ValueError(f"{type(config).__name__}.family={config.family!r} has no cost model; it must be {known}.")
    probes = PROBES[config.family]
    module = built(config, manifest, "meta")
    if parameters(module)["all"] <= SMALL:
        module = built(config, manifest, "cpu")
    counts = [_count(module, _fabricated(module, manifest, probes, size), work) for size in probes.sizes]
    fitted = [_solve(config, probes, [count[k] for count in counts]) for k in range(3)]
    return Cost(config.family, parameters(module), *fitted)


class _Counter(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.matrix = 0
        self.elementwise = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        packet = func.overloadpacket
        if packet in flop_registry:
            self.matrix += flop_registry[packet](*args, **kwargs, out_val=out)
        elif packet in VECTOR_PRODUCTS:
            self.matrix += VECTOR_PRODUCTS[packet](args)
        elif not func.is_view and packet not in FREE:
            self.elementwise += sum(t.numel() for t in _tensors((args, kwargs.values(), out)))
        return out


def _tensors(values: Iterable[Any]) -> Iterator[Tensor]:
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, Iterable) and not isinstance(value, str):
            yield from _tensors(value)


def built(config: Any, manifest: Any, device: str) -> nn.Module:
    """A model's module on a device; on "meta" it has shapes and no numbers, whatever its size."""
    with torch.random.fork_rng(devices=[]), torch.device(device):  # counting draws nothing from the caller's stream
        return config.build(manifest)


@dataclass(frozen=True)
class _Probes:
    """Batches that determine a polynomial: `once` says which terms a batch can owe besides its examples' own."""

    terms: tuple[str, ...]
    once: tuple[str, ...]
    sizes: tuple[tuple[int, ...], ...]  # one more than unknowns, which confirms the rest
    batch: Callable[..., Any]
    row: Callable[..., list[int]]  # the sum of each term over the examples, then the batch's own terms


def _fabricated(module: nn.Module, manifest: Any, probes: _Probes, size: tuple[int, ...]) -> Any:
    like = next(module.parameters())
    with torch.device(like.device):
        return probes.batch(manifest, *size)


def _structures(manifest: AtomicManifest, structures: int, atoms: int, pairs: int) -> AtomicBatch:
    return AtomicBatch(
        species=torch.full((atoms,), manifest.species[0]),
        positions=torch.arange(3.0 * atoms).view(atoms, 3),
        owner=torch.zeros(atoms, dtype=torch.int64),
        pairs=torch.arange(2)[:, None].repeat(1, pairs),  # all of them the pair of atoms 0 and 1
        structures=structures,
        energy=torch.zeros(structures),
        forces=torch.zeros(atoms, 3),
    )


def _strings(manifest: TextManifest, examples: int, tokens: int) -> TokenBatch:
    ids = torch.full((examples, tokens + 1), manifest.start)
    return TokenBatch(ids, torch.full((examples,), tokens + 1))


PROBES = {
    "structures": _Probes(
        terms=("1", "atoms", "pairs"),
        once=("1",),
        sizes=((2, 7, 11), (3, 7, 11), (2, 12, 11), (2, 7, 19), (5, 17, 23)),
        batch=_structures,
        row=lambda structures, atoms, pairs: [structures, atoms, pairs, 1],
    ),
    "text": _Probes(
        terms=("1", "tokens", "tokens^2"),
        once=("1", "tokens", "tokens^2"),
        sizes=((2, 3), (2, 4), (2, 6), (3, 3), (3, 4), (3, 6), (5, 5)),
        batch=_strings,
        row=lambda examples, t: [examples, examples * t, examples * t * t, 1, t, t * t],
    ),
}


def _count(module: nn.Module, batch: Any, work: Work) -> tuple[int, int, int]:
    """Matrix FLOPs, elements and saved bytes of one batch."""
    module.zero_grad(set_to_none=True)
    kept = {p.untyped_storage()._cdata for p in [*module.parameters(), *module.buffers()]}
    storages: dict[int, Any] = {}  # held, so that no address is used twice

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in kept:
            storages[storage._cdata] = storage
        return tensor

    with saved_tensors_hooks(pack, lambda tensor: tensor):
        flops = count_flops(lambda: work(module, batch))
    module.zero_grad(set_to_none=True)
    return flops.matrix, flops.elementwise, sum(storage.nbytes() for storage in storages.values())


def _solve(config: Any, probes: _Probes, counts: Sequence[int]) -> Polynomial:
    rows = [probes.row(*size) for size in probes.sizes]
    coefficients = [0] * len(rows[0])
    for _ in range(REFINED):
        left = [n - _total(coefficients, row) for n, row in zip(counts[:-1], rows[:-1], strict=True)]
        step = np.rint(np.linalg.solve(np.array(rows[:-1], dtype=np.float64), np.array(left, dtype=np.float64)))
        coefficients = [c + int(more) for c, more in zip(coefficients, step, strict=True)]
    for size, count in zip(probes.sizes, counts, strict=True):
        foreseen = _total(coefficients, probes.row(*size))
        if foreseen != count:
            raise ValueError(
                f"{type(config).__name__} costs {count} at size {size} where a polynomial in "
                f"{', '.join(probes.terms[1:])} gives {foreseen}; its work must depend on shapes alone and grow no "
                "faster than that."
            )
    split = len(probes.terms)
    once = dict(zip(probes.once, coefficients[split:], strict=True))
    return Polynomial(probes.terms, tuple(coefficients[:split]), tuple(once.get(term, 0) for term in probes.terms))


def _total(coefficients: Sequence[int], row: Sequence[int]) -> int:
    return sum(c * x for c, x in zip(coefficients, row, strict=True))


def _column(term: str, units: Mapping[str, np.ndarray]) -> np.ndarray:
    if term == "1":
        return np.ones(len(next(iter(units.values()))))
    name, _, power = term.partition("^")
    if name not in units:
        raise ValueError(f"units lacks {name!r}; it has {', '.join(units)}: give one number per example.")
    return np.asarray(units[name], dtype=np.float64) ** int(power or 1)


def _two_groups(module: nn.Module) -> dict[str, list[nn.Parameter]]:
    tables = {id(p) for m in module.modules() if isinstance(m, nn.Embedding) for p in m.parameters()}
    every = list(module.parameters())
    return {"embedding": [p for p in every if id(p) in tables], "other": [p for p in every if id(p) not in tables]}
