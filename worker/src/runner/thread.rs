//! A thread for one attempt: large stacks, a rayon pool of its own, and panics that end it alone.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

use tokio::sync::oneshot;
use trainyard_common::process;

/// Backward passes over deep graphs recurse: 8,000 chained operations pass on 2 MiB, so this is ample.
const STACK_BYTES: usize = 64 * 1024 * 1024;

/// Runs `work` inside a rayon pool of so many threads, named after the attempt.
///
/// # Errors
/// The panic's message, or why no thread could be started.
pub(super) async fn run<T: Send + 'static>(
    name: String,
    threads: usize,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, String> {
    let (done, result) = oneshot::channel();
    let span = tracing::Span::current();
    let pool_name = name.clone();
    let guarded = move || {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .stack_size(STACK_BYTES)
            .thread_name(move |number| format!("{pool_name}/{number}"))
            .build()
            .map_err(|error| not_started(&format!("{threads} threads"), &error))?;
        // What the work shared with others is only locked for whole changes; the rest is dropped here.
        catch_unwind(AssertUnwindSafe(|| pool.install(|| span.in_scope(work))))
            .map_err(|panic| format!("the trainer panicked: {}", message(&*panic)))
    };
    std::thread::Builder::new()
        .name(name)
        .stack_size(STACK_BYTES)
        // Nobody waits for the result if the worker is leaving in a hurry.
        .spawn(move || drop(done.send(guarded())))
        .map_err(|error| not_started("the attempt's thread", &error))?;
    result
        .await
        .unwrap_or_else(|_| Err("the attempt's thread ended without a result".to_owned()))
}

/// With what the kernel bounds: it is most likely that.
fn not_started(what: &str, error: &dyn std::fmt::Display) -> String {
    let mib = STACK_BYTES / (1024 * 1024);
    let limits = match process::thread_limits() {
        none if none.is_empty() => "its own limits are not set, a container's may be".to_owned(),
        some => some,
    };
    format!(
        "cannot start {what} with a stack of {mib} MiB each: {error}; limits of this process: {limits}"
    )
}

fn message(panic: &(dyn Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn runs_in_a_pool_of_its_own() {
        let threads = run("a".to_owned(), 3, rayon::current_num_threads).await;
        assert_eq!(threads, Ok(3));
    }

    #[tokio::test]
    async fn a_panic_is_an_error_with_its_message() {
        let number = 7;
        let result = run("b".to_owned(), 1, move || {
            assert_eq!(number, 8, "no {number}")
        })
        .await;
        let error = result.unwrap_err();
        assert!(
            error.contains("panicked") && error.contains("no 7"),
            "{error}"
        );
        // A panic on another thread of the pool comes back the same way.
        let spread = || rayon::join(|| 1, || panic!("deep")).0;
        let error = run("c".to_owned(), 2, spread).await.unwrap_err();
        assert!(error.ends_with("deep"), "{error}");
    }

    #[tokio::test]
    async fn deep_recursion_fits() {
        fn depth(left: u32) -> u32 {
            let padding = std::hint::black_box([left; 64]);
            if left == 0 {
                0
            } else {
                1 + depth(padding[63] - 1)
            }
        }
        assert_eq!(run("d".to_owned(), 1, || depth(50_000)).await, Ok(50_000));
    }
}
