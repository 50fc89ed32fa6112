"""What a store says, in one self-contained page: `collect` reads it, `figures` draws it, `page` writes it.

report(store, out="report/")                                 # writes report/index.html
found = collect.collect(store)                               # everything that the page says, as values
figures.scaling(found.sections[0], "data")                   # one of its figures; a notebook shows it
"""

from chemscale.report import figures
from chemscale.report.values import Report, Section
from chemscale.rooms import answer_calls

__all__ = ["Report", "Section", "figures"]

answer_calls(__name__, "chemscale.report.page:report")
