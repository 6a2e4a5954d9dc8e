-- What the storage holds and the database does not know of.

-- name: classify_objects
-- In one statement, so that an object that is being published is in one place or the other.
SELECT k.key, CASE
    WHEN EXISTS (SELECT FROM datastore_dumper.dump_status AS s WHERE s.storage_key = k.key) THEN 'published'
    WHEN g.key IS NULL THEN 'unreferenced'
    WHEN g.delete_after < clock_timestamp() THEN 'due'
    ELSE 'kept'
END
FROM unnest(%(keys)s::text[]) AS k (key)
LEFT JOIN datastore_dumper.garbage AS g ON g.key = k.key;

-- name: enlist_unreferenced
-- Puts objects that nobody knows of on the list of those to delete, one after the other. In one statement: a publication
-- that is not committed yet has left its key on the list, as far as this can see.
INSERT INTO datastore_dumper.garbage (key, delete_after)
SELECT k.key, clock_timestamp() + make_interval(secs => %(retain_seconds)s + k.number * %(apart_seconds)s)
FROM unnest(%(keys)s::text[]) WITH ORDINALITY AS k (key, number)
WHERE NOT EXISTS (SELECT FROM datastore_dumper.dump_status AS s WHERE s.storage_key = k.key)
    AND NOT EXISTS (SELECT FROM datastore_dumper.garbage AS g WHERE g.key = k.key)
ON CONFLICT (key) DO NOTHING
RETURNING key;

-- name: count_due_garbage
SELECT count(*)::int FROM datastore_dumper.garbage WHERE delete_after < clock_timestamp();
