-- The tables of the schema datastore_dumper. Never in "public": CKAN lists, grants and purges what it finds there.
-- Runs once. Functions and views are not here: sql/install/ replaces them at every install.

CREATE TABLE datastore_dumper.setting (
    name text PRIMARY KEY,
    value text NOT NULL
);
COMMENT ON TABLE datastore_dumper.setting IS
    'What the installation was told: the names of the roles it granted rights to.';

-- A row says: transaction xid touched rows of relid whose _id >> 13 is bucket. It is committed with the rows it speaks
-- of, or not at all. xid is part of the key, so two transactions never meet on a row and nobody waits here.
CREATE TABLE datastore_dumper.change (
    relid oid NOT NULL,
    xid xid8 NOT NULL,
    bucket bigint NOT NULL,
    changed_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (relid, xid, bucket)
) WITH (
    -- A queue: rows live for seconds. Vacuum by count, not by share of the table.
    autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000,
    autovacuum_vacuum_insert_threshold = -1, autovacuum_vacuum_cost_delay = 0
);
COMMENT ON TABLE datastore_dumper.change IS
    'Written by the triggers, deleted by publishing. Bucket -1 means the whole table.';

CREATE TABLE datastore_dumper.doorbell (
    id boolean PRIMARY KEY DEFAULT true CHECK (id),
    rang_at timestamptz NOT NULL DEFAULT '-infinity'
) WITH (fillfactor = 10, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 200);
COMMENT ON TABLE datastore_dumper.doorbell IS
    'One row: when the last NOTIFY was sent. Whoever can lock it may ring; nobody waits for it.';
INSERT INTO datastore_dumper.doorbell DEFAULT VALUES;

CREATE TABLE datastore_dumper.resource (
    relid oid PRIMARY KEY,
    resource_id text NOT NULL,
    lease_owner text,
    lease_epoch bigint NOT NULL DEFAULT 0,
    lease_until timestamptz,
    attempts integer NOT NULL DEFAULT 0,
    retry_at timestamptz,
    last_error text,
    exporting_since timestamptz,
    exported_rows bigint,
    expected_rows bigint
);
COMMENT ON TABLE datastore_dumper.resource IS
    'The DataStore tables that are looked after, who exports them now, and what went wrong last.';

CREATE TABLE datastore_dumper.dump_status (
    resource_id text NOT NULL,
    format text NOT NULL,
    relid oid NOT NULL,
    storage_key text NOT NULL UNIQUE,
    etag text NOT NULL,
    bytes bigint NOT NULL,
    rows bigint NOT NULL,
    digest text NOT NULL,
    content_type text NOT NULL,
    compat text NOT NULL,
    snapshot text NOT NULL,
    lsn pg_lsn NOT NULL,
    timeline integer NOT NULL,
    signature text NOT NULL,
    filenode oid NOT NULL,
    manifest jsonb NOT NULL,
    generated_at timestamptz NOT NULL,
    published_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    duration_seconds double precision NOT NULL,
    PRIMARY KEY (resource_id, format)
);
CREATE INDEX dump_status_relid ON datastore_dumper.dump_status (relid);
COMMENT ON TABLE datastore_dumper.dump_status IS
    'The contract with the CKAN plugin: one row for each published file. Read it through lookup().';
COMMENT ON COLUMN datastore_dumper.dump_status.compat IS
    'The CKAN release whose bytes these are; "-noms" where timestamps carry no milliseconds.';
COMMENT ON COLUMN datastore_dumper.dump_status.generated_at IS 'When the snapshot was taken: the time of the state shown.';
COMMENT ON COLUMN datastore_dumper.dump_status.signature IS 'signature() of the table as exported.';
COMMENT ON COLUMN datastore_dumper.dump_status.digest IS
    'SHA-256 over the SHA-256 of the head, of each segment and of the tail: equal digests mean equal files.';

-- Objects to delete, superseded or abandoned. A key is put here before its object is written and taken out when the
-- object is published, so a process that dies in between leaves nothing that is not listed here.
CREATE TABLE datastore_dumper.garbage (
    key text PRIMARY KEY,
    delete_after timestamptz NOT NULL
);
CREATE INDEX garbage_delete_after ON datastore_dumper.garbage (delete_after);
COMMENT ON TABLE datastore_dumper.garbage IS 'Storage keys that nobody points to, and when their objects may go.';
