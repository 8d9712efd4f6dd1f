//! One run of a target: the kept inputs, then changed ones.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Seek as _, Write as _};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError, mpsc};
use std::time::{Duration, Instant};

use crate::mutate::{self, Random};
use crate::{Target, memory};

/// The stack that a task of the runtime has, on which the coordinator reads what it is sent.
const STACK: usize = 2 << 20;

/// An input that takes so long hangs: a thousand times what a slow one takes on a slow machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// Most inputs that are kept in memory to be changed further.
const MOST_POOLED: usize = 2_000;

/// Runs of this process so far: two of one target at once have a folder each.
static RUNS: AtomicU64 = AtomicU64::new(0);

/// The name of the file with the present input.
const INPUT: &str = "input";

/// The longest answer of a target by which inputs are told apart, in characters.
const ANSWER: usize = 80;

/// What a run is asked for from outside.
struct Wanted {
    seed: u64,
    /// Goes on for so long, instead of a number of iterations.
    time: Option<Duration>,
    /// Keeps inputs with new answers in the corpus.
    keep: bool,
}

impl Wanted {
    fn from_environment() -> Self {
        let number = |name: &str| -> Option<u64> {
            let text = std::env::var(name).ok()?;
            let number = text.parse();
            Some(number.unwrap_or_else(|_| panic!("{name}: `{text}` is no whole number")))
        };
        let time = number("TRAINYARD_FUZZ_SECONDS").map(Duration::from_secs);
        Self {
            // The same inputs in every ordinary run; a long one that is not told its seed takes its process's.
            seed: number("TRAINYARD_FUZZ_SEED").unwrap_or(match time {
                Some(_) => u64::from(std::process::id()),
                None => 0,
            }),
            time,
            keep: std::env::var_os("TRAINYARD_FUZZ_KEEP").is_some(),
        }
    }
}

pub(crate) fn run(target: &Target<'_>) {
    let kept = kept(&target.corpus());
    assert!(
        !kept.is_empty(),
        "no inputs in {}: a target begins with some that are right",
        target.corpus().display()
    );
    let folder = std::env::temp_dir().join(format!(
        "trainyard-fuzz-{}-{}-{}",
        target.name,
        std::process::id(),
        RUNS.fetch_add(1, Ordering::Relaxed)
    ));
    let input = std::fs::create_dir_all(&folder).and_then(|()| File::create(folder.join(INPUT)));
    let run = Run {
        target,
        input: input.unwrap_or_else(|error| panic!("{}: {error}", folder.display())),
        folder,
        current: Mutex::default(),
    };
    let (ended, end) = mpsc::channel::<()>();
    let run = &run;
    let outcome = std::thread::scope(|scope| {
        scope.spawn(move || run.watch(&end));
        let work = std::thread::Builder::new()
            .name(format!("fuzz {}: {}", target.name, run.file().display()))
            .stack_size(STACK)
            .spawn_scoped(scope, || run.all(kept, &Wanted::from_environment()));
        let outcome = work.map(|work| work.join());
        drop(ended);
        outcome
    });
    match outcome {
        Ok(Ok(())) => drop(std::fs::remove_dir_all(&run.folder)),
        Ok(Err(panic)) => resume_unwind(panic),
        Err(error) => panic!("no thread for the target {}: {error}", target.name),
    }
}

/// The kept inputs in the order of their names.
fn kept(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let entries = std::fs::read_dir(folder).into_iter().flatten();
    let mut files: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    files.sort();
    let read = |path: PathBuf| {
        let bytes =
            std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        (path, bytes)
    };
    files
        .into_iter()
        .filter(|path| path.is_file())
        .map(read)
        .collect()
}

struct Run<'a> {
    target: &'a Target<'a>,
    folder: PathBuf,
    /// Of the folder: holds the present input.
    input: File,
    /// Since when the present input runs.
    current: Mutex<Option<Instant>>,
}

impl Run<'_> {
    /// Where the present input lies: what ends the process leaves it there.
    fn file(&self) -> PathBuf {
        self.folder.join(INPUT)
    }

    /// Overwrites the file and then cuts it to its length: a file that is made empty first and closed again
    /// is written through to the disk by some file systems, which took longer than all else.
    fn leave(&self, input: &[u8]) -> io::Result<()> {
        let mut file = &self.input;
        file.rewind()?;
        file.write_all(input)?;
        file.set_len(input.len() as u64)
    }

    fn set_current(&self, since: Option<Instant>) {
        *self.current.lock().unwrap_or_else(PoisonError::into_inner) = since;
    }

    fn watch(&self, end: &mpsc::Receiver<()>) {
        while end.recv_timeout(Duration::from_secs(1)) == Err(mpsc::RecvTimeoutError::Timeout) {
            let since = *self.current.lock().unwrap_or_else(PoisonError::into_inner);
            if since.is_some_and(|since| since.elapsed() > PATIENCE) {
                eprintln!("{} hangs with {}", self.target.name, self.file().display());
                std::process::abort();
            }
        }
    }

    fn all(&self, kept: Vec<(PathBuf, Vec<u8>)>, wanted: &Wanted) {
        let mut known = BTreeSet::new();
        let mut pool = Vec::new();
        for (path, input) in kept {
            known.insert(self.one(&input, &path.display().to_string()));
            pool.push(input);
        }
        let mut random = Random::new(wanted.seed);
        let begun = Instant::now();
        let mut done = 0u64;
        let goes_on = |done| match wanted.time {
            Some(time) => begun.elapsed() < time,
            None => done < self.target.iterations,
        };
        while goes_on(done) {
            let input = mutate::changed(&pool, self.target.words, self.target.longest, &mut random);
            let what = format!("input {done} of seed {}", wanted.seed);
            let answer = self.one(&input, &what);
            done += 1;
            if pool.len() < MOST_POOLED && known.insert(answer) {
                if wanted.keep {
                    self.keep(&input);
                }
                pool.push(input);
            }
        }
        eprintln!(
            "{}: {done} inputs, seed {}, {} different answers",
            self.target.name,
            wanted.seed,
            known.len()
        );
    }

    /// Runs one input; the answer by which it is told apart from others.
    fn one(&self, input: &[u8], what: &str) -> String {
        let file = self.file();
        let left = self.leave(input);
        left.unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        self.set_current(Some(Instant::now()));
        let begun = memory::begin();
        let outcome = catch_unwind(AssertUnwindSafe(|| (self.target.read)(input)));
        let most = memory::most_since(begun);
        self.set_current(None);
        let answer = outcome.unwrap_or_else(|panic| {
            eprintln!("{} fails with {what}: {}", self.target.name, file.display());
            resume_unwind(panic)
        });
        assert!(
            most <= self.target.memory,
            "{} takes {most} bytes of memory, accepted are {}, with {what}: {}",
            self.target.name,
            self.target.memory,
            file.display()
        );
        told_apart(&answer)
    }

    fn keep(&self, input: &[u8]) {
        let name = number_of(input);
        let path = self.target.corpus().join(format!("found-{name:016x}"));
        std::fs::write(&path, input).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    }
}

/// FNV-1a: names a file.
fn number_of(input: &[u8]) -> u64 {
    input.iter().fold(0xcbf2_9ce4_8422_2325, |hash, &byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

/// An answer without what it quotes and counts, so that two inputs with the same fault are alike.
fn told_apart(answer: &str) -> String {
    let mut quoted = false;
    let kept = answer.chars().filter(|&c| {
        quoted ^= c == '`';
        !quoted && !c.is_ascii_digit()
    });
    kept.take(ANSWER).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Counting;

    #[global_allocator]
    static ALLOCATOR: Counting = Counting;

    /// Runs a target over the corpus of this crate's own tests.
    fn outcome(read: &(dyn Fn(&[u8]) -> String + Sync)) -> Result<(), String> {
        let target = Target::new("selftest", read)
            .words(&["deep"])
            .memory(1 << 20);
        catch_unwind(AssertUnwindSafe(|| target.run())).map_err(|panic| {
            let text = panic.downcast_ref::<String>().cloned();
            text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()))
                .unwrap_or_default()
        })
    }

    #[test]
    fn what_is_right_passes_and_every_input_is_run() {
        let count = AtomicU64::new(0);
        outcome(&|_| {
            count.fetch_add(1, Ordering::Relaxed);
            String::new()
        })
        .unwrap();
        assert_eq!(count.into_inner(), 2 + crate::ITERATIONS);
    }

    #[test]
    fn a_panic_in_a_kept_input_is_found() {
        let failure = outcome(&|input| {
            assert_ne!(input, b"the second\n", "it is there");
            String::new()
        });
        assert!(failure.unwrap_err().contains("it is there"));
    }

    #[test]
    fn a_panic_behind_a_word_and_a_number_is_found() {
        let failure = outcome(&|input| {
            let text = String::from_utf8_lossy(input);
            assert!(!(text.contains("deep") && text.contains("1e308")), "both");
            // A new answer for each of them leads there step by step.
            format!("{}{}", text.contains("deep"), text.contains("1e308"))
        });
        assert!(failure.unwrap_err().contains("both"));
    }

    #[test]
    fn memory_is_counted() {
        let failure = outcome(&|input| {
            let held = vec![1u8; input.len() << 18];
            held.len().to_string()
        });
        assert!(failure.unwrap_err().contains("bytes of memory"));
    }

    #[test]
    fn answers_are_told_apart_by_their_words() {
        assert_eq!(
            told_apart("line 12: `x7` is no number"),
            "line : ` is no number"
        );
    }
}
