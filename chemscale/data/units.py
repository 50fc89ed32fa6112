"""Units that files of structures are written in, and what each is in eV and angstrom.

A unit comes from the format's own publication or from the user, and is never guessed from the size of a number.
"""

from __future__ import annotations

from dataclasses import dataclass

HARTREE = 27.211386245988  # eV, CODATA 2018
BOHR = 0.529177210903  # angstrom, CODATA 2018
AVOGADRO_EV = 96485.33212331001  # J/mol in one eV: Faraday's constant, exact since 2019
CALORIE = 4.184  # J, thermochemical

ENERGIES = {
    "ev": 1.0,
    "mev": 1e-3,
    "hartree": HARTREE,
    "rydberg": HARTREE / 2,
    "kcal/mol": 1000 * CALORIE / AVOGADRO_EV,
    "kj/mol": 1000 / AVOGADRO_EV,
}
LENGTHS = {"angstrom": 1.0, "bohr": BOHR, "nm": 10.0}
_ALSO = {"ha": "hartree", "eh": "hartree", "ry": "rydberg", "ang": "angstrom", "å": "angstrom", "a0": "bohr"}


@dataclass(frozen=True)
class Units:
    """Factors that turn a file's numbers into eV, angstrom and eV/angstrom, and their names."""

    energy: float
    length: float
    force: float
    name: str


def units_of(text: str) -> Units:
    """The units that a text names: energy and length, and force where it is no quotient of the two.

    Raises:
        ValueError: a unit is unknown, or there are not two or three.
    """
    words = [word.strip(",;") for word in text.replace(", ", " ").split()]
    if len(words) not in (2, 3):
        raise ValueError(_refused(text, "it has not two or three words"))
    energy, length = _factor(words[0], ENERGIES, text), _factor(words[1], LENGTHS, text)
    force = energy / length
    if len(words) == 3:
        above, _, below = words[2].rpartition("/")
        force = _factor(above, ENERGIES, text) / _factor(below, LENGTHS, text)
    return Units(energy, length, force, " ".join(words))


def _factor(word: str, table: dict[str, float], text: str) -> float:
    known = _ALSO.get(word.lower(), word.lower())
    if known not in table:
        raise ValueError(_refused(text, f"{word!r} is unknown"))
    return table[known]


def _refused(text: str, why: str) -> str:
    energies, lengths = ", ".join(ENERGIES), ", ".join(LENGTHS)
    return (
        f"Reading.units={text!r} is not allowed, since {why}; give an energy ({energies}), a length ({lengths}) and, "
        "where forces are no quotient of the two, their unit, e.g. 'hartree bohr' or 'ev angstrom hartree/bohr'."
    )
