//! How running out of memory is recognised: by what the kernel counts, or by what a program says last.
//!
//! A program that the kernel kills for its memory says nothing; SIGKILL alone has many senders. Only
//! together with a kill that the kernel has counted meanwhile is it evidence.

use std::path::{Path, PathBuf};
use std::sync::LazyLock;

/// Where the kernel's file systems are.
const ROOT: &str = "/";
/// Exit code by which a shell tells that its child was killed by SIGKILL.
const KILLED_CHILD: i32 = 128 + libc::SIGKILL;

/// What allocators, runtimes and frameworks say when there is no more memory, in lower case. Sources:
/// CPython, glibc (`strerror(ENOMEM)`), libstdc++, Rust, the JVM, CUDA, cuBLAS, PyTorch, XLA.
const WORDS: [&str; 11] = [
    "out of memory",
    "outofmemory",
    "memoryerror",
    "cannot allocate memory",
    "can't allocate memory",
    "std::bad_alloc",
    "memory allocation of ",
    "cuda_error_out_of_memory",
    "cublas_status_alloc_failed",
    "cudnn_status_alloc_failed",
    "resource_exhausted",
];

/// Whether an error's text says that memory ran out.
pub(super) fn is_meant_by(text: &str) -> bool {
    let text = text.to_lowercase();
    WORDS.iter().any(|word| text.contains(word))
}

/// How often the kernel has killed for memory, before an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct OomKills(Option<u64>);

impl OomKills {
    /// Looks now.
    pub(super) fn now() -> Self {
        /// Looked for once: every attempt begins with a look.
        static COUNTER: LazyLock<PathBuf> = LazyLock::new(|| counter_below(Path::new(ROOT)));
        Self(count(&COUNTER))
    }

    /// Whether a program that ended with this exit code or by this signal was killed for its memory.
    pub(super) fn explain(self, code: Option<i32>, signal: Option<i32>) -> bool {
        let killed = signal == Some(libc::SIGKILL) || code == Some(KILLED_CHILD);
        killed && self.grown(Self::now())
    }

    fn grown(self, now: Self) -> bool {
        matches!((self.0, now.0), (Some(before), Some(now)) if now > before)
    }
}

/// The file with the counter of this process's own group, in which its children are, else the machine's.
fn counter_below(root: &Path) -> PathBuf {
    let groups = std::fs::read_to_string(root.join("proc/self/cgroup")).unwrap_or_default();
    let mut own = groups.lines().filter_map(|line| counter_of(root, line));
    let counts = own.find(|path| count(path).is_some());
    counts.unwrap_or_else(|| root.join("proc/vmstat"))
}

/// The file with the counter of one line of `/proc/self/cgroup`: `hierarchy:controllers:path`.
fn counter_of(root: &Path, line: &str) -> Option<PathBuf> {
    let mut parts = line.splitn(3, ':');
    let (_, controllers, path) = (parts.next()?, parts.next()?, parts.next()?);
    let path = path.trim_start_matches('/');
    let mounted = root.join("sys/fs/cgroup");
    if controllers.is_empty() {
        return Some(mounted.join(path).join("memory.events"));
    }
    let memory = controllers.split(',').any(|name| name == "memory");
    memory.then(|| mounted.join("memory").join(path).join("memory.oom_control"))
}

/// The value of the line `oom_kill N`.
fn count(path: &Path) -> Option<u64> {
    let text = std::fs::read_to_string(path).ok()?;
    let mut lines = text.lines();
    lines.find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(root: &Path, path: &str, text: &str) {
        let path = root.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    #[test]
    fn last_words_tell() {
        for text in [
            "RuntimeError: CUDA out of memory. Tried to allocate 2.00 GiB",
            "torch.OutOfMemoryError: ...",
            "MemoryError",
            "terminate called after throwing an instance of 'std::bad_alloc'",
            "memory allocation of 8589934592 bytes failed",
            "numpy._core._exceptions._ArrayMemoryError: Unable to allocate 7 TiB",
            "OSError: [Errno 12] Cannot allocate memory",
            "jaxlib.XlaRuntimeError: RESOURCE_EXHAUSTED: ...",
        ] {
            assert!(is_meant_by(text), "{text}");
        }
        for text in ["", "no such file", "I remember", "killed"] {
            assert!(!is_meant_by(text), "{text}");
        }
    }

    #[test]
    fn the_nearest_counter_is_read() {
        let table = [
            ("0::/job/one\n", "sys/fs/cgroup/job/one/memory.events"),
            ("0::/\n", "sys/fs/cgroup/memory.events"),
            (
                "5:cpu:/x\n4:hugetlb,memory:/y\n",
                "sys/fs/cgroup/memory/y/memory.oom_control",
            ),
            ("0::/gone\n", "proc/vmstat"),
            ("", "proc/vmstat"),
        ];
        for (groups, counter) in table {
            let folder = tempfile::tempdir().unwrap();
            let root = folder.path();
            write(root, "proc/self/cgroup", groups);
            write(root, "proc/vmstat", "pgfault 7\noom_kill 1\n");
            write(root, counter, "oom 9\noom_kill 3\noom_group_kill 0\n");
            assert_eq!(count(&counter_below(root)), Some(3), "{groups}");
        }
        let nothing = tempfile::tempdir().unwrap();
        assert_eq!(count(&counter_below(nothing.path())), None);
    }

    #[test]
    fn only_a_counted_kill_is_evidence() {
        let grown = |before, now| OomKills(before).grown(OomKills(now));
        assert!(grown(Some(1), Some(2)));
        assert!(!grown(Some(2), Some(2)) && !grown(None, Some(2)) && !grown(Some(2), None));
        // Not killed at all, whatever the counter says.
        assert!(!OomKills(Some(0)).explain(Some(1), None));
        assert!(!OomKills(Some(0)).explain(None, Some(libc::SIGSEGV)));
        assert!(!OomKills(Some(u64::MAX)).explain(None, Some(libc::SIGKILL)));
    }
}
