-- The login by which PgBouncer looks up the verifier of whoever comes: the passwords of the service's logins are derived
-- from its master key and stand in no file. To be run by a superuser, in the database of the service, and again after
-- roles.sql made the functions of an installation that had none. It asks for the login's password, twice, where it has
-- none yet; how a script answers, setup.sql says. It reads check_roles.sql, which lies beside it; roles.sql says when that
-- wants --set administrator=NAME.
--
--     psql "$SUPERUSER_URL/tenantry" --file deploy/postgresql/pgbouncer.sql

\set ON_ERROR_STOP on
-- First of all: the owner of the database may put functions and operators of the same names into `public`.
SET search_path = pg_catalog, pg_temp;
SET client_min_messages TO warning;

SELECT NOT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = 'pgbouncer') AS is_first \gset
\if :is_first
    CREATE ROLE pgbouncer LOGIN;
\endif
SELECT rolpassword IS NULL AS is_without_password FROM pg_catalog.pg_authid WHERE rolname = 'pgbouncer' \gset
\if :is_without_password
    SET password_encryption TO 'scram-sha-256';
    \password pgbouncer
    -- PostgreSQL takes nothing for an answer, and makes a login without a password of it.
    DO $$
    BEGIN
        IF EXISTS (SELECT FROM pg_catalog.pg_authid WHERE rolname = 'pgbouncer' AND rolpassword IS NULL) THEN
            RAISE invalid_password USING MESSAGE = 'the password is empty: run this again';
        END IF;
    END $$;
\endif

BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE;
CREATE SCHEMA IF NOT EXISTS pgbouncer;
DO $$
BEGIN
    IF NOT (SELECT rolsuper FROM pg_catalog.pg_namespace n JOIN pg_catalog.pg_roles r ON r.oid = nspowner
            WHERE nspname = 'pgbouncer')
    THEN
        RAISE insufficient_privilege USING MESSAGE = 'the schema pgbouncer is somebody else''s';
    END IF;
END $$;

-- What it is read by below runs with the rights of who runs this: it has to be the table that roles.sql made.
SELECT EXISTS (SELECT FROM pg_catalog.pg_namespace WHERE nspname = 'tenantry_roles') AS knows_roles \gset
\if :knows_roles
    \ir check_roles.sql
\endif
-- The logins of the service in this database, and the owner's, which looks whether it is pooled: another installation's
-- verifiers, or a superuser's, are nothing that its pooler needs.
\if :knows_roles
    \set is_ours 'EXISTS (SELECT FROM ONLY tenantry_roles.made m WHERE m.oid = a.oid AND m.role = a.rolname)'
\else
    -- Where the owner makes the roles itself, only their names tell, and who is let in here: another installation's where
    -- everybody is.
    \set is_ours 'rolname ~ ''^tenantry_[0-9a-v]{8}_(catalog|lane_[0-9]+)$'' AND has_database_privilege(a.oid, current_database(), ''CONNECT'')'
\endif
-- No row for a name that is not served: of a row of nulls PgBouncer says that its configuration is wrong.
DROP FUNCTION IF EXISTS pgbouncer.verifier(text);
CREATE FUNCTION pgbouncer.verifier(wanted text) RETURNS TABLE (login text, verifier text)
LANGUAGE sql STABLE STRICT SECURITY DEFINER SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    SELECT rolname::text, rolpassword FROM pg_catalog.pg_authid a
    WHERE rolname = wanted AND rolcanlogin AND NOT rolsuper AND (rolvaliduntil IS NULL OR rolvaliduntil > now())
    AND ((:is_ours) OR EXISTS (
        SELECT FROM pg_catalog.pg_database d WHERE d.datname = current_database() AND d.datdba = a.oid));
END;
REVOKE ALL ON FUNCTION pgbouncer.verifier(text) FROM PUBLIC;
GRANT USAGE ON SCHEMA pgbouncer TO pgbouncer;
GRANT EXECUTE ON FUNCTION pgbouncer.verifier(text) TO pgbouncer;
SELECT pg_catalog.format('GRANT CONNECT ON DATABASE %I TO pgbouncer', pg_catalog.current_database()) \gexec
COMMIT;
