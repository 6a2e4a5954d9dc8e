"""The configuration: one typed model (`model`), read from files and the environment (`load`)."""

from __future__ import annotations

from datastore_dumper.config.load import LoadedConfig, load, load_config
from datastore_dumper.config.model import Config

__all__ = ["Config", "LoadedConfig", "load", "load_config"]
