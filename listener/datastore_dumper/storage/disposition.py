"""The Content-Disposition header for a file name of any characters. Pure; used by the S3 storage and by the plugin."""

from __future__ import annotations

import re
import unicodedata
from urllib.parse import quote

# Unicode categories that never belong in a name: control, format (bidi overrides that disguise an extension),
# surrogate, private use, unassigned, line and paragraph separators.
_DROPPED = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
# What the plain `filename` keeps. Left out: quote and backslash (escapes that agents treat differently, RFC 6266
# appendix D), percent (some agents decode it), semicolon, and parentheses (Backblaze B2 refuses them).
_PLAIN = re.compile(r"[^A-Za-z0-9 !#$&+,.=@^_~-]")
# NAME_MAX: what a browser can save. The name's extension is kept.
_MAX_BYTES = 255


def clean_filename(filename: str) -> str:
    """The name without path, control and invisible characters, at most 255 bytes of UTF-8; `download` if empty."""
    kept = "".join(
        "_" if character in '/\\:*?"<>|' else character
        for character in unicodedata.normalize("NFC", filename)
        if unicodedata.category(character) not in _DROPPED
    )
    kept = re.sub(r"\s+", " ", kept).strip(" .")
    if not kept:
        return "download"
    stem, dot, extension = kept.rpartition(".")
    room = _MAX_BYTES - len((dot + extension).encode())
    if dot and room > 0:
        return stem.encode()[:room].decode(errors="ignore") + dot + extension
    return kept.encode()[:_MAX_BYTES].decode(errors="ignore")


def content_disposition(filename: str) -> str:
    """`attachment; filename="<ASCII>"`, and `filename*=UTF-8''<percent-encoded>` if that says more (RFC 6266 section
    4.3, RFC 8187). Printable ASCII without quotes other than the two: no name can break out of the header."""
    name = clean_filename(filename)
    # NFKD splits the accent off a letter, so that 'é' becomes 'e' and only what has no ASCII base becomes '_'.
    decomposed = unicodedata.normalize("NFKD", name)
    plain = _PLAIN.sub("_", "".join(character for character in decomposed if not unicodedata.combining(character)))
    if plain == name:
        return f'attachment; filename="{plain}"'
    # RFC 8187 attr-char is wider; unreserved characters alone (RFC 3986) are the same everywhere.
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(name, safe='')}"
