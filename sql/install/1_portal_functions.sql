-- What the pages and commands of CKAN ask and say beside lookup() and failure(), with the same precautions.

-- The row is what the daemon's look heeds: a request outlives every process, and ringing only makes it heard sooner. A
-- table that failed is tried again at once.
CREATE OR REPLACE FUNCTION datastore_dumper.request(wanted_resource_id text, is_full boolean) RETURNS timestamptz
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '2s'
AS $$
DECLARE
    requested timestamptz;
BEGIN
    INSERT INTO datastore_dumper.resource AS r (relid, resource_id, requested_at, requested_full)
    SELECT t.relid, t.resource_id, clock_timestamp(), is_full
    FROM datastore_dumper.datastore_table AS t WHERE t.resource_id = wanted_resource_id
    ON CONFLICT (relid) DO UPDATE SET
        requested_at = clock_timestamp(), requested_full = r.requested_full OR excluded.requested_full, retry_at = NULL
    RETURNING r.requested_at INTO requested;
    IF requested IS NOT NULL THEN
        PERFORM datastore_dumper.ring();
    END IF;
    RETURN requested;
END
$$;
COMMENT ON FUNCTION datastore_dumper.request IS
    'Have a resource exported now; full: reading and storing everything anew. Returns when it was asked for, or NULL: there is no such table.';
