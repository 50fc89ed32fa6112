"""What a linear map reads out of embeddings, beside what it reads out of token counts and of an untrained model.

    python -m tests.benchmarks.probe STORE [--run RUN] [--molecules 3000]

Ridge regression from each set of features to properties that RDKit computes, on molecules of the embedded MOSES test
set, which no training saw: two thirds to fit, a third to score; the penalty is chosen within the first part. Prints the
share of the variance explained (R^2) of each property by: counts of tokens, an untrained model of the same shape (mean
pooled, with the same tokens), the trained one by either pool, and counts and mean-pooled states together.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import torch
from rdkit import Chem
from rdkit.Chem import QED, Crippen, Descriptors

import chemscale.models  # noqa: F401  registers the models
from chemscale.data.sources import embedded
from chemscale.records.store import Store
from chemscale.use.embed import embed_tables
from chemscale.use.encode import Task, encode_task, model_of
from chemscale.use.find import best_run
from chemscale.use.load import Trained, load

PENALTIES = 10.0 ** np.arange(-3, 5)
PROPERTIES = {
    "logP": Crippen.MolLogP,
    "TPSA": Descriptors.TPSA,
    "QED": QED.qed,
    "BertzCT": Descriptors.BertzCT,
}


def main() -> None:
    """Print a line for each property."""
    parser = argparse.ArgumentParser(description="Linear probes of embeddings.")
    parser.add_argument("store")
    parser.add_argument("--run")
    parser.add_argument("--molecules", type=int, default=3000)
    options = parser.parse_args()
    store = Store(options.store)
    trained = load(store, options.run or best_run(store, "text"))
    smiles = pq.read_table(embedded("moses-test.parquet"))["smiles"].to_pylist()[: options.molecules]
    features = features_of(trained, smiles)
    for name, scores in scores_of(features, smiles).items():
        print(f"{name:8s}" + "".join(f"  {kind} {value:.3f}" for kind, value in scores.items()))


def features_of(trained: Trained, smiles: list[str]) -> dict[str, np.ndarray]:
    """(molecules, …) of each kind."""
    torch.manual_seed(0)
    untrained = trained.run.model.build(trained.manifest).eval()
    counts = token_counts(trained, smiles)
    mean = _embedded(trained.module, trained.manifest, smiles, "mean")
    return {
        "counts": counts,
        "untrained": _embedded(untrained, trained.manifest, smiles, "mean"),
        "last": _embedded(trained.module, trained.manifest, smiles, "last"),
        "mean": mean,
        "counts+mean": np.hstack([counts, mean]),
    }


def scores_of(features: dict[str, np.ndarray], smiles: list[str]) -> dict[str, dict[str, float]]:
    """R^2 on held-out molecules of each property by each kind of features."""
    molecules = [Chem.MolFromSmiles(text) for text in smiles]
    wanted = {name: np.array([f(m) for m in molecules]) for name, f in PROPERTIES.items()}
    order = np.random.default_rng(0).permutation(len(smiles))
    return {
        name: {kind: explained(matrix[order], target[order]) for kind, matrix in features.items()}
        for name, target in wanted.items()
    }


def explained(features: np.ndarray, target: np.ndarray) -> float:
    """R^2 on the last third of ridge regression on the first two, its penalty chosen on the middle one."""
    third = len(target) // 3
    first, middle, last = slice(0, third), slice(third, 2 * third), slice(2 * third, None)
    scored = [_r2(*_fitted(features[first], target[first], p), features[middle], target[middle]) for p in PENALTIES]
    best = PENALTIES[int(np.argmax(scored))]
    both = slice(0, 2 * third)
    return _r2(*_fitted(features[both], target[both], best), features[last], target[last])


def _fitted(features: np.ndarray, target: np.ndarray, penalty: float) -> tuple[Any, ...]:
    centre, scale = features.mean(0), features.std(0) + 1e-8
    x, shift = (features - centre) / scale, target.mean()
    weights = np.linalg.solve(x.T @ x + penalty * np.eye(x.shape[1]), x.T @ (target - shift))
    return centre, scale, shift, weights


def _r2(
    centre: np.ndarray, scale: np.ndarray, shift: float, weights: np.ndarray, features: np.ndarray, target: np.ndarray
) -> float:
    left = target - shift - (features - centre) / scale @ weights
    return 1 - float((left**2).mean() / target.var())


def _embedded(module: Any, manifest: Any, smiles: list[str], pool: str) -> np.ndarray:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "molecules.smi"
        path.write_text("\n".join(smiles) + "\n")
        tables = list(embed_tables(module, manifest, path, pool=pool, processes=1))
    assert all(table["reason"].null_count == len(table) for table in tables)
    return np.array([row for table in tables for row in table["embedding"].to_pylist()])


def token_counts(trained: Trained, smiles: list[str]) -> np.ndarray:
    """(molecules, vocabulary) counts of each token."""
    reads = model_of(trained.manifest, trained.run.model.context)
    rows = encode_task(Task(tuple(smiles), "smiles", reads))
    return np.array([np.bincount(row, minlength=len(trained.manifest.vocabulary)) for row in rows], dtype=float)


if __name__ == "__main__":
    main()
