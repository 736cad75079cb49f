"""uvea."""
