//! Whether a tenant's row says what follows from its id.

use super::{Rule, must};

pub(super) const ROWS: [Rule; 1] = [must(
    "schemas_crossed",
    "tenants' rows name a schema that is not their own: whoever is served so sees another's rows",
    concat!(
        "SELECT format('%s has %s and not %s', t.slug, t.schema_name, own) FROM (SELECT *, ",
        own_schema!(),
        " AS own FROM tenantry.tenants t) AS t WHERE schema_name <> own"
    ),
    "they are answered 503, and `--fix` leaves them alone; see who changed their rows, set schema_name in tenantry.tenants back \
     to their own, and run `tenantry doctor --fix`",
)];
