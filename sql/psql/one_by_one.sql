-- For psql. Each table in a transaction of its own, so that no two are locked at once. A table that is busy for more
-- than a quarter of a second is left to the daemon, which tries again.
\set ON_ERROR_STOP off
SET search_path = pg_catalog, pg_temp;
