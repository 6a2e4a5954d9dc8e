"""The typed configuration: every setting, its bounds and its description, once. `load` knows where values come from.

The example file, the reference page, the environment variables and the error messages are made from these models
(`fields`, `example`), so a setting is added in its section and nowhere else. Durations are seconds, and say so in their
names. `values` has the kinds of values; the sections about storage are in `storage_sections`.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from datastore_dumper.config import rules
from datastore_dumper.config.storage_sections import StorageConfig
from datastore_dumper.config.values import (
    DAY_SECONDS,
    AbsolutePath,
    Compat,
    Dsn,
    FormatNames,
    FormatRule,
    ListenAddress,
    Pattern,
    RoleName,
    SecretFile,
    SecretWebAddress,
    Section,
    WebAddress,
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
        le=DAY_SECONDS,
        description="How long a table must not have changed before it is dumped again.",
    )
    max_delay_seconds: float = Field(
        default=600,
        ge=0,
        le=7 * DAY_SECONDS,
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
        default=60, ge=1, le=DAY_SECONDS, description="How often to compare tables and triggers with what should be."
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
        description="Where exported segments wait for the storage; a Parquet file lies there as a whole. Not set: the system's "
        "temporary directory.",
        examples=["/var/cache/datastore-dumper"],
    )
    retry_initial_seconds: float = Field(
        default=5,
        ge=0.1,
        le=3600,
        description="Pause after a table's first failed export. It doubles with each further failure.",
    )
    retry_max_seconds: float = Field(
        default=600, ge=0.1, le=DAY_SECONDS, description="The longest pause between attempts."
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
