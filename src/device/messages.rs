//! Stable ids of what the journal says: `MESSAGE_ID`, for `journalctl MESSAGE_ID=...`, alerts and the catalog
//! (`systemd/easeld.catalog`, shown by `journalctl -x`). An id never changes its meaning.

/// The daemon takes prompts.
pub const READY: &str = "9fb93534081c4253b1e273a87984a8ab";
/// A job was written to the store.
pub const JOB_ACCEPTED: &str = "db149e4714be49abb93fe42eabd2d9f2";
/// The broker has heard the end of a job.
pub const JOB_DONE: &str = "3994693ea3ae4e689323451b4a95902a";
/// A picture could not be made.
pub const JOB_FAILED: &str = "1aa615a94b6a4551a061ae14a1dbf721";
/// Work is held or slowed down.
pub const THROTTLED: &str = "8b3a15353f134b709856c32a687b253b";
/// Work is at full speed again.
pub const FULL_SPEED: &str = "a7213dfe89324293a0dd5386c9cf0800";
/// Something keeps the node from working.
pub const TROUBLE: &str = "67d1191fda8040bd919e9bc7f4a02d92";
/// What kept the node from working is over.
pub const TROUBLE_OVER: &str = "fd95588c5e4e410bb14cf51964cd1715";
/// The configuration was read again.
pub const RELOADED: &str = "d561cab77e4d473db44d04cb5f0f2c02";

/// All of them, by the names of their constants.
pub const ALL: [(&str, &str); 9] = [
    ("READY", READY),
    ("JOB_ACCEPTED", JOB_ACCEPTED),
    ("JOB_DONE", JOB_DONE),
    ("JOB_FAILED", JOB_FAILED),
    ("THROTTLED", THROTTLED),
    ("FULL_SPEED", FULL_SPEED),
    ("TROUBLE", TROUBLE),
    ("TROUBLE_OVER", TROUBLE_OVER),
    ("RELOADED", RELOADED),
];
