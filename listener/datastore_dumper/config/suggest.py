"""What somebody may have meant who wrote an unknown name. Suggestions only: nothing is accepted in place of another."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

from datastore_dumper.config.fields import Path, sections, settings


def closest(word: str, candidates: Iterable[str], likeness: float = 0.6) -> str | None:
    """The candidate most like `word`: one that begins or ends with it (a unit or group left out), or a close match.

    `likeness` is difflib's ratio that a close match must reach, from 0 to 1.
    """
    known = list(candidates)
    plain = word.strip().lower().replace("-", "_")
    for candidate in known:
        if plain and (candidate == plain or candidate.startswith(f"{plain}_") or candidate.endswith(f"_{plain}")):
            return candidate
    return next(iter(get_close_matches(plain, known, n=1, cutoff=likeness)), None)


def hint_for_key(section: Path, key: str) -> str:
    """The way out for an unknown key in a section: the same key in another section, a sibling, or what there is."""
    siblings = [path[-1] for path in (*settings(), *sections()) if path and path[:-1] == section]
    near = closest(key, siblings, likeness=0.8)
    elsewhere = [path for path in settings() if path[-1] == key]
    if elsewhere and not near:
        return f"Did you mean {'.'.join(elsewhere[0])}? That is another section."
    near = near or closest(key, siblings)
    if near:
        return f"Did you mean {'.'.join((*section, near))}?"
    return f"Known here: {', '.join(siblings)}."
