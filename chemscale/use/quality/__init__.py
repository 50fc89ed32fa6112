"""How good a generated sample is: the metrics of MOSES (Polykovskiy et al. 2020, Frontiers in Pharmacology 11:565644).

The package that defines them no longer installs; these are written after its paper and its definitions, on RDKit.
"""
