-- Reconciling what the daemon looks after with what is there. Each is one statement over all tables.

-- name: choosable
-- What is known of every table that is looked after. Where nobody measured a table, its file tells its rows, and Postgres'
-- last count its size, if there was one.
SELECT
    r.relid, r.resource_id, r.choice, r.choice_detail, r.formats, r.asked_at, s.relid IS NOT NULL AS has_files,
    coalesce(r.measured_rows, s.rows) AS rows,
    coalesce(r.measured_bytes, nullif(t.relpages, 0) * pg_catalog.current_setting('block_size')::bigint) AS bytes,
    clock_timestamp() AS now
FROM datastore_dumper.resource AS r
JOIN pg_catalog.pg_class AS t ON t.oid = r.relid
LEFT JOIN (
    SELECT relid, resource_id, max(rows) AS rows FROM datastore_dumper.dump_status GROUP BY relid, resource_id
) AS s ON s.relid = r.relid AND s.resource_id = r.resource_id;

-- name: count_as_asked
-- Files that were made before there was anybody to ask for them.
UPDATE datastore_dumper.resource AS r SET asked_at = clock_timestamp()
WHERE r.asked_at IS NULL AND EXISTS (SELECT FROM datastore_dumper.dump_status AS s WHERE s.relid = r.relid);

-- name: note_choices
-- Those that are just being published are left for the next time: nobody waits. Sizes of tables that nobody looks into any
-- more are forgotten.
UPDATE datastore_dumper.resource AS r
SET choice = new.choice, choice_detail = new.detail, formats = string_to_array(new.formats, ','),
    measured_rows = CASE WHEN new.choice NOT IN ('excluded', 'not_asked') THEN r.measured_rows END,
    measured_bytes = CASE WHEN new.choice NOT IN ('excluded', 'not_asked') THEN r.measured_bytes END
FROM unnest(%(relids)s::oid[], %(choices)s::text[], %(details)s::text[], %(formats)s::text[])
    AS new (relid, choice, detail, formats)
JOIN (
    SELECT relid FROM datastore_dumper.resource WHERE relid = ANY (%(relids)s::oid[]) FOR UPDATE SKIP LOCKED
) AS free USING (relid)
WHERE r.relid = new.relid;

-- name: forget_unkept_changes
-- Of tables that get no files however they change. Not while an export may be reading the table: whoever claims it waits
-- for this, and sees all that is forgotten here.
WITH idle AS (
    SELECT r.relid FROM datastore_dumper.resource AS r
    WHERE r.choice IN ('excluded', 'not_asked') AND r.requested_at IS NULL
        AND (r.lease_until IS NULL OR r.lease_until < clock_timestamp())
        AND EXISTS (SELECT FROM datastore_dumper.change AS c WHERE c.relid = r.relid)
        AND NOT EXISTS (SELECT FROM datastore_dumper.dump_status AS s WHERE s.relid = r.relid)
    FOR UPDATE SKIP LOCKED
)
DELETE FROM datastore_dumper.change AS c USING idle WHERE c.relid = idle.relid;

-- name: retire_orphans
-- Files of tables that were dropped, recreated or renamed, and those that are no longer wanted.
WITH orphan AS (
    DELETE FROM datastore_dumper.dump_status AS s
    WHERE NOT EXISTS (
        SELECT FROM datastore_dumper.datastore_table AS t WHERE t.relid = s.relid AND t.resource_id = s.resource_id
    ) OR EXISTS (
        SELECT FROM datastore_dumper.resource AS r WHERE r.relid = s.relid AND s.format <> ALL (coalesce(r.formats, %(formats)s))
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
WHERE NOT EXISTS (
    SELECT FROM datastore_dumper.datastore_table AS t WHERE t.relid = f.relid AND t.resource_id = f.resource_id
) OR EXISTS (
    SELECT FROM datastore_dumper.resource AS r WHERE r.relid = f.relid AND f.format <> ALL (coalesce(r.formats, %(formats)s))
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
-- rewritten table (VACUUM FULL, a restored backup), another compat, other settings of CKAN's read role. They count as changed. So do those whose files are
-- newer than the database, which was restored to an earlier point and these rows were not.
-- EXCEPT costs the same whatever Postgres expects: no statistics tell it how many signatures are equal.
SELECT r.resource_id, datastore_dumper.record_change(r.relid, '{-1}')
FROM (
    SELECT resource_id, relid FROM datastore_dumper.resource WHERE formats IS DISTINCT FROM '{}'
    EXCEPT
    SELECT s.resource_id, s.relid
    FROM (
        SELECT resource_id, format, relid, compat, filenode, signature FROM datastore_dumper.dump_status
        WHERE coalesce(manifest ->> 'recipe', %(recipe)s) = %(recipe)s
            AND lsn <= pg_catalog.pg_current_wal_insert_lsn()
            AND timeline <= (
                'x' || left(pg_catalog.pg_walfile_name(pg_catalog.pg_current_wal_insert_lsn()), 8)
            )::bit(32)::integer
        UNION ALL
        SELECT resource_id, format, relid, compat, filenode, signature FROM datastore_dumper.format_failure
    ) AS s
    JOIN unnest(%(all_formats)s::text[], %(compats)s::text[]) AS made (format, compat) USING (format, compat)
    JOIN datastore_dumper.resource AS wanted
        ON wanted.relid = s.relid AND s.format = ANY (coalesce(wanted.formats, %(formats)s))
    JOIN datastore_dumper.signatures() AS now ON now.relid = s.relid AND now.signature = s.signature
    WHERE s.filenode = pg_catalog.pg_relation_filenode(s.relid)
    GROUP BY s.resource_id, s.relid, coalesce(wanted.formats, %(formats)s)
    HAVING count(*) >= cardinality(coalesce(wanted.formats, %(formats)s))
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
