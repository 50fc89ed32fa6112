"""What of a form may differ between groups: its floor, its amplitudes, its exponents, by the solver's parameters.

Every form can be compared whose groups' laws are nested in one another: amplitudes are the parameters without an upper
bound, exponents those with one (with whatever else shapes the law, such as gamma or R_D*), the floor is the form's own.
`bnsl` is refused: where one group has no break its place and width mean nothing, and no test of equal laws has a known
size there. `auto` names no form.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from chemscale.laws.forms import FORMS
from chemscale.laws.forms.form import Form

REFUSED = {"bnsl": "a break that one group lacks has no place to compare, so no test of equal laws has a known size"}


def refuse_form(form: str) -> None:
    """Raise ValueError for a form that cannot be compared, with the reason."""
    if form in REFUSED:
        usable = ", ".join(name for name in FORMS if name not in REFUSED)
        raise ValueError(f"form={form!r} cannot be compared: {REFUSED[form]}; use one of {usable}.")


@dataclass(frozen=True)
class Blocks:
    """The solver's parameters of a form by what they are; those held shared are left out.

    named: published exponents whose difference is measured, those of the axes.
    """

    floor: tuple[str, ...]
    amplitudes: tuple[str, ...]
    exponents: tuple[str, ...]
    named: tuple[str, ...]

    @classmethod
    def of(cls, form: Form, shared: Sequence[str]) -> Blocks:
        """Raises ValueError for a form that is refused, or for a parameter that it cannot share."""
        refuse_form(form.name)
        single = [name for name in form.inner if name in form.names]
        wrong = [name for name in shared if name not in single]
        if wrong:
            raise ValueError(
                f"shared={wrong[0]!r} cannot be shared alone in form={form.name!r}; "
                + (f"it can share {', '.join(single)}." if single else "none of its parameters can.")
            )
        own = [name for name in form.inner if name not in shared]
        if not own:
            raise ValueError("shared names every parameter, which leaves nothing to compare; leave one out.")
        behind = form.solved_as[form.floor] if form.floor else ()
        bounded = dict(zip(form.inner, np.isfinite(form.upper), strict=True))
        floor = tuple(name for name in own if name in behind)
        exponents = tuple(name for name in own if bounded[name] and name not in floor)
        named = tuple(name for name in form.moved_by if name not in shared) if exponents else ()
        return cls(floor, tuple(n for n in own if n not in exponents + floor), exponents, named)

    def ladder(self) -> dict[str, tuple[str, ...]]:
        """Name of each nested model -> its free parameters, smallest first; models that would repeat are left out."""
        floor, amplitudes, exponents = self.floor, self.amplitudes, self.exponents
        named: dict[str, tuple[str, ...]] = {
            "all shared": (),
            "amplitudes free": amplitudes,
            "amplitudes and floors free": amplitudes + floor,
            "amplitudes and exponents free": amplitudes + exponents,
            "all free": amplitudes + floor + exponents,
        }
        every = named.pop("all free")
        out: dict[str, tuple[str, ...]] = {}
        for name, free in named.items():
            if free not in (*out.values(), every):
                out[name] = free
        return {**out, "all free": every}
