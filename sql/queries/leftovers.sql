-- What `datastore-dumper gc` finds in the storage.

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

-- name: count_due_garbage
SELECT count(*)::int FROM datastore_dumper.garbage WHERE delete_after < clock_timestamp();
