"""Prepared cases, kept once, and the patches that a training step sees."""
