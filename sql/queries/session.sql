-- Settings of a session.

-- name: session_settings
-- Whatever the role or the database has set: no time limits, as far as this release of Postgres has them
-- (idle_session_timeout came with 14, transaction_timeout with 17); transactions that may write, and that are not
-- serializable, for the reads of those would make writers fail; strings and times as our SQL and the driver read them; and
-- no schema but Postgres' own searched for names, for an operator or function that somebody made elsewhere may fit the
-- types of our arguments better.
SELECT pg_catalog.set_config(s.name, wanted.value, false)
FROM (VALUES
    ('statement_timeout', '0'), ('lock_timeout', '0'), ('idle_session_timeout', '0'),
    ('idle_in_transaction_session_timeout', '0'), ('transaction_timeout', '0'),
    ('default_transaction_isolation', 'read committed'), ('default_transaction_read_only', 'off'),
    ('default_transaction_deferrable', 'off'), ('search_path', 'pg_catalog, pg_temp'),
    ('standard_conforming_strings', 'on'), ('DateStyle', 'ISO')
) AS wanted (name, value)
JOIN pg_catalog.pg_settings AS s ON s.name = wanted.name;

-- name: limit_idle
-- For a transaction that holds locks of rows others need: a process that is frozen within it must not keep them. Postgres
-- ends its session after so long.
SELECT pg_catalog.set_config('idle_in_transaction_session_timeout', %(milliseconds)s::text, true);

-- name: backend_pid
SELECT pg_catalog.pg_backend_pid();

-- name: transaction_settings
-- The same where only a transaction is ours. SET takes no snapshot, so one may still be imported. (Whether it may write, and
-- its isolation, is said when it begins.)
SET LOCAL statement_timeout = 0;
SET LOCAL lock_timeout = 0;
SET LOCAL idle_in_transaction_session_timeout = 0;
SET LOCAL search_path = pg_catalog, pg_temp;
SET LOCAL standard_conforming_strings = on;
SET LOCAL DateStyle = 'ISO';

-- name: transaction_timeout
-- Postgres has it since 17.
SET LOCAL transaction_timeout = 0;

-- name: role_exists
SELECT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = %(role)s);

-- name: reader_settings
-- What CKAN's read role would have set at login among the settings that change the text of values; the most specific
-- wins (PostgreSQL: ALTER ROLE, "Role-specific variable settings"). What nothing is said of is as here, on the primary: a standby
-- may be configured otherwise.
SELECT wanted.name, coalesce(given.value, pg_catalog.current_setting(wanted.name))
FROM unnest('{bytea_output,datestyle,extra_float_digits,intervalstyle,lc_monetary,timezone}'::text[]) AS wanted (name)
LEFT JOIN (
    SELECT DISTINCT ON (lower(split_part(setting, '=', 1)))
        lower(split_part(setting, '=', 1)) AS name,
        substr(setting, strpos(setting, '=') + 1) AS value
    FROM pg_catalog.pg_db_role_setting AS s
    CROSS JOIN LATERAL unnest(s.setconfig) AS setting
    WHERE s.setdatabase IN (0, (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database()))
        AND s.setrole IN (0, (SELECT oid FROM pg_catalog.pg_roles WHERE rolname = %(role)s))
    ORDER BY lower(split_part(setting, '=', 1)), (s.setrole <> 0) DESC, (s.setdatabase <> 0) DESC
) AS given USING (name)
ORDER BY wanted.name;
