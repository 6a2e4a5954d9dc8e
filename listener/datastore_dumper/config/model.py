"""The typed configuration: every setting, its bounds and its description, once. `load` knows where values come from.

The example file, the reference page, the environment variables and the error messages are made from these models
(`fields`, `example`), so a setting is added here and nowhere else. Durations are seconds, and say so in their names.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr, model_validator

from datastore_dumper.config import rules
from datastore_dumper.formats import file_format_names

# Signature Version 4 refuses presigned links that live longer than 7 days.
_MAX_LINK_EXPIRY_SECONDS = 7 * 24 * 3600
_DAY_SECONDS = 24 * 3600

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


class DatabaseConfig(Section):
    """The DataStore's database, on the primary, and a standby that exports may read."""

    dsn: Dsn = Field(
        description="How to connect: a libpq URI or keywords. With a password in it, better kept in dsn_file.",
        examples=["postgresql://datastore_dumper@localhost/datastore_default"],
    )
    dsn_file: SecretFile | None = Field(
        default=None,
        description="A file that holds the connection string, instead of dsn. A bare name is a systemd credential.",
        examples=["/etc/datastore-dumper/dsn"],
    )
    connect_timeout_seconds: int = Field(
        default=10, ge=1, le=600, description="How long one attempt to connect may take."
    )
    replica_dsn: Dsn | None = Field(
        default=None,
        description=(
            "How to connect to the same database on one streaming standby of the primary. Exports then read there, and on "
            "the primary when the standby will not do. Not a balanced endpoint: an export's sessions must meet on one server."
        ),
        examples=["postgresql://datastore_dumper@standby/datastore_default"],
    )
    replica_dsn_file: SecretFile | None = Field(
        default=None,
        description="A file that holds that connection string, instead of replica_dsn. A bare name is a systemd credential.",
        examples=["/etc/datastore-dumper/replica-dsn"],
    )
    replica_wait_seconds: float = Field(
        default=5,
        ge=0,
        le=600,
        description="How long an export waits for the standby to catch up before it reads the primary.",
    )


class RolesConfig(Section):
    """Database roles that `install` grants rights to. A role that is not named gets none."""

    daemon: RoleName | None = Field(
        default=None, description="The role that the daemon connects as.", examples=["datastore_dumper"]
    )
    ckan_write: RoleName | None = Field(
        default=None, description="The role in CKAN's ckan.datastore.write_url.", examples=["ckan_default"]
    )
    ckan_read: RoleName | None = Field(
        default=None,
        description=(
            "The role in CKAN's ckan.datastore.read_url. It may look up published files, and exports take over its "
            "settings (DateStyle, TimeZone and the like), because they show in CKAN's bytes."
        ),
        examples=["datastore_default"],
    )


class CkanConfig(Section):
    """The CKAN whose dumps the files must equal, byte for byte."""

    compat: Compat = Field(
        default="2.12", description="CKAN's minor version. Files of another version are not handed out."
    )
    ms_in_timestamp: bool = Field(
        default=True, description="CKAN's ckan.datastore.ms_in_timestamp: milliseconds in timestamps (CKAN 2.12 on)."
    )
    url: WebAddress | None = Field(
        default=None,
        description="Where CKAN is (its ckan.site_url). Only `check` asks there, for CKAN's release and plugins.",
        examples=["https://portal.example.org"],
    )


class DebounceConfig(Section):
    """How long changes are gathered before a table is dumped again."""

    quiet_seconds: float = Field(
        default=30,
        ge=0,
        le=_DAY_SECONDS,
        description="How long a table must not have changed before it is dumped again.",
    )
    max_delay_seconds: float = Field(
        default=600,
        ge=0,
        le=7 * _DAY_SECONDS,
        description="The age of its oldest unpublished change at which a table is dumped again however busy it is.",
    )

    @model_validator(mode="after")
    def _check_order(self) -> DebounceConfig:
        if self.max_delay_seconds < self.quiet_seconds:
            raise rules.wrong(
                f"must not be less than debounce.quiet_seconds ({self.quiet_seconds:g})", key="max_delay_seconds"
            )
        return self


class LookConfig(Section):
    """How often the daemon looks for work without having been called."""

    interval_seconds: float = Field(
        default=2, ge=0.1, le=60, description="How often to look for due tables when no notification comes."
    )
    reconcile_interval_seconds: float = Field(
        default=60, ge=1, le=_DAY_SECONDS, description="How often to compare tables and triggers with what should be."
    )


class ExportConfig(Section):
    """How tables become files."""

    formats: FormatNames = Field(
        default=("csv", "csv-bom"),
        strict=False,
        min_length=1,
        description=(
            "The files made of each table. The buttons on CKAN's pages ask for csv-bom, tsv-bom, json and xml. "
            "Installed extensions may offer more."
        ),
    )
    header: Literal["names", "labels"] = Field(
        default="names",
        description=(
            "What the first line of CSV and TSV has: names of columns, as CKAN, or labels from the data dictionary. Files "
            "with labels are handed out only if the plugin's setting alterations says labels, too."
        ),
    )
    omit_id: bool = Field(
        default=False,
        description=(
            "Whether CSV and TSV lack the column _id, which CKAN's have. Such files are handed out only if the plugin's "
            "setting alterations says omit_id, too."
        ),
    )
    concurrency: int = Field(default=2, ge=1, le=64, description="How many tables are exported at once.")
    segment_bytes: int = Field(
        default=8 * 1024 * 1024,
        ge=64 * 1024,
        le=1024 * 1024 * 1024,
        description="About how long a segment is: what a change makes us read again, and what a table is locked for.",
    )
    first_dumps_per_minute: int | None = Field(
        default=None,
        ge=1,
        le=100_000,
        description=(
            "How many tables that have no files yet are exported in a minute by this daemon, at the most. They come after "
            "those whose files went stale in any case. Not set: as many as there are places."
        ),
        examples=[60],
    )
    workers: int = Field(
        default=2, ge=1, le=64, description="Processes that export segments of large tables, for all of them together."
    )
    lock_timeout_seconds: float = Field(
        default=2,
        ge=0.01,
        le=10,
        description="How long an export may wait for a table's lock before it steps back and tries later.",
    )
    spool_directory: AbsolutePath | None = Field(
        default=None,
        description="Where exported segments wait for the storage. Not set: the system's temporary directory.",
        examples=["/var/cache/datastore-dumper"],
    )
    retry_initial_seconds: float = Field(
        default=5,
        ge=0.1,
        le=3600,
        description="Pause after a table's first failed export. It doubles with each further failure.",
    )
    retry_max_seconds: float = Field(
        default=600, ge=0.1, le=_DAY_SECONDS, description="The longest pause between attempts."
    )

    @model_validator(mode="after")
    def _check_order(self) -> ExportConfig:
        if self.retry_max_seconds < self.retry_initial_seconds:
            raise rules.wrong(
                f"must not be less than export.retry_initial_seconds ({self.retry_initial_seconds:g})",
                key="retry_max_seconds",
            )
        return self


class TablesConfig(Section):
    """Which tables get files. Patterns are of resource ids, in which * stands for any characters and ? for one."""

    policy: Literal["always", "on_demand"] = Field(
        default="always",
        description=(
            "With always, every table that is chosen below gets files. With on_demand, those that somebody asks CKAN for; "
            "the first to ask gets CKAN's own dump."
        ),
    )
    unasked_days: int = Field(
        default=30,
        ge=1,
        le=3650,
        description="With on_demand: after so many days in which nobody asked for a table, its files are removed.",
    )
    include: Annotated[tuple[Pattern, ...], AfterValidator(rules.unique)] = Field(
        default=("*",), strict=False, min_length=1, description="Tables that one of these patterns fits get files."
    )
    exclude: Annotated[tuple[Pattern, ...], AfterValidator(rules.unique)] | None = Field(
        default=None,
        strict=False,
        min_length=1,
        description="But not those that one of these fits.",
        examples=[("tmp-*", "????-test")],
    )
    min_rows: int = Field(
        default=0,
        ge=0,
        le=1_000_000_000,
        description="The fewest rows that are worth a file. A table that has files keeps them down to half of that.",
    )
    min_bytes: int = Field(
        default=0,
        ge=0,
        le=1024**4,
        description="The least size in Postgres, indexes apart, that is worth a file. With files: half of that.",
    )
    formats: tuple[FormatRule, ...] | None = Field(
        default=None,
        strict=False,
        min_length=1,
        description=(
            "Formats of single tables: a pattern, =, formats with spaces between. The first pattern that fits counts, and "
            "export.formats where none does."
        ),
        examples=[("stops-*=csv csv-bom parquet",)],
    )


class LeaseConfig(Section):
    """How several daemons share the work."""

    ttl_seconds: float = Field(
        default=20,
        ge=2,
        le=3600,
        description="How long a table stays reserved for a daemon that no longer answers.",
    )


class DiskConfig(Section):
    """A directory of this machine. Read if storage.type is disk."""

    directory: AbsolutePath = Field(
        description="Where the files are kept. It must exist, and nothing else belongs there.",
        examples=["/var/lib/datastore-dumper/files"],
    )


class S3Config(Section):
    """A bucket of an S3 service. Read if storage.type is s3."""

    endpoint: Endpoint = Field(default="s3.amazonaws.com", description="Host or host:port of the service.")
    secure: bool = Field(default=True, description="Whether to speak https to the endpoint.")
    public_endpoint: Endpoint | None = Field(
        default=None,
        description="Host or host:port that browsers reach the service by. Not set: the endpoint.",
        examples=["files.example.org"],
    )
    public_secure: bool | None = Field(
        default=None, description="Whether links to the public endpoint are https. Not set: as secure.", examples=[True]
    )
    bucket: Bucket = Field(description="The bucket. It must exist and be private.", examples=["ckan-dumps"])
    prefix: Prefix = Field(
        default="datastore-dumps",
        description="What all keys begin with. Nothing else belongs below it, for unreferenced objects are deleted.",
    )
    region: str | None = Field(
        default=None,
        min_length=1,
        description="The region to sign for. Not set: the one in an AWS endpoint's name, else us-east-1.",
        examples=["eu-central-1"],
    )
    access_key: str | None = Field(
        default=None,
        min_length=1,
        description="Access key. Not set: taken from AWS's environment variables and files or the machine's role.",
        examples=["AKIAIOSFODNN7EXAMPLE"],
    )
    secret_key: SecretStr | None = Field(
        default=None,
        min_length=1,
        description="Secret key, better kept in secret_key_file.",
        examples=["wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"],
    )
    secret_key_file: SecretFile | None = Field(
        default=None,
        description="A file that holds the secret key, instead of secret_key. A bare name is a systemd credential.",
        examples=["/etc/datastore-dumper/secret-key"],
    )
    session_token: SecretStr | None = Field(
        default=None,
        min_length=1,
        description="Session token of temporary credentials. Links die with it.",
        examples=["FwoGZXIvYXdzEXAMPLETOKEN"],
    )
    role: str | None = Field(
        default=None,
        min_length=1,
        description="ARN of a role that is assumed with the access key (AWS STS). Links die with its session, after an hour.",
        examples=["arn:aws:iam::123456789012:role/ckan-dumps"],
    )
    ca_file: AbsolutePath | None = Field(
        default=None,
        description="Certificate authorities to trust (PEM). Not set: SSL_CERT_FILE, else the usual public ones.",
        examples=["/etc/ssl/certs/ca-certificates.crt"],
    )
    addressing_style: Literal["auto", "path", "virtual"] = Field(
        default="auto", description="Bucket in the path or in the host name. auto: virtual on AWS, path elsewhere."
    )
    read_timeout_seconds: float = Field(
        default=60,
        ge=1,
        le=3600,
        description="How long the service may be silent before a request is given up, and made again three times.",
    )

    @model_validator(mode="after")
    def _check_credentials(self) -> S3Config:
        if self.access_key and not self.secret_key:
            raise rules.wrong(
                "is set, but storage.s3.secret_key is not", key="access_key", hint="Set both, or neither."
            )
        for key in ("secret_key", "session_token", "role"):
            if getattr(self, key) and not self.access_key:
                raise rules.wrong("is set, but storage.s3.access_key is not", key=key, hint="Set both, or neither.")
        return self


class StorageConfig(Section):
    """Where the files are kept and how long links to them live."""

    type: Literal["disk", "s3"] = Field(
        description="The kind of storage: its section below must be filled in.", examples=["disk"]
    )
    disk: DiskConfig | None = Field(default=None)
    s3: S3Config | None = Field(default=None)
    link_expiry_seconds: int = Field(
        default=300, ge=1, le=_MAX_LINK_EXPIRY_SECONDS, description="How long a link to a file can be followed."
    )
    grace_seconds: int = Field(
        default=3600,
        ge=0,
        le=30 * _DAY_SECONDS,
        description="How long a superseded file is kept after the last link to it expired, for downloads under way.",
    )

    @model_validator(mode="after")
    def _check_section(self) -> StorageConfig:
        if self.type == "disk" and self.disk is None:
            raise rules.wrong("is disk, but storage.disk.directory is not set", key="type")
        if self.type == "s3" and self.s3 is None:
            raise rules.wrong("is s3, but storage.s3.bucket is not set", key="type")
        return self


class LogConfig(Section):
    """What the daemon writes to its standard error."""

    format: Literal["auto", "json", "console"] = Field(
        default="auto", description="One JSON object per line, or text for people. auto: text on a terminal, else JSON."
    )
    level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="The least important events that are written."
    )


class MonitorConfig(Section):
    """How the daemon can be watched."""

    listen: ListenAddress | None = Field(
        default=None,
        description=(
            "Where /metrics, /livez and /readyz are answered: an address and port of this machine. Whoever reaches it may "
            "read them. Not set: nowhere."
        ),
        examples=["127.0.0.1:9878"],
    )
    heartbeat_url: SecretWebAddress | None = Field(
        default=None,
        description=(
            "A URL that is called (GET) after each round of housekeeping (look.reconcile_interval_seconds) while the daemon "
            "can do its work, for a service that raises the alarm when the calls stay away."
        ),
        examples=["https://heartbeat.example.org/0f3a"],
    )
    heartbeat_url_file: SecretFile | None = Field(
        default=None,
        description="A file that holds that URL, instead of heartbeat_url. A bare name is a systemd credential.",
        examples=["/etc/datastore-dumper/heartbeat-url"],
    )


class Config(Section):
    """Datastore Dumper's configuration."""

    database: DatabaseConfig
    roles: RolesConfig = RolesConfig()
    ckan: CkanConfig = CkanConfig()
    debounce: DebounceConfig = DebounceConfig()
    look: LookConfig = LookConfig()
    export: ExportConfig = ExportConfig()
    tables: TablesConfig = TablesConfig()
    lease: LeaseConfig = LeaseConfig()
    storage: StorageConfig
    log: LogConfig = LogConfig()
    monitor: MonitorConfig = MonitorConfig()
    shutdown_timeout_seconds: float = Field(
        default=30,
        ge=0,
        le=3600,
        description="How long running exports may take to finish after SIGTERM before they are given up.",
    )
