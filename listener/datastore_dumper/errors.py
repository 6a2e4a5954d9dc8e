"""What can go wrong, sorted by what the caller can do about it. Everything we raise on purpose derives from `DumperError`."""

from __future__ import annotations

# Exit codes of the command line (docs/reference/exit-codes.md). 78 is EX_CONFIG of sysexits.h.
EXIT_FAILURE = 1
EXIT_USAGE = 2
EXIT_UNAVAILABLE = 69
EXIT_NO_PERMISSION = 77
EXIT_CONFIG = 78


class DumperError(Exception):
    """Something failed.

    `message` says what, naming the resource, file, key or setting; `hint` says the way out. The command line shows
    both and exits with `exit_code`.
    """

    exit_code = EXIT_FAILURE

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\n{self.hint}" if self.hint else self.message


class ConfigError(DumperError):
    """A setting is missing or wrong: nothing helps but to mend it."""

    exit_code = EXIT_CONFIG


class ForeignStorageError(ConfigError):
    """The storage is another database's, as far as anybody can tell."""


class UnavailableError(DumperError):
    """A server cannot be reached now: trying again later may help."""

    exit_code = EXIT_UNAVAILABLE


class PermissionDeniedError(DumperError):
    """A server or file system refuses what we ask: rights must be granted first."""

    exit_code = EXIT_NO_PERMISSION


class StorageError(DumperError):
    """The storage failed to do what was asked, or answered something that cannot be trusted."""


class StorageUnavailableError(StorageError, UnavailableError):
    """The storage cannot be reached or asks to slow down: trying again later may help."""

    exit_code = EXIT_UNAVAILABLE


class ObjectMissingError(StorageError):
    """The object is not in the storage."""


class ObjectChangedError(StorageError):
    """The object in the storage is not the one that was published (other etag or length)."""


class ExportError(DumperError):
    """An export cannot go on. The table is due again after a backoff; what is published stays as it is."""


class LeaseLostError(ExportError):
    """Another daemon owns the table now; what this one made must not be published."""


class TableChangedError(ExportError):
    """TRUNCATE, DROP or ALTER came between: the snapshot no longer shows the table. Start again."""


class GaveWayError(ExportError):
    """Somebody waited for the table, so the export let go of it. Start again."""


class FormatFailedError(ExportError):
    """A table cannot be had in this format; other formats are not concerned."""


class UnsupportedTypeError(FormatFailedError):
    """A format cannot write a column of this type."""


class UnsupportedValueError(FormatFailedError):
    """A format cannot write a value of the table; for CKAN's own formats: CKAN's dump fails on it too."""
