//! Who is calling: sign-in, sessions, access tokens, and the gate that every request passes.

pub mod api;
mod caller;
mod devices;
mod gate;
pub mod jwt;
mod keyring;
pub mod links;
mod login;
mod operator_tokens;
mod refresh;
mod rotation;
mod service;
mod sessions;
mod tokens;

pub(crate) use api::no_store;
pub use api::{AuthApi, DetailOut, SessionOut, sessions_of};
pub use caller::{AdminCaller, Caller, OwnerCaller};
pub use gate::TenantGate;
pub(crate) use gate::admit_again;
pub use keyring::{KeyError, PublicKey};
pub use operator_tokens::OperatorClaims;
pub use rotation::{KeyState, KeySummary, Rotation, Start};
pub use service::{LoginOut, TokensOut, open_impersonated, sign_in};
pub use sessions::{Device, end_own, end_sessions, sessions_among};
pub(crate) use sessions::{USER_AGENT_LEN, make_room};
pub use tokens::{Act, Claims, Subject, TokenError, TokenFigures, Tokens};
