"""Runs read back from JSON, and runs with some fields replaced."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import fields, is_dataclass, replace
from typing import Any

from chemscale.spec.examples import Data, InitFrom, Reading
from chemscale.spec.plain import construct
from chemscale.spec.registry import MODELS, OBJECTIVES, revive
from chemscale.spec.run import RunSpec
from chemscale.spec.training import Budget, Evaluation, Optim


def from_json(text: str) -> RunSpec:
    """The run that `RunSpec.to_json` wrote.

    Raises:
        ValueError: a model or objective of this name is not registered here, or a field is unknown.
    """
    tree = json.loads(text)
    tree.pop("spec_version", None)
    tree["model"] = revive(MODELS, tree["model"], "architecture", "model")
    if "reading" in tree["data"]:
        tree["data"]["reading"] = construct(Reading, tree["data"]["reading"])
    if tree.get("objective"):
        tree["objective"] = revive(OBJECTIVES, tree["objective"], "name", "objective")
    for name, cls in (("data", Data), ("optim", Optim), ("budget", Budget), ("evaluation", Evaluation)):
        tree[name] = construct(cls, tree[name])
    if tree.get("init_from"):
        tree["init_from"] = construct(InitFrom, tree["init_from"])
    return RunSpec(**tree)


def with_fields(run: RunSpec, changes: Mapping[str, Any]) -> RunSpec:
    """The run with dotted fields replaced, e.g. `with_fields(run, {"optim.lr": 1e-3, "model.width": 64})`.

    Raises:
        ValueError: there is no such field; the message lists those that exist.
    """
    for path, value in changes.items():
        run = _with_field(run, path.split("."), value, path)
    return run


def _with_field(node: Any, path: list[str], value: Any, whole: str) -> Any:
    names = [f.name for f in fields(node)] if is_dataclass(node) else []
    if path[0] not in names:
        allowed = ", ".join(names) or "none"
        raise ValueError(f"{whole} is not a field of a run: {path[0]!r} is unknown here; known fields: {allowed}.")
    if len(path) == 1 and is_dataclass(getattr(node, path[0])) and not is_dataclass(value):
        members = ", ".join(f"{whole}.{f.name}" for f in fields(getattr(node, path[0])))
        raise ValueError(f"{whole}={value!r} is not allowed: {whole} is a group of fields; set one of {members}.")
    inner = value if len(path) == 1 else _with_field(getattr(node, path[0]), path[1:], value, whole)
    return replace(node, **{path[0]: inner})  # type: ignore[type-var]
