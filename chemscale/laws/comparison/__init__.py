"""The same law over several groups, and whether they differ."""
