"""Who may call our actions. Each name in `__all__` is an authorization function of the action with the same name."""

from __future__ import annotations

__all__: list[str] = []
