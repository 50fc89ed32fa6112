"""Which models and objectives are known by name, so that stored specs read back and every recipe can run them."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import is_dataclass
from typing import Any, ClassVar, Protocol, TypeVar, runtime_checkable

from chemscale.spec.plain import construct
from chemscale.values import own_numbers

# Modules that register themselves when imported.
OWN_MODELS, OWN_OBJECTIVES = "chemscale.models", ("chemscale.train.objectives", "chemscale.train.symmetry")

T = TypeVar("T")


@runtime_checkable
class ModelConfig(Protocol):
    """A frozen dataclass that describes one model: what the hash sees, and what builds the module.

    `architecture` is its registered name, `family` says which batches it eats ("text" or "structures"), `objective`
    names the registered objective that trains it; `depth` and `width` are the two dials that records keep. It may have
    two class attributes more: `precisions`, what it trains in beyond float32 and float64, and `packs`, true where its
    module takes `PackedTokens`.
    """

    architecture: ClassVar[str]
    family: ClassVar[str]
    objective: ClassVar[str]

    @property
    def depth(self) -> int: ...

    @property
    def width(self) -> int: ...

    @property
    def view(self) -> Mapping[str, Any]:
        """What the model asks of its batches, e.g. {"cutoff": 5.0} in angstrom or {"context": 64} in tokens."""
        ...

    def build(self, manifest: Any) -> Any:
        """The module (a `torch.nn.Module`) for data with this manifest, freshly initialised."""
        ...


MODELS: dict[str, type] = {}
OBJECTIVES: dict[str, type] = {}


def register_model(config: type[T]) -> type[T]:
    """Make a model known by its `architecture`, so that stored specs read back and every recipe can run it.

    Raises:
        ValueError: the class is no frozen dataclass, its name is taken, or it lacks a member of `ModelConfig`.
    """
    for name in ("family", "objective"):
        if not isinstance(getattr(config, name, None), str):
            raise ValueError(f'{config.__name__}.{name} is missing; give the class e.g. {name}: ClassVar[str] = "…".')
    for name in ("depth", "width", "view"):
        member = getattr(config, name, None)
        declared = name in getattr(config, "__dataclass_fields__", {}) or isinstance(member, property)
        if not declared:
            what = "a method" if callable(member) else "missing"
            raise ValueError(f"{config.__name__}.{name} is {what}; make it a field or a property, as in ModelConfig.")
    if not callable(getattr(config, "build", None)):
        raise ValueError(f"{config.__name__}.build is missing; give it build(self, manifest) that returns the module.")
    return _register(MODELS, config, getattr(config, "architecture", None), "architecture")


def register_objective(objective: type[T]) -> type[T]:
    """Make an objective known by its `name`, so that models can ask for it."""
    return _register(OBJECTIVES, objective, getattr(objective, "name", None), "name")


def _register(table: dict[str, type], cls: type[T], name: Any, attribute: str) -> type[T]:
    if not isinstance(name, str) or not name:
        raise ValueError(f"{cls.__name__}.{attribute} is {name!r}; give the class a non-empty string as {attribute}.")
    if not is_dataclass(cls) or not cls.__dataclass_params__.frozen:  # type: ignore[attr-defined]
        raise ValueError(f"{cls.__name__} is not a frozen dataclass; decorate it with @dataclass(frozen=True).")
    other = table.get(name)
    if other is not None and (other.__module__, other.__qualname__) != (cls.__module__, cls.__qualname__):
        where = f"{other.__module__}.{other.__qualname__}"
        raise ValueError(f"{cls.__name__}.{attribute}={name!r} is already taken by {where}; choose another name.")
    table[name] = own_numbers(cls)
    return cls


def kind_of(model: ModelConfig) -> str:
    """What tables of runs call a model: its architecture, and its `variant` where a law must not mix it with others.

    A config class may have a property `variant`, e.g. "l2" of features of degree 2; "" and none are the same.
    """
    return "_".join(part for part in (model.architecture, getattr(model, "variant", "")) if part)


def register_own() -> None:
    """Import what registers the models and objectives of this package."""
    for module in (OWN_MODELS, *OWN_OBJECTIVES):
        importlib.import_module(module)


def model_named(name: str, *, family: str | None = None, field: str = "architecture") -> Any:
    """The registered configuration class of an architecture.

    Args:
        family: that it must be of; None takes any.
        field: what says the name, for the error.

    Raises:
        ValueError: none of this name, or of this family, is registered.
    """
    register_own()
    known = sorted(known for known, config in MODELS.items() if family in (None, getattr(config, "family", None)))
    if name not in known:
        raise ValueError(f"{field}={name!r} is unknown; choose one of {', '.join(known)}.")
    return MODELS[name]


def revive(table: Mapping[str, type], tree: Mapping[str, Any], key: str, what: str) -> Any:
    """The value of a registered class, which a stored tree names under `key`.

    Raises:
        ValueError: no class of this name is registered here, or a field is unknown.
    """
    values = dict(tree)
    name = values.pop(key)
    if name not in table:
        register_own()  # a stored spec may be the first thing that a process reads
    if name not in table:
        known = ", ".join(sorted(table)) or "none"
        raise ValueError(f"{what} {name!r} is not registered here (known: {known}); import the module that defines it.")
    return construct(table[name], values)
