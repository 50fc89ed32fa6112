"""What the study and those who judge it both know; the study itself is loaded by path, as any recipe."""

SHARED = ("chemgpt", 48)  # architecture and width of the cells that train on two workers
RAISING = "raising"  # architecture of the model that raises
