-- Reconciling what the daemon looks after with what is there. Each is one statement over all tables.

-- name: retire_orphans
-- Files of tables that were dropped, recreated or renamed, and of formats that are no longer wanted.
WITH orphan AS (
    DELETE FROM datastore_dumper.dump_status AS s
    WHERE s.format <> ALL (%(formats)s) OR NOT EXISTS (
        SELECT FROM datastore_dumper.datastore_table AS t WHERE t.relid = s.relid AND t.resource_id = s.resource_id
    )
    RETURNING s.resource_id, s.format, s.storage_key
), retired AS (
    INSERT INTO datastore_dumper.garbage (key, delete_after)
    SELECT storage_key, clock_timestamp() + make_interval(secs => %(retain_seconds)s) FROM orphan
    ON CONFLICT (key) DO NOTHING
)
SELECT resource_id, format FROM orphan;

-- name: forget_resources
DELETE FROM datastore_dumper.resource AS r
WHERE NOT EXISTS (SELECT FROM datastore_dumper.datastore_table AS t WHERE t.relid = r.relid)
RETURNING r.resource_id;

-- name: forget_orphan_failures
DELETE FROM datastore_dumper.format_failure AS f
WHERE f.format <> ALL (%(formats)s) OR NOT EXISTS (
    SELECT FROM datastore_dumper.datastore_table AS t WHERE t.relid = f.relid AND t.resource_id = f.resource_id
);

-- name: forget_orphan_changes
-- Not while a file or an export may still rely on them: the statements before may have seen the table in its place (one
-- that is renamed away and back is no orphan at the end).
DELETE FROM datastore_dumper.change AS c
WHERE c.relid = ANY (
    SELECT DISTINCT p.relid FROM datastore_dumper.change AS p
    WHERE NOT EXISTS (SELECT FROM datastore_dumper.datastore_table AS t WHERE t.relid = p.relid)
        AND NOT EXISTS (SELECT FROM datastore_dumper.resource AS r WHERE r.relid = p.relid)
        AND NOT EXISTS (SELECT FROM datastore_dumper.dump_status AS s WHERE s.relid = p.relid)
);

-- name: rename_resources
UPDATE datastore_dumper.resource AS r SET resource_id = t.resource_id
FROM datastore_dumper.datastore_table AS t
WHERE t.relid = r.relid AND t.resource_id <> r.resource_id
RETURNING r.resource_id;

-- name: mark_drifted
-- Tables whose files are missing, or no longer show them although no change was recorded: other columns or comments, a
-- rewritten table (VACUUM FULL, a restored backup), another compat. They count as changed. So do those whose files are
-- newer than the database, which was restored to an earlier point and these rows were not.
-- EXCEPT costs the same whatever Postgres expects: no statistics tell it how many signatures are equal.
SELECT r.resource_id, datastore_dumper.record_change(r.relid, '{-1}')
FROM (
    SELECT resource_id, relid FROM datastore_dumper.resource
    EXCEPT
    SELECT s.resource_id, s.relid
    FROM (
        SELECT resource_id, format, relid, compat, filenode, signature FROM datastore_dumper.dump_status
        WHERE lsn <= pg_catalog.pg_current_wal_insert_lsn()
            AND timeline <= (
                'x' || left(pg_catalog.pg_walfile_name(pg_catalog.pg_current_wal_insert_lsn()), 8)
            )::bit(32)::integer
        UNION ALL
        SELECT resource_id, format, relid, compat, filenode, signature FROM datastore_dumper.format_failure
    ) AS s
    JOIN unnest(%(formats)s::text[], %(compats)s::text[]) AS wanted (format, compat) USING (format, compat)
    JOIN datastore_dumper.signatures() AS now ON now.relid = s.relid AND now.signature = s.signature
    WHERE s.filenode = pg_catalog.pg_relation_filenode(s.relid)
    GROUP BY s.resource_id, s.relid
    HAVING count(*) >= cardinality(%(formats)s)
) AS r
WHERE NOT EXISTS (SELECT FROM datastore_dumper.change AS c WHERE c.relid = r.relid);

-- name: published_objects
SELECT storage_key, etag, bytes FROM datastore_dumper.dump_status;

-- name: retire_lost
-- Only those that are still published under that key.
WITH lost AS (
    DELETE FROM datastore_dumper.dump_status WHERE storage_key = ANY (%(keys)s)
    RETURNING relid, resource_id, storage_key
), retired AS (
    INSERT INTO datastore_dumper.garbage (key, delete_after)
    SELECT storage_key, clock_timestamp() + make_interval(secs => %(retain_seconds)s) FROM lost
    ON CONFLICT (key) DO NOTHING
)
SELECT resource_id, datastore_dumper.record_change(relid, '{-1}') FROM (SELECT DISTINCT resource_id, relid FROM lost) AS t;
