"""Names for downloads that say what is in them: the resource's name and the day. Pure; the header is made elsewhere."""

from __future__ import annotations

from datetime import datetime, timezone

# Room for the day and the extension in the 255 bytes that a browser can save (storage/disposition.py).
_MAX_NAME_BYTES = 200


def readable_filename(
    name: str | None, source_format: str | None, generated_at: datetime, extension: str
) -> str | None:
    """`<name>-<day in UTC>.<extension>`, or None if the name has no letter and no digit.

    Many resources are named after the file that they were loaded from: an extension that is `source_format`, as CKAN
    has it, or the download's own is left out.
    """
    stem = (name or "").strip()
    for known in (extension, source_format or ""):
        if known and stem.lower().endswith(f".{known.lower()}"):
            stem = stem[: -len(known) - 1].rstrip()
            break
    if not any(character.isalnum() for character in stem):
        return None
    stem = stem.encode("utf-8", "ignore")[:_MAX_NAME_BYTES].decode("utf-8", "ignore")
    return f"{stem}-{generated_at.astimezone(timezone.utc):%Y-%m-%d}.{extension}"
