//! Proofs that a request is not one too many, for endpoints that know that before they read a body.

use poem::{FromRequest, Request, RequestBody};
use tenants::TenantDb;

use super::{MAIL_REQUESTS, admit};
use crate::{
    http::{ClientAddr, Problem},
    state::App,
};

/// A request by nobody that makes a mail go to whatever address it names: its client has not made too many. It is counted
/// where it runs, in the tenant, or in the catalog if it names none.
#[derive(Debug)]
pub struct MailRequest(());

impl<'a> FromRequest<'a> for MailRequest {
    async fn from_request(request: &'a Request, _: &mut RequestBody) -> poem::Result<Self> {
        let Some(app) = request.data::<App>() else {
            return Err(Problem::internal("the service is not there"))?;
        };
        let network = ClientAddr::of(request).network_text();
        let limits = [(MAIL_REQUESTS, network.as_str())];
        let admitted = match request.data::<TenantDb>() {
            Some(db) => admit(app, db, &limits).await,
            None => admit(app, app.tenancy.catalog(), &limits).await,
        };
        match admitted {
            Ok(_) => Ok(Self(())),
            Err(error) => Err(Problem::from(error))?,
        }
    }
}
