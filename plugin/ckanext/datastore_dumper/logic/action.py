"""Actions of CKAN's API. Each name in `__all__` is one."""

from __future__ import annotations

__all__: list[str] = []
