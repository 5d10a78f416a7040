-- What only a superuser can take from PUBLIC, in the database of the service. With these functions one SELECT could act as
-- another tenant of its lane, or wake every listener up. It can be run before or after `tenantry migrate`, and again.
--
--     psql "$SUPERUSER_URL/tenantry" --file deploy/postgresql/harden.sql

\set ON_ERROR_STOP on
-- First of all: the owner of the database may put functions and operators of the same names into `public`.
SET search_path = pg_catalog, pg_temp;

SELECT format('REVOKE TEMPORARY ON DATABASE %I FROM PUBLIC', current_database())
UNION ALL
SELECT 'REVOKE CREATE ON SCHEMA public FROM PUBLIC'
UNION ALL
SELECT format('REVOKE EXECUTE ON FUNCTION pg_catalog.%s FROM PUBLIC', oid::regprocedure)
FROM pg_proc
WHERE pronamespace = 'pg_catalog'::regnamespace
    AND (proname IN ('set_config', 'pg_notify') OR proname ~ '^(query|cursor|table|schema|database)_to_xml')
\gexec

-- pg_dump and pg_restore begin with it; the owner's connections lead nowhere else by it.
SELECT pg_catalog.format('GRANT EXECUTE ON FUNCTION pg_catalog.set_config(text, text, boolean) TO %I', pg_catalog.pg_get_userbyid(datdba))
FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database()
\gexec

-- A DO block could SET ROLE. The owner writes the catalog's functions in it.
REVOKE USAGE ON LANGUAGE plpgsql FROM PUBLIC;
SELECT pg_catalog.format('GRANT USAGE ON LANGUAGE plpgsql TO %I', pg_catalog.pg_get_userbyid(datdba))
FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database()
\gexec

-- Who may log in to this database may connect to these too, and should not. Administrators go on as before. Leave it out
-- where others share the cluster and need them.
SELECT pg_catalog.format('GRANT CONNECT ON DATABASE postgres, template1 TO %I', rolname)
FROM pg_catalog.pg_roles r
WHERE rolcanlogin AND NOT rolsuper AND (rolcreatedb OR rolcreaterole)
    AND NOT EXISTS (SELECT FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database() AND datdba = r.oid)
\gexec
REVOKE CONNECT ON DATABASE postgres, template1 FROM PUBLIC;
