//! The machine easeld runs on: what systemd is told, where log lines go.
//!
//! - [`heap`]: freed memory goes back to the system.
//! - [`logging`]: chooses the journal or standard error, once, at start.
//! - [`journal`]: one `tracing` event becomes one journal entry with fields.
//! - [`memory`]: what this process takes.
//! - [`notify`]: READY, STATUS, WATCHDOG and STOPPING over systemd's notify socket.
//! - [`temperature`]: how warm the processor is.

pub mod heap;
pub mod journal;
pub mod logging;
pub mod memory;
pub mod notify;
pub mod temperature;
