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
        IF (SELECT rolsuper FROM pg_roles WHERE rolname = current_user) THEN
            IF writer IS NULL THEN
                RAISE EXCEPTION 'a superuser must name CKAN''s write role, whose rights are enough for functions of ours'
                    USING ERRCODE = 'invalid_parameter_value',
                    HINT = 'Give --ckan-write-role (roles.ckan_write): the user of ckan.datastore.write_url.';
            END IF;
            owner := 'datastore_dumper_owner';
            IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = owner) THEN
                CREATE ROLE datastore_dumper_owner NOLOGIN;
                COMMENT ON ROLE datastore_dumper_owner IS 'Owns the schema datastore_dumper of one or more databases.';
            END IF;
        END IF;
        EXECUTE format('CREATE SCHEMA datastore_dumper AUTHORIZATION %I', owner);
    END IF;
    IF (SELECT rolsuper FROM pg_roles WHERE rolname = owner) THEN
        RAISE NOTICE 'the functions of datastore_dumper run with all rights of superuser "%", who installed them first', owner
            USING HINT = 'Uninstall, and install again with CKAN''s write role named: files are made anew.';
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
