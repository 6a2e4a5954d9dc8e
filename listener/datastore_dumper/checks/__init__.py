"""What `datastore-dumper check` looks at: one module for each kind, `run` for the order, `report` for how it is shown."""
