-- The daemon's look at what there is to do.

-- name: pending
-- One row for each table with changes or a request, and the clock that all its times are by. Without a resource id: a table that
-- nobody looks after yet, or that is gone. Changes of tables that get no files, however they are, mean nothing.
SELECT
    relid, CASE WHEN t.oid IS NOT NULL THEN r.resource_id END,
    coalesce(c.first_change_at, r.requested_at) AS first_change_at,
    coalesce(c.last_change_at, r.requested_at) AS last_change_at,
    r.lease_until, r.retry_at, r.requested_at,
    greatest(
        (SELECT max(s.bytes) FROM datastore_dumper.dump_status AS s WHERE s.resource_id = r.resource_id),
        t.relpages * pg_catalog.current_setting('block_size')::bigint,
        0
    ) AS bytes,
    coalesce(r.attempts, 0) AS attempts,
    r.exporting_since,
    EXISTS (SELECT FROM datastore_dumper.dump_status AS s WHERE s.relid = r.relid) AS has_files,
    clock_timestamp() AS now
FROM (
    SELECT relid, min(changed_at) AS first_change_at, max(changed_at) AS last_change_at
    FROM datastore_dumper.change GROUP BY relid
) AS c
FULL JOIN (SELECT relid FROM datastore_dumper.resource WHERE requested_at IS NOT NULL) AS requested USING (relid)
LEFT JOIN datastore_dumper.resource AS r USING (relid)
LEFT JOIN pg_catalog.pg_class AS t ON t.oid = relid
WHERE requested_at IS NOT NULL OR r.choice IS NULL OR r.choice NOT IN ('excluded', 'not_asked');

-- name: listen
LISTEN datastore_dumper;

-- name: ping
SELECT 1;

-- name: notify_self
-- A ping, and whether the triggers of the database would ring at all: its setting, as any session there sees it.
SELECT
    pg_catalog.current_setting('datastore_dumper.notify', true) IS NOT DISTINCT FROM 'off' AS is_off,
    CASE WHEN pg_catalog.current_setting('datastore_dumper.notify', true) IS DISTINCT FROM 'off'
        THEN pg_catalog.pg_notify('datastore_dumper', %(payload)s)
    END;
