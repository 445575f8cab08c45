//! What becomes of `[inference] memory`: how much of it buffers may have, where weights come from, what stays between pictures.

use std::path::Path;

use crate::config::{Memory, Residency, Settings, VaeTile, WeightSource};
use crate::device::memory;
use crate::engine::STAGING_BYTES;
use crate::packs;

/// The program itself, the graphs and plans of a large model, and what a picture is made of besides networks.
const PROGRAM: u64 = 96 << 20;
/// The program as a VAE in bands meets it: all else rests by then, and of a VAE's weights 8 MiB are streamed at a time.
const PROGRAM_AT_BANDS: u64 = 32 << 20;
/// At least this much is left to buffers, whatever was asked for: a request that needs more is refused with numbers.
const BUFFERS_MIN: u64 = 32 << 20;

/// The parts of the budget.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Budget {
    /// Bytes that the buffers of one network may take; nothing where the machine does not say what it has.
    pub(super) buffers: Option<usize>,
    /// The same of a VAE in bands, with the tensors that it reads and writes.
    pub(super) bands: Option<usize>,
    /// Bytes from which on the VAE works in bands; nothing for never.
    pub(super) vae_tile: Option<usize>,
    pub(super) residency: Residency,
    pub(super) weights: WeightSource,
}

impl Budget {
    /// For the pack in `directory`; `weights` is what the command line says.
    pub(super) fn new(settings: &Settings, weights: Option<WeightSource>, directory: &Path) -> Self {
        let bytes = packs::bytes(directory);
        let packed = if bytes.packed > 0 { bytes.packed } else { bytes.own };
        let all = match settings.inference.memory {
            Memory::Auto => memory::available_bytes().map(|free| free / 10 * 9),
            Memory::Bytes(bytes) => Some(bytes),
        };
        let weights = weights.or(settings.inference.weights);
        let tile = match settings.inference.vae_tile {
            VaeTile::Off => None,
            VaeTile::Auto => memory::limit_bytes().map(|bytes| bytes / 4),
            VaeTile::Bytes(bytes) => Some(bytes),
        };
        Self::divided(all, packed, (weights, settings.models.residency), tile)
    }

    /// Divides `all` bytes for a model whose weights take `packed`; what is `set` holds.
    fn divided(
        all: Option<u64>,
        packed: u64,
        set: (Option<WeightSource>, Option<Residency>),
        tile: Option<u64>,
    ) -> Self {
        let fits = |times: u64| all.is_none_or(|all| packed.saturating_mul(times) <= all);
        let weights = set.0.unwrap_or(if fits(2) { WeightSource::Mapped } else { WeightSource::Streamed });
        let residency = set.1.unwrap_or(if fits(1) { Residency::Warm } else { Residency::OneAtATime });
        let staging = if weights == WeightSource::Streamed { STAGING_BYTES as u64 } else { 0 };
        let buffers = all.map(|all| all.saturating_sub(PROGRAM + staging).max(BUFFERS_MIN));
        let bands = all.map(|all| all.saturating_sub(PROGRAM_AT_BANDS).max(BUFFERS_MIN));
        let tile = tile.map(|tile| buffers.map_or(tile, |buffers| tile.min(buffers)));
        let bytes = |bytes: Option<u64>| bytes.and_then(|bytes| usize::try_from(bytes).ok());
        Self { buffers: bytes(buffers), bands: bytes(bands), vae_tile: bytes(tile), residency, weights }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;
    /// Stable Diffusion 1.5 in int8.
    const SD15: u64 = 1101 * MIB;

    fn divided(all: u64, packed: u64) -> Budget {
        Budget::divided(Some(all), packed, (None, None), Some(1024 * MIB))
    }

    #[test]
    fn much_memory_holds_everything() {
        let budget = divided(8192 * MIB, SD15);
        assert_eq!((budget.weights, budget.residency), (WeightSource::Mapped, Residency::Warm));
        assert_eq!(budget.vae_tile, Some(1024 << 20));
        let unknown = Budget::divided(None, SD15, (None, None), None);
        assert_eq!((unknown.buffers, unknown.bands, unknown.vae_tile), (None, None, None));
        assert_eq!(unknown.weights, WeightSource::Mapped);
    }

    #[test]
    fn little_memory_streams_and_keeps_one_network() {
        let budget = divided(460 * MIB, SD15);
        assert_eq!((budget.weights, budget.residency), (WeightSource::Streamed, Residency::OneAtATime));
        assert_eq!((budget.buffers, budget.vae_tile), (Some(300 << 20), Some(300 << 20)));
        assert_eq!(budget.bands, Some(428 << 20));
        let between = divided(1536 * MIB, SD15);
        assert_eq!((between.weights, between.residency), (WeightSource::Streamed, Residency::Warm));
        let least = divided(30 * MIB, SD15);
        assert_eq!((least.buffers, least.bands), (Some(32 << 20), Some(32 << 20)), "never nothing");
    }

    #[test]
    fn what_is_set_holds() {
        let set = (Some(WeightSource::Mapped), Some(Residency::Warm));
        let budget = Budget::divided(Some(300 * MIB), SD15, set, None);
        assert_eq!((budget.weights, budget.residency), (WeightSource::Mapped, Residency::Warm));
    }
}
