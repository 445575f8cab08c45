//! A picture as panels want it, on `image/<rendition>` with `image/<rendition>/meta`, both retained: as `image` is, and after it.

use std::sync::Arc;

use bytes::Bytes;
use serde::Serialize;
use sha2::{Digest, Sha256};

use super::json;
use super::service::durably;
use crate::config::Settings;
use crate::display::read_picture;
use crate::display::rendition::{Profile, Profiles, render};
use crate::http::{Drawing, Drawings, Drawn};
use crate::jobs::report::ImageMeta;
use crate::jobs::store::Ended;
use crate::jobs::worker::hex;
use crate::mqtt::{Publication, Topics};

/// What is published beside each picture, and how it comes about.
pub(super) struct Renditions {
    /// Where HTTP finds what was drawn for MQTT, and the other way round.
    drawings: Arc<Drawings>,
    profiles: Profiles,
    /// `[display] renditions`: it was checked that there are such.
    own: Vec<String>,
}

/// The file that a job made.
pub(super) struct Original<'a> {
    /// All of it.
    pub(super) png: Bytes,
    /// Its digest.
    pub(super) sha256: String,
    /// What is said about it.
    pub(super) meta: &'a ImageMeta,
}

/// The JSON on `image/<rendition>/meta`: that of `image/meta`, for these bytes.
#[derive(Debug, Serialize)]
struct RenditionMeta<'a> {
    rendition: &'a str,
    #[serde(flatten)]
    meta: ImageMeta,
}

impl Renditions {
    /// As the configuration wants them.
    pub(super) fn new(settings: &Settings, drawings: Arc<Drawings>) -> Self {
        let own = settings.display.renditions.clone();
        Self { drawings, profiles: settings.profiles.clone(), own }
    }

    /// Names of those that are published of the pictures of `ended`.
    pub(super) fn of<'a>(&'a self, ended: &'a Ended) -> &'a [String] {
        ended.renditions.as_deref().unwrap_or(&self.own)
    }

    /// The bytes, then what they are; a file of at most `most` bytes.
    ///
    /// # Errors
    /// For people: the profile is no longer known, or cannot be made so small, or not at all.
    pub(super) async fn publications(
        &self,
        original: &Original<'_>,
        name: &str,
        topics: &Topics,
        most: usize,
    ) -> Result<[Publication; 2], String> {
        let drawn = self.draw(original, name, most).await?;
        let meta = ImageMeta {
            bytes: drawn.bytes.len(),
            sha256: hex(&Sha256::digest(&drawn.bytes)),
            width: drawn.width,
            height: drawn.height,
            content_type: drawn.content_type.to_owned(),
            ..original.meta.clone()
        };
        let image = Publication {
            topic: topics.rendition(name),
            payload: drawn.bytes,
            retain: true,
            content_type: Some(drawn.content_type.to_owned()),
            ..Publication::default()
        };
        let meta = json(topics.rendition_meta(name), &RenditionMeta { rendition: name, meta });
        Ok([image, Publication { retain: true, ..meta }])
    }

    /// The first picture of a job is the one that HTTP shows, so that it is drawn for both, once.
    async fn draw(&self, original: &Original<'_>, name: &str, most: usize) -> Result<Drawn, String> {
        let profile = self.profiles.get(name).map_err(|error| error.to_string())?;
        if original.meta.index == 0 && most == usize::MAX {
            let drawing = Drawing::Rendition(name.to_owned());
            let drawn = self.drawings.draw(&original.sha256, original.png.clone(), drawing).await;
            return drawn.unwrap_or_else(|| Err(format!("{name} cannot be drawn")));
        }
        durably(|| within(&original.png, profile, most))
    }
}

/// Of at most `most` bytes, and of as many as the panel takes.
fn within(png: &[u8], profile: &Profile, most: usize) -> Result<Drawn, String> {
    let picture = read_picture(png).map_err(|error| error.to_string())?;
    let bounds = [profile.max_bytes, if most == usize::MAX { 0 } else { most }];
    let max_bytes = bounds.into_iter().filter(|bound| *bound > 0).min().unwrap_or(0);
    let rendered = render(&picture, &Profile { max_bytes, ..profile.clone() });
    rendered.map(Drawn::from).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::diffusion::postprocess::RgbImage;
    use crate::display::encode_png;
    use crate::http::Renderer;
    use crate::jobs::JobId;
    use crate::jobs::status::{JobStatus, Phase};

    /// Draws three bytes, and counts.
    #[derive(Default)]
    struct Counting(AtomicUsize);

    impl Renderer for Counting {
        fn draw(&self, _png: &[u8], _drawing: &Drawing) -> Option<Result<Drawn, String>> {
            self.0.fetch_add(1, Ordering::Relaxed);
            let bytes = Bytes::from_static(b"dot");
            Some(Ok(Drawn { bytes, content_type: "image/jpeg", width: 3, height: 1 }))
        }

        fn renditions(&self) -> Vec<String> {
            Vec::new()
        }

        fn tag(&self, _drawing: &Drawing) -> String {
            String::new()
        }
    }

    fn meta(index: usize) -> ImageMeta {
        let id = JobId::parse("j").expect("valid");
        ImageMeta { index, count: 2, sha256: "aa".repeat(32), ..ImageMeta::example(&id) }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_rendition_is_drawn_once_for_mqtt_and_http() {
        let counting = Arc::new(Counting::default());
        let drawings = Arc::new(Drawings::new(counting.clone(), 1 << 20));
        let renditions = Renditions::new(&Settings::default(), drawings.clone());
        let topics = Topics::new("easel", "desk").expect("valid");
        let picture = RgbImage { width: 8, height: 8, pixels: vec![90; 192] };
        let png = Bytes::from(encode_png(&picture, &[]).expect("small"));
        let publish = async |index: usize, most: usize| {
            let meta = meta(index);
            let original = Original { png: png.clone(), sha256: meta.sha256.clone(), meta: &meta };
            renditions.publications(&original, "jpeg", &topics, most).await.expect("a file")
        };
        let [image, about] = publish(0, usize::MAX).await;
        assert_eq!((&image.payload[..], image.topic.as_str()), (&b"dot"[..], "easel/desk/image/jpeg"));
        let about: serde_json::Value = serde_json::from_slice(&about.payload).expect("JSON");
        assert_eq!((&about["width"], &about["rendition"]), (&3.into(), &"jpeg".into()));
        let over_http = Drawing::Rendition("jpeg".to_owned());
        drawings.draw(&meta(0).sha256, png.clone(), over_http).await.expect("known").expect("drawn");
        assert_eq!(counting.0.load(Ordering::Relaxed), 1);
        // What HTTP does not ask for, and what a broker wants smaller, is drawn apart.
        assert!(image::guess_format(&publish(1, usize::MAX).await[0].payload).is_ok());
        assert!(publish(0, 900).await[0].payload.len() <= 900);
        assert_eq!(counting.0.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn a_request_names_renditions_in_place_of_the_nodes() {
        let mut settings = Settings::default();
        settings.display.renditions = vec!["trmnl".to_owned()];
        let drawings = Drawings::new(Arc::new(Counting::default()), 0);
        let renditions = Renditions::new(&settings, Arc::new(drawings));
        let mut ended = Ended::new(JobStatus::new(&JobId::parse("j").expect("valid"), "desk", Phase::Failed));
        assert_eq!(renditions.of(&ended), ["trmnl"]);
        ended.renditions = Some(vec!["jpeg".to_owned()]);
        assert_eq!(renditions.of(&ended), ["jpeg"]);
        ended.renditions = Some(Vec::new());
        assert!(renditions.of(&ended).is_empty());
    }
}
