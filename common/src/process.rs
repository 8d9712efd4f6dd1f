//! What a program arranges with the kernel for itself when it starts.

use std::io;

use tokio::signal::unix::{SignalKind, signal};

/// What the kernel bounds for this process, of what threads need: `address space 500000000 bytes, 100 processes`.
/// Empty where nothing is bounded.
pub fn thread_limits() -> String {
    let kinds = [
        (rlimit::Resource::AS, "bytes of address space (ulimit -v)"),
        (
            rlimit::Resource::NPROC,
            "processes and threads of this user (ulimit -u)",
        ),
    ];
    let bounded = kinds.iter().filter_map(|(kind, name)| {
        let (soft, _) = kind.get().ok()?;
        (soft != rlimit::INFINITY).then(|| format!("{soft} {name}"))
    });
    bounded.collect::<Vec<_>>().join(", ")
}

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
