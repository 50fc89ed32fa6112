"""Tables of runs: which columns mean what, which rows are asked for, what they cost and how they depend."""
