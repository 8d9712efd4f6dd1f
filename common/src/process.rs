//! What a program arranges with the kernel for itself when it starts.

use std::io;

use tokio::signal::unix::{SignalKind, signal};

/// Makes a write beyond the largest size of a file (`ulimit -f`) an error of that write. Otherwise the
/// kernel ends the process by SIGXFSZ, without a word. Call it within a runtime.
///
/// The signal is caught and not ignored: programs that are started here inherit what is ignored, and get
/// back what is caught.
///
/// # Errors
/// When the kernel refuses the handler.
pub fn survive_file_size_limit() -> io::Result<()> {
    // The handler stays when what listens to it is dropped.
    signal(SignalKind::from_raw(libc::SIGXFSZ)).map(drop)
}
