-- What only a superuser can take from PUBLIC, in the database of the service. With these functions one SELECT could act as
-- another tenant of its lane, or wake every listener up. It can be run before or after `tenantry migrate`, and again.
--
--     psql "$SUPERUSER_URL/tenantry" --file deploy/postgresql/harden.sql

\set ON_ERROR_STOP on

SELECT format('REVOKE TEMPORARY ON DATABASE %I FROM PUBLIC', current_database())
UNION ALL
SELECT 'REVOKE CREATE ON SCHEMA public FROM PUBLIC'
UNION ALL
SELECT format('REVOKE EXECUTE ON FUNCTION pg_catalog.%s FROM PUBLIC', oid::regprocedure)
FROM pg_proc
WHERE pronamespace = 'pg_catalog'::regnamespace
    AND (proname IN ('set_config', 'pg_notify') OR proname ~ '^(query|cursor|table|schema|database)_to_xml')
\gexec

-- A DO block could SET ROLE. The owner writes the catalog's functions in it.
REVOKE USAGE ON LANGUAGE plpgsql FROM PUBLIC;
GRANT USAGE ON LANGUAGE plpgsql TO tenantry_owner;

-- Who may log in to this database may connect to these too. Leave it out where others share the cluster and need them.
REVOKE CONNECT ON DATABASE postgres, template1 FROM PUBLIC;
