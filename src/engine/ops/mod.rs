//! The operations of a plan, one per file: each reads buffers and fills one, on all threads.

pub(super) mod attention;
pub(super) mod copy;
pub(super) mod elementwise;
pub(super) mod encode;
pub(super) mod norm;

use super::kernels::codes::Unit;
use super::pool::Pool;

/// What every operation runs with.
#[derive(Clone)]
pub(super) struct Machine {
    pub(super) pool: Pool,
    pub(super) unit: Unit,
}
