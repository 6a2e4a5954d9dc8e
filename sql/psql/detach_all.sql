-- For psql. Each table in a transaction of its own, so that no two are locked at once.
\set ON_ERROR_STOP on
SET search_path = pg_catalog, pg_temp;
SELECT format('SELECT datastore_dumper.detach(%s);', t.tgrelid::oid)
FROM pg_catalog.pg_trigger AS t WHERE t.tgname = 'datastore_dumper_truncate' \gexec
RESET search_path;
