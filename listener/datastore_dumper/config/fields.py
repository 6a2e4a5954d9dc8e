"""The list of all settings, taken from the model: name, environment variable, type, bounds, default, description.

Whatever must know "every setting" (sources, messages, the example file, the reference page) asks here.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path as FilePath
from types import UnionType
from typing import Annotated, Literal, Union, get_args, get_origin

from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo

from datastore_dumper.config.model import Config
from datastore_dumper.config.values import Section

VARIABLE_PREFIX = "DATASTORE_DUMPER_"
_UNITS = ("seconds", "bytes", "rows", "days")

Path = tuple[str, ...]
"""Where a setting or section is in the model: `("storage", "s3", "bucket")`."""
Kind = Literal["boolean", "choice", "integer", "list", "number", "path", "text", "texts"]


@dataclass(frozen=True)
class Setting:
    """One setting of the model."""

    path: Path
    kind: Kind
    choices: tuple[str, ...]
    """The allowed values of a choice, or of the items of a list."""
    secret: bool
    info: FieldInfo

    @property
    def name(self) -> str:
        return ".".join(self.path)

    @property
    def variable(self) -> str:
        """The environment variable that sets it."""
        return VARIABLE_PREFIX + "__".join(self.path).upper()

    @property
    def description(self) -> str:
        return self.info.description or ""

    @property
    def required(self) -> bool:
        return self.info.is_required()

    @property
    def optional(self) -> bool:
        """Whether it may have no value at all."""
        return self.info.default is None

    @property
    def default(self) -> object:
        """The value if nobody gives one; None both for "no value" and for a required setting."""
        return None if self.required else self.info.default

    @property
    def example(self) -> object:
        """What the example file shows: the default, or else an invented value."""
        return self.info.examples[0] if self.info.examples else self.default

    @property
    def unit(self) -> str:
        last_word = self.path[-1].rpartition("_")[2]
        return last_word if last_word in _UNITS else ""

    @property
    def expects(self) -> str:
        """What a right value is, to go into "must be ..."."""
        if self.kind in ("integer", "number"):
            noun = "a whole number" if self.kind == "integer" else "a number"
            lowest = next(bound.ge for bound in self.info.metadata if hasattr(bound, "ge"))
            highest = next(bound.le for bound in self.info.metadata if hasattr(bound, "le"))
            return f"{noun}{f' of {self.unit}' if self.unit else ''} from {lowest} to {highest}"
        return {
            "boolean": "true or false",
            "choice": f"one of {', '.join(self.choices)}",
            "list": f"a list of at least one of {', '.join(self.choices)}",
            "path": "a path",
            "text": "text that is not empty",
            "texts": "a list of text",
        }[self.kind]


@dataclass(frozen=True)
class SectionInfo:
    """One section of the model. The path of the outermost is empty."""

    path: Path
    description: str
    required: bool
    """False: it may be left out, and then it has no value at all (`storage.s3`)."""


def _without_none(annotation: object) -> object:
    while get_origin(annotation) is Annotated:
        annotation = get_args(annotation)[0]
    if get_origin(annotation) in (Union, UnionType):
        (annotation,) = (member for member in get_args(annotation) if member is not type(None))
        return _without_none(annotation)
    return annotation


def _kind(annotation: object) -> tuple[Kind, tuple[str, ...]]:
    if get_origin(annotation) is Literal:
        return "choice", get_args(annotation)
    if get_origin(annotation) is tuple:
        choices = get_args(_without_none(get_args(annotation)[0]))
        return "list" if choices else "texts", choices
    kinds: dict[object, Kind] = {
        bool: "boolean",
        int: "integer",
        float: "number",
        FilePath: "path",
        str: "text",
        SecretStr: "text",
    }
    return kinds[annotation], ()


def _walk(model: type[BaseModel], path: Path, required: bool) -> Iterator[Setting | SectionInfo]:
    yield SectionInfo(path, (model.__doc__ or "").strip(), required)
    for name, info in model.model_fields.items():
        annotation = _without_none(info.annotation)
        here = (*path, name)
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            yield from _walk(annotation, here, required=annotation is info.annotation)
        else:
            kind, choices = _kind(annotation)
            yield Setting(here, kind, choices, annotation is SecretStr, info)


@cache
def outline() -> tuple[Setting | SectionInfo, ...]:
    """All sections and settings in the model's order, each section before what is in it."""
    return tuple(_walk(Config, (), required=True))


@cache
def settings() -> dict[Path, Setting]:
    """All settings by their path."""
    return {entry.path: entry for entry in outline() if isinstance(entry, Setting)}


@cache
def sections() -> dict[Path, SectionInfo]:
    """All sections by their path; the outermost has the path ()."""
    return {entry.path: entry for entry in outline() if isinstance(entry, SectionInfo)}


def value_of(config: Config, path: Path) -> object:
    """What the setting at `path` is in this configuration; None below a section that is left out."""
    value: object = config
    for key in path:
        value = getattr(value, key) if isinstance(value, Section) else None
    return value
