//! What this machine is called and what its processor is.

/// The host's name, as the kernel has it.
pub(super) fn name() -> String {
    let kernel = std::fs::read_to_string("/proc/sys/kernel/hostname").ok();
    let environment = std::env::var("HOSTNAME").ok();
    let fits = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    kernel
        .or(environment)
        .map(|name| name.trim().chars().filter(|&c| fits(c)).collect())
        .filter(|name: &String| !name.is_empty())
        .unwrap_or_else(|| "localhost".to_owned())
}

/// The machine's threads.
pub(super) fn threads() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}
