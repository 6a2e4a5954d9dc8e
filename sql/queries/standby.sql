-- A standby as the place where an export reads.

-- name: in_recovery
SELECT pg_catalog.pg_is_in_recovery();

-- name: system_identifier
-- The same on a primary and its standbys, another in every other cluster.
SELECT system_identifier FROM pg_catalog.pg_control_system();

-- name: claim_replayed
-- On the standby: whether it is one, and when the claim was made, if it shows the claim. The server is asked after the
-- snapshot is taken, so a snapshot of a server that was promoted in between is not taken for one of a standby.
SELECT
    pg_catalog.pg_is_in_recovery(),
    (
        SELECT exporting_since FROM datastore_dumper.resource
        WHERE relid = %(relid)s AND lease_epoch = %(epoch)s AND lease_owner = %(owner)s
    ) AS claimed_at;

-- name: changes_shown
-- On the primary: whether it shows all the change rows that the standby's snapshot showed.
SELECT NOT EXISTS (
    SELECT FROM unnest(%(xids)s::text[], %(buckets)s::bigint[]) AS seen (xid, bucket)
    WHERE NOT EXISTS (
        SELECT FROM datastore_dumper.change AS c
        WHERE c.relid = %(relid)s AND c.xid = seen.xid::xid8 AND c.bucket = seen.bucket
    )
);
