//! The machine easeld runs on: what systemd is told, where log lines go, how warm it is.
//!
//! - [`board`]: temperatures, clocks and power flags below `/sys`.
//! - [`governor`]: how hard the machine may work, by heat, power supply and hour.
//! - [`heap`]: freed memory goes back to the system.
//! - [`logging`]: chooses the journal or standard error, once, at start.
//! - [`journal`]: one `tracing` event becomes one journal entry with fields.
//! - [`memory`]: what this process takes.
//! - [`messages`]: stable ids of what the journal says.
//! - [`notify`]: READY, STATUS, WATCHDOG and STOPPING over systemd's notify socket.

pub mod board;
pub mod governor;
pub mod heap;
pub mod journal;
pub mod logging;
pub mod memory;
pub mod messages;
pub mod notify;
mod stderr;
