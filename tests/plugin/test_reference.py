"""The reference page of the plugin's settings is what the declaration says."""

from __future__ import annotations

from tests.plugin.plugin_reference import PAGE, render


def test_the_page_is_up_to_date() -> None:
    assert PAGE.read_text(encoding="utf-8") == render()
