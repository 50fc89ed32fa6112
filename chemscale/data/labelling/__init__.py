"""The parts of `data.label`: molecules, geometries, labels, their noise, and the file that holds them."""
