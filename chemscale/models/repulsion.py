"""Screened repulsion of nuclei (Ziegler, Biersack & Littmark 1985, "The Stopping and Range of Ions in Solids")."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

COULOMB = 14.3996454784255  # eV angstrom, e^2 / (4 pi epsilon_0), CODATA 2018
BOHR = 0.529177210903  # angstrom, CODATA 2018
SCREENING = (0.18180, 0.50990, 0.28020, 0.02817)  # the universal screening function's amplitudes
RATES = (3.20000, 0.94230, 0.40280, 0.20160)  # and its rates
LENGTH, POWER = 0.8854 * BOHR, 0.23  # angstrom; a = LENGTH / (Z_i^POWER + Z_j^POWER)


class Repulsion(nn.Module):
    """`k Z_i Z_j / r * sum_n c_n exp(-a_n r / a)`, faded at the cutoff, all constants trainable (Unke et al. 2021).

    Constants stay positive (they are softplus of parameters) and amplitudes sum to 1.
    """

    def __init__(self) -> None:
        super().__init__()
        self.amplitudes, self.rates = _positive(SCREENING), _positive(RATES)
        self.power, self.inverse = _positive((POWER,)), _positive((1 / LENGTH,))

    def forward(self, species: Tensor, distances: Tensor, fade: Tensor, pairs: Tensor) -> Tensor:
        """(atoms,), (pairs,), (pairs, 1), (2, pairs) -> (atoms,), eV, half of each pair's energy at either atom."""
        charge = species.to(distances.dtype)
        first, second = pairs
        size = charge ** softplus(self.power)  # (atoms,)
        inverse = (size.index_select(0, first) + size.index_select(0, second)) * softplus(self.inverse)  # 1 / angstrom
        amplitudes = softplus(self.amplitudes)
        terms = torch.exp(-(inverse * distances)[:, None] * softplus(self.rates)) * (amplitudes / amplitudes.sum())
        product = charge.index_select(0, first) * charge.index_select(0, second)
        half = 0.5 * COULOMB * product / distances * terms.sum(1) * fade.squeeze(1)
        return torch.zeros_like(charge).index_add(0, first, half).index_add(0, second, half)


def _positive(values: tuple[float, ...]) -> nn.Parameter:
    return nn.Parameter(torch.tensor(values, dtype=torch.float64).expm1().log().float())
