-- Read by roles.sql and pgbouncer.sql, inside their transactions: that the role and the schema tenantry_roles, and what is in
-- it, are what roles.sql makes. Whoever has CREATEROLE can be the first to make a role of that name, the owner of a database
-- can make such a schema, and what hangs on a table, a constraint or an index say, runs as who writes to it.
--
-- Since PostgreSQL 16 whoever made the role stays its administrator, and where that is not who runs this, only a human can
-- tell the right one from another: --set administrator=NAME.

\if :{?administrator}
\else
    \set administrator ''
\endif
SET LOCAL tenantry_roles.administrator = :'administrator';

DO $$
DECLARE
    maker oid := (SELECT oid FROM pg_catalog.pg_roles WHERE rolname = 'tenantry_roles' AND rolcreaterole
        AND NOT (rolcanlogin OR rolsuper OR rolcreatedb OR rolreplication OR rolbypassrls));
    place oid := (SELECT oid FROM pg_catalog.pg_namespace WHERE nspname = 'tenantry_roles' AND nspowner = maker);
    strange text;
BEGIN
    SELECT pg_catalog.string_agg(DISTINCT w.rolname::text, ', ') INTO strange
    FROM pg_catalog.pg_auth_members m JOIN pg_catalog.pg_roles w ON w.oid = m.member
    WHERE m.roleid = maker AND NOT w.rolsuper
    AND w.rolname NOT IN (current_user, pg_catalog.current_setting('tenantry_roles.administrator'));
    IF strange IS NOT NULL THEN
        RAISE insufficient_privilege USING MESSAGE = pg_catalog.format('%s: a member of tenantry_roles, and so of every '
            'installation''s roles in this cluster', strange),
            HINT = 'REVOKE it; or if that is the administrator who made it: --set administrator=NAME.';
    END IF;
    IF EXISTS (SELECT FROM pg_catalog.pg_database d JOIN pg_catalog.pg_roles o ON o.oid = datdba
        WHERE datname = pg_catalog.current_database() AND NOT o.rolsuper AND pg_catalog.pg_has_role(o.oid, maker, 'MEMBER'))
    THEN
        RAISE insufficient_privilege USING MESSAGE = 'the owner of the database is a member of tenantry_roles';
    END IF;

    WITH relation AS (SELECT c.* FROM pg_catalog.pg_class c WHERE relnamespace = place),
    found (what) AS (
        SELECT 'the role: it has to be NOLOGIN CREATEROLE and nothing else' WHERE maker IS NULL
        UNION ALL SELECT 'whose schema it is' WHERE maker IS NOT NULL AND place IS NULL
        UNION ALL
        SELECT 'function ' || p.oid::regprocedure FROM pg_catalog.pg_proc p WHERE pronamespace = place AND (proowner <> maker
            OR p.oid::regprocedure::text <> ALL (ARRAY['tenantry_roles.refuse(text)', 'tenantry_roles.kind_of_name(text)',
                'tenantry_roles.kind(text)', 'tenantry_roles.create_role(text)', 'tenantry_roles.set_login(text,text)',
                'tenantry_roles.drop_role(text)', 'tenantry_roles.grant_role(text,text)',
                'tenantry_roles.revoke_role(text,text)', 'tenantry_roles.alter_role(text,text)',
                'tenantry_roles.reset_role(text,text,boolean)']))
        UNION ALL
        SELECT 'type ' || typname FROM pg_catalog.pg_type WHERE typnamespace = place
            AND (typowner <> maker OR typname NOT IN ('made', '_made', 'installation', '_installation'))
        UNION ALL
        SELECT 'relation ' || relname FROM relation WHERE relowner <> maker OR relrowsecurity OR relforcerowsecurity
            OR (relname, relkind::text) NOT IN (VALUES ('made'::name, 'r'), ('installation', 'r'), ('made_pkey', 'i'),
                ('installation_pkey', 'i'))
        UNION ALL
        SELECT 'column ' || relname || '.' || attname FROM relation JOIN pg_catalog.pg_attribute a ON attrelid = relation.oid
        WHERE relkind = 'r' AND attnum > 0 AND NOT attisdropped
            AND (attgenerated <> '' OR attidentity <> '' OR (relname, attname, atttypid) NOT IN (VALUES
                ('made'::name, 'role'::name, 'text'::regtype), ('made', 'oid', 'oid'),
                ('installation', 'is_only', 'boolean'), ('installation', 'id', 'text')))
        UNION ALL
        SELECT 'default of ' || relname || '.' || attname FROM relation
        JOIN pg_catalog.pg_attrdef d ON adrelid = relation.oid
        JOIN pg_catalog.pg_attribute a ON attrelid = adrelid AND attnum = adnum
        WHERE (attname, pg_catalog.pg_get_expr(adbin, adrelid)) <> ('is_only', 'true')
        UNION ALL
        SELECT 'constraint ' || conname FROM relation JOIN pg_catalog.pg_constraint c ON conrelid = relation.oid
        WHERE contype <> 'n' AND (relname, pg_catalog.pg_get_constraintdef(c.oid)) NOT IN (VALUES
            ('made'::name, 'PRIMARY KEY (role)'), ('installation', 'PRIMARY KEY (is_only)'),
            ('installation', 'CHECK (is_only)'), ('installation', 'CHECK ((id ~ ''^[0-9a-v]{8}$''::text))'))
        UNION ALL
        SELECT 'index ' || indexrelid::regclass FROM relation JOIN pg_catalog.pg_index ON indrelid = relation.oid
        WHERE pg_catalog.pg_get_indexdef(indexrelid) NOT IN (
            'CREATE UNIQUE INDEX made_pkey ON tenantry_roles.made USING btree (role)',
            'CREATE UNIQUE INDEX installation_pkey ON tenantry_roles.installation USING btree (is_only)')
        UNION ALL
        SELECT 'trigger ' || tgname FROM relation JOIN pg_catalog.pg_trigger ON tgrelid = relation.oid
        UNION ALL
        SELECT 'rule ' || rulename FROM relation JOIN pg_catalog.pg_rewrite ON ev_class = relation.oid
        UNION ALL
        SELECT 'policy ' || polname FROM relation JOIN pg_catalog.pg_policy ON polrelid = relation.oid
        UNION ALL
        SELECT 'what inherits ' || relname FROM relation
        JOIN pg_catalog.pg_inherits ON relation.oid IN (inhparent, inhrelid))
    SELECT pg_catalog.string_agg(what, ', ') INTO strange FROM found;
    IF strange IS NOT NULL THEN
        RAISE insufficient_privilege USING
            MESSAGE = 'the role or the schema tenantry_roles, or what is in the schema, is not what this script made: ' || strange,
            HINT = 'Find out whose it is, and drop it.';
    END IF;
END $$;
