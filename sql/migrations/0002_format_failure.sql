-- Formats that cannot show a table: a column of a type they do not know, or a value that CKAN's own dump fails on.

CREATE TABLE datastore_dumper.format_failure (
    resource_id text NOT NULL,
    format text NOT NULL,
    relid oid NOT NULL,
    signature text NOT NULL,
    filenode oid NOT NULL,
    compat text NOT NULL,
    error text NOT NULL,
    failed_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (resource_id, format)
);
COMMENT ON TABLE datastore_dumper.format_failure IS
    'Formats in which the table as last exported cannot be had, and why. It stays so until the table changes.';
