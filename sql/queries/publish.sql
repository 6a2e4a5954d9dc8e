-- Publishing, and the objects that nobody points to.

-- name: announce_object
-- Before an object is written: if we die before it is published, it is found here and deleted.
INSERT INTO datastore_dumper.garbage (key, delete_after)
VALUES (%(key)s, clock_timestamp() + make_interval(secs => %(abandoned_seconds)s));

-- name: adopt_objects
-- Takes the new objects off the list. One that is not there was collected meanwhile and must not be published.
DELETE FROM datastore_dumper.garbage WHERE key = ANY (%(keys)s) RETURNING key;

-- name: published
SELECT format, storage_key, etag, bytes, digest, compat, relid, filenode, signature, timeline, manifest
FROM datastore_dumper.dump_status
WHERE resource_id = %(resource_id)s;

-- name: retire_objects
-- That others take the place of. Downloads under way go on until their link has expired.
INSERT INTO datastore_dumper.garbage (key, delete_after)
SELECT storage_key, clock_timestamp() + make_interval(secs => %(retain_seconds)s)
FROM datastore_dumper.dump_status
WHERE resource_id = %(resource_id)s AND format = ANY (%(formats)s) AND storage_key <> ALL (%(keys)s)
ON CONFLICT (key) DO NOTHING;

-- name: keep_object
-- The object that is published already stays so. No row: it was retired meanwhile, and will be deleted.
SELECT FROM datastore_dumper.dump_status
WHERE storage_key = %(key)s AND (relid = %(relid)s OR resource_id = %(resource_id)s)
FOR UPDATE;

-- name: retire_others
-- Files and failures of this table that the export did not make again: in a format that only another daemon is to make,
-- or under a name that the table had. They would look fresh once the changes that they do not show are forgotten.
WITH failed AS (
    DELETE FROM datastore_dumper.format_failure
    WHERE (resource_id = %(resource_id)s OR relid = %(relid)s)
        AND (resource_id <> %(resource_id)s OR format <> ALL (%(formats)s))
), other AS (
    DELETE FROM datastore_dumper.dump_status
    WHERE (resource_id = %(resource_id)s OR relid = %(relid)s)
        AND (resource_id <> %(resource_id)s OR format <> ALL (%(formats)s))
    RETURNING storage_key
)
INSERT INTO datastore_dumper.garbage (key, delete_after)
SELECT storage_key, clock_timestamp() + make_interval(secs => %(retain_seconds)s) FROM other
WHERE storage_key <> ALL (%(keys)s)
ON CONFLICT (key) DO NOTHING;

-- name: forget_failures
DELETE FROM datastore_dumper.format_failure WHERE resource_id = %(resource_id)s AND format = ANY (%(formats)s);

-- name: upsert_failure
-- The format's former file goes too: it would look fresh once the changes that it does not show are forgotten.
WITH former AS (
    DELETE FROM datastore_dumper.dump_status
    WHERE resource_id = %(resource_id)s AND format = %(format)s
    RETURNING storage_key
), retired AS (
    INSERT INTO datastore_dumper.garbage (key, delete_after)
    SELECT storage_key, clock_timestamp() + make_interval(secs => %(retain_seconds)s) FROM former
    ON CONFLICT (key) DO NOTHING
)
INSERT INTO datastore_dumper.format_failure (resource_id, format, relid, signature, filenode, compat, error)
VALUES (%(resource_id)s, %(format)s, %(relid)s, %(signature)s, %(filenode)s, %(compat)s, %(error)s)
ON CONFLICT (resource_id, format) DO UPDATE SET
    relid = excluded.relid, signature = excluded.signature, filenode = excluded.filenode, compat = excluded.compat,
    error = excluded.error, failed_at = clock_timestamp();

-- name: upsert_status
INSERT INTO datastore_dumper.dump_status (
    resource_id, format, relid, storage_key, etag, bytes, rows, digest, content_type, compat, snapshot, lsn, timeline,
    signature, filenode, manifest, generated_at, duration_seconds
) VALUES (
    %(resource_id)s, %(format)s, %(relid)s, %(key)s, %(etag)s, %(bytes)s, %(rows)s, %(digest)s, %(content_type)s,
    %(compat)s, %(snapshot)s, %(lsn)s, %(timeline)s, %(signature)s, %(filenode)s, %(manifest)s, %(generated_at)s,
    %(duration_seconds)s
)
ON CONFLICT (resource_id, format) DO UPDATE SET
    relid = excluded.relid, storage_key = excluded.storage_key, etag = excluded.etag, bytes = excluded.bytes,
    rows = excluded.rows, digest = excluded.digest, content_type = excluded.content_type, compat = excluded.compat,
    snapshot = excluded.snapshot, lsn = excluded.lsn, timeline = excluded.timeline, signature = excluded.signature,
    filenode = excluded.filenode, manifest = excluded.manifest, published_at = clock_timestamp(),
    duration_seconds = excluded.duration_seconds,
    -- The same object again shows the same state: its time stays what browsers know it by.
    generated_at = CASE WHEN dump_status.storage_key = excluded.storage_key
        THEN dump_status.generated_at ELSE excluded.generated_at END;

-- name: forget_changes
-- Exactly the changes that the snapshot showed; what came later stays and makes the table due again.
DELETE FROM datastore_dumper.change AS c
USING unnest(%(xids)s::text[], %(buckets)s::bigint[]) AS seen (xid, bucket)
WHERE c.relid = %(relid)s AND c.xid = seen.xid::xid8 AND c.bucket = seen.bucket;

-- name: still_named
-- Whether the table still has the name under which its files are published, as committed now.
SELECT FROM datastore_dumper.datastore_table WHERE relid = %(relid)s AND resource_id = %(resource_id)s;

-- name: is_garbage_due
SELECT EXISTS (SELECT FROM datastore_dumper.garbage WHERE delete_after < clock_timestamp());

-- name: due_garbage
-- Locked until the objects are deleted, so that no two daemons collect the same.
SELECT key FROM datastore_dumper.garbage
WHERE delete_after < clock_timestamp() ORDER BY delete_after LIMIT %(most)s FOR UPDATE SKIP LOCKED;

-- name: postpone_garbage
UPDATE datastore_dumper.garbage SET delete_after = clock_timestamp() + make_interval(secs => %(seconds)s) WHERE key = ANY (%(keys)s);

-- name: forget_garbage
DELETE FROM datastore_dumper.garbage WHERE key = ANY (%(keys)s);
