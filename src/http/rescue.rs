//! Makes problems of the errors of poem and `poem_openapi`, so that a client meets one shape only.

use std::{any::Any, time::Duration};

use poem::{Error, Response, error, http::StatusCode};
use poem_openapi::error as openapi;

use super::{error::Problem, input::REQUIRED};

/// The problem an error is or stands for.
pub(crate) fn error(error: Error) -> Problem {
    let error = match error.downcast::<Problem>() {
        Ok(problem) => return problem,
        Err(error) => error,
    };
    // An id that is no id is the id of nothing.
    if error.is::<openapi::ParsePathError>() || error.is::<error::ParsePathError>() {
        return Problem::not_found();
    }
    if let Some(parameter) = error.downcast_ref::<openapi::ParseParamError>() {
        return Problem::field(parameter.name, sentence(&parameter.reason));
    }
    match error.status() {
        status if status.is_server_error() => server(status).source(error),
        status => client(status),
    }
}

/// The answer, or the problem it stands for: an error without a body of its own, or with a line of text.
pub(crate) fn response(response: Response) -> Result<Response, Problem> {
    let status = response.status();
    let mute = response.content_type().is_none_or(|media_type| media_type.starts_with("text/plain"));
    if status.is_server_error() && mute {
        Err(server(status))
    } else if status.is_client_error() && mute {
        Err(client(status))
    } else {
        Ok(response)
    }
}

/// A handler that panicked.
pub(crate) fn panic(payload: &(dyn Any + Send)) -> Problem {
    let message = payload.downcast_ref::<&str>().copied();
    let message = message.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
    Problem::internal(format!("panicked: {}", message.unwrap_or("without a message")))
}

/// What a parameter's type says is wrong, if it is a type of ours; `poem_openapi` writes the type's name before it. What
/// the standard library says ("invalid digit found in string") is for programmers.
fn sentence(reason: &str) -> String {
    // The one thing `poem_openapi` says itself that a client can make sense of.
    if reason.ends_with("expects an input value.") {
        return REQUIRED.to_owned();
    }
    let own = reason.split_once("\": ").map(|(_, own)| own).filter(|own| own.ends_with('.'));
    own.unwrap_or("Enter a valid value.").to_owned()
}

fn server(status: StatusCode) -> Problem {
    match status {
        StatusCode::SERVICE_UNAVAILABLE => Problem::unavailable(Duration::from_secs(1)),
        _ => Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "error", "A server error occurred."),
    }
}

fn client(status: StatusCode) -> Problem {
    match status {
        StatusCode::BAD_REQUEST => Problem::parse_error("The request could not be read."),
        StatusCode::UNAUTHORIZED => Problem::not_authenticated(),
        StatusCode::FORBIDDEN => Problem::permission_denied(),
        StatusCode::NOT_FOUND => Problem::not_found(),
        StatusCode::UNSUPPORTED_MEDIA_TYPE => {
            Problem::unsupported_media_type("Unsupported media type in request.")
        }
        StatusCode::TOO_MANY_REQUESTS => Problem::throttled(Duration::from_secs(1)),
        other => Problem::new(other, "error", other.canonical_reason().unwrap_or("Error")),
    }
}
