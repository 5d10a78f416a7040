//! From the bytes of a request to a checked input.
//!
//! The order is the contract's: size, media type, JSON, fields.

use std::{pin::pin, task::Poll, time::Duration};

use futures_util::{StreamExt as _, poll};
use poem::{
    Request, RequestBody,
    http::{
        HeaderMap,
        header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE},
    },
};
use poem_openapi::{
    ApiExtractor, ApiExtractorType, ExtractParamOptions,
    registry::{MetaMediaType, MetaRequest, Registry},
    types::Type,
};
use serde_json::{Map, Value};
use tokio::sync::{Semaphore, SemaphorePermit};

use super::{
    Limits, Overloaded, Place,
    error::Problem,
    field_errors::FieldErrors,
    input::{Input, kind},
    strict_json,
};

const APPLICATION_JSON: &str = "application/json";

/// The input of an operation. An empty body is an empty object, as in Django REST framework: what is required is
/// then named as missing.
#[derive(Debug)]
pub struct Body<T>(pub T);

/// The input of an operation that also works without one.
#[derive(Debug)]
pub struct OptionalBody<T>(pub Option<T>);

impl<'a, T: Input> ApiExtractor<'a> for Body<T> {
    const TYPES: &'static [ApiExtractorType] = &[ApiExtractorType::RequestObject];
    type ParamType = ();
    type ParamRawType = ();

    fn register(registry: &mut Registry) {
        T::register(registry);
    }

    fn request_meta() -> Option<MetaRequest> {
        Some(described::<T>(true))
    }

    async fn from_request(
        request: &'a Request,
        body: &mut RequestBody,
        _: ExtractParamOptions<()>,
    ) -> poem::Result<Self> {
        let object = read_object(request, body).await?.unwrap_or_default();
        Ok(Self(fields(object)?))
    }
}

impl<'a, T: Input> ApiExtractor<'a> for OptionalBody<T> {
    const TYPES: &'static [ApiExtractorType] = &[ApiExtractorType::RequestObject];
    type ParamType = ();
    type ParamRawType = ();

    fn register(registry: &mut Registry) {
        T::register(registry);
    }

    fn request_meta() -> Option<MetaRequest> {
        Some(described::<T>(false))
    }

    async fn from_request(
        request: &'a Request,
        body: &mut RequestBody,
        _: ExtractParamOptions<()>,
    ) -> poem::Result<Self> {
        Ok(Self(read_object(request, body).await?.map(fields).transpose()?))
    }
}

pub(super) fn described<T: Type>(required: bool) -> MetaRequest {
    let content = vec![MetaMediaType { content_type: APPLICATION_JSON, schema: T::schema_ref() }];
    MetaRequest { description: None, content, required }
}

/// The object in the body; `None` if the body is empty.
pub(super) async fn read_object(
    request: &Request,
    body: &mut RequestBody,
) -> Result<Option<Map<String, Value>>, Problem> {
    let limits = request.data::<Limits>().copied().unwrap_or_default();
    let body = body.take().map_err(Problem::internal)?;
    let bytes = read(body, request, limits).await?;
    if bytes.is_empty() {
        return Ok(None);
    }
    check_media_type(request.headers())?;
    let value = strict_json::parse(&bytes)
        .map_err(|reason| Problem::parse_error(format!("JSON parse error - {reason}")))?;
    match value {
        Value::Object(object) => Ok(Some(object)),
        Value::Null => Err(Problem::non_field("This field may not be null.")),
        other => {
            let kind = kind(&other);
            Err(Problem::non_field(format!("Invalid data. Expected a dictionary, but got {kind}.")))
        }
    }
}

/// All bytes of the body, if they are not too many and don't take too long.
async fn read(body: poem::Body, request: &Request, limits: Limits) -> Result<Vec<u8>, Problem> {
    let announced =
        request.headers().get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<usize>().ok());
    if announced.is_some_and(|length| length > limits.body_bytes) {
        return Err(Problem::too_large(limits.body_bytes));
    }
    // What is announced need not come: more room than most bodies need is made when it does.
    let mut bytes = Vec::with_capacity(announced.unwrap_or_default().min(16 * 1024));
    let mut chunks = body.into_bytes_stream();
    let mut room = None;
    let reading = async {
        while let Some(chunk) = chunks.next().await {
            let chunk = chunk.map_err(|_| Problem::parse_error("The body ended before its end."))?;
            if bytes.len() + chunk.len() > limits.body_bytes {
                return Err(Problem::too_large(limits.body_bytes));
            }
            bytes.extend_from_slice(&chunk);
            make_room(&mut room, bytes.len())?;
        }
        Ok(())
    };
    let mut reading = pin!(tokio::time::timeout(limits.body_deadline, reading));
    // Most bodies come with their heads.
    let read = match poll!(&mut reading) {
        Poll::Ready(read) => read,
        Poll::Pending => {
            // It takes as long as the client likes, who need not be anybody that is known: nobody else is to wait for that.
            let place = request.data::<Place>();
            if let Some(place) = place {
                place.leave();
            }
            let read = reading.await;
            if let Some(place) = place {
                place.come_back().await.map_err(Overloaded::problem)?;
            }
            read
        }
    };
    match read {
        Ok(read) => read.map(|()| bytes),
        Err(_) => Err(Problem::request_timeout()),
    }
}

/// Sees to it that those bodies together that are on their way in stay within [`ARRIVING`].
fn make_room(room: &mut Option<SemaphorePermit<'static>>, length: usize) -> Result<(), Problem> {
    let units = length.saturating_sub(1) / ROOM_BYTES;
    let more = units - room.as_ref().map_or(0, SemaphorePermit::num_permits);
    if more == 0 {
        return Ok(());
    }
    let more = u32::try_from(more).ok().and_then(|more| ARRIVING.try_acquire_many(more).ok());
    let more = more.ok_or_else(|| Overloaded.problem())?;
    match room {
        Some(room) => room.merge(more),
        None => *room = Some(more),
    }
    Ok(())
}

fn check_media_type(headers: &HeaderMap) -> Result<(), Problem> {
    if headers
        .get(CONTENT_ENCODING)
        .is_some_and(|coding| !coding.as_bytes().eq_ignore_ascii_case(b"identity"))
    {
        return Err(Problem::unsupported_media_type("Send the body without Content-Encoding."));
    }
    let mut types = headers.get_all(CONTENT_TYPE).iter();
    match (types.next(), types.next()) {
        (Some(media_type), None) => match media_type.to_str() {
            Ok(media_type) if is_json(media_type) => Ok(()),
            Ok(media_type) => Err(Problem::unsupported_media_type(format!(
                "Unsupported media type \"{}\" in request.",
                media_type.get(..80).unwrap_or(media_type)
            ))),
            Err(_) => Err(Problem::unsupported_media_type("Unsupported media type in request.")),
        },
        (None, _) => {
            Err(Problem::unsupported_media_type("Send the body with Content-Type: application/json."))
        }
        (Some(_), Some(_)) => Err(Problem::unsupported_media_type("Content-Type was given twice.")),
    }
}

/// `application/json` or `application/<anything>+json`, in UTF-8 if it names a charset at all.
fn is_json(media_type: &str) -> bool {
    let mut parts = media_type.split(';').map(str::trim);
    let essence = parts.next().unwrap_or_default();
    let Some((r#type, subtype)) = essence.split_once('/') else { return false };
    let json = subtype.eq_ignore_ascii_case("json")
        || subtype.len().checked_sub("+json".len()).is_some_and(|at| {
            at > 0 && subtype.get(at..).is_some_and(|suffix| suffix.eq_ignore_ascii_case("+json"))
        });
    let utf8 = |parameter: &str| match parameter.split_once('=') {
        Some((name, value)) if name.trim().eq_ignore_ascii_case("charset") => {
            value.trim().trim_matches('"').eq_ignore_ascii_case("utf-8")
        }
        _ => true,
    };
    r#type.eq_ignore_ascii_case("application") && json && parts.all(utf8)
}

/// The input, or every error in its fields.
pub(super) fn fields<T: Input>(mut object: Map<String, Value>) -> Result<T, Problem> {
    let mut errors = FieldErrors::new();
    T::collect(&mut object, &mut errors).ok_or_else(|| Problem::invalid(errors))
}

/// What a body may have without being counted; nearly all are shorter.
const ROOM_BYTES: usize = 16 * 1024;
/// How much of longer bodies is on its way in at once, in this process: 64 MiB. Who sends long bodies slowly over many
/// connections gets no further than that.
static ARRIVING: Semaphore = Semaphore::const_new((64 << 20) / ROOM_BYTES);
/// 1 MiB, as the contract has it.
pub(crate) const BODY_BYTES: usize = 1 << 20;
/// A body of 1 MiB at 1 Mbit/s takes 8.4 s.
pub(crate) const BODY_DEADLINE: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_told_by_its_media_type() {
        for yes in [
            "application/json",
            "Application/JSON; charset=UTF-8",
            "application/json;charset=\"utf-8\"",
            "application/merge-patch+json",
            "application/json; profile=x",
        ] {
            assert!(is_json(yes), "{yes}");
        }
        for no in [
            "",
            "json",
            "text/json",
            "application/jsonp",
            "application/+json",
            "application/json; charset=latin-1",
            "application/json, text/plain",
            "application/x-www-form-urlencoded",
        ] {
            assert!(!is_json(no), "{no}");
        }
    }
}
