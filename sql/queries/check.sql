-- What `datastore-dumper check` asks. It changes nothing.

-- name: check_server
SELECT
    pg_catalog.current_setting('server_version_num')::int AS version,
    pg_catalog.current_setting('server_version') AS shown_version,
    pg_catalog.pg_is_in_recovery() AS in_recovery,
    current_user::text AS role,
    pg_catalog.current_database()::text AS database,
    (SELECT pg_catalog.pg_encoding_to_char(encoding) FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database());

-- name: check_clock
SELECT clock_timestamp();

-- name: check_settings
-- Settings that take something away from us, as they are for this role in this database. A setting that this release of
-- Postgres does not have is not in the answer. (datastore_dumper.notify is ours; only writers have it set.)
SELECT name, setting FROM pg_catalog.pg_settings
WHERE name IN ('track_activities', 'max_prepared_transactions', 'event_triggers', 'old_snapshot_threshold');

-- name: check_notify_off
-- Where sql/install/1_functions.sql is told not to notify: for the database, or for a role.
SELECT EXISTS (
    SELECT FROM pg_catalog.pg_db_role_setting AS s, unnest(s.setconfig) AS setting
    WHERE s.setdatabase IN (0, (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database()))
        AND setting = 'datastore_dumper.notify=off'
);

-- name: check_connections
-- How many more connections this role can have: the least of what server, database and role allow. -1 is: no limit.
SELECT least(
    pg_catalog.current_setting('max_connections')::int
        - pg_catalog.current_setting('superuser_reserved_connections')::int
        - coalesce(pg_catalog.current_setting('reserved_connections', true)::int, 0)
        - (SELECT count(*) FROM pg_catalog.pg_stat_activity WHERE datid IS NOT NULL AND usesysid IS NOT NULL),
    (
        SELECT CASE WHEN d.datconnlimit < 0 THEN NULL ELSE d.datconnlimit END
            - (SELECT count(*) FROM pg_catalog.pg_stat_activity AS a WHERE a.datname = d.datname)
        FROM pg_catalog.pg_database AS d WHERE d.datname = pg_catalog.current_database()
    ),
    (
        SELECT CASE WHEN r.rolconnlimit < 0 THEN NULL ELSE r.rolconnlimit END
            - (SELECT count(*) FROM pg_catalog.pg_stat_activity AS a WHERE a.usename = r.rolname)
        FROM pg_catalog.pg_roles AS r WHERE r.rolname = current_user
    )
)::int AS left_over,
(
    SELECT count(*)::int FROM pg_catalog.pg_stat_activity
    WHERE usename = current_user AND application_name LIKE 'datastore-dumper %%' AND pid <> pg_catalog.pg_backend_pid()
) AS ours;

-- name: check_listen
LISTEN datastore_dumper_check;

-- name: check_notify
SELECT pg_catalog.pg_notify('datastore_dumper_check', %(word)s);

-- name: check_functions
SELECT value FROM datastore_dumper.setting WHERE name = 'functions';

-- name: check_privileges
-- What sql/install/3_privileges.sql gives the daemon's role, and is not there, in the words of GRANT.
SELECT wanted.privilege || ' ON ' || wanted.kind || wanted.object
FROM (
    SELECT 'USAGE', 'SCHEMA ', name FROM unnest(ARRAY['datastore_dumper', 'public']) AS name
    UNION ALL
    SELECT privilege, '', 'datastore_dumper.' || name
    FROM (VALUES
        ('change', ARRAY['SELECT', 'DELETE']),
        ('resource', ARRAY['SELECT', 'UPDATE', 'DELETE']),
        ('dump_status', ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE']),
        ('garbage', ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE']),
        ('format_failure', ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE']),
        ('installation', ARRAY['SELECT', 'UPDATE'])
    ) AS granted (name, privileges)
    CROSS JOIN unnest(granted.privileges) AS privilege
    UNION ALL
    SELECT 'SELECT', '', 'datastore_dumper.' || name
    FROM unnest(ARRAY['migration', 'setting', 'datastore_table', 'expected_trigger']) AS name
    UNION ALL
    SELECT 'EXECUTE', 'FUNCTION ', 'datastore_dumper.' || name
    FROM unnest(ARRAY[
        'attach(oid)', 'record_change(oid, bigint[])', 'signature(oid)', 'sound_triggers(oid)', 'signatures()',
        'lookup(text, text)',
        'request(text, boolean)', 'status(text)', 'list(text, text[], text, text, boolean, bigint, bigint)'
    ]) AS name
) AS wanted (privilege, kind, object)
WHERE NOT CASE wanted.kind
    WHEN 'SCHEMA ' THEN pg_catalog.has_schema_privilege(wanted.object, wanted.privilege)
    WHEN 'FUNCTION ' THEN pg_catalog.has_function_privilege(wanted.object, wanted.privilege)
    ELSE pg_catalog.has_table_privilege(wanted.object, wanted.privilege)
END;

-- name: check_reader
-- Whether CKAN's read role is there, and what it lacks. NULL: nothing.
SELECT r.oid IS NOT NULL, CASE
    WHEN NOT pg_catalog.has_schema_privilege(r.oid, 'datastore_dumper', 'USAGE') THEN 'USAGE ON SCHEMA datastore_dumper'
    ELSE (
        SELECT 'EXECUTE ON FUNCTION datastore_dumper.' || name
        FROM unnest(ARRAY[
            'lookup(text, text)', 'failure(text, text)', 'seconds_behind(text, text)', 'choice(text)', 'status(text)', 'daemons()',
            'list(text, text[], text, text, boolean, bigint, bigint)'
        ]) AS name
        WHERE NOT pg_catalog.has_function_privilege(r.oid, 'datastore_dumper.' || name, 'EXECUTE')
        LIMIT 1
    )
END
FROM (SELECT) AS one LEFT JOIN pg_catalog.pg_roles AS r ON r.rolname = %(role)s;

-- name: check_tables
-- Every DataStore table, and what is amiss with it: we may not read it; its owner is nobody whose triggers ours can
-- make; its triggers are not as they should be.
SELECT
    t.resource_id,
    NOT pg_catalog.has_table_privilege(t.relid, 'SELECT') AS unreadable,
    NOT pg_catalog.pg_has_role(s.nspowner, t.relowner, 'USAGE') AS foreign_owner,
    datastore_dumper.sound_triggers(t.relid) < 4 AS unsound,
    (SELECT pg_catalog.pg_get_userbyid(c.relowner)::text FROM pg_catalog.pg_class AS c WHERE c.oid = t.relid) AS owner
FROM datastore_dumper.datastore_table AS t
CROSS JOIN (SELECT nspowner FROM pg_catalog.pg_namespace WHERE nspname = 'datastore_dumper') AS s
ORDER BY t.resource_id;

-- name: check_left_to_ckan
-- What looks like a DataStore table and is none to us (sql/install/1_functions.sql, datastore_table).
SELECT c.relname::text FROM pg_catalog.pg_class AS c
WHERE c.relnamespace = (SELECT oid FROM pg_catalog.pg_namespace WHERE nspname = 'public')
    AND c.relkind IN ('r', 'p', 'f') AND c.relname NOT LIKE '\_%%'
    AND EXISTS (SELECT FROM pg_catalog.pg_attribute AS a WHERE a.attrelid = c.oid AND a.attname = '_id' AND NOT a.attisdropped)
    AND NOT EXISTS (SELECT FROM datastore_dumper.datastore_table AS t WHERE t.relid = c.oid)
ORDER BY c.relname;

-- name: check_event_triggers
SELECT evtname::text, evtenabled::text FROM pg_catalog.pg_event_trigger
WHERE evtname IN ('datastore_dumper_ddl', 'datastore_dumper_drop');

-- name: check_work
-- The age of the oldest change that nobody waits for any more, and the tables whose last export failed.
SELECT
    (
        SELECT extract(epoch FROM clock_timestamp() - min(c.changed_at))::float8
        FROM datastore_dumper.change AS c
        JOIN datastore_dumper.resource AS r ON r.relid = c.relid
        WHERE r.choice IS NULL OR r.choice NOT IN ('excluded', 'not_asked')
    ) AS oldest_seconds,
    (SELECT coalesce(array_agg(r.resource_id ORDER BY r.resource_id), '{}') FROM datastore_dumper.resource AS r WHERE r.attempts > 0) AS failing,
    (SELECT r.last_error FROM datastore_dumper.resource AS r WHERE r.attempts > 0 ORDER BY r.resource_id LIMIT 1) AS error;

-- name: check_standby
SELECT
    pg_catalog.pg_is_in_recovery(),
    pg_catalog.current_setting('hot_standby_feedback') = 'on';

-- name: check_position
-- On the primary: how far a standby can be by now.
SELECT pg_catalog.pg_current_wal_flush_lsn()::text;

-- name: check_behind
-- On the standby: how many bytes it has yet to replay up to there.
SELECT
    pg_catalog.pg_wal_lsn_diff(%(position)s::pg_lsn, coalesce(pg_catalog.pg_last_wal_replay_lsn(), '0/0'))::bigint,
    pg_catalog.pg_last_xact_replay_timestamp();
