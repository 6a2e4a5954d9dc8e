"""Sets up logging: structlog's events and the standard library's records leave as JSON lines or as text for people.

Every line passes `mask_secrets` last. It is a second line of defence: code must not log a secret in the first place.
"""

from __future__ import annotations

import logging
import os
import re
import sys
from collections.abc import Mapping
from typing import Literal, TextIO

import structlog
from structlog.tracebacks import ExceptionDictTransformer
from structlog.typing import EventDict, Processor, WrappedLogger

LogFormat = Literal["auto", "json", "console"]
LogLevel = Literal["debug", "info", "warning", "error"]

_MASK = "***"
_FIRST_KEYS = ("timestamp", "level", "event", "logger")
_SECRET_KEY = re.compile(r"(?:password|passwd|passphrase|secret|secret_?key|token|authorization|dsn)$", re.IGNORECASE)
# Greedy up to the last @ of the word: a password may hold @, and too much masked is better than too little.
_URI_PASSWORD = re.compile(r"(\b[\w+.-]+://[^\s:/@]*:)\S*@")
# libpq keywords and query strings (password=x, 'x y' or x\ y), reprs and JSON ("password": "x").
_VALUE = r"('(?:\\.|[^'\\])*'|\"(?:\\.|[^\"\\])*\"|(?:\\.|[^\s'\"])+)"
_NAMED_SECRET = re.compile(
    rf"(\w*(?:password|passwd|secret|secret_?key|token)(?:\s*=\s*|['\"]\s*[:=]\s*)){_VALUE}", re.IGNORECASE
)
# Whoever has a presigned link's signature has the file (AWS Signature Version 4, query parameters).
_SIGNATURE = re.compile(r"(X-Amz-(?:Signature|Security-Token|Credential)=)[^&\s'\"]+", re.IGNORECASE)


def mask_text(text: str) -> str:
    """The text with passwords of connection strings, named secrets and signatures of links replaced by ***."""
    text = _URI_PASSWORD.sub(rf"\1{_MASK}@", text)
    text = _NAMED_SECRET.sub(rf"\1{_MASK}", text)
    return _SIGNATURE.sub(rf"\1{_MASK}", text)


def _mask(value: object) -> object:
    if value is None or isinstance(value, (bool, int, float)):
        return value
    if isinstance(value, Mapping):
        return {
            mask_text(str(key)): _MASK if _SECRET_KEY.search(str(key)) and item is not None else _mask(item)
            for key, item in value.items()
        }
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_mask(item) for item in value]
    # Objects become text here and not in the renderer, which comes after the masking.
    return mask_text(value if isinstance(value, str) else str(value))


def mask_secrets(_logger: WrappedLogger, _method: str, event_dict: EventDict) -> EventDict:
    """Processor: mask what looks like a secret, at any depth, and put the keys that every line has first."""
    ordered = {key: event_dict[key] for key in _FIRST_KEYS if key in event_dict} | dict(event_dict)
    masked = _mask(ordered)
    assert isinstance(masked, dict)
    return masked


def _wants_json(format: LogFormat, stream: TextIO) -> bool:
    return format == "json" or (format == "auto" and not stream.isatty())


def _renderers(as_json: bool, colors: bool) -> list[Processor]:
    if as_json:
        # Frames without local variables: those hold rows of tables and connection strings.
        frames = structlog.processors.ExceptionRenderer(ExceptionDictTransformer(show_locals=False))
        return [frames, mask_secrets, structlog.processors.JSONRenderer()]
    console = structlog.dev.ConsoleRenderer(colors=colors, exception_formatter=structlog.dev.plain_traceback)
    return [structlog.processors.format_exc_info, mask_secrets, console]


def configure_logging(format: LogFormat = "auto", level: LogLevel = "info", stream: TextIO | None = None) -> None:
    """Send all logging of this process to `stream` (default: standard error). The last call counts.

    JSON lines hold `timestamp` (UTC, ISO 8601 with Z), `level`, `event`, `logger`, the event's own keys and, for an
    exception, `exception` (a list of type, message and frames). "auto" is "console" on a terminal. Colours are for
    terminals only, and not if NO_COLOR is set (no-color.org).
    """
    stream = sys.stderr if stream is None else stream
    as_json = _wants_json(format, stream)
    colors = stream.isatty() and not os.environ.get("NO_COLOR")
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.PositionalArgumentsFormatter(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
    ]
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=structlog.stdlib.LoggerFactory(),
    )
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, structlog.stdlib.ExtraAdder()],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                *_renderers(as_json, colors),
            ],
        )
    )
    root = logging.getLogger()
    others = [each for each in root.handlers if not isinstance(each.formatter, structlog.stdlib.ProcessorFormatter)]
    root.handlers = [*others, handler]  # at once: what other threads log meanwhile must find the one or the other
    root.setLevel(level.upper())
    logging.captureWarnings(True)


def get_logger(name: str) -> structlog.stdlib.BoundLogger:
    """A structlog logger: `log = get_logger(__name__)`, `log.info("dump_published", resource_id=..., bytes=...)`."""
    logger: structlog.stdlib.BoundLogger = structlog.stdlib.get_logger(name)
    return logger
