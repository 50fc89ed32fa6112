"""The model card of an exported run: what it is, what it was trained on, how good it is, how to load it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from chemscale import __version__
from chemscale.records.schema import METRICS
from chemscale.use.load import Trained
from chemscale.values import require


def hub_header(licence: str | None, *lines: str) -> str:
    """What a card begins with, for the hub.

    Raises:
        ValueError: the licence is nothing that the hub's header can hold.
    """
    good = licence is None or re.fullmatch(r"[\w.+-]+", licence)
    require(bool(good), "licence", licence, "a name as the hub spells it", "e.g. mit, apache-2.0, cc-by-4.0, other")
    return "\n".join(["---", *([] if licence is None else [f"license: {licence}"]), *lines, "---"])


def card(trained: Trained, row: Mapping[str, Any], licence: str | None) -> str:
    """README.md of the folder, with the hub's header.

    Args:
        row: the run's row of RUNS; what it lacks is left out.
        licence: of the weights, as the hub spells it; None leaves it open.
    """
    run, manifest = trained.run, trained.manifest
    header = hub_header(
        licence, "library_name: transformers", "pipeline_tag: text-generation", "tags: [chemistry, chemgpt, chemscale]"
    )
    facts = {**_model(trained), **training_facts(trained, row), **loss_facts(row)}
    lines = [f"| {name} | {value} |" for name, value in facts.items()]
    said = f"the weights: {licence}" if licence else "the weights: not stated"
    parts = [
        header,
        f"# ChemGPT of width {run.model.width}, run {run.id}",
        f"A causal transformer over {manifest.representation.upper()} strings (Frey et al. 2023, *Neural scaling of "
        "deep chemical models*), trained and exported by chemscale "
        f"{__version__}. It is a GPT-Neo: no code of its own is needed.",
        "\n".join(["| | |", "|---|---|", *lines]),
        _loading(manifest.representation),
        f"## Licence\n\nThe training data: {manifest.licence}. {said[0].upper()}{said[1:]}.",
    ]
    if manifest.citation:
        parts.append(f"## Citation\n\n{manifest.citation}.")
    return "\n\n".join(parts) + "\n"


def _model(trained: Trained) -> dict[str, str]:
    model, parameters = trained.run.model, list(trained.module.parameters())
    window = "every layer sees all" if model.window is None else f"odd layers see {model.window} tokens back"
    return {
        "shape": f"{model.depth} layers, {model.heads} heads, width {model.width}, {window}",
        "parameters": f"{sum(p.numel() for p in parameters):,}",
        "longest input": f"{model.context} tokens",
        "alphabet": f"{len(trained.manifest.vocabulary)} tokens",
    }


def training_facts(trained: Trained, row: Mapping[str, Any], unit: str = "molecules") -> dict[str, str]:
    """What a run was trained on and how, as rows of a card."""
    run, manifest = trained.run, trained.manifest
    optim = run.optim
    facts = {
        "data": f"{Path(run.data.source).name}, {run.data.size:,} {unit} (content {str(run.data.content)[:16]})",
        f"{unit} seen": f"{run.examples:,} in {run.updates:,} updates of {optim.batch}",
        "optimiser": f"{optim.name}, rate {optim.lr:g}, {run.precision}",
        "seed": str(run.seed),
    }
    if run.init_from is not None:
        facts["started from"] = f"{run.init_from.label} (content {str(run.init_from.content)[:16]})"
    if row.get("flops") is not None:
        facts["training FLOPs"] = f"{row['flops']:.3g}"
    if manifest.notes.get("origin"):
        facts["data from"] = str(manifest.notes["origin"])
    return facts


def loss_facts(row: Mapping[str, Any], examples: str = "molecules") -> dict[str, str]:
    """The test loss that laws are fitted to, and every other metric of the row, with units and standard errors."""
    found: dict[str, str] = {}
    metric = row.get("law_metric")
    if row.get("law_loss") is not None:
        rule = {"final": "after the cooldown", "best": "at the best validation checkpoint"}.get(
            str(row.get("law_rule"))
        )
        where = ", ".join(word for word in (f"{row.get('test_examples'):,} test {examples}", rule) if word)
        found["law_loss"] = f"{row['law_loss']:.5g} {METRICS.get(str(metric), '')} ({where})"
    for name, unit in METRICS.items():
        if name != metric and row.get(name) is not None:
            error = row.get(f"{name}_se")
            found[name] = f"{row[name]:.5g} {unit}" + (f" ± {error:.2g}" if error is not None else "")
    return found


def _loading(representation: str) -> str:
    sample = {"selfies": "[C][C][O]", "smiles": "CCO"}.get(representation, "…")
    return f'''## Loading

```python
from transformers import AutoModelForCausalLM, AutoTokenizer

model, tokenizer = AutoModelForCausalLM.from_pretrained(FOLDER), AutoTokenizer.from_pretrained(FOLDER)
rows = tokenizer(["{sample}"], padding=True, return_tensors="pt", return_token_type_ids=False)
losses = model(**rows, labels=rows["input_ids"].masked_fill(rows["attention_mask"] == 0, -100)).loss
start = tokenizer.bos_token + "{sample}"  # a beginning to go on from: without the end token
prompt = tokenizer(start, add_special_tokens=False, return_tensors="pt", return_token_type_ids=False)
print(tokenizer.batch_decode(model.generate(**prompt, num_return_sequences=4), skip_special_tokens=True))
```

In chemscale: `chemscale.use.hub.load_folder(FOLDER)`, and `RunSpec(..., init_from=cs.InitFrom(FOLDER))` to train it on.
Strings must be {representation.upper()}, the canonical form that `chemscale data build` writes.'''
