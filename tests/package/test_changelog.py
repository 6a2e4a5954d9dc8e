"""The changelog has one shape, and a release is one of its sections."""

from __future__ import annotations

import pytest

from tests.support.changelog import CHANGELOG, UNRELEASED, obstacle, sections

RELEASED = "# Changelog\n\n## 1.2.0 (2026-03-31)\n\n- More.\n\n## 1.1.0 (2026-02-01)\n\n- Less.\n"


def test_the_changelog_is_in_order() -> None:
    found = sections(CHANGELOG.read_text(encoding="utf-8"))
    released = [each for each in found if each.version != UNRELEASED]
    assert found
    assert all(each.text for each in released)
    assert found[0].version == UNRELEASED or released == found
    assert released == sorted(released, key=lambda each: [int(part) for part in each.version.split(".")], reverse=True)
    assert [each.day for each in released] == sorted((each.day for each in released if each.day), reverse=True)


def test_a_release_is_in_the_changelog() -> None:
    assert obstacle("v1.2.0", "1.2.0", RELEASED) is None


@pytest.mark.parametrize(
    ("tag", "version", "changelog", "said"),
    [
        ("1.2.0", "1.2.0", RELEASED, "the tag is 1.2.0"),
        ("v1.2.1", "1.2.0", RELEASED, "the version of the program is 1.2.0"),
        ("v1.1.0", "1.1.0", RELEASED, "newest section of the changelog is 1.2.0"),
        ("v1.2.0", "1.2.0", f"## {UNRELEASED}\n\n- New.\n\n{RELEASED}", "is Unreleased"),
        ("v1.2.0", "1.2.0", "## 1.2.0 (2026-03-31)\n", "says nothing"),
    ],
)
def test_what_is_not_released(tag: str, version: str, changelog: str, said: str) -> None:
    assert said in (obstacle(tag, version, changelog) or "")


def test_a_heading_of_another_shape() -> None:
    with pytest.raises(ValueError, match="2026-03-31"):
        sections("## 1.2 \n")
