//! Where a picture is between two steps, as bytes: whoever goes on from them makes the same picture, bit for bit.
//!
//! Latents, the solver's memory and the state of the random numbers are all that a step changes; everything else
//! follows from the request, the pack and the build, which whoever keeps the bytes has to compare.

use serde::{Deserialize, Serialize};

use super::canvas::{Canvas, CanvasState};

/// Keeps checkpoints for the pipeline; asked between steps.
pub trait Checkpoints {
    /// What an earlier attempt at the same request left; given out once.
    fn resume(&mut self) -> Option<Vec<u8>>;
    /// Whether one is wanted now.
    fn is_due(&mut self) -> bool;
    /// Takes one.
    fn save(&mut self, checkpoint: Vec<u8>);
}

/// Never wants any.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoCheckpoints;

impl Checkpoints for NoCheckpoints {
    fn resume(&mut self) -> Option<Vec<u8>> {
        None
    }

    fn is_due(&mut self) -> bool {
        false
    }

    fn save(&mut self, _: Vec<u8>) {}
}

/// The content of a checkpoint.
#[derive(Serialize, Deserialize)]
struct Snapshot {
    /// Steps done.
    step: usize,
    /// Of every picture of the request.
    canvases: Vec<CanvasState>,
}

/// The bytes of `canvases` after `step` steps.
pub(super) fn save(step: usize, canvases: &[Canvas]) -> Vec<u8> {
    let canvases = canvases.iter().map(Canvas::state).collect();
    postcard::to_stdvec(&Snapshot { step, canvases }).expect("numbers in memory")
}

/// Puts `canvases` where `bytes` say, and returns how many of `steps` are done; `None`, and nothing changes, where the
/// bytes are not of this request.
pub(super) fn restore(bytes: &[u8], canvases: &mut [Canvas], steps: usize) -> Option<usize> {
    let snapshot: Snapshot = postcard::from_bytes(bytes).ok()?;
    let fits = snapshot.step <= steps
        && snapshot.canvases.len() == canvases.len()
        && snapshot.canvases.iter().zip(&*canvases).all(|(state, canvas)| canvas.takes(state));
    if !fits {
        return None;
    }
    for (state, canvas) in snapshot.canvases.into_iter().zip(canvases) {
        canvas.restore(state);
    }
    Some(snapshot.step)
}
