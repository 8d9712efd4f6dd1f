//! Whose turn it is to compute, and what becomes of answers.

use std::time::Duration;

use trainyard_common::ids::{RequestId, Term};
use trainyard_common::spec::Document;

use super::super::input;
use super::*;
use crate::cluster::Machine;
use crate::cluster::api::{Effect, MachineConfig};

/// A search of a job of this name, as after a restart.
fn task(name: &str) -> (JobId, Ticket, Computation) {
    let spec = format!(
        "name: {name}\nentrypoint: {{command: [train]}}\n\
         hyperparameters: {{x: {{type: double, minval: 0, maxval: 1}}}}\n\
         objectives: [{{metric: loss, mode: minimize}}]\nsearcher: {{name: random, max_trials: 9}}\n"
    );
    let config = MachineConfig {
        quick_ms: 0,
        ..MachineConfig::default()
    };
    let mut machine = Machine::new(Term(1), config.clone());
    let submit = Event::Submit {
        request: RequestId::from("r"),
        document: Box::new(Document::parse(&spec).unwrap()),
    };
    let records = machine.apply(1, submit).unwrap().records;
    let mut again = Machine::restore(Term(2), config, 1, records).unwrap();
    let effects = again.apply(1, Event::Tick).unwrap().effects;
    let mut effects = effects.into_iter();
    let found = effects.find_map(|effect| match effect {
        Effect::Search { job, ticket, task } => Some((job, ticket, task)),
        _ => None,
    });
    found.unwrap()
}

fn waiting(job: &str, long: bool) -> (Waiting, oneshot::Receiver<Answer>) {
    let (job, _, task) = task(job);
    let (answer, answered) = oneshot::channel();
    let waiting = Waiting {
        job,
        long,
        task,
        answer,
    };
    (waiting, answered)
}

#[test]
fn of_a_job_one_at_a_time_and_one_thread_is_left_for_what_is_short() {
    let mut line = Line::default();
    for (job, long) in [("a", true), ("a", false), ("b", true), ("c", false)] {
        line.waiting.push_back(waiting(job, long).0);
    }
    let mut next = || line.take(2).map(|next| next.job.to_string());
    // Of two threads one may be at what is long.
    assert_eq!(next().as_deref(), Some("a-1"));
    assert_eq!(next().as_deref(), Some("c-1"));
    assert_eq!(next(), None);
    line.busy.remove(&JobId::from("a-1"));
    line.long -= 1;
    let mut next = || line.take(2).map(|next| (next.job.to_string(), next.long));
    assert_eq!(next(), Some(("a-1".to_owned(), false)));
    assert_eq!(next(), Some(("b-1".to_owned(), true)));
    assert_eq!(next(), None);
}

#[tokio::test]
async fn an_answer_comes_back_to_the_loop() {
    let (inputs, mut queue) = input::queue();
    let (tasks, closing) = (TaskTracker::new(), CancellationToken::new());
    let thinker = Thinker::new(2, tasks.clone(), closing);
    for name in ["a", "b", "c", "d"] {
        let (job, ticket, task) = task(name);
        thinker.start(job, ticket, task, inputs.downgrade());
    }
    let (mut taken, mut jobs) = (Vec::new(), BTreeSet::new());
    while jobs.len() < 4 {
        queue.recv_many(&mut taken, 8).await;
        for input in taken.drain(..) {
            let Input::Tell {
                event: Event::Searched { job, computed, .. },
                ..
            } = input
            else {
                panic!("{input:?}");
            };
            assert!(computed.is_ok());
            jobs.insert(job);
        }
    }
    // Nothing is left to wait for.
    tasks.close();
    tasks.wait().await;
}

#[tokio::test]
async fn what_takes_another_s_place_is_computed_alone_and_nothing_after_the_end() {
    let desk = Arc::new(Desk {
        line: Mutex::default(),
        changed: Condvar::new(),
        // Nobody works.
        most: 0,
    });
    let (first, gone) = waiting("a", false);
    let (second, kept) = waiting("a", false);
    desk.put(first);
    desk.put(second);
    assert!(gone.await.is_err());
    assert_eq!(desk.lock().waiting.len(), 1);
    let over = Thinker {
        desk: Arc::clone(&desk),
        tasks: TaskTracker::new(),
        closing: CancellationToken::new(),
    };
    drop(over);
    let none = tokio::time::timeout(Duration::from_secs(60), kept).await;
    assert!(none.unwrap().is_err());
}

#[test]
fn what_panics_says_so() {
    let panicked = catch_unwind(|| panic!("at {}", 7)).unwrap_err();
    assert_eq!(said(&*panicked), "at 7");
    let panicked = catch_unwind(|| panic!("here")).unwrap_err();
    assert_eq!(said(&*panicked), "here");
}
