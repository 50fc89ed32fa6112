"""One fit: variable projection over a grid of exponents, then exact descent."""
