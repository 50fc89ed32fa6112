"""The functional forms a law can take: each with its algebra, units and paper. Adding one is one class in `FORMS`.

N params, D data, C flops, x whichever single axis is given; E in the loss's unit, the other amplitudes in the loss's
unit times their axis's unit to the power of the exponent where nothing else is said; exponents are pure numbers.
"""

from __future__ import annotations

from chemscale.laws.forms.bottleneck import Gamma, Kaplan
from chemscale.laws.forms.curved import Broken, Hill
from chemscale.laws.forms.form import Form
from chemscale.laws.forms.powers import Chinchilla, Power, PowerFloor, Tied, Varying
from chemscale.laws.forms.quadrature import Quadrature
from chemscale.laws.forms.repeated import Repeated

LADDER = (Power, PowerFloor, Kaplan, Chinchilla, Tied, Gamma, Varying, Repeated, Broken, Hill, Quadrature)
FORMS: dict[str, type[Form]] = {form.name: form for form in LADDER}


def choose(name: str, roles: tuple[str, ...]) -> Form:
    """The form called `name` over the given axes.

    Forms of N and D ignore `flops`, and all but `repeated` ignore `seen`. Raises ValueError for an unknown form or for
    axes that it cannot take.
    """
    if name not in FORMS:
        raise ValueError(f"form={name!r} is not one of {', '.join(FORMS)}, auto.")
    kind = FORMS[name]
    if kind.fixed_roles:
        missing = [role for role in kind.fixed_roles if role not in roles]
        if missing:
            raise ValueError(
                f"form={name!r} ({kind.equation}) needs {' and '.join(kind.fixed_roles)}, and {missing[0]} is not "
                f"given; name its column, or use form='power_floor' for one axis."
            )
        return kind(kind.fixed_roles)
    roles = tuple(role for role in roles if role != "seen")
    if len(roles) not in kind.axes:
        allowed = " or ".join(str(n) for n in kind.axes)
        raise ValueError(
            f"form={name!r} ({kind.equation}) takes {allowed} of params, data, flops, not {len(roles)} "
            f"({', '.join(roles) or 'none'}); name the column of the axis that is meant."
        )
    return kind(roles)


def applicable(roles: tuple[str, ...]) -> list[Form]:
    """Every form that can take these axes, in the order of `FORMS`."""
    found = []
    for name in FORMS:
        try:
            found.append(choose(name, roles))
        except ValueError:
            continue
    return found
