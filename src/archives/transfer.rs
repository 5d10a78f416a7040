//! Archives on their way in and out: never in memory.

use std::{fs::File, io::Write as _, time::Duration};

use futures_util::StreamExt as _;
use poem::{
    Body, IntoResponse, Request, RequestBody, Response,
    http::{
        HeaderValue,
        header::{CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_LENGTH, CONTENT_TYPE, ETAG},
    },
};
use poem_openapi::{
    ApiExtractor, ApiExtractorType, ApiResponse, ExtractParamOptions,
    registry::{
        MetaMediaType, MetaRequest, MetaResponse, MetaResponses, MetaSchema, MetaSchemaRef, Registry,
    },
};
use tenants::archive::{ArchiveError, PREFIX, is_prefix};
use tokio::{sync::mpsc, time::timeout};

use super::{ArchiveName, ArchivesError, Directory, Draft, service::blocking};
use crate::http::{Place, Problem};

const APPLICATION_ZSTD: &str = "application/zstd";
/// For how long nothing may come of an upload.
const PATIENCE: Duration = Duration::from_secs(30);
/// How many pieces of an upload wait for the disk.
const WAITING: usize = 4;

fn media() -> MetaMediaType {
    let schema = MetaSchema {
        description: Some("An archive, as the server wrote it."),
        ..MetaSchema::new_with_format("string", "binary")
    };
    MetaMediaType { content_type: APPLICATION_ZSTD, schema: MetaSchemaRef::Inline(Box::new(schema)) }
}

/// The body of an upload.
pub struct ArchiveBody {
    body: Body,
    announced: Option<u64>,
    place: Option<Place>,
}

impl<'a> ApiExtractor<'a> for ArchiveBody {
    const TYPES: &'static [ApiExtractorType] = &[ApiExtractorType::RequestObject];
    type ParamType = ();
    type ParamRawType = ();

    fn request_meta() -> Option<MetaRequest> {
        Some(MetaRequest { description: None, content: vec![media()], required: true })
    }

    async fn from_request(
        request: &'a Request,
        body: &mut RequestBody,
        _: ExtractParamOptions<()>,
    ) -> poem::Result<Self> {
        if request.content_type().is_none_or(|named| !named.eq_ignore_ascii_case(APPLICATION_ZSTD)) {
            let sentence = "Send the archive with Content-Type: application/zstd.";
            return Err(Problem::unsupported_media_type(sentence).into());
        }
        let announced = request.headers().get(CONTENT_LENGTH);
        let announced = announced.and_then(|length| length.to_str().ok()?.parse().ok());
        let place = request.extensions().get().cloned();
        Ok(Self { body: body.take().map_err(Problem::internal)?, announced, place })
    }
}

impl ArchiveBody {
    /// Writes it into a draft of the store.
    ///
    /// # Errors
    /// 413 where it is too long, 408 where it does not come, 400 where it ends too early or begins as no archive.
    pub(super) async fn store(self, directory: &Directory) -> Result<Draft, Problem> {
        let most = directory.max_upload();
        let too_large = || Problem::too_large(usize::try_from(most).unwrap_or(usize::MAX));
        if self.announced.is_some_and(|length| length > most) {
            return Err(too_large());
        }
        // It may take for hours, and next to nothing is done for it.
        if let Some(place) = &self.place {
            place.leave();
        }
        let store = directory.clone();
        let draft = blocking(move || store.draft()).await?;
        let mut file = draft.file().map_err(ArchivesError::from)?;
        let (sender, mut pieces) = mpsc::channel::<bytes::Bytes>(WAITING);
        let writing = tokio::task::spawn_blocking(move || {
            while let Some(piece) = pieces.blocking_recv() {
                file.write_all(&piece)?;
            }
            Ok::<_, std::io::Error>(())
        });
        let mut stream = self.body.into_bytes_stream();
        let (mut length, mut beginning) = (0, Vec::with_capacity(PREFIX));
        loop {
            let piece = timeout(PATIENCE, stream.next()).await.map_err(|_| Problem::request_timeout())?;
            let Some(piece) = piece else { break };
            let piece = piece.map_err(|_| Problem::parse_error("The body ended before its end."))?;
            length += piece.len() as u64;
            if length > most {
                return Err(too_large());
            }
            beginning.extend(piece.iter().take(PREFIX - beginning.len()));
            if beginning.len() == PREFIX && !is_prefix(&beginning) {
                return Err(ArchivesError::Archive(ArchiveError::NotAnArchive).into());
            }
            // Whoever writes and has stopped says why below.
            if sender.send(piece).await.is_err() {
                break;
            }
        }
        if beginning.len() < PREFIX {
            return Err(ArchivesError::Archive(ArchiveError::NotAnArchive).into());
        }
        drop(sender);
        writing.await.map_err(Problem::internal)?.map_err(ArchivesError::from)?;
        Ok(draft)
    }
}

/// An archive as an answer.
pub struct ArchiveFile {
    name: ArchiveName,
    file: File,
    length: u64,
    tag: HeaderValue,
}

/// The strong tag of an archive: the hash it ends in.
pub(super) fn tag(file: &mut File) -> std::io::Result<HeaderValue> {
    let fingerprint = super::directory::fingerprint(file)?;
    HeaderValue::from_str(&format!("\"{fingerprint}\"")).map_err(std::io::Error::other)
}

impl ArchiveFile {
    /// Opens an archive of the store. `None` if there is none of this name.
    pub(super) async fn open(
        directory: &Directory,
        name: ArchiveName,
    ) -> Result<Option<Self>, ArchivesError> {
        let directory = directory.clone();
        blocking(move || {
            let Some(mut file) = directory.open(&name)? else { return Ok(None) };
            let (length, tag) = (file.metadata()?.len(), tag(&mut file)?);
            Ok(Some(Self { name, file, length, tag }))
        })
        .await
    }

    /// Its tag.
    pub(super) fn tag(&self) -> &HeaderValue {
        &self.tag
    }
}

impl IntoResponse for ArchiveFile {
    fn into_response(self) -> Response {
        let body = Body::from_async_read(tokio::fs::File::from_std(self.file));
        let mut response = Response::builder().content_type(APPLICATION_ZSTD).body(body);
        let headers = response.headers_mut();
        headers.insert(CONTENT_LENGTH, HeaderValue::from(self.length));
        headers.insert(ETAG, self.tag);
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        // A name has nothing in it that would have to be escaped.
        if let Ok(disposition) = HeaderValue::from_str(&format!("attachment; filename=\"{}\"", self.name)) {
            headers.insert(CONTENT_DISPOSITION, disposition);
        }
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(APPLICATION_ZSTD));
        response
    }
}

impl ApiResponse for ArchiveFile {
    fn meta() -> MetaResponses {
        MetaResponses {
            responses: vec![MetaResponse {
                description: "The archive.",
                status: Some(200),
                status_range: None,
                content: vec![media()],
                headers: Vec::new(),
            }],
        }
    }

    fn register(_registry: &mut Registry) {}
}
