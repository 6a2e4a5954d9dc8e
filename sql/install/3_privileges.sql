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
        EXECUTE format('GRANT SELECT, UPDATE ON datastore_dumper.installation TO %I', daemon);
        EXECUTE format('GRANT SELECT ON datastore_dumper.migration, datastore_dumper.setting, datastore_dumper.datastore_table, '
            'datastore_dumper.expected_trigger TO %I', daemon);
        EXECUTE format('GRANT EXECUTE ON FUNCTION datastore_dumper.attach(oid), datastore_dumper.record_change(oid, bigint[]), '
            'datastore_dumper.signature(oid), datastore_dumper.sound_triggers(oid), datastore_dumper.signatures(), '
            'datastore_dumper.lookup(text, text), '
            'datastore_dumper.request(text, boolean), datastore_dumper.status(text), '
            'datastore_dumper.list(text, text[], text, text, boolean, bigint, bigint) TO %I', daemon);
        -- The others get it from let_daemon_read().
        FOR target IN
            SELECT * FROM datastore_dumper.datastore_table AS t
            WHERE NOT has_table_privilege(daemon, t.relid, 'SELECT') AND NOT pg_has_role(t.relowner, 'USAGE')
        LOOP
            RAISE WARNING 'role % may not read table %: its owner must GRANT SELECT', daemon, target.resource_id;
        END LOOP;
        -- Tables to come, as CKAN does for its read role (ckanext/datastore/set_permissions.sql).
        IF writer IS NOT NULL AND writer <> daemon AND pg_has_role(writer, 'USAGE') THEN
            EXECUTE format('ALTER DEFAULT PRIVILEGES FOR ROLE %I IN SCHEMA public GRANT SELECT ON TABLES TO %I', writer, daemon);
        END IF;
    END IF;
    -- CKAN's read role may ask questions.
    IF reader IS NOT NULL AND reader <> current_user THEN
        EXECUTE format('GRANT USAGE ON SCHEMA datastore_dumper TO %I', reader);
        EXECUTE format('GRANT EXECUTE ON FUNCTION datastore_dumper.lookup(text, text), datastore_dumper.failure(text, text), '
            'datastore_dumper.seconds_behind(text, text), datastore_dumper.choice(text), datastore_dumper.status(text), datastore_dumper.daemons(), '
            'datastore_dumper.list(text, text[], text, text, boolean, bigint, bigint) TO %I', reader);
    END IF;
    -- CKAN's write role, which may change every table, may also ask for its export. Visitors ask through it, too: what the
    -- read role may do, datastore_search_sql might be made to.
    IF writer IS NOT NULL AND writer <> current_user THEN
        EXECUTE format('GRANT USAGE ON SCHEMA datastore_dumper TO %I', writer);
        EXECUTE format('GRANT EXECUTE ON FUNCTION datastore_dumper.request(text, boolean), datastore_dumper.ask(text) TO %I', writer);
    END IF;
END
$$;
