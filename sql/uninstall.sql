-- Takes out everything that the installation put in, in one transaction per table first (see `datastore-dumper uninstall`
-- and detach()), then the rest. What is published in the storage stays; delete the prefix there by hand.
BEGIN;
SET LOCAL search_path = pg_catalog, pg_temp;
DO $$
DECLARE
    daemon text;
    writer text;
    owner name;
BEGIN
    PERFORM set_config('lock_timeout', '2s', true);  -- whoever creates a table would wait behind us
    IF NOT EXISTS (SELECT FROM pg_namespace WHERE nspname = 'datastore_dumper') THEN
        RAISE NOTICE 'datastore_dumper is not installed in this database';
        RETURN;
    END IF;
    IF EXISTS (SELECT FROM pg_event_trigger WHERE evtname IN ('datastore_dumper_ddl', 'datastore_dumper_drop')) THEN
        DROP EVENT TRIGGER IF EXISTS datastore_dumper_ddl;
        DROP EVENT TRIGGER IF EXISTS datastore_dumper_drop;
    END IF;
    SELECT pg_get_userbyid(nspowner) INTO owner FROM pg_namespace WHERE nspname = 'datastore_dumper';
    SELECT value INTO daemon FROM datastore_dumper.setting WHERE name = 'daemon_role';
    SELECT value INTO writer FROM datastore_dumper.setting WHERE name = 'ckan_write_role';
    IF daemon IS NOT NULL AND writer IS NOT NULL AND pg_has_role(writer, 'USAGE') AND daemon <> writer THEN
        EXECUTE format('ALTER DEFAULT PRIVILEGES FOR ROLE %I IN SCHEMA public REVOKE SELECT ON TABLES FROM %I', writer, daemon);
    END IF;
    IF daemon IS NOT NULL AND EXISTS (
        SELECT FROM datastore_dumper.setting WHERE name = 'granted_use_of_public' AND value = daemon
    ) THEN
        EXECUTE format('REVOKE USAGE ON SCHEMA public FROM %I', daemon);
    END IF;
    DROP SCHEMA datastore_dumper CASCADE;
    IF owner = 'datastore_dumper_owner' THEN
        BEGIN
            DROP ROLE datastore_dumper_owner;
        EXCEPTION WHEN dependent_objects_still_exist THEN
            RAISE NOTICE 'role datastore_dumper_owner is kept: another database of this cluster uses it';
        END;
    END IF;
END
$$;
COMMIT;
