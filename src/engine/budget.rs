//! How much memory a network may take. It is known before any of it is there: a plan says what buffers it will need, the
//! sizes of tensors what packing them takes.

/// A network would take more than it may.
#[derive(Debug, thiserror::Error)]
pub(super) enum NoMemory {
    /// To run.
    #[error(
        "its buffers would take {} MiB, and {} MiB are left for them ([inference] memory): ask for a smaller picture, or for fewer at once",
        needed.div_ceil(1 << 20),
        allowed >> 20
    )]
    Buffers {
        /// Bytes.
        needed: usize,
        /// Bytes.
        allowed: usize,
    },
    /// To be packed, which happens once.
    #[error(
        "its weights are not packed yet, which would take {} MiB, and {} MiB are left ([inference] memory): make an int8 pack of it, \
         which takes less (easeld pack quantize), or pack it on a larger machine (easeld pack prepare) and copy it",
        needed.div_ceil(1 << 20),
        allowed >> 20
    )]
    Packing {
        /// Bytes.
        needed: usize,
        /// Bytes.
        allowed: usize,
    },
}

impl NoMemory {
    /// Whether it is why something failed.
    pub(super) fn caused(error: &anyhow::Error) -> bool {
        error.chain().any(|cause| cause.is::<Self>())
    }
}

/// Small networks are packed whatever is left.
const PACKING_MIN: usize = 64 << 20;

/// Refuses `needed` bytes of buffers where there are `allowed` only.
pub(super) fn check(needed: usize, allowed: Option<usize>) -> Result<(), NoMemory> {
    match allowed {
        Some(allowed) if needed > allowed => Err(NoMemory::Buffers { needed, allowed }),
        _ => Ok(()),
    }
}

/// Refuses to pack a network where that would take `needed` bytes, more than `allowed`.
pub(super) fn check_packing(needed: u64, allowed: Option<usize>) -> Result<(), NoMemory> {
    let needed = usize::try_from(needed).unwrap_or(usize::MAX);
    match allowed.map(|allowed| allowed.max(PACKING_MIN)) {
        Some(allowed) if needed > allowed => Err(NoMemory::Packing { needed, allowed }),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_large_network_is_not_packed_where_memory_is_small() {
        assert!(check_packing(10 << 20, Some(1)).is_ok(), "the bundled model's always is");
        assert!(check_packing(1 << 40, None).is_ok(), "nobody knows what there is");
        let error = anyhow::Error::new(check_packing(860 << 20, Some(300 << 20)).unwrap_err());
        assert!(NoMemory::caused(&error.context("unet")));
        let said = check_packing(860 << 20, Some(300 << 20)).unwrap_err().to_string();
        assert!(said.contains("860 MiB, and 300 MiB") && said.contains("pack prepare"), "{said}");
    }
}
