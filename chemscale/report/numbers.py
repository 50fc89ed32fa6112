"""Numbers as people read them: as many digits as their error supports."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable

SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def decimals_for(error: float) -> int:
    """Decimals that show two digits of an error (one where it begins with 3 or more)."""
    if not error > 0 or not math.isfinite(error):
        return 3
    first = math.floor(math.log10(error))
    digits = 2 if error / 10**first < 3 else 1
    return min(max(0, digits - 1 - first), 8)


def by_error(value: float, error: float | None) -> str:
    """265 ± 3: the value to the digits of its standard error; three significant digits without one."""
    if error is None or not error > 0:
        return significant(value)
    places = decimals_for(error)
    return f"{value:,.{places}f} ± {error:.{places}f}"


def significant(value: float, digits: int = 3) -> str:
    """A number to so many significant digits, without an exponent unless it is very large or very small."""
    if value == 0:
        return "0"
    size = math.floor(math.log10(abs(value)))
    if size >= 6 or size < -4:
        return power(value, digits - 1)
    return f"{round(value, digits - 1 - size):,.{max(0, digits - 1 - size)}f}"


def with_ends(value: float, low: float | None, high: float | None) -> tuple[str, str, str]:
    """A value and the ends of its interval, all to the digits of the interval's half width."""
    value_text, low_text, high_text = (text.replace("-", "−") for text in _with_ends(value, low, high))
    return value_text, low_text, high_text


def _with_ends(value: float, low: float | None, high: float | None) -> tuple[str, str, str]:
    if low is None or high is None or not high > low:
        return significant(value), "?", "?"
    half = (high - low) / 2
    if not math.isfinite(half):
        return significant(value), significant(low), "∞"
    places = max(decimals_for(half), _least(value))
    return f"{value:,.{places}f}", f"{low:,.{places}f}", f"{high:,.{places}f}"


def _least(value: float) -> int:
    """Decimals that keep two significant digits of a value, however wide its interval."""
    return max(0, 1 - math.floor(math.log10(abs(value)))) if value else 0


def count(value: float) -> str:
    """3.4k, 199k, 1.2M: a size to three digits at most."""
    for size, letter in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= size * 0.9995:
            return f"{value / size:.3g}{letter}"
    return f"{value:.3g}"


def whole(value: float) -> str:
    """An integer with separators; beyond four digits that are not round, as `count` gives it."""
    number = round(value)
    return f"{number:,}" if number < 10_000 or number % 1000 == 0 else count(value)


def size(value: float) -> str:
    """An amount of data that was calculated: three digits, an integer where it is small."""
    return whole(float(f"{value:.3g}")) if value < 1e5 else count(value)


def power(value: float, decimals: int = 1) -> str:
    """3.2 × 10¹⁵."""
    if value == 0:
        return "0"
    mantissa, exponent = f"{value:.{decimals}e}".split("e")
    return f"{mantissa} × 10{str(int(exponent)).translate(SUPERSCRIPTS)}"


def percent(share: float) -> str:
    """A share as a percentage: one decimal below 10 %."""
    value = 100 * share
    return f"{value:.1f} %" if abs(value) < 9.95 else f"{value:.0f} %"


def duration(seconds: float) -> str:
    """Seconds as people say them."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def digits(value: object) -> str:
    """A setting's value as text: numbers to three digits."""
    return f"{value:.3g}" if isinstance(value, int | float) and not isinstance(value, bool) else str(value)


def some(values: Iterable[float], most: int) -> list[float]:
    """All different values in order, or so many of them, evenly spaced, the smallest and the largest among them."""
    found = sorted(set(values))
    count = min(len(found), most)
    return [found[round(i * (len(found) - 1) / max(count - 1, 1))] for i in range(count)]


def bound(text: str) -> str:
    """A cell's text that breaks before an interval in brackets, not within it."""
    return re.sub(r"\([^()]*\)", lambda found: found[0].replace(" ", "\N{NO-BREAK SPACE}"), text)


def readable(text: str) -> str:
    """A sentence made for terminals as a page shows it: 3.84e+04 as 38.4k, no underscores, a space before %,
    laws' own names with a capital."""
    text = re.sub(r"\d+(?:\.\d+)?e[+-]\d+", lambda found: _short(float(found[0])), text)
    text = re.sub(r"(?<=[a-z])_(?=[a-z])", " ", text)
    text = re.sub(r"\bchinchilla\b", "Chinchilla", text)
    text = re.sub(r"(?<=[ (])-(?=\d)", "−", text)
    return re.sub(r"(?<=\d)%", " %", text)


def _short(value: float) -> str:
    return count(value) if 1 <= value < 1e9 else power(value)
