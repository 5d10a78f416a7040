//! The endpoints of signing up and of proving an address.

use poem::{FromRequest, Request, RequestBody, web::Data};
use poem_openapi::{OpenApi, payload::Response};
use tenants::TenantDb;

use super::{
    RegistrationError,
    service::{self, Proof, SignUp},
};
use crate::{
    app::Tag,
    auth::{Device, LoginOut, api::DetailOut, no_store},
    http::{Body, Created, Json, Name, Problem, Text},
    state::App,
    tenant::{SignUpRules, sign_up_rules},
    throttle::MailRequest,
    users::identity::{Credential, Email, Password, Username},
};

crate::input! {
    /// Somebody who wants to join.
    pub struct SignUpIn {
        /// The username.
        pub username: Username,
        /// The e-mail address. It has to be proven before there is an account.
        pub email: Email,
        /// The password. It is asked for when the address is proven.
        pub password: Password,
        /// The first name.
        pub first_name: Option<Name<0, 150>>,
        /// The last name.
        pub last_name: Option<Name<0, 150>>,
    }
}

crate::input! {
    /// Who proves an address.
    pub struct VerifyEmailIn {
        /// The token in the mailed link.
        pub token: Text<1, 4096>,
        /// The password that was chosen at the sign-up; that of the account, if there is one.
        pub password: Credential,
        /// Another username than at the sign-up, if that is taken by now.
        pub username: Option<Username>,
    }
}

crate::input! {
    /// Who needs another link.
    pub struct ResendEmailIn {
        /// The e-mail address.
        pub email: Email,
    }
}

/// Proof that somebody may sign up here. An extractor, because where nobody may, a client is told so before anything is
/// said about its body.
struct SomebodyMay(SignUpRules);

impl<'a> FromRequest<'a> for SomebodyMay {
    async fn from_request(request: &'a Request, _: &mut RequestBody) -> poem::Result<Self> {
        let db = request.data::<TenantDb>().ok_or_else(Problem::tenant_required)?;
        let rules = sign_up_rules(db).await.map_err(Problem::from)?;
        if rules.admit_somebody() { Ok(Self(rules)) } else { Err(Problem::from(RegistrationError::Closed))? }
    }
}

/// The endpoints of this slice.
pub struct RegistrationApi(pub App);

#[OpenApi(tag = "Tag::SignUp")]
impl RegistrationApi {
    /// Sign up
    ///
    /// Where the organization is open to everybody, or to the domain of the address. A link goes out by mail; the account is
    /// there once it was followed. The answer is the same where the address has an account: its owner is told by mail.
    #[oai(path = "/api/sign_up", method = "post", operation_id = "signUp")]
    async fn sign_up(
        &self,
        _request: MailRequest,
        SomebodyMay(rules): SomebodyMay,
        Data(db): Data<&TenantDb>,
        Body(input): Body<SignUpIn>,
    ) -> Result<Created<DetailOut>, Problem> {
        let new = SignUp {
            username: input.username,
            email: input.email,
            password: input.password,
            first_name: input.first_name.map(Name::into_string).unwrap_or_default(),
            last_name: input.last_name.map(Name::into_string).unwrap_or_default(),
        };
        service::sign_up(&self.0, db, &rules, new).await?;
        Ok(Created(DetailOut { detail: "Verification e-mail sent.".into() }))
    }

    /// Prove an address
    ///
    /// Ends a sign-up, or proves the address of an account; either way the user is signed in by it. Whatever is wrong with
    /// token or password, the answer is the same.
    #[oai(path = "/api/sign_up/verify_email", method = "post", operation_id = "verifyEmail")]
    async fn verify(
        &self,
        Data(db): Data<&TenantDb>,
        device: Device,
        Body(input): Body<VerifyEmailIn>,
    ) -> Result<Response<Json<LoginOut>>, Problem> {
        let proof = Proof {
            token: input.token.into_string().into(),
            password: input.password.secret().clone(),
            username: input.username,
        };
        Ok(no_store(Json(service::verify(&self.0, db, proof, &device).await?)))
    }

    /// Ask for another link
    ///
    /// By which an address is proven. The answer is always the same.
    #[oai(path = "/api/sign_up/resend_email", method = "post", operation_id = "resendEmail")]
    async fn resend(
        &self,
        _request: MailRequest,
        Data(db): Data<&TenantDb>,
        Body(input): Body<ResendEmailIn>,
    ) -> Result<Json<DetailOut>, Problem> {
        service::resend(&self.0, db, &input.email).await?;
        Ok(Json(DetailOut { detail: "ok".into() }))
    }
}
