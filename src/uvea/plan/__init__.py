"""Measure a dataset, then decide: the fingerprint, the rules, and the plan as frozen data."""
