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
