-- An export: what the snapshot shows, and the check that keeps TRUNCATE and DDL from tearing it.

-- name: filenode
-- Before the snapshot is taken: a TRUNCATE that commits in between then shows as a difference later.
SELECT pg_catalog.pg_relation_filenode(%(relid)s);

-- name: begin_snapshot
BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY;

-- name: export_snapshot
-- The transaction's first statement, which takes the snapshot. On a standby its text lacks the transactions that were in
-- progress: Postgres keeps those of the primary elsewhere. So nothing is decided by it.
SELECT pg_catalog.pg_export_snapshot(), pg_catalog.pg_current_snapshot()::text;

-- name: wal_position
-- On the primary, after the snapshot was taken: whatever the snapshot shows was committed before this position. The
-- position of a standby's replay would not do: a commit is visible there before the position moves past it. The timeline
-- is taken from the name of the WAL file because pg_control_checkpoint() still has the old one after a promotion.
SELECT
    lsn::text,
    ('x' || left(pg_catalog.pg_walfile_name(lsn), 8))::bit(32)::integer AS timeline,
    pg_catalog.pg_postmaster_start_time() AS server_started_at
FROM pg_catalog.pg_current_wal_insert_lsn() AS lsn;

-- name: same_history
-- When publishing: whether this is still the server that the snapshot was taken of, or that vouched for it. After a crash,
-- a failover or a restore, what the snapshot showed may never have happened.
SELECT pg_catalog.pg_postmaster_start_time() = %(server_started_at)s
    AND ('x' || left(pg_catalog.pg_walfile_name(lsn), 8))::bit(32)::integer = %(timeline)s
    AND lsn >= %(lsn)s::pg_lsn
FROM pg_catalog.pg_current_wal_insert_lsn() AS lsn;

-- name: table_state
-- generated_at is when the transaction began: every commit before it is in the snapshot.
SELECT
    t.resource_id,
    datastore_dumper.signature(t.relid) AS signature,
    pg_catalog.transaction_timestamp() AS generated_at,
    greatest((SELECT reltuples FROM pg_catalog.pg_class WHERE oid = t.relid), 0)::bigint AS estimated_rows,
    datastore_dumper.sound_triggers(t.relid) = 4 AS is_watched
FROM datastore_dumper.datastore_table AS t
WHERE t.relid = %(relid)s;

-- name: columns
-- The columns CKAN shows, _id first: it leaves out what starts with an underscore
-- (ckanext/datastore/backend/postgres.py, _get_fields). A domain shows as its base type, as it does in the row
-- description that CKAN takes the type from. (OFFSET 0: by index. Each table brings two types, and all of them would be
-- read.)
WITH RECURSIVE resolved AS (
    SELECT a.attnum, a.attname, a.attndims::int AS dimensions, a.atttypid AS type, a.atttypmod AS typmod
    FROM pg_catalog.pg_attribute AS a
    WHERE a.attrelid = %(relid)s AND a.attnum > 0 AND NOT a.attisdropped
        AND (a.attname = '_id' OR a.attname NOT LIKE '\_%%')
    UNION ALL
    SELECT r.attnum, r.attname, t.typndims, t.typbasetype, t.typtypmod
    FROM resolved AS r
    CROSS JOIN LATERAL (SELECT * FROM pg_catalog.pg_type WHERE oid = r.type OFFSET 0) AS t
    WHERE t.typtype = 'd'
)
SELECT
    r.attname::text,
    t.typname::text,
    pg_catalog.col_description(%(relid)s, r.attnum) AS comment,
    r.typmod,
    r.dimensions
FROM resolved AS r
CROSS JOIN LATERAL (SELECT * FROM pg_catalog.pg_type WHERE oid = r.type OFFSET 0) AS t
WHERE t.typtype <> 'd'
ORDER BY r.attname <> '_id', r.attnum;

-- name: changes_seen
SELECT xid::text, bucket FROM datastore_dumper.change WHERE relid = %(relid)s;

-- name: same_storage
-- Under the table's lock. Both functions read the newest catalog rows, not the snapshot's: after a TRUNCATE or a
-- rewriting ALTER the snapshot would silently show an empty table (PostgreSQL: "MVCC Caveats").
SELECT pg_catalog.pg_relation_filenode(%(relid)s) = %(filenode)s
    AND pg_catalog.to_regclass(%(name)s)::oid = %(relid)s;

-- name: same_columns
-- From another session while the lock is held, so that a column that was renamed or retyped since the snapshot shows.
-- The table may also have become one that we leave to CKAN (row security, inheritance).
SELECT datastore_dumper.signature(%(relid)s) = %(signature)s
    AND EXISTS (SELECT FROM datastore_dumper.datastore_table AS t WHERE t.relid = %(relid)s);

-- name: heap_bytes
-- Under the table's lock, for it takes one itself. It shrinks only by what no snapshot shows any more.
SELECT pg_catalog.pg_relation_size(%(relid)s);

-- name: measure
-- The rows, unless they are so many, and the bytes. {table} is put in, quoted.
SELECT
    (SELECT nullif(count(*), %(most)s) FROM (SELECT FROM {table} LIMIT %(most)s) AS t),
    pg_catalog.pg_table_size(%(relid)s);

-- name: boundaries_by_id
-- The first bucket that has rows from an id on, and then the first that has any so many buckets later. Where ids have few
-- gaps that is what `boundaries` finds by counting rows, and it looks at one row for each.
WITH RECURSIVE start (id) AS (
    (
        SELECT t._id::bigint FROM {table} AS t
        WHERE t._id >= %(first_id)s AND t._id <= %(last_id)s ORDER BY t._id LIMIT 1
    )
    UNION ALL
    SELECT (
        SELECT t._id::bigint FROM {table} AS t
        WHERE t._id >= ((s.id >> 13) + %(buckets)s) << 13 AND t._id <= %(last_id)s
        ORDER BY t._id LIMIT 1
    )
    FROM start AS s
    WHERE (s.id >> 13) + %(buckets)s <= %(last_id)s >> 13
)
SELECT id >> 13 AS bucket FROM start WHERE id IS NOT NULL LIMIT %(most)s;

-- name: boundaries
-- The first bucket that has rows from an id on, and then the bucket of each row that comes so many rows later. Walks the
-- index of _id, so gaps of any width cost nothing; LIMIT ends the recursion. {table} is put in, quoted.
WITH RECURSIVE start (id) AS (
    (
        SELECT t._id::bigint FROM {table} AS t
        WHERE t._id >= %(first_id)s AND t._id <= %(last_id)s ORDER BY t._id LIMIT 1
    )
    UNION ALL
    SELECT (
        SELECT t._id::bigint FROM {table} AS t
        WHERE t._id >= greatest(((s.id >> 13) + 1) << 13, (n.id >> 13) << 13) AND t._id <= %(last_id)s
        ORDER BY t._id LIMIT 1
    )
    FROM start AS s
    CROSS JOIN LATERAL (
        SELECT _id::bigint AS id FROM {table} WHERE _id >= s.id AND _id <= %(last_id)s
        ORDER BY _id OFFSET %(rows)s LIMIT 1
    ) AS n
    WHERE s.id IS NOT NULL
)
SELECT id >> 13 AS bucket FROM start WHERE id IS NOT NULL LIMIT %(most)s;
