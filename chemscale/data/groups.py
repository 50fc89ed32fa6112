"""Which molecules are the same for a split: a key that tautomers, stereoisomers, salts and charge states
share.

The key is the heavy-atom skeleton (elements and connections, no bond orders) of the largest fragment, with
its hydrogens minus its charge. Moving a proton or a double bond changes neither, so every tautomer shares
it by construction; RDKit's `HetAtomTautomerv2` misses proton shifts to carbon that RDKit's own
TautomerEnumerator makes in 6 of 10 molecules of MOSES. The price is that isomers which differ only in where
a double bond sits share a key too: a coarser group can only make a split stricter.
"""

from __future__ import annotations

import re
from typing import Any

_NOT_PLAIN = re.compile(r"[@/\\.]|\[\d")  # stereochemistry, a second fragment, an isotope


def group_key(molecule: Any, smiles: str | None = None) -> str:
    """The key of a sanitised RDKit molecule, e.g. `CCO_4` for acetaldehyde and its enol alike.

    Args:
        molecule: of RDKit.
        smiles: its SMILES string, where it is at hand: what has no sign of stereochemistry, isotopes or a second
            fragment is keyed without a copy, in 70 us for 22 heavy atoms instead of 150.
    """
    from rdkit.Chem import rdMolHash, rdmolops

    core = molecule
    if smiles is None or _NOT_PLAIN.search(smiles):
        core = plain(largest_fragment(molecule))
    hydrogens = core.GetNumAtoms(onlyExplicit=False) - core.GetNumAtoms()
    skeleton = rdMolHash.MolHash(core, rdMolHash.HashFunction.ElementGraph)
    return f"{skeleton}_{hydrogens - rdmolops.GetFormalCharge(core)}"


def group_key_of_smiles(smiles: str) -> str:
    """The key of a SMILES string; a string that RDKit cannot read is its own key."""
    from rdkit import Chem, rdBase

    with rdBase.BlockLogs():
        molecule = Chem.MolFromSmiles(smiles)
    return smiles if molecule is None or molecule.GetNumAtoms() == 0 else group_key(molecule)


def largest_fragment(molecule: Any) -> Any:
    """A copy of the fragment with the most heavy atoms."""
    from rdkit import Chem

    fragments = Chem.GetMolFrags(molecule)
    if len(fragments) == 1:
        return Chem.Mol(molecule)
    pieces = Chem.GetMolFrags(molecule, asMols=True)
    return max(pieces, key=lambda m: (m.GetNumHeavyAtoms(), Chem.MolToSmiles(m, isomericSmiles=False)))


def plain(molecule: Any) -> Any:
    """The molecule itself, without stereochemistry and isotopes."""
    from rdkit import Chem

    Chem.RemoveStereochemistry(molecule)
    labelled = [atom for atom in molecule.GetAtoms() if atom.GetIsotope()]
    for atom in labelled:
        atom.SetIsotope(0)
    return Chem.RemoveHs(molecule) if labelled else molecule
