"""Molecules drawn into one SVG element."""

from __future__ import annotations

from collections.abc import Sequence

from rdkit import Chem, rdBase
from rdkit.Chem.Draw import rdMolDraw2D

CELL = (200, 150)  # pixels of one drawn molecule


def draw(smiles: Sequence[str | None], columns: int = 5) -> str:
    """One SVG element with a grid of molecules on a transparent ground, to embed into an HTML page.

    What RDKit cannot read is left out; `data-drawn` and `data-skipped` on the element count both, its title says them.
    """
    if columns < 1:
        raise ValueError(f"draw(columns={columns}) is not allowed: it must be at least 1.")
    with rdBase.BlockLogs():
        read = [Chem.MolFromSmiles(s) if s else None for s in smiles]
    molecules = [m for m in read if m is not None and m.GetNumAtoms()]
    drawn, skipped = len(molecules), len(read) - len(molecules)
    columns = max(1, min(columns, drawn))
    width, height = CELL[0] * columns, CELL[1] * max(1, -(-drawn // columns))
    title = f"{drawn} molecules" + (f"; {skipped} could not be drawn" if skipped else "")
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img" '
        f'style="width:100%;max-width:{width}px;height:auto" data-drawn="{drawn}" data-skipped="{skipped}">'
        f"<title>{title}</title>{_grid(molecules, width, height)}</svg>"
    )


def _grid(molecules: list[Chem.Mol], width: int, height: int) -> str:
    """The inner SVG of RDKit's grid: letters as text, not as paths, which makes it a third as long."""
    if not molecules:
        return '<text x="10" y="30" font-size="14">no molecule to draw</text>'
    canvas = rdMolDraw2D.MolDraw2DSVG(width, height, *CELL, True)
    canvas.drawOptions().clearBackground = False
    canvas.DrawMolecules(molecules)
    canvas.FinishDrawing()
    svg = canvas.GetDrawingText()
    return svg[svg.index(">", svg.index("<svg")) + 1 : svg.rindex("</svg>")]
