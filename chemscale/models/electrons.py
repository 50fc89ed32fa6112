"""Ground-state electron configurations of the elements, as numbers that describe an element to a network."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

HEAVIEST = 86  # radon; the table of Unke et al. 2021 ends there
ORBITALS = ("1s", "2s", "2p", "3s", "3p", "4s", "3d", "4p", "5s", "4d", "5p", "6s", "4f", "5d", "6p")  # as they fill
ROOM = {"s": 2, "p": 6, "d": 10, "f": 14}
NOBLE = (0, 2, 10, 18, 36, 54)  # electrons of the cores below each row
# Where electrons do not fill in that order (NIST Atomic Spectra Database): of these elements, what differs.
EXCEPTIONS: dict[int, dict[str, int]] = {
    24: {"4s": 1, "3d": 5}, 29: {"4s": 1, "3d": 10},
    41: {"5s": 1, "4d": 4}, 42: {"5s": 1, "4d": 5}, 44: {"5s": 1, "4d": 7}, 45: {"5s": 1, "4d": 8},
    46: {"5s": 0, "4d": 10}, 47: {"5s": 1, "4d": 10},
    57: {"4f": 0, "5d": 1}, 58: {"4f": 1, "5d": 1}, 64: {"4f": 7, "5d": 1},
    78: {"6s": 1, "5d": 9}, 79: {"6s": 1, "5d": 10},
}  # fmt: skip


def configuration(number: int) -> dict[str, int]:
    """Electrons in each orbital of a neutral atom in its ground state."""
    left, filled = number, {}
    for orbital in ORBITALS:
        filled[orbital] = min(left, ROOM[orbital[1]])
        left -= filled[orbital]
    return filled | EXCEPTIONS.get(number, {})


def descriptors(numbers: Iterable[int]) -> Tensor:
    """What Unke et al. 2021 (SpookyNet) tell a network of an element: charge, electrons by orbital, valence electrons.

    Valence electrons are those outside the noble gas below, as s, p, d and f. Each column is divided by its largest
    value among the elements up to radon.

    Args:
        numbers: atomic numbers.

    Returns:
        (elements, 20) float32.

    Raises:
        ValueError: an element is heavier than radon.
    """
    numbers = list(numbers)
    heavy = [number for number in numbers if not 1 <= number <= HEAVIEST]
    if heavy:
        raise ValueError(
            f"species contains atomic number {heavy[0]}; electron configurations are known here from 1 to {HEAVIEST}: "
            "leave those structures out, or train a model that does not read them, such as PaiNN."
        )
    every = torch.tensor([_row(number) for number in range(HEAVIEST + 1)], dtype=torch.float32)
    return (every / every.amax(0))[numbers]


def _row(number: int) -> list[int]:
    filled = configuration(number)
    core = configuration(max(n for n in NOBLE if n < max(number, 1)))
    outside = {kind: sum(filled[o] - core[o] for o in ORBITALS if o[1] == kind) for kind in ROOM}
    return [number, *filled.values(), *outside.values()]
