-- For psql. Each table in a transaction of its own, so that no two are locked at once. A table that is busy for more
-- than a quarter of a second is left to the daemon, which tries again.
\set ON_ERROR_STOP off
SET search_path = pg_catalog, pg_temp;
SELECT format('SELECT datastore_dumper.attach(%s);', relid)
FROM datastore_dumper.datastore_table WHERE datastore_dumper.sound_triggers(relid) < 4 \gexec
SELECT format('SELECT datastore_dumper.let_daemon_read(%s);', t.relid)
FROM datastore_dumper.datastore_table AS t
JOIN datastore_dumper.setting AS s ON s.name = 'daemon_role'
JOIN pg_namespace AS n ON n.nspname = 'datastore_dumper'
WHERE NOT has_table_privilege(s.value, t.relid, 'SELECT') AND pg_has_role(n.nspowner, t.relowner, 'USAGE')
    AND EXISTS (SELECT FROM pg_trigger AS g WHERE g.tgrelid = t.relid AND g.tgname LIKE 'datastore\_dumper\_%') \gexec
RESET search_path;
