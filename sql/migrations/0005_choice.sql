-- Which tables get files: what was decided for each, on what grounds, and when a visitor last asked for one.

ALTER TABLE datastore_dumper.resource
    ADD COLUMN choice text CHECK (choice IN ('always', 'on_demand', 'excluded', 'too_small', 'not_asked')),
    ADD COLUMN choice_detail text,
    ADD COLUMN formats text[],
    ADD COLUMN measured_rows bigint,
    ADD COLUMN measured_bytes bigint,
    ADD COLUMN asked_at timestamptz;
COMMENT ON COLUMN datastore_dumper.resource.choice IS
    'Whether files are kept: always or on_demand; excluded, too_small or not_asked: there are none. NULL: not decided yet.';
COMMENT ON COLUMN datastore_dumper.resource.formats IS 'The formats that are wanted; empty where no files are kept.';
COMMENT ON COLUMN datastore_dumper.resource.measured_rows IS 'Of the table, when it was last looked into. Its changes since are change rows.';
COMMENT ON COLUMN datastore_dumper.resource.asked_at IS
    'When somebody last asked for a file, to the hour: ask(). Only where files are kept on demand.';

-- These return more columns now; install makes them again.
DROP FUNCTION IF EXISTS datastore_dumper.status(text);
DROP FUNCTION IF EXISTS datastore_dumper.list(text, text[], text, text, boolean, bigint, bigint);
