-- The login, the database, and by roles.sql the functions that make the installation's roles; by whoever may create all of
-- them: a superuser, or the administrator of a managed PostgreSQL.
--
--     psql "$ADMIN_URL" --set password='…' --file deploy/postgresql/setup.sql

\set ON_ERROR_STOP on

CREATE ROLE tenantry_owner LOGIN PASSWORD :'password';

-- Who is no superuser gives a database only to a role that he is a member of.
SELECT rolsuper AS is_superuser FROM pg_roles WHERE rolname = current_user \gset
\if :is_superuser
\else
    GRANT tenantry_owner TO CURRENT_USER;
\endif

CREATE DATABASE tenantry OWNER tenantry_owner TEMPLATE template0 ENCODING 'UTF8';

-- The membership was for that alone: with it, the administrator's every session could act as the owner.
\if :is_superuser
\else
    REVOKE tenantry_owner FROM CURRENT_USER;
\endif

\connect tenantry
\ir roles.sql
