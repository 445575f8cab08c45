//! `POST /v1/images/generations` and `GET /v1/models`, as clients of OpenAI's API speak them.
//! <https://platform.openai.com/docs/api-reference/images/create>
//!
//! A request becomes one of our own, and the answer waits until its pictures are there. Any field of ours may stand beside theirs.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::body::Body;
use axum::extract::State;
use axum::http::header::HOST;
use axum::http::{Extensions, HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json as object};
use tokio::sync::broadcast::error::RecvError;
use tokio::time::timeout;

use super::answer::{json, json_of};
use super::ask::Ask;
use super::problem::{Problem, status_of};
use super::shared::Shared;
use super::view::JobView;
use super::{body, images, jobs};
use crate::jobs::JobId;
use crate::jobs::status::{ErrorBody, Phase};

/// Fields of theirs that say nothing about the picture here.
const IGNORED: [&str; 7] =
    ["user", "quality", "style", "background", "moderation", "output_compression", "partial_images"];

/// A problem in their form.
pub(super) struct Theirs(StatusCode, ErrorBody);

impl From<Problem> for Theirs {
    fn from(problem: Problem) -> Self {
        let (status, error) = problem.into_parts();
        Self(status, error)
    }
}

impl IntoResponse for Theirs {
    fn into_response(self) -> Response {
        let Self(status, error) = self;
        let kind = if status.is_client_error() { "invalid_request_error" } else { "server_error" };
        let body =
            object!({"message": error.message, "type": kind, "param": error.field, "code": error.code});
        json_of(status, &object!({ "error": body }))
    }
}

/// How the pictures are wanted.
#[derive(Clone, Copy, PartialEq)]
enum Form {
    Url,
    Base64,
}

/// `POST /v1/images/generations`.
pub(super) async fn generate(
    State(shared): State<Arc<Shared>>,
    headers: HeaderMap,
    extensions: Extensions,
    body: Body,
) -> Result<Response, Theirs> {
    let bytes = body::read(&shared, &headers, body).await?;
    let mut fields = body::fields(&headers, &bytes)?;
    let form = translate(&mut fields, &shared.models())?;
    // Listening begins before the job does: its end cannot be missed.
    let news = shared.news.subscribe(None).ok_or_else(Problem::stopping)?;
    let asked = jobs::ask(&shared, &extensions, fields).await?;
    let id = asked.id.clone();
    let ended = match asked.status.is_terminal() {
        true => asked,
        false => wait(&shared, id, news.receiver).await?,
    };
    answer(&shared, &headers, &ended, form).await
}

async fn answer(
    shared: &Shared,
    headers: &HeaderMap,
    ended: &JobView,
    form: Form,
) -> Result<Response, Theirs> {
    if ended.status != Phase::Succeeded {
        let error =
            ended.error.clone().unwrap_or_else(|| ErrorBody::new("cancelled", "the job was cancelled"));
        let status = match ended.status {
            Phase::Rejected => status_of(&error.code),
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        };
        return Err(Theirs(status, error));
    }
    let data: Vec<Value> = match form {
        Form::Base64 => {
            let files = images::files(shared, ended).await?;
            files.iter().map(|file| object!({ "b64_json": STANDARD.encode(file) })).collect()
        }
        Form::Url => {
            let base = base_url(headers);
            let key = shared.guard.picture_key().map_or(String::new(), |key| format!("?key={key}"));
            let url = |url: &str| object!({"url": format!("{base}{url}{key}")});
            ended.images.iter().map(|picture| url(&picture.url)).collect()
        }
    };
    let created = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs();
    Ok(json(&object!({"created": created, "data": data, "id": ended.id})))
}

/// How the request was addressed, for URLs in its answer.
pub(super) fn base_url(headers: &HeaderMap) -> String {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let scheme = text("x-forwarded-proto").filter(|scheme| *scheme == "https").unwrap_or("http");
    format!("{scheme}://{}", text(HOST.as_str()).unwrap_or("localhost"))
}

/// Turns their fields into ours.
fn translate(fields: &mut Map<String, Value>, models: &[String]) -> Result<Form, Problem> {
    for name in IGNORED {
        fields.remove(name);
    }
    if fields.remove("stream").is_some_and(|stream| stream == Value::Bool(true)) {
        return Err(Problem::parameter("stream", "true", "pictures are not streamed; leave it out"));
    }
    if let Some(format) = fields.remove("output_format").filter(|format| !format.is_null() && format != "png")
    {
        return Err(Problem::parameter("output_format", &format.to_string(), "pictures are \"png\""));
    }
    let form = match fields.remove("response_format").unwrap_or_default() {
        // Their newer models answer so where nothing is said; a URL of this node may not be reachable for who reads it.
        Value::Null => Form::Base64,
        Value::String(text) if text == "b64_json" => Form::Base64,
        Value::String(text) if text == "url" => Form::Url,
        other => {
            return Err(Problem::parameter("response_format", &other.to_string(), "\"url\" or \"b64_json\""));
        }
    };
    if let Some(count) = fields.remove("n").filter(|count| !count.is_null()) {
        fields.insert("num_images".to_owned(), count);
    }
    match fields.remove("size") {
        None | Some(Value::Null) => {}
        Some(Value::String(text)) if text == "auto" => {}
        Some(size) => {
            let sides = size.as_str().and_then(|text| text.split_once('x'));
            let sides = sides
                .and_then(|(width, height)| Some((width.parse::<u64>().ok()?, height.parse::<u64>().ok()?)));
            let Some((width, height)) = sides else {
                return Err(Problem::parameter("size", &size.to_string(), "\"WIDTHxHEIGHT\" or \"auto\""));
            };
            fields.insert("width".to_owned(), width.into());
            fields.insert("height".to_owned(), height.into());
        }
    }
    // Clients have a name of OpenAI's built in, mostly; what is ours is kept.
    if fields
        .get("model")
        .and_then(Value::as_str)
        .is_some_and(|model| !models.iter().any(|known| known == model))
    {
        fields.remove("model");
    }
    Ok(form)
}

/// Waits until the job ends, or `[http] wait_s`; the job goes on then.
async fn wait(
    shared: &Shared,
    id: JobId,
    mut receiver: tokio::sync::broadcast::Receiver<Arc<super::news::Batch>>,
) -> Result<JobView, Problem> {
    let ended = async {
        loop {
            match receiver.recv().await {
                Ok(batch) if batch.ended.contains(&id) => break,
                Ok(_) => {}
                // Its end may be among what was missed.
                Err(RecvError::Lagged(_)) => {
                    let id = id.clone();
                    let view = shared.ask(|answer| Ask::Job { id, answer }).await?;
                    if view.is_none_or(|view| view.status.is_terminal()) {
                        break;
                    }
                }
                Err(RecvError::Closed) => return Err(Problem::stopping()),
            }
        }
        let asked = id.clone();
        let view = shared.ask(|answer| Ask::Job { id: asked, answer }).await?;
        view.ok_or_else(|| Problem::not_found("the job has been forgotten already ([jobs] history_count)"))
    };
    let patience = Duration::from_secs(shared.config.wait_s);
    timeout(patience, ended).await.unwrap_or_else(|_| {
        let message = format!(
            "the picture takes longer than {} s ([http] wait_s); it will be at /api/jobs/{id}",
            patience.as_secs()
        );
        Err(Problem::new(StatusCode::GATEWAY_TIMEOUT, "timeout", message))
    })
}

/// `GET /v1/models`.
pub(super) async fn models(State(shared): State<Arc<Shared>>) -> Response {
    let model = |name: &String| object!({"id": name, "object": "model", "created": 0, "owned_by": "easeld"});
    let data: Vec<_> = shared.models().iter().map(model).collect();
    json(&object!({"object": "list", "data": data}))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(text: &str) -> Map<String, Value> {
        serde_json::from_str(text).expect("an object")
    }

    #[test]
    fn their_fields_become_ours() {
        let models = ["emoji".to_owned()];
        let mut theirs = fields(
            r#"{"model": "dall-e-3", "prompt": "a fox", "n": 2, "size": "128x64", "quality": "hd", "user": "u",
                "response_format": "url", "seed": 7}"#,
        );
        assert!(translate(&mut theirs, &models).is_ok_and(|form| form == Form::Url));
        let ours = r#"{"prompt": "a fox", "num_images": 2, "width": 128, "height": 64, "seed": 7}"#;
        assert_eq!(theirs, fields(ours));
        let mut plain =
            fields(r#"{"prompt": "a fox", "model": "emoji", "size": "auto", "n": null, "stream": false}"#);
        assert!(translate(&mut plain, &models).is_ok_and(|form| form == Form::Base64));
        assert_eq!(plain, fields(r#"{"prompt": "a fox", "model": "emoji"}"#));
        for wrong in [
            r#"{"size": "large"}"#,
            r#"{"size": 7}"#,
            r#"{"response_format": "jpeg"}"#,
            r#"{"output_format": "webp"}"#,
            r#"{"stream": true}"#,
        ] {
            assert!(translate(&mut fields(wrong), &models).is_err(), "{wrong}");
        }
    }
}
