"""What several test folders share: where the real data is, and a seeded generator."""

import os
from pathlib import Path

import numpy as np
import pytest


@pytest.fixture(scope="session")
def data_root() -> Path:
    """Folder of real datasets; the test is skipped where it is absent."""
    root = Path(os.environ.get("UVEA_DATA", Path(__file__).parents[2] / "shared" / "data"))
    if not root.is_dir():
        pytest.skip(f"no real data at {root}; set UVEA_DATA")
    return root


@pytest.fixture
def rng() -> np.random.Generator:
    """A seeded generator, fresh for each test."""
    return np.random.default_rng(0)
