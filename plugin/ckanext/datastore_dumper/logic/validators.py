"""Validators of our actions' arguments. Each name in `__all__` is one."""

from __future__ import annotations

__all__: list[str] = []
