"""Column names: those that people use, and those that only Postgres minds as little."""

from __future__ import annotations

from random import Random

# CKAN's API takes these in every release (is_valid_field_name in ckanext/datastore/helpers.py).
FOR_API = (
    "plain",
    "Größe",
    "a b",
    "a  b",
    "a_b",
    "A_B",
    "it's",
    "1st",
    "2024",
    "xmlfoo",
    "XML",
    "2xml3",
    "xml",
    "a,b",
    "select",
    "order",
    "é",
    "e\u0301",
    "\u0301mark",
    "a.b",
    "a-b",
    "-a",
    ".a",
    "a/b",
    "<b>",
    "&",
    "[x]",
    "日本語",
    "😀",
    "\U0001f680\U0001f680",
    "a\\b",
    "$1",
    "@",
    "type",
    "id",
    "a\u2028b",
    "a\u00a0b",
    "ﬁ",
    "½",
    "x²",
    "ns:tag",
    "=1+1",
    "(a)",
    "a}b",
    "c" * 63,
    "ä" * 31,
)
# By SQL, any.
FOR_SQL = (
    *FOR_API,
    '"',
    'a"b',
    " lead",
    "trail ",
    "a\tb",
    "a\nb",
    "a\r\nb",
    "\x01",
    "\u200b",
    "\ufeff",
    "_hidden",
    "_idle",
    "\\",
)


def some(random: Random, pool: tuple[str, ...], count: int) -> list[str]:
    """That many different names, with a few of the pool among plain ones, or all of the pool if as many are asked."""
    chosen = random.sample(pool, min(count, len(pool)))
    return chosen + [f"column {number}" for number in range(count - len(chosen))]
