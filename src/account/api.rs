//! The endpoints of one's own account, but for the profile.

use poem::web::Data;
use poem_openapi::{OpenApi, payload::Response};
use tenants::TenantDb;

use super::{ExportOut, export, service};
use crate::{
    app::Tag,
    auth::{Caller, DetailOut},
    http::{Body, IfMatch, Json, NoContent, Problem, Text},
    state::App,
    users::identity::{Credential, Email},
};

crate::input! {
    /// Another address for the signed-in user.
    pub struct ChangeEmailIn {
        /// The new address.
        pub email: Email,
        /// The user's password.
        pub password: Credential,
    }
}

crate::input! {
    /// What stands in a link that was mailed.
    pub struct LinkTokenIn {
        /// The token of the link.
        pub token: Text<1, 4096>,
    }
}

crate::input! {
    /// Proof that it is the user who asks, not somebody at his desk.
    pub struct PasswordIn {
        /// The user's password.
        pub password: Credential,
    }
}

/// The endpoints of this slice.
pub struct AccountApi(pub App);

#[OpenApi(tag = "Tag::Users")]
impl AccountApi {
    /// Change one's own e-mail address
    ///
    /// Sends a link to the new address, which works for 24 hours. The new address counts once the link was followed; the
    /// old one is told then. Asking again makes the links before stop working.
    #[oai(path = "/api/current_user/email", method = "post", operation_id = "changeEmail")]
    async fn change_email(
        &self,
        caller: Caller,
        Data(db): Data<&TenantDb>,
        Body(input): Body<ChangeEmailIn>,
    ) -> Result<Json<DetailOut>, Problem> {
        let password = input.password.secret().clone();
        service::ask_for_email(&self.0, db, &caller, &input.email, password).await?;
        Ok(Json(DetailOut { detail: "Verification e-mail sent.".into() }))
    }

    /// Prove a new e-mail address
    ///
    /// By the token of the link that was sent there.
    #[oai(path = "/api/current_user/email/verify", method = "post", operation_id = "verifyChangedEmail")]
    async fn verify_email(
        &self,
        Data(db): Data<&TenantDb>,
        Body(input): Body<LinkTokenIn>,
    ) -> Result<Json<DetailOut>, Problem> {
        service::prove_email(&self.0, db, &input.token).await?;
        Ok(Json(DetailOut { detail: "E-mail address verified.".into() }))
    }

    /// A copy of one's own data
    ///
    /// All that the organization keeps of the signed-in user, in one document.
    #[oai(path = "/api/current_user/export", method = "get", operation_id = "exportCurrentUser")]
    async fn export(
        &self,
        caller: Caller,
        Data(db): Data<&TenantDb>,
    ) -> Result<Response<Json<ExportOut>>, Problem> {
        let document = export::export(&self.0, db, &caller).await?;
        // A slug is made of letters, digits and hyphens, so it needs no quoting.
        let name = format!("attachment; filename=\"{}-{}.json\"", db.tenant().slug, caller.account.pk);
        Ok(Response::new(Json(document))
            .header("cache-control", "no-store")
            .header("content-disposition", name))
    }

    /// Delete one's own account
    ///
    /// At once and for good. The last owner can't: somebody has to be there who manages the organization.
    #[oai(path = "/api/current_user", method = "delete", operation_id = "deleteCurrentUser")]
    async fn delete(
        &self,
        caller: Caller,
        Data(db): Data<&TenantDb>,
        if_match: IfMatch,
        Body(input): Body<PasswordIn>,
    ) -> Result<NoContent, Problem> {
        let password = input.password.secret().clone();
        service::delete(&self.0, db, &caller, password, &if_match).await?;
        Ok(NoContent)
    }
}
