//! Logins, lanes and tenants' roles: what they are and whose members.

use super::{FIX, Rule, must};

pub(super) const ROLES: [Rule; 11] = [
    must(
        "roles_missing",
        "roles are missing",
        "SELECT name FROM login WHERE oid IS NULL
         UNION ALL SELECT $3 WHERE NOT EXISTS (SELECT FROM tenant_group)
         UNION ALL SELECT schema_name || ' of ' || slug FROM tenant WHERE role IS NULL",
        FIX,
    ),
    must(
        "powerful_roles",
        "roles have rights over the whole server",
        "SELECT rolname FROM pg_roles
         WHERE (rolsuper OR rolcreaterole OR rolcreatedb OR rolreplication OR rolbypassrls)
         AND oid IN (SELECT oid FROM login UNION ALL SELECT role FROM tenant UNION ALL SELECT oid FROM tenant_group)",
        FIX,
    ),
    must("logins_closed", "logins cannot log in", "SELECT name FROM login WHERE NOT rolcanlogin", FIX),
    must(
        "logins_limited",
        "logins end at some time, or may have only so many connections",
        "SELECT name FROM login WHERE rolconnlimit <> -1 OR rolvaliduntil < 'infinity'",
        FIX,
    ),
    must(
        "tenants_log_in",
        "tenants' roles can log in",
        "SELECT rolname FROM pg_roles WHERE rolcanlogin
         AND oid IN (SELECT role FROM tenant UNION ALL SELECT oid FROM tenant_group)",
        FIX,
    ),
    must(
        "lanes_inherit",
        "lanes inherit the rights of their tenants, so an unbound connection reads all of them",
        "SELECT name FROM login WHERE is_lane AND rolinherit
         UNION SELECT member_name FROM membership JOIN login ON oid = member WHERE is_lane AND inherits",
        FIX,
    ),
    must(
        "lane_not_granted",
        "tenants' roles are not granted to their lane",
        "SELECT slug FROM tenant WHERE role IS NOT NULL AND NOT EXISTS (
             SELECT FROM membership WHERE roleid = role AND member = lane AND can_set)",
        FIX,
    ),
    must(
        "tenants_impersonated",
        "somebody else may act as a tenant or a login",
        "SELECT member_name || ' as ' || role_name FROM membership
         WHERE (roleid IN (SELECT role FROM tenant) OR roleid IN (SELECT oid FROM login))
         AND NOT EXISTS (SELECT FROM tenant WHERE role = roleid AND lane = member)
         AND member NOT IN (SELECT oid FROM owner UNION ALL SELECT oid FROM maker
             UNION ALL SELECT oid FROM pg_roles WHERE rolsuper)",
        FIX,
    ),
    must(
        "outside_group",
        "tenants' roles are not in the group that may leave jobs",
        "SELECT slug FROM tenant WHERE role IS NOT NULL AND NOT EXISTS (
             SELECT FROM membership JOIN tenant_group ON oid = roleid WHERE member = role AND inherits)",
        FIX,
    ),
    must(
        "tenants_in_others",
        "tenants' roles are members of others",
        "SELECT member_name || ' of ' || role_name FROM membership WHERE member IN (SELECT role FROM tenant)
         AND roleid NOT IN (SELECT oid FROM tenant_group)",
        FIX,
    ),
    must(
        "logins_in_others",
        "logins are members of more than their tenants' roles",
        "SELECT member_name || ' of ' || role_name FROM membership WHERE member IN (SELECT oid FROM login)
         AND roleid NOT IN (SELECT role FROM tenant WHERE role IS NOT NULL)
         AND role_name !~ '^t_[0-9a-v]{26}$'",
        FIX,
    ),
];
