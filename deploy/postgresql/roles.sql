-- The functions by which the owner of the database makes and drops the roles of its installation, and needs no right to
-- make others. By a superuser, or by the administrator of a managed PostgreSQL who made the owner; in the database of the
-- service; again after an upgrade that says so, or to take CREATEROLE from an installation that has it:
--
--     psql "$ADMIN_URL/tenantry" --file deploy/postgresql/roles.sql
--
-- They belong to a role of their own that nobody can log in as. So the owner can call them and cannot change them. All
-- installations of a cluster share it; run this as the one administrator who made it, or as a superuser, who on PostgreSQL 16
-- or newer names him: --set administrator=NAME. It reads check_roles.sql, which lies beside it.

\set ON_ERROR_STOP on
-- First of all: the owner of the database may put functions and operators of the same names into `public`. For the same
-- reason nothing of his is read here, be it a table: that would run his code with the rights of who runs this, and SET ROLE
-- is no help, because that code can take it back.
SET search_path = pg_catalog, pg_temp;

BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE;
SET LOCAL client_min_messages TO warning;

SELECT rolsuper AS is_superuser, NOT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = 'tenantry_roles') AS is_first,
    pg_catalog.pg_get_userbyid(datdba) AS owner,
    pg_catalog.current_setting('server_version_num')::int >= 160000 AS has_admin_options
FROM pg_catalog.pg_roles CROSS JOIN pg_catalog.pg_database
WHERE rolname = current_user AND datname = pg_catalog.current_database() \gset

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
-- Before anything is handed over, or written where somebody else's code could run.
\ir check_roles.sql
REVOKE ALL ON SCHEMA tenantry_roles FROM PUBLIC;
-- Both for as long as this runs: language plpgsql may be taken from PUBLIC, so the functions are made by who runs this.
SELECT pg_catalog.format('GRANT USAGE, CREATE ON SCHEMA tenantry_roles TO %I', current_user) \gexec

-- Which installation this database has. The first that makes its roles here is the one; it has to be a new one.
CREATE TABLE IF NOT EXISTS tenantry_roles.installation (
    is_only boolean PRIMARY KEY DEFAULT true CHECK (is_only),
    id text NOT NULL CHECK (id ~ '^[0-9a-v]{8}$')
);
ALTER TABLE tenantry_roles.installation OWNER TO tenantry_roles;

-- The roles that were made here, or were there before these functions. That a role is nobody else's cannot be seen from what
-- it is a member of: an old snapshot shows none. A name that is made again by another is another role.
CREATE TABLE IF NOT EXISTS tenantry_roles.made (
    role text PRIMARY KEY,
    oid oid NOT NULL
);
ALTER TABLE tenantry_roles.made OWNER TO tenantry_roles;

CREATE OR REPLACE FUNCTION tenantry_roles.refuse(what text) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RAISE insufficient_privilege USING MESSAGE = what;
END $$;

-- What kind of role of this installation would bear this name; every other name is refused.
CREATE OR REPLACE FUNCTION tenantry_roles.kind_of_name(role text) RETURNS text
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    prefix text := (SELECT 'tenantry_' || id || '_' FROM tenantry_roles.installation);
BEGIN
    -- Older than what others did meanwhile: a snapshot that lasts.
    IF current_setting('transaction_isolation') <> 'read committed' THEN
        PERFORM tenantry_roles.refuse('roles are changed in a transaction that is READ COMMITTED');
    END IF;
    IF role = prefix || 'tenants' THEN RETURN 'group'; END IF;
    IF role = prefix || 'catalog' THEN RETURN 'catalog'; END IF;
    IF starts_with(role, prefix) AND substr(role, length(prefix) + 1) ~ '^lane_(0|[1-9][0-9]{0,4})$' THEN
        RETURN 'lane';
    END IF;
    IF role ~ '^t_[0-9a-v]{26}$' THEN RETURN 'tenant'; END IF;
    PERFORM tenantry_roles.refuse(format('%L is no role of this installation', role));
END $$;

-- What kind of role this one is, which was made here; every other one is refused.
CREATE OR REPLACE FUNCTION tenantry_roles.kind(role text) RETURNS text
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
    kind text := tenantry_roles.kind_of_name(role);
BEGIN
    IF NOT EXISTS (SELECT FROM tenantry_roles.made m JOIN pg_roles r ON r.oid = m.oid AND r.rolname = m.role
        WHERE m.role = role)
    THEN
        PERFORM tenantry_roles.refuse(format('%L was not made by this installation', role));
    END IF;
    RETURN kind;
END $$;

-- Makes a role that cannot log in.
CREATE OR REPLACE FUNCTION tenantry_roles.create_role(role text) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
    installation text := substring(role FROM '^tenantry_([0-9a-v]{8})_tenants$');
BEGIN
    -- A new installation makes its group first. One whose roles are there has its database already.
    IF installation IS NOT NULL AND NOT EXISTS (SELECT FROM tenantry_roles.installation)
        AND NOT EXISTS (SELECT FROM pg_roles WHERE starts_with(rolname::text, 'tenantry_' || installation || '_'))
    THEN
        INSERT INTO tenantry_roles.installation (id) VALUES (installation);
    END IF;
    EXECUTE format(CASE tenantry_roles.kind_of_name(role) WHEN 'lane' THEN 'CREATE ROLE %I NOLOGIN NOINHERIT'
        ELSE 'CREATE ROLE %I NOLOGIN INHERIT' END, role);
    INSERT INTO tenantry_roles.made AS m (role, oid) SELECT r.rolname, r.oid FROM pg_roles r WHERE r.rolname = role
    ON CONFLICT ON CONSTRAINT made_pkey DO UPDATE SET oid = excluded.oid;
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
#variable_conflict use_variable
BEGIN
    IF tenantry_roles.kind_of_name(role) <> 'tenant' THEN
        PERFORM tenantry_roles.refuse('only roles of tenants are dropped');
    END IF;
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = role) THEN
        PERFORM tenantry_roles.kind(role);
        EXECUTE format('DROP ROLE %I', role);
    END IF;
    DELETE FROM tenantry_roles.made m WHERE m.role = role;
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

-- Nobody calls them but the owner of the database, and he none of those that the others call. Who was the owner before, or
-- was given something by hand, has nothing here any more.
WITH place AS (SELECT n.* FROM pg_catalog.pg_namespace n WHERE nspname = 'tenantry_roles'),
given (what, grantee) AS (
    SELECT 'FUNCTION ' || p.oid::regprocedure, x.grantee FROM pg_catalog.pg_proc p JOIN place ON pronamespace = place.oid
    CROSS JOIN pg_catalog.aclexplode(coalesce(proacl, pg_catalog.acldefault('f', proowner))) x WHERE x.grantee <> proowner
    UNION
    SELECT 'TABLE ' || c.oid::regclass, x.grantee FROM pg_catalog.pg_class c JOIN place ON relnamespace = place.oid
    CROSS JOIN pg_catalog.aclexplode(relacl) x WHERE relkind = 'r' AND x.grantee <> relowner
    UNION
    SELECT 'TABLE ' || c.oid::regclass, x.grantee FROM pg_catalog.pg_class c JOIN place ON relnamespace = place.oid
    JOIN pg_catalog.pg_attribute a ON attrelid = c.oid
    CROSS JOIN pg_catalog.aclexplode(attacl) x WHERE relkind = 'r' AND x.grantee <> relowner
    UNION
    -- Who runs this needs it to the end.
    SELECT 'SCHEMA tenantry_roles', x.grantee FROM place CROSS JOIN pg_catalog.aclexplode(nspacl) x
    WHERE x.grantee NOT IN (nspowner, current_user::regrole))
SELECT pg_catalog.format('REVOKE ALL ON %s FROM %s CASCADE', what,
    CASE grantee WHEN 0 THEN 'PUBLIC' ELSE pg_catalog.quote_ident(pg_catalog.pg_get_userbyid(grantee)) END)
FROM given
\gexec
SELECT pg_catalog.format('GRANT EXECUTE ON FUNCTION %s TO %I', p.oid::regprocedure, :'owner')
FROM pg_catalog.pg_proc p WHERE pronamespace = 'tenantry_roles'::regnamespace AND prosecdef
\gexec
-- He reads which installation this is and what was made, because a dump reads everything.
GRANT USAGE ON SCHEMA tenantry_roles TO :"owner";
GRANT SELECT ON tenantry_roles.installation, tenantry_roles.made TO :"owner";
-- PostgreSQL 16 makes whoever creates a role a member of it, if that is set.
\if :has_admin_options
    ALTER FUNCTION tenantry_roles.create_role(text) SET createrole_self_grant = '';
\endif

-- An installation that is there already. Which one it is, the server's own catalogs tell: its group of tenants has rights in
-- this database and in no other. What the owner's tables say of it could be another's.
DO $$
DECLARE
    id text;
    groups text;
BEGIN
    WITH place AS (
        SELECT r.rolname, pg_catalog.bool_and(dbid = d.oid) AS is_here_only
        FROM pg_catalog.pg_roles r JOIN pg_catalog.pg_shdepend s
            ON refclassid = 'pg_catalog.pg_authid'::regclass AND refobjid = r.oid AND dbid <> 0
        CROSS JOIN pg_catalog.pg_database d
        WHERE r.rolname ~ '^tenantry_[0-9a-v]{8}_tenants$' AND d.datname = pg_catalog.current_database()
        GROUP BY r.rolname HAVING pg_catalog.bool_or(dbid = d.oid))
    SELECT pg_catalog.string_agg(pg_catalog.substr(rolname, 10, 8), ' ') FILTER (WHERE is_here_only),
        pg_catalog.string_agg(rolname::text, ', ')
    INTO id, groups FROM place;
    IF EXISTS (SELECT FROM tenantry_roles.installation) OR groups IS NULL THEN
        RETURN;
    END IF;
    IF (id ~ '^[0-9a-v]{8}$') IS NOT TRUE THEN
        RAISE insufficient_privilege USING MESSAGE =
            'whose database this is cannot be told: one group alone may have rights in it and in no other: ' || groups;
    END IF;
    INSERT INTO tenantry_roles.installation (id) VALUES (id);
END $$;

-- Its roles become theirs, by their names and by who is in its group, and none that has rights in another database.
DO $$
DECLARE
    found record;
BEGIN
    FOR found IN
        SELECT r.rolname, r.oid, EXISTS (SELECT FROM pg_catalog.pg_shdepend s CROSS JOIN pg_catalog.pg_database d
            WHERE refclassid = 'pg_catalog.pg_authid'::regclass AND refobjid = r.oid
            AND d.datname = pg_catalog.current_database() AND dbid NOT IN (0, d.oid)) AS is_elsewhere
        FROM pg_catalog.pg_roles r CROSS JOIN tenantry_roles.installation i
        WHERE (r.rolname ~ ('^tenantry_' || i.id || '_(tenants|catalog|lane_(0|[1-9][0-9]{0,4}))$')
            OR r.rolname ~ '^t_[0-9a-v]{26}$' AND EXISTS (
                SELECT FROM pg_catalog.pg_auth_members m JOIN pg_catalog.pg_roles g ON g.oid = m.roleid
                WHERE m.member = r.oid AND g.rolname = 'tenantry_' || i.id || '_tenants'))
        AND NOT EXISTS (SELECT FROM tenantry_roles.made m WHERE m.role = r.rolname AND m.oid = r.oid)
    LOOP
        IF found.is_elsewhere THEN
            RAISE insufficient_privilege USING MESSAGE =
                pg_catalog.format('%I has rights in another database, so it may be another installation''s', found.rolname);
        END IF;
        INSERT INTO tenantry_roles.made (role, oid) VALUES (found.rolname, found.oid)
        ON CONFLICT ON CONSTRAINT made_pkey DO UPDATE SET oid = excluded.oid;
    END LOOP;
END $$;
-- From PostgreSQL 16 on, that takes a superuser where the owner made them.
\if :has_admin_options
    SELECT pg_catalog.format('GRANT %I TO tenantry_roles WITH ADMIN TRUE, INHERIT FALSE, SET FALSE', rolname)
    FROM pg_catalog.pg_roles r JOIN tenantry_roles.made d ON d.role = rolname AND d.oid = r.oid
    WHERE NOT EXISTS (SELECT FROM pg_catalog.pg_auth_members m
        WHERE m.roleid = r.oid AND m.member = 'tenantry_roles'::regrole AND m.admin_option)
    \gexec
\endif

SELECT pg_catalog.format('ALTER FUNCTION %s OWNER TO tenantry_roles', p.oid::regprocedure)
FROM pg_catalog.pg_proc p WHERE pronamespace = 'tenantry_roles'::regnamespace AND proowner <> 'tenantry_roles'::regrole
UNION ALL
SELECT pg_catalog.format('REVOKE ALL ON SCHEMA tenantry_roles FROM %I', current_user)
WHERE current_user NOT IN ('tenantry_roles', :'owner')
UNION ALL
SELECT pg_catalog.format('ALTER ROLE %I NOCREATEROLE', rolname) FROM pg_catalog.pg_roles
WHERE rolname = :'owner' AND rolcreaterole AND NOT rolsuper
\gexec
\if :is_superuser
\else
    REVOKE :"owner" FROM CURRENT_USER;
    REVOKE tenantry_roles FROM CURRENT_USER;
\endif

COMMIT;
