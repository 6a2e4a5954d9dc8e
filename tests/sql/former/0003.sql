-- The schema as the program installed it when its last migration was 0003. Frozen: tests upgrade from it.
-- Installs or upgrades the schema datastore_dumper. Safe to run again.

BEGIN;

SET LOCAL lock_timeout = '2s';

SET LOCAL search_path = pg_catalog, pg_temp;

SET LOCAL standard_conforming_strings = on;

SELECT set_config('datastore_dumper.daemon_role', 'dumper', true);

SELECT set_config('datastore_dumper.ckan_write_role', 'ckan_write', true);

SELECT set_config('datastore_dumper.ckan_read_role', 'ckan_read', true);

-- Who owns the schema and runs its functions. A superuser makes a role of its own for that, without login, that is a
-- member of CKAN's write role and so may put triggers on the DataStore tables: no function of ours runs as a superuser.
-- Anybody else (CKAN's write role itself, or a member of it, as on managed services) is the owner.

DO $$
DECLARE
    writer text := nullif(current_setting('datastore_dumper.ckan_write_role', true), '');
    named text;
    owner text := current_user;
BEGIN
    FOREACH named IN ARRAY ARRAY['daemon_role', 'ckan_write_role', 'ckan_read_role']
    LOOP
        IF current_setting('datastore_dumper.' || named, true) <> ''
            AND NOT EXISTS (SELECT FROM pg_roles WHERE rolname = current_setting('datastore_dumper.' || named)) THEN
            RAISE EXCEPTION 'role "%" (%) does not exist', current_setting('datastore_dumper.' || named), named
                USING ERRCODE = 'undefined_object', HINT = 'Create it first, or name another.';
        END IF;
    END LOOP;
    IF EXISTS (SELECT FROM pg_namespace WHERE nspname = 'datastore_dumper') THEN
        SELECT pg_get_userbyid(nspowner) INTO owner FROM pg_namespace WHERE nspname = 'datastore_dumper';
    ELSE
        IF writer IS NOT NULL AND (SELECT rolsuper FROM pg_roles WHERE rolname = current_user) THEN
            owner := 'datastore_dumper_owner';
            IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = owner) THEN
                CREATE ROLE datastore_dumper_owner NOLOGIN;
                COMMENT ON ROLE datastore_dumper_owner IS 'Owns the schema datastore_dumper of one or more databases.';
            END IF;
        END IF;
        EXECUTE format('CREATE SCHEMA datastore_dumper AUTHORIZATION %I', owner);
    END IF;
    IF owner = 'datastore_dumper_owner' AND writer IS NOT NULL AND NOT pg_has_role(owner, writer, 'USAGE') THEN
        EXECUTE format('GRANT %I TO %I', writer, owner);
    END IF;
    IF NOT pg_has_role(owner, 'USAGE') THEN
        RAISE EXCEPTION 'schema datastore_dumper belongs to role "%", and "%" is no member of it', owner, current_user
            USING ERRCODE = 'insufficient_privilege', HINT = 'Install as the role that installed it first, or as a superuser.';
    END IF;
    EXECUTE format('SET LOCAL ROLE %I', owner);
END
$$;

CREATE TABLE IF NOT EXISTS datastore_dumper.migration (
    id text PRIMARY KEY,
    sha256 text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
COMMENT ON TABLE datastore_dumper.migration IS 'Which files of sql/migrations this schema has been through.';

DO $newer$ BEGIN IF EXISTS (SELECT FROM datastore_dumper.migration WHERE id <> ALL ('{0001_tables.sql,0002_format_failure.sql,0003_request.sql}'::text[])) THEN RAISE EXCEPTION 'the schema datastore_dumper was installed by a newer release' USING HINT = 'Install with that release or a later one.'; END IF; END $newer$;

DO $migrate$ BEGIN IF NOT EXISTS (SELECT FROM datastore_dumper.migration WHERE id = '0001_tables.sql') THEN EXECUTE '-- The tables of the schema datastore_dumper. Never in "public": CKAN lists, grants and purges what it finds there.
-- Runs once. Functions and views are not here: sql/install/ replaces them at every install.

CREATE TABLE datastore_dumper.setting (
    name text PRIMARY KEY,
    value text NOT NULL
);
COMMENT ON TABLE datastore_dumper.setting IS
    ''What the installation was told: the names of the roles it granted rights to.'';

-- A row says: transaction xid touched rows of relid whose _id >> 13 is bucket. It is committed with the rows it speaks
-- of, or not at all. xid is part of the key, so two transactions never meet on a row and nobody waits here.
CREATE TABLE datastore_dumper.change (
    relid oid NOT NULL,
    xid xid8 NOT NULL,
    bucket bigint NOT NULL,
    changed_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (relid, xid, bucket)
) WITH (
    -- A queue: rows live for seconds. Vacuum by count, not by share of the table.
    autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000,
    autovacuum_vacuum_insert_threshold = -1, autovacuum_vacuum_cost_delay = 0
);
COMMENT ON TABLE datastore_dumper.change IS
    ''Written by the triggers, deleted by publishing. Bucket -1 means the whole table.'';

CREATE TABLE datastore_dumper.doorbell (
    id boolean PRIMARY KEY DEFAULT true CHECK (id),
    rang_at timestamptz NOT NULL DEFAULT ''-infinity''
) WITH (fillfactor = 10, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 200);
COMMENT ON TABLE datastore_dumper.doorbell IS
    ''One row: when the last NOTIFY was sent. Whoever can lock it may ring; nobody waits for it.'';
INSERT INTO datastore_dumper.doorbell DEFAULT VALUES;

CREATE TABLE datastore_dumper.resource (
    relid oid PRIMARY KEY,
    resource_id text NOT NULL,
    lease_owner text,
    lease_epoch bigint NOT NULL DEFAULT 0,
    lease_until timestamptz,
    attempts integer NOT NULL DEFAULT 0,
    retry_at timestamptz,
    last_error text,
    exporting_since timestamptz,
    exported_rows bigint,
    expected_rows bigint
);
COMMENT ON TABLE datastore_dumper.resource IS
    ''The DataStore tables that are looked after, who exports them now, and what went wrong last.'';

CREATE TABLE datastore_dumper.dump_status (
    resource_id text NOT NULL,
    format text NOT NULL,
    relid oid NOT NULL,
    storage_key text NOT NULL UNIQUE,
    etag text NOT NULL,
    bytes bigint NOT NULL,
    rows bigint NOT NULL,
    digest text NOT NULL,
    content_type text NOT NULL,
    compat text NOT NULL,
    snapshot text NOT NULL,
    lsn pg_lsn NOT NULL,
    timeline integer NOT NULL,
    signature text NOT NULL,
    filenode oid NOT NULL,
    manifest jsonb NOT NULL,
    generated_at timestamptz NOT NULL,
    published_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    duration_seconds double precision NOT NULL,
    PRIMARY KEY (resource_id, format)
);
CREATE INDEX dump_status_relid ON datastore_dumper.dump_status (relid);
COMMENT ON TABLE datastore_dumper.dump_status IS
    ''The contract with the CKAN plugin: one row for each published file. Read it through lookup().'';
COMMENT ON COLUMN datastore_dumper.dump_status.compat IS
    ''The CKAN release whose bytes these are; "-noms" where timestamps carry no milliseconds.'';
COMMENT ON COLUMN datastore_dumper.dump_status.generated_at IS ''When the snapshot was taken: the time of the state shown.'';
COMMENT ON COLUMN datastore_dumper.dump_status.signature IS ''signature() of the table as exported.'';
COMMENT ON COLUMN datastore_dumper.dump_status.digest IS
    ''SHA-256 over the SHA-256 of the head, of each segment and of the tail: equal digests mean equal files.'';

-- Objects to delete, superseded or abandoned. A key is put here before its object is written and taken out when the
-- object is published, so a process that dies in between leaves nothing that is not listed here.
CREATE TABLE datastore_dumper.garbage (
    key text PRIMARY KEY,
    delete_after timestamptz NOT NULL
);
CREATE INDEX garbage_delete_after ON datastore_dumper.garbage (delete_after);
COMMENT ON TABLE datastore_dumper.garbage IS ''Storage keys that nobody points to, and when their objects may go.'';
'; INSERT INTO datastore_dumper.migration (id, sha256) VALUES ('0001_tables.sql', '2b89a1d6eb5a6b6e4202c4efa0959c2d7f4aa566606a3c04ae0fffed6f751901'); ELSIF NOT EXISTS (SELECT FROM datastore_dumper.migration WHERE id = '0001_tables.sql' AND sha256 = '2b89a1d6eb5a6b6e4202c4efa0959c2d7f4aa566606a3c04ae0fffed6f751901') THEN RAISE EXCEPTION 'migration % was altered after it had been applied', '0001_tables.sql'; END IF; END $migrate$;

DO $migrate$ BEGIN IF NOT EXISTS (SELECT FROM datastore_dumper.migration WHERE id = '0002_format_failure.sql') THEN EXECUTE '-- Formats that cannot show a table: a column of a type they do not know, or a value that CKAN''s own dump fails on.

CREATE TABLE datastore_dumper.format_failure (
    resource_id text NOT NULL,
    format text NOT NULL,
    relid oid NOT NULL,
    signature text NOT NULL,
    filenode oid NOT NULL,
    compat text NOT NULL,
    error text NOT NULL,
    failed_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (resource_id, format)
);
COMMENT ON TABLE datastore_dumper.format_failure IS
    ''Formats in which the table as last exported cannot be had, and why. It stays so until the table changes.'';
'; INSERT INTO datastore_dumper.migration (id, sha256) VALUES ('0002_format_failure.sql', 'b7c855ba5fd039340056ac8278445ff17f0dfd230f75e057e8b6f6e90ed371df'); ELSIF NOT EXISTS (SELECT FROM datastore_dumper.migration WHERE id = '0002_format_failure.sql' AND sha256 = 'b7c855ba5fd039340056ac8278445ff17f0dfd230f75e057e8b6f6e90ed371df') THEN RAISE EXCEPTION 'migration % was altered after it had been applied', '0002_format_failure.sql'; END IF; END $migrate$;

DO $migrate$ BEGIN IF NOT EXISTS (SELECT FROM datastore_dumper.migration WHERE id = '0003_request.sql') THEN EXECUTE '-- Exports that somebody asked for: due at once, whatever the quiet time.

ALTER TABLE datastore_dumper.resource
    ADD COLUMN requested_at timestamptz,
    ADD COLUMN requested_full boolean NOT NULL DEFAULT false;
CREATE INDEX resource_requested ON datastore_dumper.resource (relid) WHERE requested_at IS NOT NULL;
COMMENT ON COLUMN datastore_dumper.resource.requested_at IS
    ''When somebody last asked for an export by request(). Publishing one that began later takes it out.'';
COMMENT ON COLUMN datastore_dumper.resource.requested_full IS
    ''That export is to read and store everything anew, and not to reuse what is published.'';
'; INSERT INTO datastore_dumper.migration (id, sha256) VALUES ('0003_request.sql', 'ae8820542ca6b781beada8b9f380202a81d25f2e0f0cf01cdbac08c160ee63ed'); ELSIF NOT EXISTS (SELECT FROM datastore_dumper.migration WHERE id = '0003_request.sql' AND sha256 = 'ae8820542ca6b781beada8b9f380202a81d25f2e0f0cf01cdbac08c160ee63ed') THEN RAISE EXCEPTION 'migration % was altered after it had been applied', '0003_request.sql'; END IF; END $migrate$;

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
    c.relowner
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
COMMENT ON VIEW datastore_dumper.datastore_table IS 'Every DataStore table of this database.';

-- Rings at most every 250 ms, and only if that takes no waiting: every NOTIFY takes a lock at commit that all
-- notifying transactions of the cluster share (src/backend/commands/async.c, PreCommit_Notify).
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
            RETURN;
        END IF;
        UPDATE datastore_dumper.doorbell SET rang_at = clock_timestamp();
    END IF;
    -- Under REPEATABLE READ and SERIALIZABLE locking the row could fail with a serialization error: ring at once.
    PERFORM pg_notify('datastore_dumper', '');
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

-- INSERT and DELETE. An _id that is gone or of another type is not touched, and the whole table is recorded: whoever
-- owns the table may have made its type, and casts belong to no schema, so an implicit one would run his code with our
-- rights. (A domain counts as another type.) The inner block guards against what nobody thought of. It writes nothing, so
-- its subtransaction takes no transaction id.
CREATE OR REPLACE FUNCTION datastore_dumper.on_rows() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    buckets bigint[];
BEGIN
    BEGIN
        IF EXISTS (
            SELECT FROM pg_attribute
            WHERE attrelid = TG_RELID AND attname = '_id' AND atttypid IN ('int4'::regtype, 'int8'::regtype, 'int2'::regtype)
        ) THEN
            SELECT array_agg(bucket) INTO buckets FROM (SELECT _id >> 13 AS bucket FROM touched_rows GROUP BY 1) AS t;
        ELSE
            SELECT '{-1}' INTO buckets WHERE EXISTS (SELECT FROM touched_rows);
        END IF;
    EXCEPTION WHEN OTHERS THEN
        buckets := '{-1}';
    END;
    IF buckets IS NOT NULL THEN  -- a statement that touched no row records nothing
        INSERT INTO datastore_dumper.change (relid, xid, bucket)
        SELECT TG_RELID, pg_current_xact_id(), coalesce(bucket, -1) FROM unnest(buckets) AS bucket
        ON CONFLICT DO NOTHING;
        IF FOUND THEN
            PERFORM datastore_dumper.ring();
        END IF;
    END IF;
    RETURN NULL;
END
$$;

-- UPDATE: both sides, since an UPDATE may change _id itself.
CREATE OR REPLACE FUNCTION datastore_dumper.on_update() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    buckets bigint[];
BEGIN
    BEGIN
        IF EXISTS (
            SELECT FROM pg_attribute
            WHERE attrelid = TG_RELID AND attname = '_id' AND atttypid IN ('int4'::regtype, 'int8'::regtype, 'int2'::regtype)
        ) THEN
            SELECT array_agg(bucket) INTO buckets FROM (
                SELECT _id >> 13 AS bucket FROM touched_rows GROUP BY 1
                UNION
                SELECT _id >> 13 FROM former_rows GROUP BY 1
            ) AS t;
        ELSE
            SELECT '{-1}' INTO buckets WHERE EXISTS (SELECT FROM touched_rows);
        END IF;
    EXCEPTION WHEN OTHERS THEN
        buckets := '{-1}';
    END;
    IF buckets IS NOT NULL THEN
        INSERT INTO datastore_dumper.change (relid, xid, bucket)
        SELECT TG_RELID, pg_current_xact_id(), coalesce(bucket, -1) FROM unnest(buckets) AS bucket
        ON CONFLICT DO NOTHING;
        IF FOUND THEN
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

-- Gives a table its triggers, whatever state they are in, and marks it as changed: what was written before is unknown.
-- Takes SHARE ROW EXCLUSIVE on the table, which waits for writers: hence the lock timeout; the reconciler tries again.
CREATE OR REPLACE FUNCTION datastore_dumper.attach(to_relid oid) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '2s'
AS $$
DECLARE
    target text;
    id text;
    wanted record;
    daemon_role text;
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
    SELECT value INTO daemon_role FROM datastore_dumper.setting WHERE name = 'daemon_role';
    IF daemon_role IS NOT NULL AND NOT has_table_privilege(daemon_role, to_relid, 'SELECT') THEN
        EXECUTE format('GRANT SELECT ON %s TO %I', target, daemon_role);
    END IF;
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
    IF daemon_role IS NOT NULL THEN
        EXECUTE format('REVOKE SELECT ON %s FROM %I', target, daemon_role);
    END IF;
END
$$;
COMMENT ON FUNCTION datastore_dumper.detach IS 'Removes our triggers from a table, and the right to read it that attach() gave.';

-- The question of the CKAN plugin, answered from what is committed now.
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
            AND datastore_dumper.sound_triggers(t.relid) = 4,
        pending.since
    FROM datastore_dumper.dump_status AS s
    JOIN datastore_dumper.datastore_table AS t ON t.resource_id = s.resource_id
    CROSS JOIN LATERAL (
        SELECT min(c.changed_at) AS since FROM datastore_dumper.change AS c WHERE c.relid = t.relid
    ) AS pending
    WHERE s.resource_id = $1 AND s.format = $2
$$;
COMMENT ON FUNCTION datastore_dumper.lookup IS
    'The published file of a resource in a format, and whether it shows the table as committed now. No row: there is none.';

CREATE OR REPLACE FUNCTION datastore_dumper.failure(resource_id text, format text) RETURNS text
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
    SELECT f.error
    FROM datastore_dumper.format_failure AS f
    JOIN datastore_dumper.datastore_table AS t ON t.resource_id = f.resource_id
    WHERE f.resource_id = $1 AND f.format = $2 AND f.relid = t.relid
        AND f.filenode = pg_relation_filenode(t.relid)
        AND f.signature = datastore_dumper.signature(t.relid)
        AND NOT EXISTS (SELECT FROM datastore_dumper.change AS c WHERE c.relid = t.relid)
$$;
COMMENT ON FUNCTION datastore_dumper.failure IS
    'Why a resource as committed now cannot be had in a format. NULL: nothing is known against it.';

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

-- DDL is no table event: these two functions, called by event triggers where the installing role may create them
-- (4_event_triggers.sql), give new tables their triggers in the transaction that creates them, and record every other
-- DDL as a change of the whole table. The reconciler of the daemon finds the same things within a minute without them.
-- An error here must not fail somebody's DDL: it is turned into a warning.

CREATE OR REPLACE FUNCTION datastore_dumper.on_ddl() RETURNS event_trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    target record;
BEGIN
    FOR target IN
        SELECT DISTINCT t.relid, t.resource_id FROM pg_event_trigger_ddl_commands() AS d
        JOIN datastore_dumper.datastore_table AS t ON t.relid = d.objid
        WHERE d.classid = 'pg_class'::regclass
    LOOP
        BEGIN
            IF EXISTS (SELECT FROM pg_trigger WHERE tgrelid = target.relid AND tgname LIKE 'datastore\_dumper\_%') THEN
                PERFORM datastore_dumper.record_change(target.relid, '{-1}');
            ELSE
                PERFORM datastore_dumper.attach(target.relid);
            END IF;
        EXCEPTION WHEN OTHERS THEN
            RAISE WARNING 'datastore_dumper: table % gets its triggers later: %', target.resource_id, SQLERRM;
        END;
    END LOOP;
END
$$;

CREATE OR REPLACE FUNCTION datastore_dumper.on_drop() RETURNS event_trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM datastore_dumper.record_change(r.relid, '{-1}')
    FROM pg_event_trigger_dropped_objects() AS d
    JOIN datastore_dumper.resource AS r ON r.relid = d.objid
    WHERE d.classid = 'pg_class'::regclass AND d.objsubid = 0;
EXCEPTION WHEN OTHERS THEN
    RAISE WARNING 'datastore_dumper: dropped tables are noticed later: %', SQLERRM;
END
$$;

-- Who may do what. Nobody but the owner gets more than this; the triggers need no right of CKAN's write role.
-- Roles come from the settings that the installing session has set (datastore_dumper.daemon_role, ...); '' means none.

REVOKE ALL ON SCHEMA datastore_dumper FROM PUBLIC;
REVOKE ALL ON ALL TABLES IN SCHEMA datastore_dumper FROM PUBLIC;
REVOKE ALL ON ALL FUNCTIONS IN SCHEMA datastore_dumper FROM PUBLIC;

INSERT INTO datastore_dumper.setting (name, value)
SELECT name, current_setting('datastore_dumper.' || name)
FROM unnest(ARRAY['daemon_role', 'ckan_write_role', 'ckan_read_role']) AS name
WHERE current_setting('datastore_dumper.' || name, true) <> ''
ON CONFLICT (name) DO UPDATE SET value = excluded.value;

DO $$
DECLARE
    daemon text := (SELECT value FROM datastore_dumper.setting WHERE name = 'daemon_role');
    writer text := (SELECT value FROM datastore_dumper.setting WHERE name = 'ckan_write_role');
    reader text := (SELECT value FROM datastore_dumper.setting WHERE name = 'ckan_read_role');
    target record;
BEGIN
    -- The daemon works on its queue, asks for triggers, and reads the tables. It owns nothing and alters nothing.
    IF daemon IS NOT NULL AND daemon <> current_user THEN
        EXECUTE format('GRANT USAGE ON SCHEMA datastore_dumper TO %I', daemon);
        -- Earlier releases granted more. Changes are made by triggers and record_change(), rows of tables by attach().
        EXECUTE format('REVOKE ALL ON datastore_dumper.change, datastore_dumper.resource FROM %I', daemon);
        EXECUTE format('GRANT SELECT, DELETE ON datastore_dumper.change TO %I', daemon);
        EXECUTE format('GRANT SELECT, UPDATE, DELETE ON datastore_dumper.resource TO %I', daemon);
        EXECUTE format('GRANT SELECT, INSERT, UPDATE, DELETE ON datastore_dumper.dump_status, datastore_dumper.garbage, '
            'datastore_dumper.format_failure TO %I', daemon);
        EXECUTE format('GRANT SELECT ON datastore_dumper.migration, datastore_dumper.setting, datastore_dumper.datastore_table, '
            'datastore_dumper.expected_trigger TO %I', daemon);
        EXECUTE format('GRANT EXECUTE ON FUNCTION datastore_dumper.attach(oid), datastore_dumper.record_change(oid, bigint[]), '
            'datastore_dumper.signature(oid), datastore_dumper.sound_triggers(oid), datastore_dumper.lookup(text, text), '
            'datastore_dumper.request(text, boolean) TO %I', daemon);
        FOR target IN SELECT * FROM datastore_dumper.datastore_table AS t WHERE NOT has_table_privilege(daemon, t.relid, 'SELECT')
        LOOP
            IF pg_has_role(target.relowner, 'USAGE') THEN
                EXECUTE format('GRANT SELECT ON public.%I TO %I', target.resource_id, daemon);
            ELSE
                RAISE WARNING 'role % may not read table %: its owner must GRANT SELECT', daemon, target.resource_id;
            END IF;
        END LOOP;
        -- Tables to come, as CKAN does for its read role (ckanext/datastore/set_permissions.sql).
        IF writer IS NOT NULL AND pg_has_role(writer, 'USAGE') THEN
            EXECUTE format('ALTER DEFAULT PRIVILEGES FOR ROLE %I IN SCHEMA public GRANT SELECT ON TABLES TO %I', writer, daemon);
        END IF;
    END IF;
    -- CKAN's read role may ask two questions.
    IF reader IS NOT NULL AND reader <> current_user THEN
        EXECUTE format('GRANT USAGE ON SCHEMA datastore_dumper TO %I', reader);
        EXECUTE format('GRANT EXECUTE ON FUNCTION datastore_dumper.lookup(text, text), datastore_dumper.failure(text, text) TO %I', reader);
    END IF;
    -- CKAN's write role, which may change every table, may also ask for its export.
    IF writer IS NOT NULL AND writer <> current_user THEN
        EXECUTE format('GRANT USAGE ON SCHEMA datastore_dumper TO %I', writer);
        EXECUTE format('GRANT EXECUTE ON FUNCTION datastore_dumper.request(text, boolean) TO %I', writer);
    END IF;
END
$$;

RESET ROLE;

-- Event triggers are optional: creating them takes a superuser, or what a managed service has in its place.
DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_event_trigger WHERE evtname IN ('datastore_dumper_ddl', 'datastore_dumper_drop')) THEN
        DROP EVENT TRIGGER IF EXISTS datastore_dumper_ddl;
        DROP EVENT TRIGGER IF EXISTS datastore_dumper_drop;
    END IF;
    CREATE EVENT TRIGGER datastore_dumper_ddl ON ddl_command_end
        WHEN TAG IN ('CREATE TABLE', 'CREATE TABLE AS', 'SELECT INTO', 'ALTER TABLE', 'COMMENT')
        EXECUTE FUNCTION datastore_dumper.on_ddl();
    CREATE EVENT TRIGGER datastore_dumper_drop ON sql_drop
        WHEN TAG IN ('DROP TABLE', 'DROP SCHEMA', 'DROP OWNED')
        EXECUTE FUNCTION datastore_dumper.on_drop();
    ALTER EVENT TRIGGER datastore_dumper_ddl ENABLE ALWAYS;
    ALTER EVENT TRIGGER datastore_dumper_drop ENABLE ALWAYS;
EXCEPTION WHEN insufficient_privilege THEN
    RAISE NOTICE 'datastore_dumper: role % may not create event triggers, so none are installed: the daemon notices new and altered tables by itself within its reconcile interval', current_user;
END
$$;

-- CKAN takes the use of schema public from everybody but its own roles (ckanext/datastore/set_permissions.sql). The daemon
-- reads the tables in it. Only the owner of the schema can grant this, so it is not done as the owner of ours.
DO $$
DECLARE
    daemon text := (SELECT value FROM datastore_dumper.setting WHERE name = 'daemon_role');
BEGIN
    IF daemon IS NOT NULL AND NOT has_database_privilege(daemon, current_database(), 'CONNECT') THEN
        RAISE WARNING 'datastore_dumper: role % may not connect to this database: GRANT CONNECT ON DATABASE % TO %',
            daemon, quote_ident(current_database()), quote_ident(daemon);
    END IF;
    IF daemon IS NULL OR has_schema_privilege(daemon, 'public', 'USAGE') THEN
        RETURN;
    END IF;
    BEGIN
        EXECUTE format('GRANT USAGE ON SCHEMA public TO %I', daemon);
    EXCEPTION WHEN insufficient_privilege THEN
        NULL;  -- said below; without grant option Postgres itself only warns
    END;
    IF has_schema_privilege(daemon, 'public', 'USAGE') THEN
        INSERT INTO datastore_dumper.setting VALUES ('granted_use_of_public', daemon)
        ON CONFLICT (name) DO UPDATE SET value = excluded.value;
    ELSE
        RAISE WARNING 'datastore_dumper: role % may not use schema public and so not read the tables: its owner must GRANT USAGE ON SCHEMA public TO %',
            daemon, quote_ident(daemon);
    END IF;
END
$$;

COMMIT;
