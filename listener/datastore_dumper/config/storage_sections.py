"""The sections of the configuration about storage."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, SecretStr, model_validator

from datastore_dumper.config import rules
from datastore_dumper.config.values import DAY_SECONDS, AbsolutePath, Bucket, Endpoint, Prefix, SecretFile, Section

# Signature Version 4 refuses presigned links that live longer than 7 days.
_MAX_LINK_EXPIRY_SECONDS = 7 * DAY_SECONDS


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
        le=30 * DAY_SECONDS,
        description="How long a superseded file is kept after the last link to it expired, for downloads under way.",
    )

    @model_validator(mode="after")
    def _check_section(self) -> StorageConfig:
        if self.type == "disk" and self.disk is None:
            raise rules.wrong("is disk, but storage.disk.directory is not set", key="type")
        if self.type == "s3" and self.s3 is None:
            raise rules.wrong("is s3, but storage.s3.bucket is not set", key="type")
        return self
