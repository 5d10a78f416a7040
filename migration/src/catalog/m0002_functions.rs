//! The few things a tenant's transaction may put into the catalog.
//!
//! Each is a `SECURITY DEFINER` function that learns the tenant from the role the connection is bound to and takes no
//! tenant as an argument: nobody can act for another. Their `search_path` is fixed, so that no object of the caller's
//! can take the place of one of ours. EXECUTE is granted at installation to one group role, of which every tenant's
//! role is a member.

use sea_orm_migration::prelude::*;

#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

const FUNCTIONS: [&str; 4] = [
    r"CREATE FUNCTION bound_tenant() RETURNS uuid
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, tenantry, pg_temp AS $$
DECLARE
    tenant uuid;
BEGIN
    -- `role` is what SET ROLE set; entering a SECURITY DEFINER function does not change it.
    SELECT id INTO tenant FROM tenants
    WHERE schema_name = current_setting('role') AND status = 'active';
    IF tenant IS NULL THEN
        RAISE EXCEPTION 'this connection is bound to no active tenant' USING ERRCODE = 'insufficient_privilege';
    END IF;
    RETURN tenant;
END $$",
    r"CREATE FUNCTION enqueue(kind text, payload jsonb, run_at timestamptz, dedupe_key text) RETURNS uuid
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, tenantry, pg_temp AS $$
DECLARE
    job uuid;
BEGIN
    INSERT INTO jobs (tenant_id, kind, payload, run_at, due_since, dedupe_key)
    VALUES (bound_tenant(), enqueue.kind, enqueue.payload, enqueue.run_at, enqueue.run_at, enqueue.dedupe_key)
    ON CONFLICT ON CONSTRAINT jobs_dedupe_key DO NOTHING
    RETURNING id INTO job;
    -- NULL where a job with this key stands already: enqueueing again is safe.
    RETURN job;
END $$",
    r"CREATE FUNCTION index_email(old_hash bytea, new_hash bytea) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, tenantry, pg_temp AS $$
DECLARE
    tenant uuid := bound_tenant();
BEGIN
    DELETE FROM email_index WHERE email_hash = old_hash AND tenant_id = tenant;
    IF new_hash IS NOT NULL THEN
        INSERT INTO email_index (email_hash, tenant_id) VALUES (new_hash, tenant) ON CONFLICT DO NOTHING;
    END IF;
END $$",
    r"CREATE FUNCTION rename_tenant(name text) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, tenantry, pg_temp AS $$
DECLARE
    tenant uuid := bound_tenant();
BEGIN
    UPDATE tenants SET name = rename_tenant.name WHERE id = tenant;
END $$",
];

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        for function in FUNCTIONS {
            manager.get_connection().execute_unprepared(function).await?;
        }
        manager
            .get_connection()
            .execute_unprepared(
                "REVOKE EXECUTE ON FUNCTION bound_tenant(), enqueue(text, jsonb, timestamptz, text), \
                 index_email(bytea, bytea), rename_tenant(text) FROM PUBLIC",
            )
            .await?;
        Ok(())
    }
}
