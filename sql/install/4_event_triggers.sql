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
