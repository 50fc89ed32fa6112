"""A training step as fused kernels: of a model that names its blocks (`train.compiled_blocks`), or of a potential.

`torch.compile` refuses a loss that holds a gradient. So a potential's energy and its slope are first written down as
one graph of plain operations (`make_fx`), which has nothing left to differentiate twice; that graph is compiled, and
its gradient with respect to the parameters is an ordinary backward pass. A graph that loses a path of the gradient
trains on wrong numbers without any error: each one is held against the uncompiled model on the first batch, and given
up where it differs, on that batch or on one of twice its size (`len` of a tensor writes a number into the graph, where
`shape[0]` does not).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from typing import Any

import torch
from torch import Tensor, fx, nn

from chemscale.batch import AtomicBatch
from chemscale.models.potential import AtomicPrediction, Potential
from chemscale.train.compiled_blocks import CompiledBlocks, give_up, reason

LABELS = ("energy", "forces")  # of a batch: the objective reads them, the model does not
TOLERANCE = {torch.float32: 1e-4, torch.float64: 1e-9}  # relative; rounding gives 1e-6 and 1e-14, lost paths over 1e-3
SMALLEST = 2  # torch makes a graph of its own for sizes of 0 and 1: such batches run uncompiled

Trace = Callable[..., tuple[Tensor, Tensor]]


def compile_step(module: nn.Module) -> None:
    """Let the module's forward run compiled wherever gradients are recorded; `compiled` says how it went.

    The module's `forward` is replaced, not the module: names of parameters stay, and what is compiled is no part of the
    tree of modules, so that states, DistributedDataParallel and counts see what they saw before.

    Raises:
        ValueError: the module is no potential and names no blocks.
    """
    if isinstance(module, Potential):
        module.forward = CompiledForward(module)  # type: ignore[method-assign]
        return
    if not compiles(module):
        raise ValueError(
            "Resources.compile='step' compiles interatomic potentials and models that name their blocks, and "
            f"{type(module).__name__} does neither; set compile='none', or give its module a method blocks()."
        )
    module.forward = CompiledBlocks(module, module.blocks())  # type: ignore[method-assign]


def compiles(module: nn.Module) -> bool:
    """Whether a module is one that `compile_step` takes."""
    return isinstance(module, Potential) or bool(getattr(module, "blocks", list)())


class CompiledForward:
    """A potential's forward, compiled at its first batch with gradients, and checked there.

    Attributes:
        seconds: that the compilation took, its check included; None before it.
        differs: why the model goes on uncompiled; None where it does not.
    """

    def __init__(self, potential: Potential) -> None:
        self.potential = potential
        self.plain = potential.forward
        self.seconds: float | None = None
        self.differs: str | None = None
        self._traces: dict[tuple[str, ...], Trace] = {}

    def __call__(self, batch: AtomicBatch) -> AtomicPrediction:
        tensors = _inputs(batch)
        small = (
            min(batch.structures, *(t.shape[-1 if name == "pairs" else 0] for name, t in tensors.items())) < SMALLEST
        )
        if self.differs or small or not torch.is_grad_enabled():
            return self.plain(batch)
        kind = tuple(tensors)  # a batch with shifts or charges has a graph of its own
        if kind not in self._traces:
            self._make(kind, batch)
            return self(batch)
        return self._run(self._traces[kind], batch, tensors)

    def _run(self, trace: Trace, batch: AtomicBatch, tensors: Mapping[str, Tensor]) -> AtomicPrediction:
        counted = batch.positions.new_empty(batch.structures)
        return AtomicPrediction(*trace(_state(self.potential), counted, *tensors.values()))

    def _unlike(self, trace: Trace, batch: AtomicBatch) -> str | None:
        return difference(self.plain(batch), self._run(trace, batch, _inputs(batch)), self.potential)

    def _make(self, kind: tuple[str, ...], batch: AtomicBatch) -> None:
        begin = time.perf_counter()
        try:
            trace = compiled_trace(self.potential, batch)
            self.differs = self._unlike(trace, batch) or self._unlike(trace, twice(batch))  # no size stays as it was
            self._traces[kind] = trace
        except Exception as error:  # whatever a compiler may raise: the run goes on without it
            self.differs = reason(error)
        self.seconds = (self.seconds or 0.0) + time.perf_counter() - begin
        if self.differs:
            give_up(self.potential, self.differs)


def twice(batch: AtomicBatch) -> AtomicBatch:
    """Every structure a second time, behind the others."""
    moved = {"owner": batch.structures, "pairs": batch.species.shape[0]}
    tensors = {**_inputs(batch), **{name: getattr(batch, name) for name in LABELS}}
    doubled = {
        name: torch.cat((t, t + moved.get(name, 0)), -1 if name == "pairs" else 0)
        for name, t in tensors.items()
        if t is not None
    }
    return replace(batch, **doubled, structures=2 * batch.structures)


def difference(expected: AtomicPrediction, found: AtomicPrediction, module: nn.Module) -> str | None:
    """In what two predictions of the same batch, or the gradients of their squares, differ; None where they agree."""
    limit = TOLERANCE[expected.energy.dtype]
    wanted = [p for p in module.parameters() if p.requires_grad]
    compared = {"energies": (expected.energy, found.energy), "forces": (expected.forces, found.forces)}
    slopes = [
        torch.autograd.grad(sum(part.square().sum() for part in made), wanted, allow_unused=True)  # type: ignore[arg-type]
        for made in (expected, found)
    ]
    flat = [
        torch.cat([(p if g is None else g).flatten() * (g is not None) for g, p in zip(s, wanted, strict=True)])
        for s in slopes
    ]
    compared["gradients of parameters"] = flat[0], flat[1]
    for name, (one, other) in compared.items():
        error = float((one - other).detach().norm() / one.detach().norm().clamp(min=torch.finfo(one.dtype).tiny))
        if not error <= limit:
            return f"its {name} differ by {error:.1e} of their size, where rounding allows {limit:.0e}"
    return None


def compiled_trace(potential: Potential, batch: AtomicBatch) -> Trace:
    """Energy and forces as a compiled function of state, a tensor with a row per structure, and a batch's tensors."""
    import torch._dynamo

    # DistributedDataParallel's own compiler cuts graphs at its buckets; this one lies within a single bucket's forward.
    torch._dynamo.config.optimize_ddp = False
    graph = traced(potential, batch)
    run = torch.compile(graph, fullgraph=True)

    def first(state: list[Tensor], counted: Tensor, *tensors: Tensor) -> Any:
        for name, tensor in zip(("counted", *_inputs(batch)), (counted, *tensors), strict=True):
            torch._dynamo.mark_dynamic(tensor, 1 if name == "pairs" else 0)
        return run(state, counted, *tensors)

    return first


def traced(potential: Potential, batch: AtomicBatch) -> fx.GraphModule:
    """Energy and forces as one graph of plain operations, for batches of any size with the tensors of this one."""
    from torch._subclasses.fake_tensor import FakeTensorMode
    from torch.fx.experimental.proxy_tensor import make_fx
    from torch.fx.experimental.symbolic_shapes import DimDynamic, ShapeEnv, StatelessSymbolicContext

    mode = FakeTensorMode(shape_env=ShapeEnv(duck_shape=False), allow_non_fake_inputs=True)

    def fake(tensor: Tensor, dynamic: int | None) -> Tensor:
        kinds = [DimDynamic.DYNAMIC if d == dynamic else DimDynamic.STATIC for d in range(tensor.ndim)]
        return mode.from_tensor(tensor, symbolic_context=StatelessSymbolicContext(dynamic_sizes=kinds))

    kind = tuple(_inputs(batch))
    state = [fake(value, None) for value in _state(potential)]
    tensors = [fake(tensor, 1 if name == "pairs" else 0) for name, tensor in _inputs(batch).items()]
    counted = fake(batch.positions.new_empty(batch.structures), 0)
    graph = _uncut(make_fx(_predicting(potential, kind))(state, counted, *tensors))
    with torch.no_grad():
        return _uncut(make_fx(torch.func.functionalize(graph, remove="mutations"))(state, counted, *tensors))


def _uncut(graph: fx.GraphModule) -> fx.GraphModule:
    """Without `detach` of tensors that the first gradient saved, which cuts the second one."""
    for node in graph.graph.nodes:
        if node.target is torch.ops.aten.detach.default:
            node.replace_all_uses_with(node.args[0])
    graph.graph.eliminate_dead_code()
    graph.recompile()
    return graph


class _Forward(nn.Module):
    """The forward that a potential has by its class, under whatever parameters it is given."""

    def __init__(self, potential: Potential) -> None:
        super().__init__()
        self.potential = potential

    def forward(self, batch: AtomicBatch) -> AtomicPrediction:
        return type(self.potential).forward(self.potential, batch)


def _predicting(potential: Potential, kind: tuple[str, ...]) -> Trace:
    forward, names = _Forward(potential), [f"potential.{name}" for name in _named(potential)]

    def run(state: list[Tensor], counted: Tensor, *tensors: Tensor) -> tuple[Tensor, Tensor]:
        given: dict[str, Any] = dict(zip(kind, tensors, strict=True))
        batch = AtomicBatch(structures=counted.shape[0], **given)
        with torch.enable_grad():
            return tuple(torch.func.functional_call(forward, dict(zip(names, state, strict=True)), (batch,)))

    return run


def _named(potential: Potential) -> dict[str, Tensor]:
    return {**dict(potential.named_parameters()), **dict(potential.named_buffers())}


def _state(potential: Potential) -> list[Tensor]:
    return list(_named(potential).values())


def _inputs(batch: AtomicBatch) -> dict[str, Tensor]:
    """The tensors that a model reads, by name."""
    names = (f.name for f in fields(batch) if f.name not in (*LABELS, "structures"))
    return {name: tensor for name in names if (tensor := getattr(batch, name)) is not None}
