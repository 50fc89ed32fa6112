"""The Fréchet ChemNet distance (Preuer et al. 2018) by `fcd_torch`, the code behind the published figures of MOSES."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import linalg

from chemscale.data.parallel import in_chunks, progress_bar

BATCH = 512  # molecules of one pass through ChemNet
LEAST = 2  # molecules that have a covariance


@dataclass(frozen=True)
class Activations:
    """Mean (512,) and covariance (512, 512) of ChemNet's last hidden layer over molecules."""

    mean: NDArray[np.float64]
    covariance: NDArray[np.float64]


def require_chemnet() -> Any:
    """The class that holds ChemNet.

    Raises:
        ValueError: the extra that ships it is not installed.
    """
    try:
        from fcd_torch import FCD
    except ImportError as error:
        raise ValueError("FCD needs ChemNet's weights; run `pip install 'chemscale[moses]'`.") from error
    return FCD


def activations(smiles: Sequence[str], *, device: str = "cpu", progress: bool | None = False) -> Activations | None:
    """ChemNet's statistics of molecules; None of fewer than two.

    Raises:
        ValueError: `fcd_torch` is not installed.
    """
    chemnet = require_chemnet()(device=device, n_jobs=1, batch_size=BATCH)
    number, total, products = 0, np.zeros(512), np.zeros((512, 512))
    with progress_bar(len(smiles), "ChemNet", progress) as shown, warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # fcd_torch calls numpy.row_stack
        for chunk in in_chunks(smiles, BATCH):
            rows = np.asarray(chemnet.get_predictions(chunk), dtype=np.float64)  # (chunk, 512)
            number, total, products = number + len(rows), total + rows.sum(0), products + rows.T @ rows
            shown.advance(len(rows))
    if number < LEAST:
        return None
    mean = total / number
    return Activations(mean, (products - number * np.outer(mean, mean)) / (number - 1))


def distance(a: Activations, b: Activations) -> float:
    """Squared Fréchet distance of two Gaussians: |m_a - m_b|^2 + tr(C_a + C_b - 2 (C_a C_b)^(1/2)).

    The trace of the root is the sum of the roots of the eigenvalues of C_a^(1/2) C_b C_a^(1/2), which is symmetric.
    """
    values, vectors = linalg.eigh(a.covariance)
    root = (vectors * np.sqrt(values.clip(0))) @ vectors.T
    shared = np.sqrt(linalg.eigvalsh(root @ b.covariance @ root).clip(0)).sum()
    apart = ((a.mean - b.mean) ** 2).sum()
    return float(apart + np.trace(a.covariance) + np.trace(b.covariance) - 2 * shared)
