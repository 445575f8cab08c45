//! How much memory a network's buffers may take. It is known before any of them is there: a plan says what it will need.

/// A network would take more than it may.
#[derive(Debug, thiserror::Error)]
#[error(
    "its buffers would take {} MiB, and {} MiB are left for them ([inference] memory): ask for a smaller picture, or for fewer at once",
    needed.div_ceil(1 << 20),
    allowed >> 20
)]
pub(super) struct NoMemory {
    /// Bytes.
    pub(super) needed: usize,
    /// Bytes.
    pub(super) allowed: usize,
}

/// Refuses `needed` bytes where there are `allowed` only.
pub(super) fn check(needed: usize, allowed: Option<usize>) -> Result<(), NoMemory> {
    match allowed {
        Some(allowed) if needed > allowed => Err(NoMemory { needed, allowed }),
        _ => Ok(()),
    }
}
