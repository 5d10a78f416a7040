//! The endpoints of passwords.

use poem::web::Data;
use poem_openapi::OpenApi;
use tenants::TenantDb;

use super::service;
use crate::{
    app::Tag,
    auth::{Caller, Device, api::DetailOut},
    http::{Body, Json, Problem, Text},
    state::App,
    throttle::MailRequest,
    users::identity::{Credential, Email, Password},
};

crate::input! {
    /// A password in the place of another one.
    pub struct ChangePasswordIn {
        /// The present password.
        pub old_password: Credential,
        /// The new one.
        pub new_password: Password,
    }
}

crate::input! {
    /// Whose password is forgotten.
    pub struct ForgetPasswordIn {
        /// The e-mail address of the account.
        pub email: Email,
    }
}

crate::input! {
    /// A password in the place of a forgotten one.
    pub struct ResetPasswordIn {
        /// The token in the link that was mailed.
        pub token: Text<1, 4096>,
        /// The new password.
        pub new_password: Password,
    }
}

/// The endpoints of this slice.
pub struct PasswordApi(pub App);

#[OpenApi(tag = "Tag::Password")]
impl PasswordApi {
    /// Change the password
    ///
    /// Every other session of this user ends, and links that were mailed to reset the password do not work any more. The
    /// user is told by mail.
    #[oai(path = "/api/password/change", method = "post", operation_id = "changePassword")]
    async fn change(
        &self,
        caller: Caller,
        Data(db): Data<&TenantDb>,
        device: Device,
        Body(input): Body<ChangePasswordIn>,
    ) -> Result<Json<DetailOut>, Problem> {
        let old = input.old_password.secret().clone();
        service::change(&self.0, db, &caller, old, &input.new_password, &device)
            .await
            .map_err(|error| error.about("new_password"))?;
        Ok(Json(DetailOut { detail: "New password has been saved.".into() }))
    }

    /// Ask for a link to reset the password
    ///
    /// It goes by mail to the address of an active account, and works once, for an hour. The answer is the same whether
    /// there is such an account or not.
    #[oai(path = "/api/password/forget", method = "post", operation_id = "forgetPassword")]
    async fn forget(
        &self,
        _rate: MailRequest,
        Data(db): Data<&TenantDb>,
        Body(input): Body<ForgetPasswordIn>,
    ) -> Result<Json<DetailOut>, Problem> {
        service::forget(&self.0, db, &input.email).await?;
        Ok(Json(DetailOut { detail: "Password reset e-mail has been sent.".into() }))
    }

    /// Reset the password by the link that was mailed
    ///
    /// Every session of this user ends. The user is told by mail, and is not signed in by it.
    #[oai(path = "/api/password/reset", method = "post", operation_id = "resetPassword")]
    async fn reset(
        &self,
        Data(db): Data<&TenantDb>,
        device: Device,
        Body(input): Body<ResetPasswordIn>,
    ) -> Result<Json<DetailOut>, Problem> {
        service::reset(&self.0, db, &input.token, &input.new_password, &device)
            .await
            .map_err(|error| error.about("new_password"))?;
        Ok(Json(DetailOut { detail: "Password has been reset with the new password.".into() }))
    }
}
