"""A written page, read back and checked."""

import base64
import hashlib
import re
from html.parser import HTMLParser

import pytest


class Page(HTMLParser):
    """Collects the tags and the text of a page."""

    def __init__(self, html):
        """Read all of it."""
        super().__init__()
        self.html, self.inside = html, ""
        self.tags, self.text, self.scripts = [], "", []
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        """Keep a tag with its attributes."""
        self.tags.append((tag, dict(attrs)))
        self.inside = tag

    def handle_endtag(self, tag):
        """Text after a script is text again."""
        self.inside = ""

    def handle_data(self, data):
        """Keep the text, and scripts apart from it."""
        if self.inside == "script":
            self.scripts.append(data)
        elif self.inside != "style":
            self.text += data

    def values(self, *names):
        """All values of some attributes."""
        return [attributes[name] for _, attributes in self.tags for name in names if attributes.get(name)]

    def assert_sealed(self):
        """Nothing is loaded, and the one script of the page is the only one that its content policy lets run."""
        references = self.values("src", "href", "xlink:href", "srcset", "action", "formaction", "data", "poster")
        allowed = ("data:image/png;base64,", "data:image/jpeg;base64,", "#")
        assert all(value.startswith(allowed) for value in references)
        for word in ("http://", "https://", "url(", "@import"):
            assert word not in self.html
        tags = [tag for tag, _ in self.tags]
        assert not {"link", "iframe", "object", "embed", "base", "form"} & set(tags)
        assert not any(name.startswith("on") for _, attributes in self.tags for name in attributes)
        assert [attributes for tag, attributes in self.tags if tag == "script"] == [{}]
        assert self.html.count("<script") == tags.count("script") == len(self.scripts) == 1
        (policy,) = (a["content"] for tag, a in self.tags if a.get("http-equiv") == "Content-Security-Policy")
        rules = dict(rule.split(" ", 1) for rule in re.split(r"\s*;\s*", policy))
        digest = base64.b64encode(hashlib.sha256(self.scripts[0].encode()).digest()).decode()
        assert rules == {
            "default-src": "'none'",
            "style-src": "'unsafe-inline'",
            "img-src": "data:",
            "script-src": f"'sha256-{digest}'",
            "base-uri": "'none'",
            "form-action": "'none'",
        }


@pytest.fixture
def page_of():
    """Reads a page from its path."""
    return lambda path: Page(path.read_text(encoding="utf-8"))
