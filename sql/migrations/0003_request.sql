-- Exports that somebody asked for: due at once, whatever the quiet time.

ALTER TABLE datastore_dumper.resource
    ADD COLUMN requested_at timestamptz,
    ADD COLUMN requested_full boolean NOT NULL DEFAULT false;
CREATE INDEX resource_requested ON datastore_dumper.resource (relid) WHERE requested_at IS NOT NULL;
COMMENT ON COLUMN datastore_dumper.resource.requested_at IS
    'When somebody last asked for an export by request(). Publishing one that began later takes it out.';
COMMENT ON COLUMN datastore_dumper.resource.requested_full IS
    'That export is to read and store everything anew, and not to reuse what is published.';
