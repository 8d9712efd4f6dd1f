//! How much memory this process may use: the machine's, or less where a control group or a limit of the
//! process says so.

use std::path::Path;

/// Taken where the system does not tell: what a small machine has.
const UNKNOWN: u64 = 4 << 30;

/// The most memory that this process can have, in bytes.
pub(crate) fn memory_bytes() -> u64 {
    memory_below(Path::new("/"))
}

/// `root`: where the kernel's file systems are.
fn memory_below(root: &Path) -> u64 {
    let machine = field(root, "proc/meminfo", "MemTotal:").map(|kib| kib.saturating_mul(1024));
    let process = field(root, "proc/self/limits", "Max address space");
    let limits = [machine, process].into_iter().flatten();
    limits
        .chain(group_limits(root))
        .filter(|&bytes| bytes > 0)
        .min()
        .unwrap_or(UNKNOWN)
}

/// The number after a name at the beginning of a line. A limit that is "unlimited" is none.
fn field(root: &Path, file: &str, name: &str) -> Option<u64> {
    let text = std::fs::read_to_string(root.join(file)).ok()?;
    let mut lines = text.lines();
    let rest = lines.find_map(|line| line.strip_prefix(name))?;
    rest.split_whitespace().next()?.parse().ok()
}

/// The limits of this process's control groups and of those above them.
fn group_limits(root: &Path) -> Vec<u64> {
    let groups = std::fs::read_to_string(root.join("proc/self/cgroup")).unwrap_or_default();
    groups
        .lines()
        .flat_map(|line| limits_of(root, line))
        .collect()
}

/// Of one line of `/proc/self/cgroup`: `hierarchy:controllers:path`.
fn limits_of(root: &Path, line: &str) -> Vec<u64> {
    let mut parts = line.splitn(3, ':');
    let (Some(_), Some(controllers), Some(path)) = (parts.next(), parts.next(), parts.next())
    else {
        return Vec::new();
    };
    let mounted = root.join("sys/fs/cgroup");
    let (mounted, file) = if controllers.is_empty() {
        (mounted, "memory.max")
    } else if controllers.split(',').any(|name| name == "memory") {
        (mounted.join("memory"), "memory.limit_in_bytes")
    } else {
        return Vec::new();
    };
    // Within a container the path may be the host's, and only the topmost folder be there.
    Path::new(path.trim_start_matches('/'))
        .ancestors()
        .filter_map(|group| {
            let text = std::fs::read_to_string(mounted.join(group).join(file)).ok()?;
            text.trim().parse().ok()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine(files: &[(&str, &str)]) -> u64 {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        memory_below(root.path())
    }

    #[test]
    fn the_least_of_all_limits_counts() {
        let meminfo = ("proc/meminfo", "MemTotal:       16 kB\nMemFree:  1 kB\n");
        let unlimited = (
            "proc/self/limits",
            "Limit  Soft Limit\nMax address space         unlimited  unlimited  bytes\n",
        );
        let limited = (
            "proc/self/limits",
            "Limit  Soft Limit\nMax address space         700  unlimited  bytes\n",
        );
        let second = ("proc/self/cgroup", "0::/a/b\n");
        let first = ("proc/self/cgroup", "5:cpu:/x\n4:memory,other:/c\n");
        let cases = [
            (vec![], UNKNOWN),
            (vec![meminfo, unlimited], 16 * 1024),
            (vec![meminfo, limited], 700),
            (
                vec![
                    meminfo,
                    second,
                    ("sys/fs/cgroup/a/b/memory.max", "max\n"),
                    ("sys/fs/cgroup/a/memory.max", "9000\n"),
                ],
                9_000,
            ),
            (
                vec![meminfo, second, ("sys/fs/cgroup/memory.max", "8000\n")],
                8_000,
            ),
            (
                vec![
                    meminfo,
                    first,
                    ("sys/fs/cgroup/memory/c/memory.limit_in_bytes", "5000\n"),
                ],
                5_000,
            ),
        ];
        for (files, expected) in cases {
            assert_eq!(machine(&files), expected, "{files:?}");
        }
    }
}
