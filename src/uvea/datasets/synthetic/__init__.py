"""Synthetic images in 2D and 3D that look like the field's, seeded, with exact masks."""

from uvea.datasets.synthetic.make import KINDS, Kind, Sample, make, write_dataset

__all__ = ["KINDS", "Kind", "Sample", "make", "write_dataset"]
