-- The login, the database, and by roles.sql the functions that make the installation's roles; by whoever may create all of
-- them: a superuser, or the administrator of a managed PostgreSQL. At the end it asks for the login's password, twice.
--
--     psql "$ADMIN_URL" --file deploy/postgresql/setup.sql
--     psql "$ADMIN_URL" --set owner=other_owner --set database=other --file deploy/postgresql/setup.sql   # a second one
--
-- A script has no terminal, and psql reads what is asked for from its standard input:
--
--     printf '%s\n' "$PASSWORD" "$PASSWORD" | setsid psql "$ADMIN_URL" --file deploy/postgresql/setup.sql

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

CREATE ROLE :"owner" LOGIN;

-- Who is no superuser gives a database only to a role that he is a member of.
SELECT rolsuper AS is_superuser FROM pg_catalog.pg_roles WHERE rolname = current_user \gset
\if :is_superuser
\else
    GRANT :"owner" TO CURRENT_USER;
\endif

CREATE DATABASE :"database" OWNER :"owner" TEMPLATE template0 ENCODING 'UTF8';
-- The logins of another installation have no business here. Those of this one are let in when they are made.
REVOKE CONNECT ON DATABASE :"database" FROM PUBLIC;

-- The membership was for that alone: with it, the administrator's every session could act as the owner.
\if :is_superuser
\else
    GRANT CONNECT ON DATABASE :"database" TO CURRENT_USER;
    REVOKE :"owner" FROM CURRENT_USER;
\endif

\connect :"database"
\ir roles.sql

-- psql makes the verifier and sends nothing else: a password in a statement would stand in the server's log, and one in an
-- argument in the list of processes.
SET password_encryption TO 'scram-sha-256';
\password :"owner"
