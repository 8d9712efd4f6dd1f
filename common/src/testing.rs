//! Helps tests of every crate; not part of the public interface.

mod etcd;

use std::io::Write;

pub use etcd::EtcdCluster;

/// Says loudly that a test was skipped, and counts it: with `TRAINYARD_SKIPS` set, a line
/// `test: reason` is added to the file that it names.
pub fn report_skip(test: &str, reason: &str) {
    eprintln!("SKIPPED {test}: {reason}");
    let Some(path) = std::env::var_os("TRAINYARD_SKIPS") else {
        return;
    };
    let written = std::fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(&path)
        .and_then(|mut file| file.write_all(format!("{test}: {reason}\n").as_bytes()));
    if let Err(error) = written {
        panic!("cannot count a skipped test in {}: {error}", path.display());
    }
}
