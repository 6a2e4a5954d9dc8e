"""Secrets that are kept in files of their own (`dsn_file`, `secret_key_file`), as systemd and Kubernetes hand them out.

A setting and its `_file` twin are one thing given in two ways: from one source, both are a contradiction; from two,
the source with precedence decides.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path as FilePath

from datastore_dumper.config.fields import Path, Setting, settings
from datastore_dumper.config.given import Given, Problem, shown
from datastore_dumper.words import printable

# systemd passes credentials in files below this directory (systemd.exec(5), "Credentials").
_CREDENTIALS_VARIABLE = "CREDENTIALS_DIRECTORY"
# systemd's own limit for a credential is 1 MiB in all; connection strings and keys are a few hundred bytes.
_MAX_SECRET_BYTES = 64 * 1024


def twin(setting: Setting) -> Path:
    """The path of the setting that names a file with this setting's value, whether or not it exists."""
    return (*setting.path[:-1], f"{setting.path[-1]}_file")


def pairs() -> list[tuple[Path, Path]]:
    """Every secret that has a `_file` twin, with it."""
    known = settings()
    return [(path, twin(setting)) for path, setting in known.items() if setting.secret and twin(setting) in known]


def refuse_both(values: Mapping[Path, Given], problems: list[Problem]) -> None:
    """Appends a problem for each secret that one source gives in both ways."""
    for path, file_path in pairs():
        if all(key in values and values[key].value is not None for key in (path, file_path)):
            text = f"{'.'.join(path)} and {'.'.join(file_path)} are both set"
            problems.append(Problem(values[file_path].origin, text, "Remove one of them."))


def overlay(values: dict[Path, Given], upper: Mapping[Path, Given]) -> None:
    """Lay the values of a source with precedence over `values`; either way to give a secret displaces both."""
    for path, file_path in pairs():
        if path in upper or file_path in upper:
            values.pop(path, None)
            values.pop(file_path, None)
    values.update(upper)


def read_secrets(values: dict[Path, Given], environ: Mapping[str, str], problems: list[Problem]) -> None:
    """Put the contents of each file that is named into the setting it stands for."""
    for path, file_path in pairs():
        given = values.get(file_path)
        if given is None:
            continue
        setting_name = ".".join(file_path)
        if not isinstance(given.value, (str, FilePath)):
            text = f"{setting_name} must be a path, not {shown(given.value)}"
            problems.append(Problem(given.origin, text, given.hint))
            continue
        file = FilePath(given.value)
        if not file.is_absolute():
            directory = environ.get(_CREDENTIALS_VARIABLE)
            if not directory or file.name != str(file):
                text = f'{setting_name} must be an absolute path or a credential\'s name, not "{printable(str(file))}"'
                hint = "" if directory else f"Names work where systemd sets {_CREDENTIALS_VARIABLE} (LoadCredential=)."
                problems.append(Problem(given.origin, text, hint))
                continue
            file = FilePath(directory) / file
        try:
            origin = f"{printable(str(file))}, named by {setting_name} in {given.origin}"
            values[path] = Given(_read_secret(file), origin, file=file)
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else str(error)
            text = f"{setting_name}: cannot take {printable(str(file))}: {reason}"
            problems.append(Problem(given.origin, text, "It must hold the value alone and be readable for this user."))


def _read_secret(file: FilePath) -> str:
    """The file's text without the newline that editors add. Raises OSError or ValueError, which do not show it."""
    if "\0" in str(file):
        raise ValueError("not a file name")
    with file.open("rb") as stream:
        data = stream.read(_MAX_SECRET_BYTES + 1)
    if len(data) > _MAX_SECRET_BYTES:
        raise ValueError(f"longer than {_MAX_SECRET_BYTES} bytes")
    try:
        text = data.decode()
    except UnicodeDecodeError:
        raise ValueError("not UTF-8 text") from None
    text = text.removesuffix("\n").removesuffix("\r")
    if not text.strip():
        raise ValueError("empty")
    return text
