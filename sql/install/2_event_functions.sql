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
