-- Settings of a session.

-- name: session_without_time_limits
-- Whichever of the time limits this release of Postgres has (idle_session_timeout came with 14, transaction_timeout
-- with 17), off for this session.
SELECT pg_catalog.set_config(name, '0', false)
FROM pg_catalog.pg_settings
WHERE name IN (
    'statement_timeout', 'lock_timeout', 'idle_session_timeout',
    'idle_in_transaction_session_timeout', 'transaction_timeout'
);

-- name: reader_settings
-- What CKAN's read role would have set at login among the settings that change the text of values; the most specific
-- wins (PostgreSQL: ALTER ROLE, "Role-specific variable settings").
SELECT DISTINCT ON (lower(split_part(setting, '=', 1)))
    lower(split_part(setting, '=', 1)) AS name,
    substr(setting, strpos(setting, '=') + 1) AS value
FROM pg_catalog.pg_db_role_setting AS s
CROSS JOIN LATERAL unnest(s.setconfig) AS setting
WHERE s.setdatabase IN (0, (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database()))
    AND s.setrole IN (0, (SELECT oid FROM pg_catalog.pg_roles WHERE rolname = %(role)s))
    AND lower(split_part(setting, '=', 1)) IN (
        'timezone', 'datestyle', 'intervalstyle', 'extra_float_digits', 'bytea_output', 'lc_monetary'
    )
ORDER BY lower(split_part(setting, '=', 1)), (s.setrole <> 0) DESC, (s.setdatabase <> 0) DESC;
