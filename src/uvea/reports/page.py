"""One self-contained HTML page out of a template and plain data.

Every report uses this file, so that all look alike, escape what they show, and are written in one piece. It knows
nothing of trainings, scores or arrays. The page needs no network and runs one script, its own; a content policy in
its head makes sure of both: it names the hash of that script, so that no other runs.
"""

import base64
import hashlib
import math
from collections.abc import Mapping
from functools import cache
from importlib import resources
from numbers import Integral, Real
from pathlib import Path
from typing import TYPE_CHECKING

from uvea.durable import claim, write_text

if TYPE_CHECKING:
    from jinja2 import Environment


def render(template: str, values: Mapping[str, object]) -> str:
    """Fill a template of this package.

    Args:
        template: file name in `templates/`.
        values: what the template names. Text is escaped; a name that the template uses and `values` lacks is an
            error of the program.

    Returns:
        The page as HTML.
    """
    return _environment().get_template(template).render(values)


def hash_of(script: str) -> str:
    """How a content policy names an inline script: the SHA-256 of its text, in base 64."""
    return "sha256-" + base64.b64encode(hashlib.sha256(script.encode("utf-8")).digest()).decode("ascii")


def write_page(path: Path, html: str, *, overwrite: bool = False) -> None:
    """Write a page so that `path` has either all of it or what was there before.

    Raises:
        OutputError: if the file exists and `overwrite` is off, or the folder cannot be written to.
    """
    claim(path, overwrite=overwrite)
    write_text(path, html)


def shown(value: object) -> str:
    """A value as a reader wants to see it.

    Example:
        >>> shown((256, 256)), shown((0.5, 2.0)), shown(0.912345), shown(None), shown(148353), shown(True)
        ('256 × 256', '0.5, 2', '0.9123', '–', '148,353', 'yes')
    """
    match value:
        case None:
            return "–"
        case bool():
            return "yes" if value else "no"
        case Integral():
            return f"{int(value):,}"
        case Real():
            return _shown_float(float(value))
        case tuple() | list():
            between = " × " if all(isinstance(part, Integral) for part in value) else ", "
            return between.join(shown(part) for part in value) or "–"
        case Mapping():
            return ", ".join(f"{key}: {shown(part)}" for key, part in value.items()) or "–"
    return str(value)


def scored(value: object, kind: str = "score") -> str:
    """As `shown`, but scores with three decimals, so that they stand below each other, and fractions with three digits.

    Scores lie in [0, 1]; those that three decimals would show as 0 have three digits, too.

    Example:
        >>> scored(0.9), scored(0.00012), scored(9.9999), scored(0.0123, "distance")
        ('0.900', '0.00012', '10', '0.0123')
    """
    if not isinstance(value, Real) or isinstance(value, Integral) or not math.isfinite(value):
        return shown(value)
    number = float(value)
    if kind == "score" and (number == 0 or 0.0005 <= number <= 1):
        return f"{number:.3f}"
    return f"{number:.3g}" if abs(number) < 999.5 else f"{number:,.0f}"


def is_number(value: object) -> bool:
    """Whether a table should align it to the right."""
    return isinstance(value, Real) and not isinstance(value, bool)


@cache
def _environment() -> "Environment":
    from jinja2 import Environment, PackageLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        loader=PackageLoader("uvea.reports", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    script = resources.files("uvea.reports").joinpath("templates", "report.js").read_text(encoding="utf-8")
    environment.globals["script"] = Markup(script)
    environment.globals["script_hash"] = hash_of(script)
    environment.filters["shown"] = shown
    environment.filters["scored"] = scored
    environment.tests["number"] = is_number
    return environment


def _shown_float(value: float) -> str:
    if not math.isfinite(value):
        return "–" if math.isnan(value) else ("∞" if value > 0 else "-∞")
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
