//! One request's life: `queued -> running -> succeeded | failed | cancelled`, or `rejected` at the door.
//!
//! [`message`] reads what arrives, [`ledger`] accepts it into the [`store`], decides what runs and knows how it ended, [`worker`]
//! runs it on its own thread, [`status`] is what the outside hears. No topics, no broker and no async here: the daemon carries
//! values between these and the edges.

use std::ops::ControlFlow;

use crate::diffusion::checkpoint::Checkpoints;
use crate::diffusion::pipeline::Progress;
use crate::diffusion::presets::PackDefaults;
use crate::diffusion::request::{FieldError, GenerationRequest};

pub mod checkpoints;
pub mod defaults;
pub mod history;
pub mod id;
pub mod ledger;
pub mod message;
pub mod nearest;
pub mod pace;
pub mod pictures;
pub mod prompt;
pub mod queue;
pub mod rate;
pub mod report;
pub mod schema;
pub mod status;
pub mod stop;
pub mod store;
pub mod terms;
pub mod throttle;
pub mod worker;

use throttle::Throttle;

pub use id::{JobId, random_seed};

/// A finished picture.
#[derive(Debug, Clone, PartialEq)]
pub struct Picture {
    /// The PNG file, its parameters in text chunks.
    pub png: Vec<u8>,
    /// Pixels.
    pub width: usize,
    /// Pixels.
    pub height: usize,
    /// The seed used.
    pub seed: u32,
    /// How well it fits the prompt, -1 to 1, where that was asked for.
    pub similarity: Option<f32>,
}

/// Why a picture did not come about.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GenerateError {
    /// The observer said so.
    #[error("cancelled")]
    Cancelled,
    /// The daemon stops; the job has not ended.
    #[error("interrupted by a stop of the node")]
    Interrupted,
    /// Anything else; the daemon stays up.
    #[error("{message}")]
    Failed {
        /// A stable word for programs: `model`, `internal`, `too_large`, ...
        code: &'static str,
        /// For people: which file, tensor or bound, and what to do.
        message: String,
    },
}

impl GenerateError {
    /// Its deadline has passed.
    pub fn late() -> Self {
        let message = "the deadline passed before the picture was ready".to_owned();
        Self::Failed { code: "deadline", message }
    }
}

/// Makes pictures. Called on the worker thread, one request at a time.
///
/// After an error, a cancellation or a panic the next call starts from nothing but the models on disk.
pub trait GeneratePictures: Send {
    /// From now on works with as many threads as `throttle` allows. Without threads of its own there is nothing to do.
    fn follow(&mut self, _throttle: &Throttle) {}

    /// Nothing to do for a while: gives memory back that the next call can have again.
    fn rest(&mut self) {}

    /// Makes the pictures of `request`, at least one, calling `observer` between pieces of work. `checkpoints` keeps what has
    /// been made so far, and may have some from an earlier attempt.
    ///
    /// # Errors
    /// [`GenerateError::Cancelled`] soon after `observer` answers [`ControlFlow::Break`], and
    /// [`GenerateError::Failed`] when a model cannot be loaded or run.
    fn generate(
        &mut self,
        request: &GenerationRequest,
        checkpoints: &mut dyn Checkpoints,
        observer: &mut dyn FnMut(Progress) -> ControlFlow<()>,
    ) -> Result<Vec<Picture>, GenerateError>;
}

/// What the daemon knows of the pack it serves.
#[derive(Debug, Clone, PartialEq)]
pub struct PackInfo {
    /// The name that requests may give as `model`.
    pub name: String,
    /// For people.
    pub title: String,
    /// Identifies the files that made a picture.
    pub pack_hash: String,
    /// Fills what a request leaves open.
    pub defaults: PackDefaults,
}

impl PackInfo {
    /// The one of `packs` that a request names, or the first.
    ///
    /// # Errors
    /// `invalid_value` of the field `model`, listing the names there are.
    pub fn named<'a>(packs: &'a [PackInfo], model: Option<&str>) -> Result<&'a PackInfo, FieldError> {
        let found = packs.iter().find(|pack| model.is_none_or(|model| pack.name == model));
        found.ok_or_else(|| {
            let names = packs.iter().map(|pack| format!("`{}`", pack.name)).collect::<Vec<_>>().join(", ");
            let model = model.unwrap_or_default();
            FieldError::new("invalid_value", "model", model, format!("this node serves {names}"))
        })
    }
}
