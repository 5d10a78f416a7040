//! Outputs: what an endpoint answers with.

use poem::{
    IntoResponse, Response,
    http::{HeaderValue, StatusCode, header::CONTENT_TYPE},
};
use poem_openapi::{
    ApiResponse,
    payload::Payload,
    registry::{MetaMediaType, MetaResponse, MetaResponses, MetaSchemaRef, Registry},
    types::Type,
};
use serde::Serialize;

const APPLICATION_JSON: &str = "application/json";

/// 200 with a JSON body. Written straight to bytes: `poem_openapi`'s own builds a tree of values first, in
/// alphabetical order.
#[derive(Debug)]
pub struct Json<T>(pub T);

/// 201 with a JSON body.
#[derive(Debug)]
pub struct Created<T>(pub T);

/// 202 with a JSON body: it is noted, and done after the answer.
#[derive(Debug)]
pub struct Accepted<T>(pub T);

/// 204.
#[derive(Debug)]
pub struct NoContent;

fn json(status: StatusCode, body: &impl Serialize) -> Response {
    match serde_json::to_vec(body) {
        Ok(bytes) => {
            let mut response = bytes.into_response();
            response.set_status(status);
            response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(APPLICATION_JSON));
            response
        }
        // The edge makes a problem of it; only a map with keys that are no strings could bring us here.
        Err(error) => {
            tracing::error!(%error, "an answer can't be written as JSON");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

fn meta(status: u16, description: &'static str, schema: Option<MetaSchemaRef>) -> MetaResponses {
    let content = schema.map(|schema| MetaMediaType { content_type: APPLICATION_JSON, schema });
    MetaResponses {
        responses: vec![MetaResponse {
            description,
            status: Some(status),
            status_range: None,
            content: content.into_iter().collect(),
            headers: Vec::new(),
        }],
    }
}

impl<T: Serialize + Send> IntoResponse for Json<T> {
    fn into_response(self) -> Response {
        json(StatusCode::OK, &self.0)
    }
}

impl<T: Type> Payload for Json<T> {
    const CONTENT_TYPE: &'static str = APPLICATION_JSON;

    fn schema_ref() -> MetaSchemaRef {
        T::schema_ref()
    }

    fn register(registry: &mut Registry) {
        T::register(registry);
    }
}

impl<T: Type> ApiResponse for Json<T> {
    fn meta() -> MetaResponses {
        meta(200, "", Some(T::schema_ref()))
    }

    fn register(registry: &mut Registry) {
        T::register(registry);
    }
}

impl<T: Serialize + Send> IntoResponse for Created<T> {
    fn into_response(self) -> Response {
        json(StatusCode::CREATED, &self.0)
    }
}

impl<T: Type> ApiResponse for Created<T> {
    fn meta() -> MetaResponses {
        meta(201, "", Some(T::schema_ref()))
    }

    fn register(registry: &mut Registry) {
        T::register(registry);
    }
}

impl<T: Serialize + Send> IntoResponse for Accepted<T> {
    fn into_response(self) -> Response {
        json(StatusCode::ACCEPTED, &self.0)
    }
}

impl<T: Type> ApiResponse for Accepted<T> {
    fn meta() -> MetaResponses {
        meta(202, "It goes on after the answer.", Some(T::schema_ref()))
    }

    fn register(registry: &mut Registry) {
        T::register(registry);
    }
}

impl IntoResponse for NoContent {
    fn into_response(self) -> Response {
        StatusCode::NO_CONTENT.into_response()
    }
}

impl ApiResponse for NoContent {
    fn meta() -> MetaResponses {
        meta(204, "Done; there is nothing to say.", None)
    }

    fn register(_registry: &mut Registry) {}
}

/// Declares an output: a struct, its schema and how it is written, in the order of its fields. A field of type
/// `Option<T>` is always there and null when it is `None`. Doc comments become the document's descriptions.
#[macro_export]
macro_rules! output {
    ($(#[doc = $doc:expr])* $vis:vis struct $name:ident {
        $($(#[doc = $member_doc:expr])* $member_vis:vis $member:ident: $type:ty),* $(,)?
    }) => {
        $(#[doc = $doc])*
        #[derive($crate::http::macros::Serialize)]
        $vis struct $name {
            $($(#[doc = $member_doc])* $member_vis $member: $type,)*
        }

        /// What comes in and goes out holds secrets and people's data: it says no more than what it is.
        impl ::std::fmt::Debug for $name {
            fn fmt(&self, f: &mut ::std::fmt::Formatter<'_>) -> ::std::fmt::Result {
                f.debug_struct(::std::stringify!($name)).finish_non_exhaustive()
            }
        }

        $crate::__object_type!($name, [$($doc),*], [$(($member, $type, [$($member_doc),*],
            true, !<$type as $crate::http::macros::Type>::IS_REQUIRED)),*]);
    };
}
