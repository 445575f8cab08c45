//! Drawings of finished pictures (thumbnails, prints, panel renditions): made once, one at a time, and kept while there is room.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use tokio::sync::Semaphore;

/// What to draw from a picture's file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Drawing {
    /// A JPEG whose longer side has at most so many pixels.
    Thumbnail(usize),
    /// A PNG for paper: large, with its resolution inside.
    Print,
    /// What the profile of this name takes.
    Rendition(String),
}

/// A file that was drawn.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Drawn {
    /// The file.
    pub bytes: Bytes,
    /// Its media type.
    pub content_type: &'static str,
    /// Pixels.
    pub width: usize,
    /// Pixels.
    pub height: usize,
}

/// Draws; implemented by the daemon over `display`. Called on threads that may block.
pub trait Renderer: Send + Sync {
    /// Draws from the PNG file `png`; `None` for a rendition that is not known.
    ///
    /// # Errors
    /// For people: why it cannot be drawn.
    fn draw(&self, png: &[u8], drawing: &Drawing) -> Option<Result<Drawn, String>>;

    /// Names of renditions.
    fn renditions(&self) -> Vec<String>;

    /// Tells two ways to draw apart, profiles of one name with other options as well: part of the tag of a file.
    fn tag(&self, drawing: &Drawing) -> String;
}

/// See the module. One for the whole process: what MQTT publishes is found here as well.
pub struct Drawings {
    renderer: Arc<dyn Renderer>,
    most: u64,
    kept: Mutex<VecDeque<Entry>>,
    turn: Semaphore,
}

struct Entry {
    sha256: String,
    drawing: Drawing,
    drawn: Drawn,
}

impl Drawings {
    /// Keeps up to `most` bytes.
    pub fn new(renderer: Arc<dyn Renderer>, most: u64) -> Self {
        Self { renderer, most, kept: Mutex::default(), turn: Semaphore::new(1) }
    }

    /// See [`Renderer::tag`].
    pub(super) fn tag(&self, drawing: &Drawing) -> String {
        self.renderer.tag(drawing)
    }

    /// Names of renditions.
    pub(super) fn renditions(&self) -> Vec<String> {
        self.renderer.renditions()
    }

    /// `drawing` of the picture `png` with the digest `sha256`; `None` for a rendition that is not known.
    ///
    /// # Errors
    /// For people: why it cannot be drawn.
    pub async fn draw(&self, sha256: &str, png: Bytes, drawing: Drawing) -> Option<Result<Drawn, String>> {
        if let Some(drawn) = self.kept(sha256, &drawing) {
            return Some(Ok(drawn));
        }
        let _turn = self.turn.acquire().await.ok()?;
        // Whoever had the turn before may have drawn the same.
        if let Some(drawn) = self.kept(sha256, &drawing) {
            return Some(Ok(drawn));
        }
        let (renderer, wanted) = (self.renderer.clone(), drawing.clone());
        let drawn = tokio::task::spawn_blocking(move || renderer.draw(&png, &wanted)).await;
        let drawn = drawn.unwrap_or_else(|error| Some(Err(error.to_string())))?;
        if let Ok(drawn) = &drawn {
            self.keep(Entry { sha256: sha256.to_owned(), drawing, drawn: drawn.clone() });
        }
        Some(drawn)
    }

    fn kept(&self, sha256: &str, drawing: &Drawing) -> Option<Drawn> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let place = kept.iter().position(|entry| entry.sha256 == sha256 && entry.drawing == *drawing)?;
        // Used last, goes last.
        let entry = kept.remove(place)?;
        let drawn = entry.drawn.clone();
        kept.push_back(entry);
        Some(drawn)
    }

    fn keep(&self, entry: Entry) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        // A panel wants the newest picture: those before it would only take room.
        if matches!(entry.drawing, Drawing::Rendition(_)) {
            kept.retain(|other| other.drawing != entry.drawing);
        }
        kept.push_back(entry);
        let size =
            |kept: &VecDeque<Entry>| kept.iter().map(|entry| entry.drawn.bytes.len() as u64).sum::<u64>();
        while size(&kept) > self.most {
            kept.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[derive(Default)]
    struct Copies(AtomicUsize);

    impl Renderer for Copies {
        fn draw(&self, png: &[u8], drawing: &Drawing) -> Option<Result<Drawn, String>> {
            self.0.fetch_add(1, Ordering::Relaxed);
            let known = *drawing != Drawing::Rendition("unknown".to_owned());
            let bytes = Bytes::copy_from_slice(png);
            known.then(|| Ok(Drawn { bytes, content_type: "image/png", width: 1, height: 1 }))
        }

        fn renditions(&self) -> Vec<String> {
            Vec::new()
        }

        fn tag(&self, drawing: &Drawing) -> String {
            format!("{drawing:?}")
        }
    }

    #[tokio::test]
    async fn what_was_drawn_is_kept_and_the_oldest_goes_first() {
        let copies = Arc::new(Copies::default());
        let drawings = Drawings::new(copies.clone(), 8);
        let four = Bytes::from_static(b"four");
        let draw = async |sha: &str, drawing: Drawing| {
            drawings.draw(sha, four.clone(), drawing).await.expect("known").expect("drawn")
        };
        for (sha, drawn) in [("a", 1), ("a", 1), ("b", 2), ("a", 2), ("c", 3), ("a", 3), ("b", 4)] {
            assert_eq!(draw(sha, Drawing::Print).await.bytes.len(), 4);
            assert_eq!(copies.0.load(Ordering::Relaxed), drawn, "{sha}");
        }
        // Of a rendition the newest alone is kept, and there is room for something else.
        let trmnl = || Drawing::Rendition("trmnl".to_owned());
        for (sha, drawing, drawn) in [
            ("a", trmnl(), 5),
            ("a", trmnl(), 5),
            ("b", Drawing::Print, 5),
            ("b", trmnl(), 6),
            ("b", Drawing::Print, 6),
            ("a", trmnl(), 7),
        ] {
            draw(sha, drawing.clone()).await;
            assert_eq!(copies.0.load(Ordering::Relaxed), drawn, "{sha} {drawing:?}");
        }
        let unknown = Drawing::Rendition("unknown".to_owned());
        assert_eq!(drawings.draw("a", four, unknown).await, None);
    }
}
