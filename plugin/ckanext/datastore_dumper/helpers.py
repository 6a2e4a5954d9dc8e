"""What our templates ask. Each name in `__all__` is a helper."""

from __future__ import annotations

__all__: list[str] = []
