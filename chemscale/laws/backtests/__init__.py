"""What rows held out say: backtests, the choice among forms and their ensemble, breaks."""
