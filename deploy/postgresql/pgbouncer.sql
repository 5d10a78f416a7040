-- The login by which PgBouncer looks up the verifier of whoever comes: the passwords of the service's logins are derived
-- from its master key and stand in no file. To be run by a superuser, in the database of the service.
--
--     psql "$SUPERUSER_URL/tenantry" --set password='…' --file deploy/postgresql/pgbouncer.sql

\set ON_ERROR_STOP on

CREATE ROLE pgbouncer LOGIN PASSWORD :'password';
CREATE SCHEMA pgbouncer;
-- Only the logins of the service: a superuser's verifier is nothing that a pooler needs.
CREATE FUNCTION pgbouncer.verifier(wanted text, OUT login text, OUT verifier text)
LANGUAGE sql STABLE STRICT SECURITY DEFINER SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    SELECT rolname::text, rolpassword FROM pg_authid
    WHERE rolname = wanted AND rolcanlogin AND NOT rolsuper AND rolname ~ '^tenantry_';
END;
REVOKE ALL ON FUNCTION pgbouncer.verifier(text) FROM PUBLIC;
GRANT USAGE ON SCHEMA pgbouncer TO pgbouncer;
GRANT EXECUTE ON FUNCTION pgbouncer.verifier(text) TO pgbouncer;
