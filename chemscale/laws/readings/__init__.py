"""What a small grid supports before any law is believed: slopes per axis and verdicts."""
