"""Settings from a YAML file, each with its line and column. What a right value is, `model` says.

YAML 1.1, which PyYAML follows, guesses types from the look of a word: `on` is true, 2.10 is the number 2.1, 010 is 8.
Where a setting wants text, a word that YAML takes for something else is refused with the advice to quote it; numbers
are taken only in plain decimal notation. PyYAML by itself lets a later duplicate key win silently: here it is an error.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path as FilePath

import yaml
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from datastore_dumper.config.fields import Path, Setting, sections, settings
from datastore_dumper.config.given import Given, Layer, Problem, one_line
from datastore_dumper.config.scalars import number, whole_number
from datastore_dumper.config.suggest import hint_for_key
from datastore_dumper.errors import ConfigError
from datastore_dumper.words import printable

# Far above any real file; keeps /dev/zero or a database dump given by mistake from filling the memory.
_MAX_FILE_BYTES = 1024 * 1024
_TRUE = ("true", "yes", "on")
_TAG = "tag:yaml.org,2002:"
# A time stamp is not among the guesses: no setting is one, so its text is what was meant.
_GUESSES = {f"{_TAG}bool": "true or false", f"{_TAG}int": "a number", f"{_TAG}float": "a number"}
_PLAIN_TAGS = {f"{_TAG}{name}" for name in ("str", "int", "float", "bool", "null", "timestamp", "value")}

Origin = Callable[[Node], str]


def read_text(path: FilePath) -> str:
    """The file's text. Raises `ConfigError` if it cannot be read or is no text."""
    try:
        with path.open("rb") as file:
            data = file.read(_MAX_FILE_BYTES + 1)
    except FileNotFoundError:
        raise ConfigError(
            f"{printable(str(path))}: there is no such file", hint="Start from config.example.yaml."
        ) from None
    except IsADirectoryError:
        raise ConfigError(f"{printable(str(path))}: is a directory", hint="Name the file in it.") from None
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        reason = error.strerror if isinstance(error, OSError) else "not a file name"
        hint = f"The user with id {os.geteuid()} must be able to read it." if isinstance(error, PermissionError) else ""
        raise ConfigError(f"{printable(str(path))}: cannot be read: {reason}", hint=hint) from error
    if len(data) > _MAX_FILE_BYTES:
        raise ConfigError(f"{printable(str(path))}: is longer than {_MAX_FILE_BYTES} bytes: not a configuration file")
    if b"\0" in data:
        raise ConfigError(f"{printable(str(path))}: is a binary file", hint="The configuration is YAML in UTF-8.")
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ConfigError(
            f"{printable(str(path))}, line {line}: is not UTF-8", hint="Save the file in UTF-8."
        ) from None


def read_yaml(path: FilePath, problems: list[Problem]) -> Layer:
    """The file's settings. Appends what is wrong with single keys to `problems`.

    Raises `ConfigError` if the file as a whole cannot be read: missing, binary, not YAML, empty, a list.
    """
    name = printable(str(path))

    def origin(node: Node) -> str:
        return f"{name}, line {node.start_mark.line + 1}, column {node.start_mark.column + 1}"

    root = _compose(read_text(path), name)
    if root is None or (isinstance(root, ScalarNode) and root.tag == f"{_TAG}null"):
        raise ConfigError(f"{name}: is empty", hint="Start from config.example.yaml.")
    if not isinstance(root, MappingNode):
        kind = "a list" if isinstance(root, SequenceNode) else "a single value"
        raise ConfigError(
            f"{origin(root)}: is {kind}, not sections of settings", hint="Start from config.example.yaml."
        )
    layer = Layer()
    _read_section((), root, layer, problems, origin)
    layer.values = {key: replace(given, file=path) for key, given in layer.values.items()}
    return layer


def _compose(text: str, name: str) -> Node | None:
    try:
        return yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        reason = _without_names(f"{error.context or ''} {error.problem or ''}".strip())
        raise ConfigError(
            f"{name}{place}: is not YAML: {printable(reason)}",
            hint="Indent with spaces; put values in quotes that hold ': ' or ' #' or begin with * & ! % @ or `.",
        ) from None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise ConfigError(f"{name}, line {line}: holds a control character that YAML does not allow") from None
    except RecursionError:
        raise ConfigError(f"{name}: is nested too deeply to be a configuration file") from None


def _without_names(reason: str) -> str:
    """PyYAML quotes names from the file (anchors, tags), and a secret that begins with * or & would be one. Its own
    quotes of single signs and of <token> names stay."""
    return re.sub(r"\s*(['\"])(.+?)\1", lambda m: m[0] if re.fullmatch(r"\W|<[a-z ]+>", m[2]) else "", reason)


def _entries(
    section: Path, node: MappingNode, problems: list[Problem], origin: Origin
) -> Iterator[tuple[str, Node, Node]]:
    """The keys of a mapping that are text and come for the first time."""
    first_lines: dict[str, int] = {}
    for key_node, value_node in node.value:
        if not isinstance(key_node, ScalarNode):
            problems.append(Problem(origin(key_node), "a key must be a plain word"))
        elif key_node.value in first_lines:
            name = one_line(".".join((*section, key_node.value)))
            text = f"{name} is given twice, first in line {first_lines[key_node.value]}"
            problems.append(Problem(origin(key_node), text, "Remove one of them."))
        else:
            first_lines[key_node.value] = key_node.start_mark.line + 1
            yield key_node.value, key_node, value_node


def _read_section(section: Path, node: MappingNode, layer: Layer, problems: list[Problem], origin: Origin) -> None:
    layer.sections[section] = origin(node)
    for key, key_node, value_node in _entries(section, node, problems, origin):
        path = (*section, key)
        if path in settings():
            given = _read_value(settings()[path], value_node, problems, origin)
            # Null is how YAML spells that there is no value: the same as leaving the key out, where that may be.
            if given is not None and not (given.value is None and settings()[path].optional):
                layer.values[path] = given
        elif path not in sections():
            text = f"{one_line('.'.join(path))} is not a setting"
            problems.append(Problem(origin(key_node), text, hint_for_key(section, key)))
        elif isinstance(value_node, MappingNode):
            _read_section(path, value_node, layer, problems, origin)
        elif not (isinstance(value_node, ScalarNode) and value_node.tag == f"{_TAG}null"):
            # A section whose settings are all commented out is nothing to YAML, and fine.
            text = f"{'.'.join(path)} is a section, not a setting"
            problems.append(Problem(origin(value_node), text, "Its settings go below it, indented."))


def _read_value(setting: Setting, node: Node, problems: list[Problem], origin: Origin) -> Given | None:
    many = isinstance(node, SequenceNode) and setting.kind in ("list", "texts")
    scalars: list[ScalarNode] = []
    for part in node.value if many else [node]:
        if not isinstance(part, ScalarNode):
            kind = "a list" if isinstance(part, SequenceNode) else "a section"
            text = f"{setting.name} must be {setting.expects}, not {f'a list that holds {kind}' if many else kind}"
            problems.append(Problem(origin(node), text))
            return None
        if part.tag not in _PLAIN_TAGS:
            text = f"{setting.name} has a YAML tag (!...), which means nothing here"
            problems.append(Problem(origin(node), text))
            return None
        scalars.append(part)
    hint = next((hint for hint in (_quote_hint(setting, scalar) for scalar in scalars) if hint), "")
    values = tuple(_scalar(scalar) for scalar in scalars)
    return Given(values if many else values[0], origin(node), hint)


def _scalar(node: ScalarNode) -> object:
    text: str = node.value
    if node.tag == f"{_TAG}null":
        return None
    if node.tag == f"{_TAG}bool":
        return text.lower() in _TRUE
    value: object = None
    if node.tag == f"{_TAG}int":
        value = whole_number(text)
    elif node.tag == f"{_TAG}float":
        value = number(text)
    return text if value is None else value


def _quote_hint(setting: Setting, node: ScalarNode) -> str:
    guess = _GUESSES.get(node.tag)
    if guess is None or setting.kind in ("boolean", "integer", "number"):
        return ""
    if setting.secret:
        return f"YAML takes this value for {guess}: write it in quotes."
    word = one_line(node.value)
    return f'YAML takes {word} for {guess}: write "{word}", in quotes.'
