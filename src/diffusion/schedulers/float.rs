//! The element types that schedulers run on: f32 in the daemon, f64 against patched diffusers in tests.

/// A float that samples are stored in. Arithmetic on single elements is done in f64 whatever the
/// type, so an f32 run loses precision only where it stores its state; the cost is nothing beside a UNet.
pub trait Float: Copy + Send + 'static {
    /// Zero.
    const ZERO: Self;
    /// Rounds to the nearest value of this type.
    fn from_f64(value: f64) -> Self;
    /// Widens without loss.
    fn to_f64(self) -> f64;
}

impl Float for f32 {
    const ZERO: Self = 0.0;

    fn from_f64(value: f64) -> Self {
        value as f32
    }

    fn to_f64(self) -> f64 {
        f64::from(self)
    }
}

impl Float for f64 {
    const ZERO: Self = 0.0;

    fn from_f64(value: f64) -> Self {
        value
    }

    fn to_f64(self) -> f64 {
        self
    }
}
