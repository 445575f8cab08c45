//! `/api/images`: the gallery, its pictures, and their end.

use std::sync::Arc;

use axum::extract::{Path, RawQuery, State};
use axum::http::header::CONTENT_DISPOSITION;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use serde::Serialize;

use super::answer::json;
use super::ask::{Ask, Deleted};
use super::conditional::{ASK, File};
use super::drawings::{Drawing, Drawn};
use super::problem::Problem;
use super::routes::Parameters;
use super::shared::Shared;
use super::view::{JobView, PictureView};
use crate::jobs::JobId;
use crate::jobs::report::{ImageMeta, parse_rfc3339};

/// Pictures of a page of the gallery, at most and where nothing is said.
const PAGE_MAX: usize = 100;
const PAGE: usize = 30;
/// Sides of thumbnails, pixels.
const THUMBNAIL_SIDES: std::ops::RangeInclusive<usize> = 16..=1024;

/// The JSON of a page, newest picture first.
#[derive(Serialize)]
struct Page {
    images: Vec<PictureView>,
    /// What to give as `before` for the next page; absent on the last.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<u64>,
}

/// `GET /api/images?limit=30&before=N`: jobs with pictures, newest first. A page has the pictures of `limit` jobs.
pub(super) async fn list(
    State(shared): State<Arc<Shared>>,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    let parameters = Parameters::of(query.as_deref(), &["limit", "before"])?;
    let limit = parameters.whole("limit", 1..=PAGE_MAX)?.unwrap_or(PAGE);
    let before = parameters.whole("before", 0..=usize::MAX)?.map(|before| before as u64);
    let ends = shared.read(move |store| store.ends_with_pictures(before, limit + 1)).await?;
    let next = (ends.len() > limit).then(|| ends[limit - 1].0);
    let images = ends.iter().take(limit).flat_map(|(_, ended)| PictureView::all_of(ended));
    Ok(json(&Page { images: images.collect(), next }))
}

/// `GET /api/images/{id}`: the first picture of a job.
pub(super) async fn first(
    state: State<Arc<Shared>>,
    Path(id): Path<String>,
    query: RawQuery,
    method: Method,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    picture(state, &id, 0, query, &method, &headers).await
}

/// `GET /api/images/{id}/{index}`: any picture of a job.
pub(super) async fn nth(
    state: State<Arc<Shared>>,
    Path((id, index)): Path<(String, String)>,
    query: RawQuery,
    method: Method,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let index = index.parse().map_err(|_| Problem::not_found("pictures are numbered from 0"))?;
    picture(state, &id, index, query, &method, &headers).await
}

async fn picture(
    State(shared): State<Arc<Shared>>,
    id: &str,
    index: u32,
    RawQuery(query): RawQuery,
    method: &Method,
    headers: &HeaderMap,
) -> Result<Response, Problem> {
    let parameters = Parameters::of(query.as_deref(), &["size", "print", "rendition", "download", "key"])?;
    let side = parameters.whole("size", THUMBNAIL_SIDES)?;
    let (meta, bytes) = find(&shared, id, index).await?;
    let drawing = match (parameters.get("rendition"), parameters.flag("print"), side) {
        (Some(name), ..) => Some(Drawing::Rendition(name.to_owned())),
        (None, true, _) => Some(Drawing::Print),
        (None, false, Some(side)) => Some(Drawing::Thumbnail(side)),
        (None, false, None) => None,
    };
    let download = parameters.flag("download");
    let file = match drawing {
        None => original(&meta, bytes),
        Some(drawing) => drawn(&shared, &meta, bytes, drawing, headers).await?,
    };
    let extension = extension(file.content_type);
    let mut response = file.answer(method, headers);
    // Who has the file has its name.
    if download && response.status() != StatusCode::NOT_MODIFIED {
        let name = format!("attachment; filename=\"easeld-{}-{index}.{extension}\"", meta.id);
        let name = HeaderValue::from_str(&name).expect("ids are plain ASCII");
        response.headers_mut().insert(CONTENT_DISPOSITION, name);
    }
    Ok(response)
}

/// Of files that people keep.
fn extension(content_type: &str) -> &'static str {
    match content_type {
        "image/png" => "png",
        "image/jpeg" => "jpg",
        "image/webp" => "webp",
        "image/bmp" => "bmp",
        "image/qoi" => "qoi",
        "application/json" => "json",
        _ => "bin",
    }
}

/// The picture and what is said about it.
pub(super) async fn find(shared: &Shared, id: &str, index: u32) -> Result<(ImageMeta, Vec<u8>), Problem> {
    let gone = || Problem::not_found("there is no such picture (any more)");
    let id = JobId::parse(id).ok_or_else(gone)?;
    let view = shared.ask(|answer| Ask::Job { id, answer }).await?.ok_or_else(gone)?;
    let picture = view.images.into_iter().nth(index as usize).ok_or_else(gone)?;
    let number = view.number.ok_or_else(gone)?;
    let bytes = shared.read(move |store| store.picture(number, index)).await?.ok_or_else(gone)?;
    Ok((picture.meta, bytes))
}

/// The file as it was made.
pub(super) fn original(meta: &ImageMeta, bytes: Vec<u8>) -> File {
    File {
        bytes: bytes.into(),
        content_type: "image/png",
        tag: meta.sha256.clone(),
        modified: parse_rfc3339(&meta.created),
        cache: ASK,
    }
}

/// Something drawn from the file; nothing is drawn for a client that has it.
///
/// # Errors
/// 404 for a rendition that is not known, 500 where it cannot be drawn.
pub(super) async fn drawn(
    shared: &Shared,
    meta: &ImageMeta,
    bytes: Vec<u8>,
    drawing: Drawing,
    headers: &HeaderMap,
) -> Result<File, Problem> {
    let (tag, modified) =
        (format!("{}-{}", meta.sha256, shared.drawings.tag(&drawing)), parse_rfc3339(&meta.created));
    if File::is_had(&tag, modified, headers) {
        return Ok(File { bytes: Bytes::new(), content_type: "", tag, modified, cache: ASK });
    }
    let drawn = shared.drawings.draw(&meta.sha256, bytes.into(), drawing).await;
    let drawn = drawn.ok_or_else(|| {
        let names = shared.drawings.renditions().join(", ");
        Problem::not_found(&format!("there is no rendition of this name; known are {names}"))
    })?;
    let Drawn { bytes, content_type, .. } = drawn.map_err(|message| {
        tracing::warn!(job_id = %meta.id, tag, message, "a picture could not be drawn");
        Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "render", message)
    })?;
    Ok(File { bytes, content_type, tag, modified, cache: ASK })
}

/// `DELETE /api/images/{id}`: all pictures of a job, here and on MQTT's retained topics.
pub(super) async fn delete(
    State(shared): State<Arc<Shared>>,
    Path(id): Path<String>,
) -> Result<Response, Problem> {
    let gone = || Problem::not_found("there are no pictures of that job (any more)");
    let id = JobId::parse(&id).ok_or_else(gone)?;
    match shared.ask(|answer| Ask::Delete { id, answer }).await? {
        Deleted::Yes => Ok(StatusCode::NO_CONTENT.into_response()),
        Deleted::Unknown => Err(gone()),
        Deleted::Underway => {
            let message = "the broker does not have the picture yet; it can be deleted when it has";
            Err(Problem::new(StatusCode::CONFLICT, "underway", message).after(5))
        }
        Deleted::Failed(message) => Err(Problem::storage(message)),
    }
}

/// The files of all pictures of a job that has ended.
pub(super) async fn files(shared: &Shared, view: &JobView) -> Result<Vec<Vec<u8>>, Problem> {
    let gone = || Problem::not_found("the pictures are gone already ([jobs] history_bytes)");
    let (number, count) = (view.number.ok_or_else(gone)?, view.images.len());
    let read = shared.read(move |store| {
        (0..count)
            .map(|index| store.picture(number, u32::try_from(index).unwrap_or(u32::MAX)))
            .collect::<Result<Vec<_>, _>>()
    });
    read.await?.into_iter().map(|file| file.ok_or_else(gone)).collect()
}
