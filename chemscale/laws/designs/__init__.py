"""Which runs to do next for a target and a budget."""
