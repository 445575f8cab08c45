//! Memory that is done with goes back to the system.
//!
//! glibc's `malloc` keeps freed blocks below a threshold for itself, and raises the threshold to 32 MiB as such blocks are
//! freed. The buffers of a VAE in bands come and go below that: on a small board they decide whether a picture fits. A
//! threshold from the environment stays where it is, but glibc reads it once, before `main`.

use std::env;
use std::fs;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

/// See `mallopt(3)`, `M_MMAP_THRESHOLD`.
const THRESHOLD: &str = "MALLOC_MMAP_THRESHOLD_";
const BYTES: &str = "1048576";

/// Starts the program anew in this very process, with the threshold set, unless it is set already.
///
/// To be called before anything else. Where the program cannot be started anew (in an emulator, from a file that was
/// replaced) it goes on as it is: more memory, the same pictures.
pub fn give_back_large_blocks() {
    if !cfg!(target_env = "gnu") || env::var_os(THRESHOLD).is_some() {
        return;
    }
    let mut arguments = env::args_os();
    if let (Ok(program), Some(name)) = (env::current_exe(), arguments.next())
        && is_what_runs(&program)
    {
        // It returns only if it failed.
        let _error = Command::new(program).arg0(name).args(arguments).env(THRESHOLD, BYTES).exec();
    }
}

/// Whether the kernel runs `program` itself. An emulator (qemu-user) says that it is the program it emulates, but not by this
/// link; the kernel would not know how to start that program, and the C library then takes it for a shell script.
fn is_what_runs(program: &Path) -> bool {
    fs::read_link("/proc/thread-self/exe").is_ok_and(|running| running == program)
}
