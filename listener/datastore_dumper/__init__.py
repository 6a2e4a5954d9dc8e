"""Datastore Dumper: one file per change of a CKAN DataStore table.

The main path is one sentence, and each verb is one module: `look` for changes, decide what is `due`, `claim` it,
`export` it under one snapshot, put it into `storage`, `publish` it.
"""

__version__ = "0.1.0"
