-- What `datastore-dumper verify` compares.

-- name: published_tables
-- DataStore tables that have files, or those of them that are named, and how many bytes there are.
SELECT t.relid, t.resource_id, sum(s.bytes)::bigint AS bytes
FROM datastore_dumper.dump_status AS s
JOIN datastore_dumper.datastore_table AS t ON t.relid = s.relid AND t.resource_id = s.resource_id
WHERE %(ids)s::text[] IS NULL OR t.resource_id = ANY (%(ids)s)
GROUP BY t.relid, t.resource_id
ORDER BY t.resource_id;
