//! Who is calling: sign-in, sessions, access tokens, and the gate that every request passes.

mod api;
mod caller;
mod gate;
mod service;
mod sessions;
mod tokens;

pub use api::AuthApi;
pub use caller::Caller;
pub use gate::TenantGate;
pub use service::{LoginOut, SignedIn, sign_in};
pub use sessions::Device;
pub use tokens::{Claims, Subject, TokenError, Tokens};
