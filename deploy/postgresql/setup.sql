-- The login, the database, and by roles.sql the functions that make the installation's roles; by whoever may create all of
-- them: a superuser, or the administrator of a managed PostgreSQL. At the end it asks for the login's password, twice.
--
--     psql "$ADMIN_URL/postgres" --file deploy/postgresql/setup.sql
--     psql "$ADMIN_URL/postgres" --set owner=other_owner --set database=other --file deploy/postgresql/setup.sql   # a second one
--
-- A script has no terminal, and psql reads what is asked for from its standard input:
--
--     printf '%s\n' "$PASSWORD" "$PASSWORD" | setsid psql "$ADMIN_URL/postgres" --file deploy/postgresql/setup.sql
--
-- Stopped on its way, it can be run again: it takes a login and a database of these names for its own where they are as it
-- makes them. On PostgreSQL 16 or newer, the same administrator sets up all installations of a cluster, or a superuser.

\set ON_ERROR_STOP on
-- Whatever stands in `public` here, names and operators are PostgreSQL's.
SET search_path = pg_catalog, pg_temp;

\if :{?owner}
\else
    \set owner tenantry_owner
\endif
\if :{?database}
\else
    \set database tenantry
\endif

SELECT rolsuper AS is_superuser,
    EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = :'owner') AS has_owner,
    EXISTS (SELECT FROM pg_catalog.pg_roles o WHERE rolname = :'owner'
        AND (NOT rolcanlogin OR rolsuper OR rolcreaterole OR rolcreatedb OR rolreplication OR rolbypassrls
            OR EXISTS (SELECT FROM pg_catalog.pg_auth_members m JOIN pg_catalog.pg_roles w ON w.oid = m.member
                WHERE m.member = o.oid OR m.roleid = o.oid AND NOT w.rolsuper AND w.rolname <> current_user)))
        AS is_another_owner,
    EXISTS (SELECT FROM pg_catalog.pg_database WHERE datname = :'database') AS has_database,
    EXISTS (SELECT FROM pg_catalog.pg_database WHERE datname = :'database'
        AND (pg_catalog.pg_get_userbyid(datdba) <> :'owner' OR pg_catalog.pg_encoding_to_char(encoding) <> 'UTF8'))
        AS is_another_database
FROM pg_catalog.pg_roles WHERE rolname = current_user \gset
\if :is_another_owner
    DO $$ BEGIN
        RAISE duplicate_object USING MESSAGE = 'a role of the owner''s name is there, and is not as setup.sql makes it',
            HINT = 'It has to be LOGIN without other attributes, a member of nothing, and nobody a member of it. Drop it, or give another name: --set owner=NAME.';
    END $$;
\endif
\if :is_another_database
    DO $$ BEGIN
        RAISE duplicate_database USING MESSAGE = 'a database of this name is there, and is not as setup.sql makes it',
            HINT = 'It has to be the owner''s and in UTF8. Drop it, or give another name: --set database=NAME.';
    END $$;
\endif

\if :has_owner
\else
    CREATE ROLE :"owner" LOGIN;
\endif
\if :has_database
\else
    CREATE DATABASE :"database" TEMPLATE template0 ENCODING 'UTF8';
    -- Who is no superuser gives a database only to a role that he is a member of. In one transaction, so that it is for that
    -- alone: with the membership, the administrator's every session could act as the owner.
    BEGIN;
    \if :is_superuser
    \else
        GRANT :"owner" TO CURRENT_USER;
    \endif
    ALTER DATABASE :"database" OWNER TO :"owner";
    -- The logins of another installation have no business here. Those of this one are let in when they are made.
    REVOKE CONNECT ON DATABASE :"database" FROM PUBLIC;
    \if :is_superuser
    \else
        GRANT CONNECT ON DATABASE :"database" TO CURRENT_USER;
        REVOKE :"owner" FROM CURRENT_USER;
    \endif
    COMMIT;
\endif

\connect :"database"
\ir roles.sql

-- psql makes the verifier and sends nothing else: a password in a statement would stand in the server's log, and one in an
-- argument in the list of processes.
SET password_encryption TO 'scram-sha-256';
\password :"owner"
-- PostgreSQL takes nothing for an answer, and makes a login without a password of it. Only a superuser sees that.
\if :is_superuser
    SELECT NOT EXISTS (SELECT FROM pg_catalog.pg_authid WHERE rolname = :'owner' AND rolpassword IS NOT NULL) AS is_empty \gset
    \if :is_empty
        DO $$ BEGIN
            RAISE invalid_password USING MESSAGE = 'the password is empty: run this again';
        END $$;
    \endif
\endif
