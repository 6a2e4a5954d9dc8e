-- What was committed, kept in the very transactions that committed it: for every table and version the number of rows and
-- the sum of their hashes. Triggers keep the running sums, the writer seals a version at the end of each transaction and
-- writes its number into the table's row with _id 1, so that a file says by itself which state it claims to show.
CREATE SCHEMA torture;

CREATE TABLE torture.tally (name text PRIMARY KEY, version bigint NOT NULL, rows bigint NOT NULL, checksum numeric NOT NULL);
CREATE TABLE torture.state (name text, version bigint, rows bigint NOT NULL, checksum numeric NOT NULL, PRIMARY KEY (name, version));
CREATE TABLE torture.publication (
    number bigserial PRIMARY KEY, name text NOT NULL, format text NOT NULL, key text NOT NULL
);

CREATE FUNCTION torture.hash(id bigint, a text, n bigint) RETURNS bigint LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT ('x' || left(md5(id || '|' || coalesce(a, '') || '|' || coalesce(n::text, '')), 12))::bit(48)::bigint
$$;

CREATE FUNCTION torture.count() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    IF TG_OP = 'TRUNCATE' THEN
        UPDATE torture.tally SET rows = 0, checksum = 0 WHERE name = TG_TABLE_NAME;
        RETURN NULL;
    END IF;
    IF TG_OP IN ('INSERT', 'UPDATE') THEN
        UPDATE torture.tally AS t SET rows = t.rows + s.rows, checksum = t.checksum + s.checksum
        FROM (SELECT count(*) AS rows, coalesce(sum(torture.hash(_id, a, n)), 0) AS checksum FROM added) AS s
        WHERE name = TG_TABLE_NAME;
    END IF;
    IF TG_OP IN ('DELETE', 'UPDATE') THEN
        UPDATE torture.tally AS t SET rows = t.rows - s.rows, checksum = t.checksum - s.checksum
        FROM (SELECT count(*) AS rows, coalesce(sum(torture.hash(_id, a, n)), 0) AS checksum FROM removed) AS s
        WHERE name = TG_TABLE_NAME;
    END IF;
    RETURN NULL;
END
$$;

-- For a table that is new, also for one that takes the place of another with its name: versions go on.
CREATE FUNCTION torture.watch(of_table text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE format('CREATE TRIGGER torture_insert AFTER INSERT ON %I REFERENCING NEW TABLE AS added '
        'FOR EACH STATEMENT EXECUTE FUNCTION torture.count()', of_table);
    EXECUTE format('CREATE TRIGGER torture_update AFTER UPDATE ON %I REFERENCING NEW TABLE AS added OLD TABLE AS removed '
        'FOR EACH STATEMENT EXECUTE FUNCTION torture.count()', of_table);
    EXECUTE format('CREATE TRIGGER torture_delete AFTER DELETE ON %I REFERENCING OLD TABLE AS removed '
        'FOR EACH STATEMENT EXECUTE FUNCTION torture.count()', of_table);
    EXECUTE format('CREATE TRIGGER torture_truncate AFTER TRUNCATE ON %I '
        'FOR EACH STATEMENT EXECUTE FUNCTION torture.count()', of_table);
    INSERT INTO torture.tally VALUES (of_table, 0, 0, 0)
    ON CONFLICT (name) DO UPDATE SET rows = 0, checksum = 0;
END
$$;

CREATE FUNCTION torture.seal(of_table text) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    sealed bigint;
BEGIN
    UPDATE torture.tally SET version = version + 1 WHERE name = of_table RETURNING version INTO sealed;
    EXECUTE format('INSERT INTO %I (_id, a, n) VALUES (1, ''version'', $1) ON CONFLICT (_id) DO UPDATE SET n = $1', of_table)
        USING sealed;
    INSERT INTO torture.state SELECT * FROM torture.tally WHERE name = of_table;
    RETURN sealed;
END
$$;

CREATE FUNCTION torture.publish() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    IF TG_OP = 'INSERT' OR OLD.storage_key <> NEW.storage_key THEN
        INSERT INTO torture.publication (name, format, key) VALUES (NEW.resource_id, NEW.format, NEW.storage_key);
    END IF;
    RETURN NULL;
END
$$;
CREATE TRIGGER torture_publish AFTER INSERT OR UPDATE ON datastore_dumper.dump_status
    FOR EACH ROW EXECUTE FUNCTION torture.publish();

GRANT USAGE ON SCHEMA torture TO ckan_write;
GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA torture TO ckan_write;
