//! Fuzz targets as ordinary tests on stable Rust: every input that is kept is run again, then a bounded
//! number of changed ones, the same each time.
//!
//! Owns how inputs are made, run and judged: no input may panic, overflow the stack, take more memory than the
//! target says, or hang. What an input means is the target's alone. See README.md.

mod memory;
mod mutate;
mod runner;

use std::path::PathBuf;

pub use memory::Counting;

/// Changed inputs of one run in `./test`.
const ITERATIONS: u64 = 3_000;

/// Longest input, in bytes: most faults of readers show in a few hundred.
const LONGEST: usize = 8 * 1024;

/// Most memory that one input may take, in bytes: thousands of times its length.
const MEMORY: usize = 64 << 20;

/// A reader of bytes from outside, and what is tried with it.
pub struct Target<'a> {
    name: &'a str,
    words: &'a [&'a str],
    iterations: u64,
    longest: usize,
    memory: usize,
    read: &'a (dyn Fn(&[u8]) -> String + Sync),
}

impl<'a> Target<'a> {
    /// A target whose kept inputs lie in `tests/fuzz/corpus/NAME`. `read` does what is done with bytes from
    /// outside, asserts what must hold, and says in a few words what came of it, such as the error: an input
    /// with a new answer is changed further.
    pub fn new(name: &'a str, read: &'a (dyn Fn(&[u8]) -> String + Sync)) -> Self {
        Self {
            name,
            words: &[],
            iterations: ITERATIONS,
            longest: LONGEST,
            memory: MEMORY,
            read,
        }
    }

    /// What the format is made of: put in at random places.
    pub fn words(mut self, words: &'a [&'a str]) -> Self {
        self.words = words;
        self
    }

    pub fn iterations(mut self, iterations: u64) -> Self {
        self.iterations = iterations;
        self
    }

    pub fn longest(mut self, bytes: usize) -> Self {
        self.longest = bytes;
        self
    }

    /// Most memory of one input; measured where the test binary's allocator is [`Counting`].
    pub fn memory(mut self, bytes: usize) -> Self {
        self.memory = bytes;
        self
    }

    fn corpus(&self) -> PathBuf {
        [env!("CARGO_MANIFEST_DIR"), "corpus", self.name]
            .iter()
            .collect()
    }

    /// Runs it.
    ///
    /// # Panics
    /// With the input, when one fails, or where no inputs are kept.
    pub fn run(self) {
        runner::run(&self);
    }
}
