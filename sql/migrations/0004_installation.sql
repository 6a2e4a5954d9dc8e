-- Whose files the storage holds. A copy of this database carries the row along; the mark in the storage tells it apart.

CREATE TABLE datastore_dumper.installation (
    only_one boolean PRIMARY KEY DEFAULT true CHECK (only_one),
    id uuid NOT NULL DEFAULT gen_random_uuid(),
    marked_at timestamptz,
    seal uuid NOT NULL DEFAULT gen_random_uuid(),
    next_seal uuid NOT NULL DEFAULT gen_random_uuid(),
    next_seal_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    conflict text
);
COMMENT ON TABLE datastore_dumper.installation IS
    'One row: the id that this database shares with the mark in its storage (docs/explanation/copies.md).';
COMMENT ON COLUMN datastore_dumper.installation.marked_at IS 'When the storage was seen to have the id. NULL: not yet.';
COMMENT ON COLUMN datastore_dumper.installation.next_seal IS
    'The seal that the mark gets next, some minutes after it was written here: standbys have it by then.';
COMMENT ON COLUMN datastore_dumper.installation.conflict IS
    'Why nothing is published and no file is fresh: the storage is not, or no longer, this database''s.';
INSERT INTO datastore_dumper.installation DEFAULT VALUES;
