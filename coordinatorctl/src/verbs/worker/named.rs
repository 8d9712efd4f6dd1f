//! Which worker is meant: its id, or the name that it was given, as long as one worker has it.

use trainyard_proto::v1::{WorkerState, WorkerSummary};

use crate::exit::{Failure, Outcome};
use crate::session::Session;

/// Digits that a worker adds to its name, which make its id.
const DIGITS: usize = 8;

/// The id of the worker that is meant. One that is not known is taken as an id: it may be away.
pub(super) async fn id(session: &Session, given: &str) -> Outcome<String> {
    let known = session.client.workers().await?;
    meant(given, &known)
}

fn meant(given: &str, known: &[WorkerSummary]) -> Outcome<String> {
    if known.iter().any(|worker| worker.worker_id == given) {
        return Ok(given.to_owned());
    }
    let named: Vec<&WorkerSummary> = known
        .iter()
        .filter(|worker| name(&worker.worker_id) == Some(given))
        .collect();
    let here = named
        .iter()
        .filter(|worker| worker.state() != WorkerState::Lost);
    let here: Vec<&&WorkerSummary> = here.collect();
    match (named.as_slice(), here.as_slice()) {
        ([], _) => Ok(given.to_owned()),
        ([only], _) => Ok(only.worker_id.clone()),
        (_, [only]) => Ok(only.worker_id.clone()),
        (several, _) => {
            let ids: Vec<&str> = several.iter().map(|one| one.worker_id.as_str()).collect();
            Err(Failure::usage(format!(
                "WORKER: `{given}` is the name of several: {}",
                ids.join(", ")
            )))
        }
    }
}

/// The name in an id.
fn name(id: &str) -> Option<&str> {
    let (name, digits) = id.rsplit_once('-')?;
    let unique = digits.len() == DIGITS && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    unique.then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exit::Code;

    fn worker(id: &str, state: WorkerState) -> WorkerSummary {
        WorkerSummary {
            worker_id: id.to_owned(),
            state: state as i32,
            ..WorkerSummary::default()
        }
    }

    #[test]
    fn a_name_means_the_one_worker_that_has_it() {
        let known = [
            worker("gpu-0badcafe", WorkerState::Ready),
            worker("cpu-00000001", WorkerState::Lost),
            worker("cpu-00000002", WorkerState::Ready),
            worker("two-00000001", WorkerState::Ready),
            worker("two-00000002", WorkerState::Draining),
            worker("gone-00000001", WorkerState::Lost),
        ];
        for (given, expected) in [
            ("gpu", "gpu-0badcafe"),
            ("gpu-0badcafe", "gpu-0badcafe"),
            ("cpu", "cpu-00000002"),
            ("cpu-00000001", "cpu-00000001"),
            ("gone", "gone-00000001"),
            ("new", "new"),
            ("gp", "gp"),
        ] {
            assert_eq!(meant(given, &known).as_deref(), Ok(expected), "{given}");
        }
        let refused = meant("two", &known).unwrap_err();
        assert_eq!(refused.code, Code::Usage);
        assert!(
            refused.message.contains("two-00000001, two-00000002"),
            "{refused}"
        );
    }
}
