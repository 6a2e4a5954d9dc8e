-- What installing and reconciling ask of the catalogs.

-- name: schema_exists
SELECT 1 FROM pg_catalog.pg_namespace WHERE nspname = 'datastore_dumper';

-- name: applied_migrations
SELECT id FROM datastore_dumper.migration;

-- name: unattached_tables
SELECT t.relid, t.resource_id
FROM datastore_dumper.datastore_table AS t
JOIN datastore_dumper.signatures() AS s ON s.relid = t.relid
LEFT JOIN datastore_dumper.resource AS r ON r.relid = t.relid
WHERE r.relid IS NULL OR NOT s.is_watched;

-- name: attached_tables
SELECT DISTINCT t.tgrelid::oid
FROM pg_catalog.pg_trigger AS t
JOIN datastore_dumper.expected_trigger AS e ON e.tgname = t.tgname;

-- name: stored_roles
-- Those that were named at this or at an earlier installation.
SELECT coalesce(max(value) FILTER (WHERE name = 'daemon_role'), ''),
    coalesce(max(value) FILTER (WHERE name = 'ckan_write_role'), ''),
    coalesce(max(value) FILTER (WHERE name = 'ckan_read_role'), '')
FROM datastore_dumper.setting;

-- name: count_tables
SELECT count(*) FROM datastore_dumper.datastore_table;

-- name: attach
SELECT datastore_dumper.attach(%(relid)s);

-- name: unreadable_tables
-- That have triggers, by which uninstalling finds them, and that the daemon's role may not read. Those that we may change: the
-- script has named the others.
SELECT t.relid, t.resource_id
FROM datastore_dumper.datastore_table AS t
JOIN datastore_dumper.setting AS s ON s.name = 'daemon_role'
JOIN pg_catalog.pg_namespace AS n ON n.nspname = 'datastore_dumper'
WHERE NOT pg_catalog.has_table_privilege(s.value, t.relid, 'SELECT')
    AND pg_catalog.pg_has_role(n.nspowner, t.relowner, 'USAGE')
    AND EXISTS (
        SELECT FROM pg_catalog.pg_trigger AS g WHERE g.tgrelid = t.relid AND g.tgname LIKE 'datastore\_dumper\_%');

-- name: let_daemon_read
SELECT datastore_dumper.let_daemon_read(%(relid)s);

-- name: detach
SELECT datastore_dumper.detach(%(relid)s);
