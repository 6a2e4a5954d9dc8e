-- Whose files the storage holds.

-- name: installation
SELECT id, marked_at IS NOT NULL, seal, next_seal,
    next_seal_at < clock_timestamp() - make_interval(secs => %(seal_seconds)s) AS seal_is_due, conflict IS NOT NULL
FROM datastore_dumper.installation;

-- name: place
-- The system identifier is made by initdb: a standby has its primary's, and so has every physical copy.
SELECT c.system_identifier, d.oid::bigint, d.datname::text
FROM pg_catalog.pg_control_system() AS c, pg_catalog.pg_database AS d
WHERE d.datname = pg_catalog.current_database();

-- name: begin_anew
-- Waits for publishing under way. Nothing comes back if another daemon was first.
UPDATE datastore_dumper.installation
SET id = gen_random_uuid(), marked_at = NULL, seal = gen_random_uuid(), next_seal = gen_random_uuid(),
    next_seal_at = clock_timestamp(), conflict = NULL
WHERE id = (SELECT id FROM datastore_dumper.installation WHERE id = %(id)s FOR UPDATE)
RETURNING id;

-- name: retire_all
-- Their objects are in another storage, or nobody knows. Those of this storage are deleted like any superseded file.
WITH retired AS (
    DELETE FROM datastore_dumper.dump_status RETURNING storage_key
)
INSERT INTO datastore_dumper.garbage (key, delete_after)
SELECT storage_key, clock_timestamp() + make_interval(secs => %(retain_seconds)s) FROM retired
ON CONFLICT (key) DO NOTHING;

-- name: note_ours
UPDATE datastore_dumper.installation SET marked_at = coalesce(marked_at, clock_timestamp()), conflict = NULL
WHERE id = %(id)s;

-- name: note_conflict
UPDATE datastore_dumper.installation SET conflict = %(conflict)s WHERE id = %(id)s AND seal = %(seal)s;

-- name: hold_seal
-- Publishing does not wait for this lock, unlike for that of begin_anew.
SELECT seal FROM datastore_dumper.installation
WHERE id = %(id)s AND seal = %(seal)s AND next_seal = %(next_seal)s FOR NO KEY UPDATE SKIP LOCKED;

-- name: turn_seal
UPDATE datastore_dumper.installation
SET seal = next_seal, next_seal = gen_random_uuid(), next_seal_at = clock_timestamp();

-- name: hold_installation
-- By publishing, until its commit.
SELECT FROM datastore_dumper.installation WHERE id = %(id)s AND conflict IS NULL FOR KEY SHARE;
