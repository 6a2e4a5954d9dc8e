-- Leases: one daemon at a time exports a table. An epoch counts the claims; publishing compares it.

-- name: claim
-- Nothing comes back if somebody else has the table, is just taking it, or has published it since we looked. A lease that ran out without being given back is
-- an export that failed: its daemon died, perhaps of this table.
UPDATE datastore_dumper.resource AS r
SET lease_owner = %(owner)s, lease_epoch = r.lease_epoch + 1,
    lease_until = clock_timestamp() + make_interval(secs => %(ttl_seconds)s),
    exporting_since = clock_timestamp(), exported_rows = 0, expected_rows = NULL,
    attempts = r.attempts + (r.lease_owner IS NOT NULL)::int,
    last_error = CASE WHEN r.lease_owner IS NULL THEN r.last_error ELSE
        'The daemon ' || r.lease_owner || ' died or lost the database while it exported this table' END
FROM (
    SELECT relid FROM datastore_dumper.resource
    WHERE relid = %(relid)s AND (lease_until IS NULL OR lease_until < clock_timestamp())
        AND (requested_at IS NOT NULL OR EXISTS (SELECT FROM datastore_dumper.change AS c WHERE c.relid = %(relid)s))
    FOR UPDATE SKIP LOCKED
) AS free
WHERE r.relid = free.relid
RETURNING r.resource_id, r.lease_epoch, r.attempts, r.requested_at, r.requested_full, r.asked_at, r.exporting_since;

-- name: renew
-- All leases of a daemon at once, each with how far its export is. A lease that is not in the answer is lost.
UPDATE datastore_dumper.resource AS r
SET lease_until = clock_timestamp() + make_interval(secs => %(ttl_seconds)s),
    exported_rows = held.exported_rows, expected_rows = held.expected_rows
FROM unnest(%(relids)s::oid[], %(epochs)s::bigint[], %(exported)s::bigint[], %(expected)s::bigint[])
    AS held (relid, epoch, exported_rows, expected_rows)
WHERE r.relid = held.relid AND r.lease_epoch = held.epoch AND r.lease_owner = %(owner)s
    AND r.lease_until > clock_timestamp()
RETURNING r.relid;

-- name: release
-- Gives the table back: after a failure with the error and the time before which nobody should try again.
UPDATE datastore_dumper.resource
SET lease_owner = NULL, lease_until = NULL, exporting_since = NULL, exported_rows = NULL, expected_rows = NULL,
    attempts = CASE WHEN %(error)s::text IS NULL THEN attempts ELSE attempts + 1 END,
    last_error = coalesce(%(error)s, last_error),
    retry_at = clock_timestamp() + make_interval(secs => %(retry_seconds)s)
WHERE relid = %(relid)s AND lease_epoch = %(epoch)s AND lease_owner = %(owner)s;

-- name: hold_lease
-- The first statement of publishing: locks the row if the lease is still ours, until commit. A request that came after
-- the claim stays. With it goes what was decided for the table, and how large it was found to be.
UPDATE datastore_dumper.resource
SET lease_owner = NULL, lease_until = NULL, exporting_since = NULL, exported_rows = NULL, expected_rows = NULL,
    attempts = 0, retry_at = NULL, last_error = NULL,
    requested_at = CASE WHEN requested_at IS DISTINCT FROM %(requested_at)s::timestamptz THEN requested_at END,
    requested_full = requested_full AND requested_at IS DISTINCT FROM %(requested_at)s::timestamptz,
    choice = %(choice)s, choice_detail = %(choice_detail)s, formats = %(wanted_formats)s,
    measured_rows = %(rows)s, measured_bytes = %(bytes)s
WHERE relid = %(relid)s AND lease_epoch = %(epoch)s AND lease_owner = %(owner)s AND lease_until > clock_timestamp()
RETURNING relid;

-- name: cancel_segments
-- Whatever COPY of this table runs in our sessions.
SELECT pg_catalog.pg_cancel_backend(a.pid)
FROM pg_catalog.pg_locks AS l
JOIN pg_catalog.pg_stat_activity AS a ON a.pid = l.pid
WHERE l.locktype = 'relation' AND l.granted AND l.relation = %(relid)s
    AND l.database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database())
    AND a.usename = current_user AND a.application_name = 'datastore-dumper segment' AND a.state = 'active';

-- name: give_way
-- The same for every table that somebody has waited for longer than the grace. Nobody but an ACCESS EXCLUSIVE lock waits
-- for a reader; on a standby it is the startup process that does, with all of replay behind it. A COPY whose client is
-- frozen waits to send, or has sent all and waits for the end of the transaction, and heeds no cancellation: after more
-- patience its session is ended (whose daemon's it is does not matter).
SELECT
    waiter.relation::regclass::text,
    waiter.pid::text || ' ' || waiter.waitstart::text AS waiter,
    extract(epoch FROM clock_timestamp() - waiter.waitstart)::float8 AS waited_seconds,
    CASE WHEN waiter.waitstart < clock_timestamp() - make_interval(secs => %(patience_seconds)s)
        THEN pg_catalog.pg_terminate_backend(a.pid) ELSE pg_catalog.pg_cancel_backend(a.pid)
    END
FROM pg_catalog.pg_locks AS waiter
JOIN pg_catalog.pg_locks AS holder
    ON holder.locktype = 'relation' AND holder.database = waiter.database AND holder.relation = waiter.relation
    AND holder.granted
JOIN pg_catalog.pg_stat_activity AS a ON a.pid = holder.pid
WHERE waiter.locktype = 'relation' AND NOT waiter.granted AND waiter.mode = 'AccessExclusiveLock'
    AND waiter.database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database())
    AND waiter.waitstart < clock_timestamp() - make_interval(secs => %(grace_seconds)s)
    AND a.usename = current_user AND a.application_name = 'datastore-dumper segment' AND a.state <> 'idle';
