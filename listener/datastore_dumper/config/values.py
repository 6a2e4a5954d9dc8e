"""What settings are made of: the kinds of values that need a rule, and what all sections have in common."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr

from datastore_dumper.config import rules
from datastore_dumper.formats import file_format_names

DAY_SECONDS = 24 * 3600

AbsolutePath = Annotated[Path, Field(strict=False), AfterValidator(rules.absolute)]
SecretFile = Annotated[Path, Field(strict=False)]
"""A file that holds the secret of the setting named without `_file`: `secret_files` has the rule for its name."""
Dsn = Annotated[SecretStr, AfterValidator(rules.dsn)]
RoleName = Annotated[str, Field(min_length=1), AfterValidator(rules.role)]
Endpoint = Annotated[str, AfterValidator(rules.endpoint)]
WebAddress = Annotated[str, AfterValidator(rules.web_address)]
SecretWebAddress = Annotated[SecretStr, AfterValidator(rules.secret_web_address)]
ListenAddress = Annotated[str, AfterValidator(rules.listen_address)]
Bucket = Annotated[str, AfterValidator(rules.bucket)]
Prefix = Annotated[str, AfterValidator(rules.prefix)]
Compat = Literal["2.10", "2.11", "2.12"]
if TYPE_CHECKING:
    FormatName = str
else:
    FormatName = Literal[file_format_names()]  # whatever formats are installed
Pattern = Annotated[str, AfterValidator(rules.pattern)]
FormatRule = Annotated[str, AfterValidator(rules.format_rule)]
FormatNames = Annotated[tuple[FormatName, ...], AfterValidator(rules.unique), AfterValidator(rules.loadable_formats)]


class Section(BaseModel):
    """A group of settings: immutable, strictly typed, and without room for keys that nobody reads."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        strict=True,
        validate_default=True,
        hide_input_in_errors=True,
    )
