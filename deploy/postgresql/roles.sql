-- The functions by which the owner of the database makes and drops the roles of its installation, and needs no right to
-- make others. By a superuser, or by the administrator of a managed PostgreSQL who made the owner; in the database of the
-- service; again after an upgrade that says so, or to take CREATEROLE from an installation that has it:
--
--     psql "$ADMIN_URL/tenantry" --file deploy/postgresql/roles.sql
--
-- They belong to a role of their own that nobody can log in as. So the owner can call them and cannot change them.

\set ON_ERROR_STOP on

BEGIN;
SET LOCAL client_min_messages TO warning;

SELECT rolsuper AS is_superuser, NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'tenantry_roles') AS is_first,
    pg_get_userbyid(datdba) AS owner, current_setting('server_version_num')::int >= 160000 AS has_admin_options
FROM pg_roles CROSS JOIN pg_database WHERE rolname = current_user AND datname = current_database() \gset

\if :is_first
    CREATE ROLE tenantry_roles NOLOGIN CREATEROLE;
\endif
-- Who is no superuser gives something only to a role that he is a member of, and makes a schema only where the owner may.
\if :is_superuser
\else
    GRANT tenantry_roles TO CURRENT_USER;
    GRANT :"owner" TO CURRENT_USER;
\endif

CREATE SCHEMA IF NOT EXISTS tenantry_roles AUTHORIZATION tenantry_roles;
REVOKE ALL ON SCHEMA tenantry_roles FROM PUBLIC;
-- Both for as long as this runs: language plpgsql may be taken from PUBLIC, so the functions are made by who runs this.
SELECT format('GRANT USAGE, CREATE ON SCHEMA tenantry_roles TO %I', current_user) \gexec

-- Which installation this database has. The first that makes its roles here is the one; it has to be a new one.
CREATE TABLE IF NOT EXISTS tenantry_roles.installation (
    is_only boolean PRIMARY KEY DEFAULT true CHECK (is_only),
    id text NOT NULL CHECK (id ~ '^[0-9a-v]{8}$')
);
ALTER TABLE tenantry_roles.installation OWNER TO tenantry_roles;

CREATE OR REPLACE FUNCTION tenantry_roles.refuse(what text) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RAISE insufficient_privilege USING MESSAGE = what;
END $$;

-- What kind of role of this installation bears this name; every other name is refused.
CREATE OR REPLACE FUNCTION tenantry_roles.kind(role text) RETURNS text
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    prefix text := (SELECT 'tenantry_' || id || '_' FROM tenantry_roles.installation);
BEGIN
    IF role = prefix || 'tenants' THEN RETURN 'group'; END IF;
    IF role = prefix || 'catalog' THEN RETURN 'catalog'; END IF;
    IF starts_with(role, prefix) AND substr(role, length(prefix) + 1) ~ '^lane_(0|[1-9][0-9]{0,4})$' THEN
        RETURN 'lane';
    END IF;
    -- The names of tenants' roles do not tell whose they are; their group does.
    IF role ~ '^t_[0-9a-v]{26}$' AND NOT EXISTS (
        SELECT FROM pg_auth_members m JOIN pg_roles r ON r.oid = m.member JOIN pg_roles g ON g.oid = m.roleid
        WHERE r.rolname = role AND g.rolname ~ '^tenantry_[0-9a-v]{8}_tenants$'
        AND g.rolname IS DISTINCT FROM prefix || 'tenants')
    THEN
        RETURN 'tenant';
    END IF;
    PERFORM tenantry_roles.refuse(format('%L is no role of this installation', role));
END $$;

-- Makes a role that cannot log in.
CREATE OR REPLACE FUNCTION tenantry_roles.create_role(role text) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    installation text := substring(role FROM '^tenantry_([0-9a-v]{8})_tenants$');
BEGIN
    -- A new installation makes its group first. One whose roles are there has its database already.
    IF installation IS NOT NULL AND NOT EXISTS (SELECT FROM tenantry_roles.installation)
        AND NOT EXISTS (SELECT FROM pg_roles WHERE starts_with(rolname::text, 'tenantry_' || installation || '_'))
    THEN
        INSERT INTO tenantry_roles.installation (id) VALUES (installation);
    END IF;
    EXECUTE format(CASE tenantry_roles.kind(role) WHEN 'lane' THEN 'CREATE ROLE %I NOLOGIN NOINHERIT'
        ELSE 'CREATE ROLE %I NOLOGIN INHERIT' END, role);
END $$;

-- Lets a login in, by a verifier and never by a password: that would stand in the server's log.
CREATE OR REPLACE FUNCTION tenantry_roles.set_login(role text, verifier text) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    kind text := tenantry_roles.kind(role);
BEGIN
    IF kind NOT IN ('lane', 'catalog')
        OR (verifier ~ '^SCRAM-SHA-256\$[1-9][0-9]{3,6}:[A-Za-z0-9+/]{22,88}={0,2}\$[A-Za-z0-9+/]{43}=:[A-Za-z0-9+/]{43}=$')
            IS NOT TRUE
    THEN
        PERFORM tenantry_roles.refuse('only a login of this installation has a password, and it is set by its verifier');
    END IF;
    EXECUTE format(CASE kind WHEN 'lane' THEN 'ALTER ROLE %I LOGIN NOINHERIT PASSWORD %L'
        ELSE 'ALTER ROLE %I LOGIN INHERIT PASSWORD %L' END, role, verifier);
END $$;

-- Drops the role of a tenant, if there is one.
CREATE OR REPLACE FUNCTION tenantry_roles.drop_role(role text) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF tenantry_roles.kind(role) <> 'tenant' THEN
        PERFORM tenantry_roles.refuse('only roles of tenants are dropped');
    END IF;
    EXECUTE format('DROP ROLE IF EXISTS %I', role);
END $$;

-- Takes a tenant's role into the group of tenants, or gives it to a lane once it is in there.
CREATE OR REPLACE FUNCTION tenantry_roles.grant_role(role text, member text) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    kinds text := tenantry_roles.kind(role) || ' to ' || tenantry_roles.kind(member);
BEGIN
    IF kinds = 'tenant to lane' AND NOT EXISTS (
        SELECT FROM pg_auth_members m JOIN pg_roles r ON r.oid = m.member JOIN pg_roles g ON g.oid = m.roleid
        CROSS JOIN tenantry_roles.installation i
        WHERE r.rolname = role AND g.rolname = 'tenantry_' || i.id || '_tenants')
    THEN
        PERFORM tenantry_roles.refuse(format('%L is not in the group of tenants', role));
    END IF;
    IF kinds NOT IN ('tenant to lane', 'group to tenant') THEN
        PERFORM tenantry_roles.refuse(format('no %s is granted', kinds));
    END IF;
    EXECUTE format('GRANT %I TO %I', role, member);
END $$;

-- Takes a membership away of which one side is a role of this installation.
CREATE OR REPLACE FUNCTION tenantry_roles.revoke_role(role text, member text) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    kind text;
BEGIN
    IF member = 'tenantry_roles' THEN
        PERFORM tenantry_roles.refuse('what these functions work with is not taken from them');
    END IF;
    BEGIN
        kind := tenantry_roles.kind(role);
    EXCEPTION WHEN insufficient_privilege THEN
        kind := tenantry_roles.kind(member);
    END;
    EXECUTE format('REVOKE %I FROM %I', role, member);
END $$;

-- Gives a role an attribute that roles of its kind have.
CREATE OR REPLACE FUNCTION tenantry_roles.alter_role(role text, attribute text) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    kind text := tenantry_roles.kind(role);
BEGIN
    IF (attribute IN ('NOCREATEROLE NOCREATEDB', 'CONNECTION LIMIT -1 VALID UNTIL ''infinity''')
        OR attribute = CASE WHEN kind IN ('lane', 'catalog') THEN 'LOGIN' ELSE 'NOLOGIN' END
        OR attribute = CASE kind WHEN 'lane' THEN 'NOINHERIT' ELSE 'INHERIT' END) IS NOT TRUE
    THEN
        PERFORM tenantry_roles.refuse('that is no attribute of such a role');
    END IF;
    -- One of the words above.
    EXECUTE format('ALTER ROLE %I ', role) || attribute;
END $$;

-- Takes back what is set for a role: here, or in every database.
CREATE OR REPLACE FUNCTION tenantry_roles.reset_role(role text, setting text, is_here boolean) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM tenantry_roles.kind(role);
    IF (setting ~ '^[a-z_]{1,63}$') IS NOT TRUE THEN
        PERFORM tenantry_roles.refuse('that is no name of a setting');
    END IF;
    IF is_here THEN
        EXECUTE format('ALTER ROLE %I IN DATABASE %I RESET %I', role, current_database(), setting);
    ELSE
        EXECUTE format('ALTER ROLE %I RESET %I', role, setting);
    END IF;
END $$;

-- Nobody calls them but the owner of the database, and he none of the two that the others call.
SELECT format('REVOKE ALL ON FUNCTION %s FROM PUBLIC', p.oid::regprocedure)
FROM pg_proc p WHERE pronamespace = 'tenantry_roles'::regnamespace
UNION ALL
SELECT format('GRANT EXECUTE ON FUNCTION %s TO %I', p.oid::regprocedure, :'owner')
FROM pg_proc p WHERE pronamespace = 'tenantry_roles'::regnamespace AND prosecdef
\gexec
-- He reads which installation this is, because a dump reads everything.
GRANT USAGE ON SCHEMA tenantry_roles TO :"owner";
GRANT SELECT ON tenantry_roles.installation TO :"owner";
-- PostgreSQL 16 makes whoever creates a role a member of it, if that is set.
\if :has_admin_options
    ALTER FUNCTION tenantry_roles.create_role(text) SET createrole_self_grant = '';
\endif

-- An installation that is there already: its roles become theirs. From PostgreSQL 16 on, that takes a superuser.
SELECT to_regclass('tenantry.installation') IS NOT NULL AS is_installed \gset
\if :is_installed
    INSERT INTO tenantry_roles.installation (id) SELECT id FROM tenantry.installation ON CONFLICT DO NOTHING;
    \if :has_admin_options
        SELECT format('GRANT %I TO tenantry_roles WITH ADMIN TRUE, INHERIT FALSE, SET FALSE', rolname)
        FROM pg_roles r CROSS JOIN tenantry_roles.installation i
        WHERE (rolname IN (SELECT schema_name FROM tenantry.tenants)
            OR rolname ~ ('^tenantry_' || i.id || '_(tenants|catalog|lane_[0-9]+)$'))
        AND NOT EXISTS (SELECT FROM pg_auth_members m WHERE m.roleid = r.oid AND m.member = 'tenantry_roles'::regrole
            AND m.admin_option)
        \gexec
    \endif
\endif

SELECT format('ALTER FUNCTION %s OWNER TO tenantry_roles', p.oid::regprocedure)
FROM pg_proc p WHERE pronamespace = 'tenantry_roles'::regnamespace AND proowner <> 'tenantry_roles'::regrole
UNION ALL
SELECT format('REVOKE ALL ON SCHEMA tenantry_roles FROM %I', current_user)
WHERE current_user NOT IN ('tenantry_roles', :'owner')
UNION ALL
SELECT format('ALTER ROLE %I NOCREATEROLE', rolname) FROM pg_roles
WHERE rolname = :'owner' AND rolcreaterole AND NOT rolsuper
\gexec
\if :is_superuser
\else
    REVOKE :"owner" FROM CURRENT_USER;
    REVOKE tenantry_roles FROM CURRENT_USER;
\endif

COMMIT;
