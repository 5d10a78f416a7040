//! The HTTP contract, kept once for every endpoint.
//!
//! An endpoint's author writes [`input!`](crate::input) and [`output!`](crate::output) types and a function; what the
//! contract promises beside that happens here:
//!
//! - [`edge`]: the one way in and out. Request id, host, route, method, tenant and credentials, in this order, before
//!   the endpoint; problems, `ETag`s and headers after it.
//! - [`routes`]: which paths and methods there are, read off the same description as the document.
//! - [`host`], [`bearer`], [`client`]: what a request says about itself.
//! - [`body`], [`strict_json`], [`input`]: from bytes to a checked input, with all field errors at once.
//! - [`output`], [`page`]: the answers.
//! - [`events`]: answers that go on; [`impatient`]: not for who takes nothing of them.
//! - [`policy`]: what a request may cost, and whom to believe; [`place`]: how many requests are worked on at once.
//! - [`hsts`]: browsers are told to use TLS from here on.
//! - [`conditional`]: tags of versions; what a client has already, or does not want to overwrite.
//! - [`idempotency`]: requests that are sent again and must not count twice.
//! - [`cors`]: which pages may call from a browser.
//! - [`error`]: [`Problem`], the one shape of an error.
//! - [`docs`], [`swagger`]: the finished OpenAPI document and its page.
//! - [`health`]: is the process up, does the database answer.

pub mod bearer;
pub mod body;
pub mod client;
pub mod conditional;
pub mod cors;
pub mod docs;
pub mod edge;
pub mod error;
pub mod events;
mod field_errors;
pub mod health;
pub mod host;
pub mod hsts;
pub mod idempotency;
pub mod impatient;
pub mod input;
pub mod output;
pub mod page;
pub mod place;
pub mod policy;
mod query;
mod rescue;
pub mod routes;
mod schema;
pub mod strict_json;
pub mod swagger;
mod upload;

#[cfg(test)]
mod tests;

pub use body::{Body, OptionalBody};
pub use client::{ClientAddr, TrustedProxies};
pub use conditional::IfMatch;
pub use cors::Origins;
pub use docs::{Document, Info};
pub use edge::{Admission, Edge, Gate, Origin, Turn, Viewer, Visit, Visited};
pub use error::Problem;
pub use events::EventStream;
pub use field_errors::FieldErrors;
pub use host::Host;
pub use hsts::Hsts;
pub use idempotency::{IdempotencyKey, Keyed};
pub use impatient::Impatient;
pub use input::{Field, Input, Name, Text, Verbatim};
pub use output::{Accepted, Created, Json, NoContent};
pub use page::{Listing, Page, PageQuery, UnreadPage};
pub use place::{Overloaded, Place, Places};
pub use policy::{Limits, Policy};
pub use routes::{Access, Face, Route, Routes};
pub use upload::Upload;

#[doc(hidden)]
pub mod macros {
    //! What the macros of this module expand to needs.
    pub use poem_openapi::{
        registry::{MetaSchemaRef, Registry},
        types::Type,
    };
    pub use serde::Serialize;
    pub use serde_json::{Map, Value};

    pub use super::schema::{Member, object};
}
