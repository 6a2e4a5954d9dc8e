-- What `datastore-dumper status` shows.

-- name: status_plan
-- For the transaction. The planner takes the tables of the DataStore for one row, and nested loops over the others for
-- cheap: 200 s at 3,000 tables.
SET LOCAL enable_nestloop = off;

-- name: status_tables
-- One row for each DataStore table, or for those named. Cheap enough for many thousands of tables every second, so the
-- columns are not compared here: what has changed without a change row shows once the reconciler has marked it.
SELECT
    t.relid,
    t.resource_id,
    greatest(k.reltuples, 0)::bigint AS estimated_rows,
    coalesce(c.changes, 0) AS changes,
    c.first_change_at,
    c.last_change_at,
    r.lease_until,
    r.retry_at,
    r.requested_at,
    r.lease_owner,
    r.exporting_since,
    r.exported_rows,
    r.expected_rows,
    coalesce(r.attempts, 0) AS attempts,
    r.last_error,
    coalesce(f.files, '[]') AS files,
    coalesce(x.failures, '[]') AS failures,
    r.choice,
    r.choice_detail,
    r.asked_at,
    clock_timestamp() AS now
FROM datastore_dumper.datastore_table AS t
JOIN pg_catalog.pg_class AS k ON k.oid = t.relid
LEFT JOIN datastore_dumper.resource AS r ON r.relid = t.relid
LEFT JOIN (
    SELECT relid, count(*)::int AS changes, min(changed_at) AS first_change_at, max(changed_at) AS last_change_at
    FROM datastore_dumper.change GROUP BY relid
) AS c ON c.relid = t.relid
LEFT JOIN (
    SELECT s.relid, s.resource_id, jsonb_agg(jsonb_build_object(
        'format', s.format, 'rows', s.rows, 'bytes', s.bytes, 'compat', s.compat, 'generated_at', s.generated_at,
        'published_at', s.published_at, 'seconds', s.duration_seconds, 'key', s.storage_key,
        'current', s.filenode = pg_catalog.pg_relation_filenode(s.relid)
    ) ORDER BY s.format) AS files
    FROM datastore_dumper.dump_status AS s GROUP BY s.relid, s.resource_id
) AS f ON f.relid = t.relid AND f.resource_id = t.resource_id
LEFT JOIN (
    SELECT relid, resource_id, jsonb_agg(jsonb_build_object('format', format, 'error', error) ORDER BY format) AS failures
    FROM datastore_dumper.format_failure GROUP BY relid, resource_id
) AS x ON x.relid = t.relid AND x.resource_id = t.resource_id
WHERE (%(ids)s::text[] IS NULL OR t.resource_id = ANY (%(ids)s))
    AND (%(relids)s::oid[] IS NULL OR t.relid = ANY (%(relids)s))
ORDER BY t.resource_id;

-- name: status_fresh
-- For tables that were named: what CKAN would be told.
SELECT s.resource_id, s.format, l.fresh
FROM datastore_dumper.dump_status AS s
CROSS JOIN LATERAL datastore_dumper.lookup(s.resource_id, s.format) AS l
WHERE s.resource_id = ANY (%(ids)s);

-- name: daemons
-- Each has one connection that listens.
SELECT count(*)::int FROM pg_catalog.pg_stat_activity
WHERE datname = pg_catalog.current_database() AND usename = current_user AND application_name = 'datastore-dumper listen';
