"""The pages that promise something name tests; those tests exist."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TESTS = {
    path.relative_to(ROOT / "tests").as_posix(): path.read_text(encoding="utf-8")
    for path in (ROOT / "tests").rglob("test_*.py")
}


@pytest.mark.parametrize("page", ["reliability.md", "threat-model.md"])
def test_what_a_page_names_is_there(page):
    """Files of tests by the end of their path, tests by their name."""
    named = re.findall(r"`(?:tests/)?((?:\w+/)*test_\w+(?:\.py)?)`", (ROOT / "docs" / page).read_text(encoding="utf-8"))
    missing = []
    for name in named:
        if name.endswith(".py"):
            found = any(path == name or path.endswith(f"/{name}") for path in TESTS)
        else:
            found = any(f"def {name}(" in text for text in TESTS.values())
        missing += [] if found else [name]
    assert len(named) > 20 and missing == []
