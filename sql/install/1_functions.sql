-- Functions and views, replaced at every install. Trigger functions run for every write of every DataStore table:
-- they take microseconds, wait for nobody, and never make a write fail (docs/explanation/triggers.md).
-- All are SECURITY DEFINER with a fixed search_path where a caller has no rights of its own here.

-- What rows a DataStore table is told by (CKAN: ckanext/datastore/backend/postgres.py names tables by resource id and
-- hides names that start with an underscore). Left out is what the triggers cannot speak for, so that CKAN goes on
-- dumping it: an unlogged table (a crash empties it), partitions and tables with INHERITS (the triggers of the table
-- named in a statement fire, not those of the tables its rows are in), what a subscription writes to (its worker fires no
-- statement triggers), row security (each role reads other rows), and rows without _id.
CREATE OR REPLACE VIEW datastore_dumper.datastore_table AS
SELECT
    c.oid AS relid,
    c.relname::text AS resource_id,
    c.relowner,
    c.relname
FROM pg_catalog.pg_class AS c
WHERE c.relkind = 'r'
    AND c.relpersistence = 'p'
    AND NOT c.relrowsecurity
    AND NOT EXISTS (SELECT FROM pg_catalog.pg_inherits AS i WHERE i.inhrelid = c.oid)
    AND NOT EXISTS (SELECT FROM pg_catalog.pg_inherits AS i WHERE i.inhparent = c.oid)
    AND NOT EXISTS (SELECT FROM pg_catalog.pg_subscription_rel AS s WHERE s.srrelid = c.oid)
    AND c.relnamespace = (SELECT n.oid FROM pg_catalog.pg_namespace AS n WHERE n.nspname = 'public')
    AND c.relname NOT LIKE '\_%'
    AND EXISTS (
        SELECT FROM pg_catalog.pg_attribute AS a
        WHERE a.attrelid = c.oid AND a.attname = '_id' AND NOT a.attisdropped AND a.attnotnull
            AND a.atttypid IN ('int2'::regtype, 'int4'::regtype, 'int8'::regtype)
    );
-- Whoever looks one up compares relname, too, which is what pg_class has an index of. (A longer text is cut for that; resource_id
-- is then not equal.)
COMMENT ON VIEW datastore_dumper.datastore_table IS 'Every DataStore table of this database.';

-- Rings at most every 250 ms, and only if that takes no waiting: every NOTIFY takes a lock at commit that all
-- notifying transactions of the cluster share (src/backend/commands/async.c, PreCommit_Notify). Looking at the doorbell costs
-- as much as recording the change, so a session remembers until when the triggers of rows need not ask again. The daemon looks a
-- second time 300 ms after a ring: what is silent for 50 ms more than the 250 is seen all the same.
CREATE OR REPLACE FUNCTION datastore_dumper.ring() RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF current_setting('datastore_dumper.notify', true) = 'off' THEN
        RETURN;  -- for databases that use PREPARE TRANSACTION, which refuses after NOTIFY; the daemon's look every 2 s remains
    END IF;
    IF current_setting('transaction_isolation') = 'read committed' THEN
        PERFORM FROM datastore_dumper.doorbell
            WHERE rang_at < clock_timestamp() - interval '250 milliseconds' FOR UPDATE SKIP LOCKED;
        IF NOT FOUND THEN
            PERFORM set_config('datastore_dumper.quiet_until', (clock_timestamp() + interval '50 milliseconds')::text, false);
            RETURN;
        END IF;
        UPDATE datastore_dumper.doorbell SET rang_at = clock_timestamp();
    END IF;
    -- Under REPEATABLE READ and SERIALIZABLE locking the row could fail with a serialization error: ring at once.
    PERFORM pg_notify('datastore_dumper', '');
    PERFORM set_config('datastore_dumper.quiet_until', (clock_timestamp() + interval '250 milliseconds')::text, false);
END
$$;

CREATE OR REPLACE FUNCTION datastore_dumper.record_change(changed_relid oid, buckets bigint[]) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    INSERT INTO datastore_dumper.change (relid, xid, bucket)
    SELECT changed_relid, pg_current_xact_id(), coalesce(bucket, -1)
    FROM unnest(buckets) AS bucket
    ON CONFLICT DO NOTHING;
    IF FOUND THEN
        PERFORM datastore_dumper.ring();
    END IF;
END
$$;
COMMENT ON FUNCTION datastore_dumper.record_change IS 'Notes that this transaction changed buckets of a table (-1: all of it).';

-- INSERT and DELETE. Most statements touch a row or a few: these are looked at one by one, which takes half the time of an
-- aggregate. Of more, which are mostly a run of rows, the lowest and the highest bucket say it all. An _id of another type is not
-- touched, and the whole table is recorded: whoever owns the table may have made its type, and casts belong to no schema, so an
-- implicit one would run his code with our rights. (A domain counts as another type.) The inner block guards against an _id that
-- is gone, and what nobody thought of. It writes nothing, so its subtransaction takes no transaction id.
CREATE OR REPLACE FUNCTION datastore_dumper.on_rows() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    bucket bigint;
    low bigint;
    high bigint;
    touched bigint := 0;
    buckets bigint[];
BEGIN
    BEGIN
        FOR bucket IN
            SELECT coalesce(CASE WHEN pg_typeof(_id) = ANY ('{int4,int8,int2}'::regtype[]) THEN _id >> 13 END, -1)
            FROM touched_rows
        LOOP
            touched := touched + 1;
            EXIT WHEN touched > 16;
            low := least(low, bucket);
            high := greatest(high, bucket);
        END LOOP;
        IF touched > 16 THEN
            SELECT min(t.b), max(t.b), count(*) INTO low, high, touched FROM (
                SELECT coalesce(CASE WHEN pg_typeof(_id) = ANY ('{int4,int8,int2}'::regtype[]) THEN _id >> 13 END, -1) AS b
                FROM touched_rows
            ) AS t;
        END IF;
        IF low < high THEN
            IF high - low < touched / 4096 THEN  -- half of all ids between them, or more
                buckets := ARRAY(SELECT generate_series(low, high));
            ELSE
                buckets := ARRAY(SELECT coalesce(_id >> 13, -1) FROM touched_rows GROUP BY 1);
            END IF;
        END IF;
    EXCEPTION WHEN OTHERS THEN
        buckets := '{-1}';
    END;
    IF buckets IS NOT NULL THEN
        PERFORM datastore_dumper.record_change(TG_RELID, buckets);
    ELSIF low IS NOT NULL THEN  -- a statement that touched no row records nothing
        INSERT INTO datastore_dumper.change (relid, xid, bucket) VALUES (TG_RELID, pg_current_xact_id(), low)
        ON CONFLICT DO NOTHING;
        -- As text: whatever a session has set there, no write fails of it.
        IF FOUND AND clock_timestamp()::text COLLATE "C" >= coalesce(current_setting('datastore_dumper.quiet_until', true), '') THEN
            PERFORM datastore_dumper.ring();
        END IF;
    END IF;
    RETURN NULL;
END
$$;

-- UPDATE: both sides, since an UPDATE may change _id itself. Else as above.
CREATE OR REPLACE FUNCTION datastore_dumper.on_update() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    bucket bigint;
    low bigint;
    high bigint;
    touched bigint := 0;
    buckets bigint[];
BEGIN
    BEGIN
        FOR bucket IN
            SELECT coalesce(CASE WHEN pg_typeof(_id) = ANY ('{int4,int8,int2}'::regtype[]) THEN _id >> 13 END, -1)
            FROM touched_rows
            UNION ALL
            SELECT coalesce(CASE WHEN pg_typeof(_id) = ANY ('{int4,int8,int2}'::regtype[]) THEN _id >> 13 END, -1)
            FROM former_rows
        LOOP
            touched := touched + 1;
            EXIT WHEN touched > 16;
            low := least(low, bucket);
            high := greatest(high, bucket);
        END LOOP;
        IF touched > 16 THEN
            SELECT min(t.b), max(t.b), count(*) / 2 INTO low, high, touched FROM (
                SELECT coalesce(CASE WHEN pg_typeof(_id) = ANY ('{int4,int8,int2}'::regtype[]) THEN _id >> 13 END, -1) AS b
                FROM touched_rows
                UNION ALL
                SELECT coalesce(CASE WHEN pg_typeof(_id) = ANY ('{int4,int8,int2}'::regtype[]) THEN _id >> 13 END, -1)
                FROM former_rows
            ) AS t;
        END IF;
        IF low < high THEN
            IF high - low < touched / 4096 THEN
                buckets := ARRAY(SELECT generate_series(low, high));
            ELSE
                buckets := ARRAY(
                    SELECT coalesce(_id >> 13, -1) FROM touched_rows GROUP BY 1
                    UNION
                    SELECT coalesce(_id >> 13, -1) FROM former_rows GROUP BY 1
                );
            END IF;
        END IF;
    EXCEPTION WHEN OTHERS THEN
        buckets := '{-1}';
    END;
    IF buckets IS NOT NULL THEN
        PERFORM datastore_dumper.record_change(TG_RELID, buckets);
    ELSIF low IS NOT NULL THEN
        INSERT INTO datastore_dumper.change (relid, xid, bucket) VALUES (TG_RELID, pg_current_xact_id(), low)
        ON CONFLICT DO NOTHING;
        -- As text: whatever a session has set there, no write fails of it.
        IF FOUND AND clock_timestamp()::text COLLATE "C" >= coalesce(current_setting('datastore_dumper.quiet_until', true), '') THEN
            PERFORM datastore_dumper.ring();
        END IF;
    END IF;
    RETURN NULL;
END
$$;

CREATE OR REPLACE FUNCTION datastore_dumper.on_truncate() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM datastore_dumper.record_change(TG_RELID, '{-1}');
    RETURN NULL;
END
$$;

-- The four triggers a table must have. tgtype is pg_trigger's: AFTER, FOR EACH STATEMENT, one event bit
-- (src/include/catalog/pg_trigger.h). The names have more than four letters: CKAN drops every trigger called t___.
CREATE OR REPLACE VIEW datastore_dumper.expected_trigger AS
SELECT
    tgname,
    tgtype,
    tgfoid,
    definition,
    'datastore_dumper ' || md5(definition) AS comment
FROM (VALUES
    ('datastore_dumper_insert'::name, 4::int2, 'datastore_dumper.on_rows()'::regprocedure,
        'AFTER INSERT ON %s REFERENCING NEW TABLE AS touched_rows FOR EACH STATEMENT EXECUTE FUNCTION datastore_dumper.on_rows()'),
    ('datastore_dumper_update', 16, 'datastore_dumper.on_update()'::regprocedure,
        'AFTER UPDATE ON %s REFERENCING NEW TABLE AS touched_rows OLD TABLE AS former_rows FOR EACH STATEMENT EXECUTE FUNCTION datastore_dumper.on_update()'),
    ('datastore_dumper_delete', 8, 'datastore_dumper.on_rows()'::regprocedure,
        'AFTER DELETE ON %s REFERENCING OLD TABLE AS touched_rows FOR EACH STATEMENT EXECUTE FUNCTION datastore_dumper.on_rows()'),
    ('datastore_dumper_truncate', 32, 'datastore_dumper.on_truncate()'::regprocedure,
        'AFTER TRUNCATE ON %s FOR EACH STATEMENT EXECUTE FUNCTION datastore_dumper.on_truncate()')
) AS t (tgname, tgtype, tgfoid, definition);
COMMENT ON VIEW datastore_dumper.expected_trigger IS 'The triggers of a DataStore table, and the comment that tells their version.';

-- How many of the four are there, as defined now and ENABLE ALWAYS. ("ALTER TABLE .. DISABLE, then ENABLE TRIGGER USER"
-- quietly turns ALWAYS into ORIGIN, which sessions in replica mode do not fire.)
CREATE OR REPLACE FUNCTION datastore_dumper.sound_triggers(of_relid oid) RETURNS bigint
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
    SELECT count(*)
    FROM pg_trigger AS t
    JOIN datastore_dumper.expected_trigger AS e
        ON e.tgname = t.tgname AND e.tgtype = t.tgtype AND e.tgfoid = t.tgfoid
    WHERE t.tgrelid = of_relid AND t.tgenabled = 'A' AND t.tgqual IS NULL
        AND obj_description(t.oid, 'pg_trigger') = e.comment
$$;
COMMENT ON FUNCTION datastore_dumper.sound_triggers IS 'How many of the four triggers a table has, as defined and ENABLE ALWAYS.';

-- What the bytes of a file depend on besides the rows: names, types, order and comments of the columns, the labels of
-- enums, the expressions of generated columns (a virtual one takes another without a rewrite); and the version of each of
-- our triggers, as their catalog rows' xmin: any ALTER of them, even one that was undone, shows.
CREATE OR REPLACE FUNCTION datastore_dumper.signature(of_relid oid) RETURNS text
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET quote_all_identifiers = off
AS $$
    SELECT md5(
        coalesce((
            SELECT string_agg(
                concat_ws(' ', a.attnum, quote_ident(a.attname), format_type(a.atttypid, a.atttypmod),
                    quote_nullable(col_description(a.attrelid, a.attnum)),
                    (
                        SELECT string_agg(quote_literal(e.enumlabel), ' ' ORDER BY e.oid) FROM pg_enum AS e
                        WHERE e.enumtypid IN (a.atttypid, y.typelem, y.typbasetype)
                    ),
                    CASE WHEN a.attgenerated <> '' THEN pg_get_expr(d.adbin, d.adrelid) END),
                ',' ORDER BY a.attnum)
            FROM pg_attribute AS a
            JOIN pg_type AS y ON y.oid = a.atttypid
            LEFT JOIN pg_attrdef AS d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
            WHERE a.attrelid = of_relid AND a.attnum > 0 AND NOT a.attisdropped
        ), '')
        || ';' ||
        coalesce((
            SELECT string_agg(concat_ws(' ', t.oid, t.xmin, t.tgenabled), ',' ORDER BY t.tgname)
            FROM pg_trigger AS t
            WHERE t.tgrelid = of_relid AND t.tgname LIKE 'datastore\_dumper\_%'
        ), '')
    )
$$;
COMMENT ON FUNCTION datastore_dumper.signature IS
    'What the bytes of a file depend on besides the rows: columns, labels of enums, versions of our triggers.';

-- signature() of every DataStore table, and whether its triggers are sound: the same for all at once, which the reconciler
-- asks for. One by one it would take a minute for 20,000 tables. A test compares the two.
CREATE OR REPLACE FUNCTION datastore_dumper.signatures() RETURNS TABLE (relid oid, signature text, is_watched boolean)
LANGUAGE sql STABLE SECURITY DEFINER ROWS 100000 SET search_path = pg_catalog, pg_temp SET quote_all_identifiers = off SET jit = off
AS $$
    WITH labels AS MATERIALIZED (
        SELECT e.enumtypid, string_agg(quote_literal(e.enumlabel), ' ' ORDER BY e.oid) AS text
        FROM pg_enum AS e GROUP BY e.enumtypid
    ), columns AS (
        SELECT a.attrelid, string_agg(
            concat_ws(' ', a.attnum, quote_ident(a.attname), format_type(a.atttypid, a.atttypmod),
                quote_nullable(c.description),
                (SELECT l.text FROM labels AS l WHERE l.enumtypid IN (a.atttypid, y.typelem, y.typbasetype)),
                CASE WHEN a.attgenerated <> '' THEN pg_get_expr(d.adbin, d.adrelid) END),
            ',' ORDER BY a.attnum) AS text
        FROM pg_attribute AS a
        JOIN pg_type AS y ON y.oid = a.atttypid
        LEFT JOIN pg_attrdef AS d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
        LEFT JOIN pg_description AS c
            ON c.classoid = 'pg_class'::regclass AND c.objoid = a.attrelid AND c.objsubid = a.attnum
        WHERE a.attrelid >= 16384 AND a.attnum > 0 AND NOT a.attisdropped
        GROUP BY a.attrelid
    ), triggers AS (
        SELECT t.tgrelid,
            string_agg(concat_ws(' ', t.oid, t.xmin, t.tgenabled), ',' ORDER BY t.tgname) AS text,
            count(*) FILTER (WHERE t.tgenabled = 'A' AND t.tgqual IS NULL AND c.description = e.comment) AS sound
        FROM pg_trigger AS t
        LEFT JOIN datastore_dumper.expected_trigger AS e
            ON e.tgname = t.tgname AND e.tgtype = t.tgtype AND e.tgfoid = t.tgfoid
        LEFT JOIN pg_description AS c ON c.classoid = 'pg_trigger'::regclass AND c.objoid = t.oid AND c.objsubid = 0
        WHERE t.tgname LIKE 'datastore\_dumper\_%'
        GROUP BY t.tgrelid
    )
    SELECT r.relid, md5(coalesce(columns.text, '') || ';' || coalesce(triggers.text, '')), coalesce(triggers.sound, 0) = 4
    FROM datastore_dumper.datastore_table AS r
    LEFT JOIN columns ON columns.attrelid = r.relid
    LEFT JOIN triggers ON triggers.tgrelid = r.relid
$$;
COMMENT ON FUNCTION datastore_dumper.signatures IS 'signature() and sound_triggers() of all DataStore tables.';

-- In a transaction of its own for each table: one with thousands would need more locks than Postgres has room for.
CREATE OR REPLACE FUNCTION datastore_dumper.let_daemon_read(of_relid oid) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '250ms'
AS $$
DECLARE
    daemon text := (SELECT value FROM datastore_dumper.setting WHERE name = 'daemon_role');
    target text := (
        SELECT format('public.%I', t.resource_id) FROM datastore_dumper.datastore_table AS t
        WHERE t.relid = of_relid AND NOT has_table_privilege(daemon, t.relid, 'SELECT'));
BEGIN
    IF target IS NOT NULL THEN
        EXECUTE format('GRANT SELECT ON %s TO %I', target, daemon);
    END IF;
END
$$;
COMMENT ON FUNCTION datastore_dumper.let_daemon_read IS 'Grants SELECT on a DataStore table to the daemon''s role, if it lacks it.';

-- Gives a table its triggers, whatever state they are in, and marks it as changed: what was written before is unknown.
-- Takes SHARE ROW EXCLUSIVE on the table, which waits for those who write, and makes others who come to write wait behind
-- it: hence the short lock timeout. Whoever calls it tries again.
CREATE OR REPLACE FUNCTION datastore_dumper.attach(to_relid oid) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '250ms'
AS $$
DECLARE
    target text;
    id text;
    wanted record;
BEGIN
    SELECT format('public.%I', t.resource_id), t.resource_id INTO target, id
    FROM datastore_dumper.datastore_table AS t WHERE t.relid = to_relid;
    IF target IS NULL THEN
        RAISE EXCEPTION 'relation % is not a DataStore table', to_relid
            USING ERRCODE = 'undefined_table', HINT = 'It must be an ordinary table in schema public with an integer column _id that is NOT NULL.';
    END IF;
    EXECUTE format('LOCK TABLE %s IN SHARE ROW EXCLUSIVE MODE', target);
    IF to_regclass(target) IS DISTINCT FROM to_relid::regclass THEN
        RAISE EXCEPTION 'relation % was renamed or dropped meanwhile', target USING ERRCODE = 'undefined_table';
    END IF;
    FOR wanted IN SELECT * FROM datastore_dumper.expected_trigger
    LOOP
        EXECUTE format('CREATE OR REPLACE TRIGGER %I ', wanted.tgname) || format(wanted.definition, target);
        EXECUTE format('COMMENT ON TRIGGER %I ON %s IS %L', wanted.tgname, target, wanted.comment);
    END LOOP;
    EXECUTE format('ALTER TABLE %s ', target) || (
        SELECT string_agg(format('ENABLE ALWAYS TRIGGER %I', e.tgname), ', ') FROM datastore_dumper.expected_trigger AS e);
    PERFORM datastore_dumper.let_daemon_read(to_relid);
    INSERT INTO datastore_dumper.resource (relid, resource_id) VALUES (to_relid, id)
    ON CONFLICT (relid) DO UPDATE SET resource_id = excluded.resource_id;
    PERFORM datastore_dumper.record_change(to_relid, '{-1}');
END
$$;
COMMENT ON FUNCTION datastore_dumper.attach IS 'Creates or mends the four triggers of a DataStore table.';

CREATE OR REPLACE FUNCTION datastore_dumper.detach(from_relid oid) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '2s'
AS $$
DECLARE
    target text;
    present record;
    daemon_role text;
BEGIN
    SELECT format('%I.%I', n.nspname, c.relname) INTO target
    FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace WHERE c.oid = from_relid;
    IF target IS NULL THEN
        RETURN;
    END IF;
    FOR present IN
        SELECT t.tgname FROM pg_trigger AS t
        JOIN datastore_dumper.expected_trigger AS e ON e.tgname = t.tgname WHERE t.tgrelid = from_relid
    LOOP
        EXECUTE format('DROP TRIGGER %I ON %s', present.tgname, target);
    END LOOP;
    SELECT value INTO daemon_role FROM datastore_dumper.setting WHERE name = 'daemon_role';
    -- A daemon that connects as the owner, CKAN's write role, reads its own tables: that right is not ours to take.
    IF daemon_role IS NOT NULL
        AND NOT pg_has_role(daemon_role, (SELECT c.relowner FROM pg_class AS c WHERE c.oid = from_relid), 'USAGE')
    THEN
        EXECUTE format('REVOKE SELECT ON %s FROM %I', target, daemon_role);
    END IF;
END
$$;
COMMENT ON FUNCTION datastore_dumper.detach IS 'Removes our triggers from a table, and the right to read it that attach() gave.';

-- The question of the CKAN plugin, answered from what is committed now.
-- Whether what is published may be handed out at all: the storage is not another database's, as far as the daemon knows, and
-- the file, made at that position of the WAL, is not newer than this one, which may have been restored. (A standby that shows
-- the file's row is past it.)
CREATE OR REPLACE FUNCTION datastore_dumper.is_of_this_database(lsn pg_lsn) RETURNS boolean
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
    SELECT NOT EXISTS (SELECT FROM datastore_dumper.installation AS i WHERE i.conflict IS NOT NULL)
        AND CASE WHEN pg_is_in_recovery() THEN true ELSE $1 <= pg_current_wal_insert_lsn() END
$$;
COMMENT ON FUNCTION datastore_dumper.is_of_this_database IS
    'Whether a file of that position of the WAL belongs to this database as it is now: neither another storage nor a restore came between.';

CREATE OR REPLACE FUNCTION datastore_dumper.lookup(resource_id text, format text)
RETURNS TABLE (
    storage_key text, etag text, bytes bigint, rows bigint, content_type text, compat text,
    generated_at timestamptz, fresh boolean, pending_since timestamptz
)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
    SELECT s.storage_key, s.etag, s.bytes, s.rows, s.content_type, s.compat, s.generated_at,
        pending.since IS NULL
            AND s.relid = t.relid
            AND s.filenode = pg_relation_filenode(t.relid)
            AND s.signature = datastore_dumper.signature(t.relid)
            AND datastore_dumper.sound_triggers(t.relid) = 4
            AND datastore_dumper.is_of_this_database(s.lsn),
        pending.since
    FROM datastore_dumper.dump_status AS s
    JOIN datastore_dumper.datastore_table AS t ON t.resource_id = s.resource_id
    CROSS JOIN LATERAL (
        SELECT min(c.changed_at) AS since FROM datastore_dumper.change AS c WHERE c.relid = t.relid
    ) AS pending
    WHERE s.resource_id = $1 AND s.format = $2 AND t.relname = $1::name
$$;
COMMENT ON FUNCTION datastore_dumper.lookup IS
    'The published file of a resource in a format, and whether it shows the table as committed now. No row: there is none.';

CREATE OR REPLACE FUNCTION datastore_dumper.failure(resource_id text, format text) RETURNS text
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
    SELECT f.error
    FROM datastore_dumper.format_failure AS f
    JOIN datastore_dumper.datastore_table AS t ON t.resource_id = f.resource_id
    WHERE f.resource_id = $1 AND f.format = $2 AND t.relname = $1::name AND f.relid = t.relid
        AND f.filenode = pg_relation_filenode(t.relid)
        AND f.signature = datastore_dumper.signature(t.relid)
        AND NOT EXISTS (SELECT FROM datastore_dumper.change AS c WHERE c.relid = t.relid)
$$;
COMMENT ON FUNCTION datastore_dumper.failure IS
    'Why a resource as committed now cannot be had in a format. NULL: nothing is known against it.';

-- For sites that allow files which are somewhat behind. Counted from the oldest change that the file lacks: changed_at is
-- before its commit, so this never says too little. NULL where that is not all that may have happened: another table
-- under the name, columns changed, triggers not sound, another storage or a restore. (TRUNCATE has a change row; what else moves the filenode, no rows.)
CREATE OR REPLACE FUNCTION datastore_dumper.seconds_behind(resource_id text, format text) RETURNS double precision
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
    SELECT extract(epoch FROM clock_timestamp() - min(c.changed_at))::double precision
    FROM datastore_dumper.dump_status AS s
    JOIN datastore_dumper.datastore_table AS t ON t.resource_id = s.resource_id
    JOIN datastore_dumper.change AS c ON c.relid = t.relid
    WHERE s.resource_id = $1 AND s.format = $2 AND t.relname = $1::name AND s.relid = t.relid
        AND s.signature = datastore_dumper.signature(t.relid)
        AND datastore_dumper.sound_triggers(t.relid) = 4
        AND datastore_dumper.is_of_this_database(s.lsn)
$$;
COMMENT ON FUNCTION datastore_dumper.seconds_behind IS
    'Since when the published file of a resource in a format has not shown the table. NULL: unknown, or nothing to say.';
