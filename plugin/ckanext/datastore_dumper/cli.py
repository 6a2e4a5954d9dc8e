"""Commands of `ckan`. Each name in `__all__` is one."""

from __future__ import annotations

__all__: list[str] = []
