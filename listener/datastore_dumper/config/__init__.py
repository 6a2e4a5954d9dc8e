"""The configuration: one typed model (`model`), read from a file, the environment and the command line (`load`)."""

from __future__ import annotations

from datastore_dumper.config.load import LoadedConfig, load, load_config
from datastore_dumper.config.model import Config

__all__ = ["Config", "LoadedConfig", "load", "load_config"]
