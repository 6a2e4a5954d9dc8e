-- The demo's own DataStore: what CKAN would do. The table and the roles have fixed names, for the whole server is the demo's.

-- name: demo_create_roles
-- As CKAN's installation guide names them, and the daemon's.
CREATE ROLE ckan_default LOGIN;
CREATE ROLE datastore_default LOGIN;
CREATE ROLE datastore_dumper LOGIN;

-- name: demo_create_database
CREATE DATABASE datastore_default OWNER ckan_default;

-- name: demo_permissions
-- What `ckan datastore set-permissions` does (CKAN: ckanext/datastore/set_permissions.sql), as far as it concerns tables.
REVOKE CREATE, USAGE ON SCHEMA public FROM PUBLIC;
GRANT CREATE, USAGE ON SCHEMA public TO ckan_default;
GRANT USAGE ON SCHEMA public TO datastore_default;
ALTER DEFAULT PRIVILEGES FOR ROLE ckan_default IN SCHEMA public GRANT SELECT ON TABLES TO datastore_default;

-- name: demo_create_table
-- As `datastore_create` does (CKAN: ckanext/datastore/backend/postgres.py, create_table). Without the zfulltext trigger:
-- xloader loads without it too, and fills _full_text afterwards.
CREATE TABLE "f1164705-2013-4c0d-8b5e-3a9d1c7e60b2" (
    _id serial PRIMARY KEY,
    _full_text tsvector,
    year int, month int, day int,
    dep_time int, sched_dep_time int, dep_delay numeric,
    arr_time int, sched_arr_time int, arr_delay numeric,
    carrier text, flight int, tailnum text, origin text, dest text,
    air_time numeric, distance numeric, hour int, minute int,
    time_hour timestamp
);

-- name: demo_load
COPY "f1164705-2013-4c0d-8b5e-3a9d1c7e60b2" (
    year, month, day, dep_time, sched_dep_time, dep_delay, arr_time, sched_arr_time, arr_delay, carrier, flight, tailnum,
    origin, dest, air_time, distance, hour, minute, time_hour
) FROM STDIN (FORMAT csv, NULL 'NA');

-- name: demo_truncate
-- As xloader does before it loads a resource again.
SET LOCAL lock_timeout = '15s';
TRUNCATE "f1164705-2013-4c0d-8b5e-3a9d1c7e60b2" RESTART IDENTITY;

-- name: demo_drop
DROP TABLE "f1164705-2013-4c0d-8b5e-3a9d1c7e60b2";

-- name: demo_update
UPDATE "f1164705-2013-4c0d-8b5e-3a9d1c7e60b2" SET dep_delay = coalesce(dep_delay, 0) + 1 WHERE _id = %(id)s;

-- name: demo_insert
INSERT INTO "f1164705-2013-4c0d-8b5e-3a9d1c7e60b2" (year, month, day, carrier, flight, tailnum, origin, dest, time_hour)
VALUES (2014, 1, 1, 'UA', %(flight)s, 'N14228, "City of Houston"', 'EWR', 'IAH', '2014-01-01T05:00:00.125');

-- name: demo_delete
DELETE FROM "f1164705-2013-4c0d-8b5e-3a9d1c7e60b2" WHERE _id = %(id)s;

-- name: demo_copy_as_ckan
-- The statement that CKAN 2.12 sends for a CSV dump, in one page, written out apart from the daemon's own.
COPY (
    WITH records_page AS (SELECT * FROM "f1164705-2013-4c0d-8b5e-3a9d1c7e60b2" ORDER BY _id)
    SELECT _id, year, month, day, dep_time, sched_dep_time, dep_delay, arr_time, sched_arr_time, arr_delay, carrier, flight,
        tailnum, origin, dest, air_time, distance, hour, minute, to_char(time_hour, 'YYYY-MM-DD"T"HH24:MI:SS.MS')
    FROM records_page ORDER BY _id
) TO STDOUT csv;

-- name: demo_lookup
-- The CKAN plugin's question.
SELECT storage_key, bytes, rows, fresh
FROM datastore_dumper.lookup('f1164705-2013-4c0d-8b5e-3a9d1c7e60b2', %(format)s);

-- name: demo_exported_rows
-- How far the export is; no row while none runs.
SELECT coalesce(exported_rows, 0) FROM datastore_dumper.resource WHERE exporting_since IS NOT NULL;
