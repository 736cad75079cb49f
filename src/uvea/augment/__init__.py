"""Change training batches at random, in ways that could have happened at the microscope or scanner."""

from uvea.augment.augmentation import IGNORE, Augmentation
from uvea.augment.chain import Chain, standard_chain

__all__ = ["IGNORE", "Augmentation", "Chain", "standard_chain"]
