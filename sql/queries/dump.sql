-- Exports that a command asks for and makes.

-- name: request
SELECT datastore_dumper.request(%(resource_id)s, %(is_full)s);

-- name: withdraw_request
-- Not one that somebody else made since.
UPDATE datastore_dumper.resource SET requested_at = NULL, requested_full = false
WHERE resource_id = %(resource_id)s AND requested_at = %(requested_at)s;

-- name: export_progress
-- How far exports are, whoever makes them, and whether anybody still waits for one. A table that is gone is not in the answer.
SELECT r.relid, CASE WHEN r.lease_until > clock_timestamp() THEN r.lease_owner END, r.exported_rows, r.expected_rows,
    r.requested_at IS NOT NULL AS is_requested
FROM datastore_dumper.resource AS r
JOIN datastore_dumper.datastore_table AS t ON t.relid = r.relid
WHERE r.relid = ANY (%(relids)s);
