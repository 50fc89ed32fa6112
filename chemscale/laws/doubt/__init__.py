"""How sure a fit is: noise, draws, profiles, intervals, calibration, and what the rows do not identify."""
