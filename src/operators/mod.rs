//! The people who run the installation: their accounts and API keys, how they sign in, and the proofs of what each of
//! them may do. What they do to tenants is in [`admin`](crate::admin).

pub mod api;
mod caller;
mod error;
mod follow;
mod gate;
mod login;
mod password;
mod scope;
mod service;
mod store;

pub use api::OperatorsApi;
pub use caller::{Destroys, DoesEverything, Identity, InPerson, KeyInUse, OperatorCaller, Provisions, Reads};
pub use error::OperatorError;
pub use follow::{Followed, follow};
pub use gate::{identify, is_there};
pub use password::set_password;
pub use scope::{Scope, Scopes};
pub use service::{
    CreatedKey, NewKey, NewOperator, all_keys, all_operators, create_key, create_operator,
    create_operator_with_key, delete_key, delete_operator, find_operator, rotate_keys, scopes_of,
};
