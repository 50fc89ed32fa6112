"""One loop, and Ray Train around it."""
