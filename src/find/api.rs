//! The endpoint for those who have forgotten where they work.

use poem_openapi::OpenApi;

use crate::{
    app::Tag,
    auth::DetailOut,
    http::{Body, Json, Problem},
    jobs::{self, Task},
    state::App,
    throttle::MailRequest,
    users::identity::Email,
};

crate::input! {
    /// Whose organizations are looked for.
    pub struct FindTenantsIn {
        /// The person's address.
        pub email: Email,
    }
}

/// The endpoint of this slice.
pub struct FindApi(pub App);

#[OpenApi(tag = "Tag::SignUp")]
impl FindApi {
    /// Find one's organizations
    ///
    /// Mails the list of the organizations that know this address to it. The answer is the same whether there are any.
    #[oai(path = "/api/tenants/find", method = "post", operation_id = "findTenants")]
    async fn find(
        &self,
        _rate: MailRequest,
        Body(input): Body<FindTenantsIn>,
    ) -> Result<Json<DetailOut>, Problem> {
        // Looked up after the answer, whose time would tell.
        let task = Task::FindOrganizations { email: input.email.as_str().to_owned() };
        jobs::leave(&self.0, self.0.tenancy.catalog(), &task, None).await?;
        let detail = "If there are organizations with this address, a list of them is on its way to it.";
        Ok(Json(DetailOut { detail: detail.into() }))
    }
}
