-- What the pages and commands of CKAN ask and say beside lookup() and failure(), with the same precautions.

-- The row is what the daemon's look heeds: a request outlives every process, and ringing only makes it heard sooner. A
-- table that failed is tried again at once.
CREATE OR REPLACE FUNCTION datastore_dumper.request(wanted_resource_id text, is_full boolean) RETURNS timestamptz
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '2s'
AS $$
DECLARE
    requested timestamptz;
BEGIN
    INSERT INTO datastore_dumper.resource AS r (relid, resource_id, requested_at, requested_full, asked_at)
    SELECT t.relid, t.resource_id, clock_timestamp(), is_full, clock_timestamp()
    FROM datastore_dumper.datastore_table AS t WHERE t.relname = wanted_resource_id::name AND t.resource_id = wanted_resource_id
    ON CONFLICT (relid) DO UPDATE SET
        requested_at = clock_timestamp(), requested_full = r.requested_full OR excluded.requested_full, retry_at = NULL,
        asked_at = excluded.asked_at
    RETURNING r.requested_at INTO requested;
    IF requested IS NOT NULL THEN
        PERFORM datastore_dumper.ring();
    END IF;
    RETURN requested;
END
$$;
COMMENT ON FUNCTION datastore_dumper.request IS
    'Have a resource exported now; full: reading and storing everything anew. Returns when it was asked for, or NULL: there is no such table.';

-- Whether files are kept of a table, and whether somebody who asks for one should say so by ask(). NULL: nothing is decided
-- yet, and who asks until then is heard.
CREATE OR REPLACE FUNCTION datastore_dumper.choice(of_resource_id text)
RETURNS TABLE (choice text, detail text, formats text[], is_worth_asking boolean)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
    SELECT r.choice, r.choice_detail, r.formats,
        coalesce(CASE
            WHEN r.choice IS NULL THEN r.asked_at IS NULL
            WHEN r.choice = 'not_asked' THEN r.requested_at IS NULL
            WHEN r.choice = 'on_demand' THEN r.asked_at < clock_timestamp() - interval '1 hour'
        END, false)
    FROM datastore_dumper.datastore_table AS t
    JOIN datastore_dumper.resource AS r ON r.relid = t.relid
    WHERE t.relname = $1::name AND t.resource_id = $1
$$;
COMMENT ON FUNCTION datastore_dumper.choice IS
    'What was decided for a resource: whether files are kept, and why not. No row: nobody looks after it.';

-- Anybody whom CKAN lets dump a table is behind this, however often: so it waits for nobody, writes once in an hour for a
-- table, and does not let more than a hundred exports queue up. It asks for no attempt that a failure has put off.
CREATE OR REPLACE FUNCTION datastore_dumper.ask(of_resource_id text) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    target oid;
    decided text;
BEGIN
    SELECT r.relid, r.choice INTO target, decided
    FROM datastore_dumper.datastore_table AS t
    JOIN datastore_dumper.resource AS r ON r.relid = t.relid
    WHERE t.relname = of_resource_id::name AND t.resource_id = of_resource_id AND CASE
        WHEN r.choice IS NULL THEN r.asked_at IS NULL
        WHEN r.choice = 'not_asked' THEN r.requested_at IS NULL
            AND (SELECT count(*) FROM datastore_dumper.resource AS q WHERE q.requested_at IS NOT NULL) < 100
        WHEN r.choice = 'on_demand' THEN r.asked_at < clock_timestamp() - interval '1 hour'
    END
    FOR UPDATE OF r SKIP LOCKED;
    IF target IS NULL THEN
        RETURN false;
    END IF;
    UPDATE datastore_dumper.resource AS r
    SET asked_at = clock_timestamp(),
        requested_at = CASE WHEN decided = 'not_asked' THEN clock_timestamp() ELSE r.requested_at END
    WHERE r.relid = target;
    IF decided = 'not_asked' THEN
        PERFORM datastore_dumper.ring();
    END IF;
    RETURN true;
END
$$;
COMMENT ON FUNCTION datastore_dumper.ask IS
    'Notes that somebody asked for a file of a resource whose files are kept on demand; the first one has it made. Whether there was anything to note.';

-- One resource. Each file's freshness is what lookup() says of it, each failure what failure() does.
CREATE OR REPLACE FUNCTION datastore_dumper.status(wanted_resource_id text)
RETURNS TABLE (
    pending_since timestamptz, pending_changes bigint, requested_at timestamptz, exporting_since timestamptz,
    exported_rows bigint, expected_rows bigint, attempts integer, retry_at timestamptz, last_error text, choice text,
    choice_detail text, asked_at timestamptz, files jsonb
)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
    SELECT
        pending.since, pending.changes, r.requested_at,
        CASE WHEN r.lease_until > clock_timestamp() THEN r.exporting_since END,
        CASE WHEN r.lease_until > clock_timestamp() THEN r.exported_rows END,
        CASE WHEN r.lease_until > clock_timestamp() THEN r.expected_rows END,
        coalesce(r.attempts, 0), r.retry_at, r.last_error, r.choice, r.choice_detail, r.asked_at,
        (
            SELECT coalesce(jsonb_agg(to_jsonb(f) ORDER BY f.format), '[]')
            FROM (
                SELECT s.format, l.bytes, l.rows, l.generated_at, l.compat, l.fresh,
                    CASE WHEN NOT l.fresh THEN datastore_dumper.seconds_behind(s.resource_id, s.format) END AS seconds_behind,
                    NULL::text AS error
                FROM datastore_dumper.dump_status AS s
                CROSS JOIN LATERAL datastore_dumper.lookup(s.resource_id, s.format) AS l
                WHERE s.resource_id = $1
                UNION ALL
                SELECT f.format, NULL, NULL, NULL, f.compat, NULL, NULL, datastore_dumper.failure(f.resource_id, f.format)
                FROM datastore_dumper.format_failure AS f
                WHERE f.resource_id = $1 AND datastore_dumper.failure(f.resource_id, f.format) IS NOT NULL
            ) AS f
        )
    FROM datastore_dumper.datastore_table AS t
    LEFT JOIN datastore_dumper.resource AS r ON r.relid = t.relid
    CROSS JOIN LATERAL (
        SELECT min(c.changed_at) AS since, count(DISTINCT c.xid) AS changes
        FROM datastore_dumper.change AS c WHERE c.relid = t.relid
    ) AS pending
    WHERE t.relname = $1::name AND t.resource_id = $1
$$;
COMMENT ON FUNCTION datastore_dumper.status IS
    'What there is of a resource: changes that no file shows, the export under way, its files and the formats that failed. No row: there is no such table.';

-- All resources: one page of them and the totals, in one pass over each table. What makes a file stale without a change
-- row is asked of the catalogs for the resources of the page alone, at 0.25 ms each: in totals, filter and order, a table
-- that was altered where nobody noted it counts as ready until the reconciler has noted it. The planner takes the join with
-- pg_class for one row (it multiplies the selectivities of oid and name); nested loops over that would take minutes.
CREATE OR REPLACE FUNCTION datastore_dumper.list(
    search text, also_ids text[], wanted_state text, sort text, is_descending boolean, most bigint, skipped bigint
)
RETURNS TABLE (
    resource_id text, state text, formats text[], failed_formats text[], rows bigint, bytes bigint, generated_at timestamptz,
    pending_since timestamptz, pending_changes bigint, requested_at timestamptz, exporting_since timestamptz,
    exported_rows bigint, expected_rows bigint, attempts integer, retry_at timestamptz, last_error text, choice text,
    choice_detail text, asked_at timestamptz, totals jsonb
)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET enable_nestloop = off
AS $$
    WITH file AS (
        SELECT s.relid, s.resource_id, array_agg(s.format) AS formats, max(s.rows) AS rows,
            sum(s.bytes)::bigint AS bytes, max(s.generated_at) AS generated_at,
            min(s.filenode) AS first_filenode, max(s.filenode) AS last_filenode
        FROM datastore_dumper.dump_status AS s
        GROUP BY s.relid, s.resource_id
    ), failed AS (
        SELECT f.relid, f.resource_id, array_agg(f.format ORDER BY f.format) AS formats,
            string_agg(f.format || ': ' || f.error, '; ' ORDER BY f.format) AS error
        FROM datastore_dumper.format_failure AS f
        GROUP BY f.relid, f.resource_id
    ), pending AS (
        SELECT c.relid, min(c.changed_at) AS since, count(DISTINCT c.xid) AS changes
        FROM datastore_dumper.change AS c
        GROUP BY c.relid
    ), entry AS (
        SELECT
            r.relid, r.resource_id,
            CASE
                WHEN r.lease_until > statement_timestamp() THEN 'exporting'
                WHEN r.formats = '{}' AND r.requested_at IS NULL AND r.last_error IS NULL THEN 'unkept'
                WHEN r.last_error IS NOT NULL OR (file.relid IS NULL AND failed.relid IS NOT NULL) THEN 'failing'
                WHEN pending.relid IS NOT NULL OR r.requested_at IS NOT NULL OR file.relid IS NULL
                    OR file.first_filenode <> t.relfilenode OR file.last_filenode <> t.relfilenode THEN 'waiting'
                ELSE 'ready'
            END AS state,
            r.lease_until > statement_timestamp() AS is_leased,
            file.formats, failed.formats AS failed_formats, file.rows, file.bytes, file.generated_at,
            pending.since AS pending_since, coalesce(pending.changes, 0) AS pending_changes,
            r.requested_at, r.exporting_since, r.exported_rows, r.expected_rows, r.attempts, r.retry_at,
            coalesce(r.last_error, failed.error) AS last_error, r.choice, r.choice_detail, r.asked_at
        FROM datastore_dumper.resource AS r
        JOIN pg_class AS t ON t.oid = r.relid AND t.relname = r.resource_id::name
        LEFT JOIN file ON file.relid = r.relid AND file.resource_id = r.resource_id
        LEFT JOIN failed ON failed.relid = r.relid AND failed.resource_id = r.resource_id
        LEFT JOIN pending ON pending.relid = r.relid
    ), total AS (
        SELECT jsonb_build_object(
            'resources', count(*),
            'ready', count(*) FILTER (WHERE e.state = 'ready'),
            'waiting', count(*) FILTER (WHERE e.state = 'waiting'),
            'exporting', count(*) FILTER (WHERE e.state = 'exporting'),
            'failing', count(*) FILTER (WHERE e.state = 'failing'),
            'unkept', count(*) FILTER (WHERE e.state = 'unkept'),
            'files', coalesce(sum(cardinality(e.formats)), 0),
            'bytes', coalesce(sum(e.bytes), 0),
            'found', count(*) FILTER (WHERE found)
        ) AS totals
        FROM entry AS e
        CROSS JOIN LATERAL (SELECT
            (wanted_state IS NULL OR e.state = wanted_state)
            AND (search IS NULL OR strpos(lower(e.resource_id), lower(search)) > 0 OR e.resource_id = ANY (also_ids))
        ) AS filtered (found)
    ), page AS (
        SELECT e.*, row_number() OVER () AS position
        FROM (
            SELECT * FROM entry AS e
            WHERE (wanted_state IS NULL OR e.state = wanted_state)
                AND (search IS NULL OR strpos(lower(e.resource_id), lower(search)) > 0 OR e.resource_id = ANY (also_ids))
            ORDER BY
                CASE WHEN NOT is_descending THEN CASE sort
                    WHEN 'state' THEN array_position(ARRAY['failing', 'exporting', 'waiting', 'ready', 'unkept'], e.state)::numeric
                    WHEN 'rows' THEN e.rows WHEN 'bytes' THEN e.bytes WHEN 'pending_changes' THEN e.pending_changes
                    WHEN 'generated_at' THEN extract(epoch FROM e.generated_at)
                    WHEN 'pending_since' THEN extract(epoch FROM e.pending_since)
                END END,
                CASE WHEN is_descending THEN CASE sort
                    WHEN 'state' THEN array_position(ARRAY['failing', 'exporting', 'waiting', 'ready', 'unkept'], e.state)::numeric
                    WHEN 'rows' THEN e.rows WHEN 'bytes' THEN e.bytes WHEN 'pending_changes' THEN e.pending_changes
                    WHEN 'generated_at' THEN extract(epoch FROM e.generated_at)
                    WHEN 'pending_since' THEN extract(epoch FROM e.pending_since)
                END END DESC NULLS LAST,
                e.resource_id
            LIMIT most OFFSET skipped
        ) AS e
    )
    SELECT
        p.resource_id,
        CASE WHEN p.state = 'ready' AND NOT (
            datastore_dumper.sound_triggers(p.relid) = 4
            AND datastore_dumper.signature(p.relid) = ALL (
                SELECT s.signature FROM datastore_dumper.dump_status AS s WHERE s.relid = p.relid
            )
        ) THEN 'waiting' ELSE p.state END,
        ARRAY(SELECT f FROM unnest(p.formats) AS f ORDER BY f), coalesce(p.failed_formats, '{}'), p.rows, p.bytes, p.generated_at,
        p.pending_since, p.pending_changes, p.requested_at,
        CASE WHEN p.is_leased THEN p.exporting_since END, CASE WHEN p.is_leased THEN p.exported_rows END,
        CASE WHEN p.is_leased THEN p.expected_rows END, p.attempts, p.retry_at, p.last_error,
        p.choice, p.choice_detail, p.asked_at, total.totals
    FROM total
    LEFT JOIN page AS p ON true
    ORDER BY p.position
$$;
COMMENT ON FUNCTION datastore_dumper.list IS
    'A page of all resources with the totals over all of them in each row; one row of nulls and the totals where the page is empty.';

CREATE OR REPLACE FUNCTION datastore_dumper.daemons() RETURNS bigint
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
    SELECT count(*) FROM pg_stat_activity AS a
    WHERE a.datname = current_database() AND a.application_name = 'datastore-dumper listen'
$$;
COMMENT ON FUNCTION datastore_dumper.daemons IS 'How many daemons listen in this database now.';
