//! What `run` does about the jobs that are in its data directory already. Pure.

use serde_json::Value;
use trainyard_proto::v1::JobSummary;

use crate::exit::{Failure, Outcome};
use crate::view::convert::job_ended;

/// Paths of a changed spec that are listed.
const LISTED_CHANGES: usize = 5;

/// What the person asked for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wanted<'a> {
    /// The spec's name.
    pub(crate) name: &'a str,
    pub(crate) resume: bool,
    pub(crate) fresh: bool,
    /// How the data directory is called in messages.
    pub(crate) data_dir: &'a str,
}

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Plan {
    /// A new job, once these have been cancelled.
    Submit { cancel: Vec<String> },
    /// Go on with this one; if its spec is still the same.
    GoOn(String),
    /// It has ended: show its results; if its spec is still the same.
    Show(String),
}

/// Decides, given all jobs of the data directory, newest first.
pub(crate) fn plan(wanted: Wanted<'_>, jobs: &[JobSummary]) -> Outcome<Plan> {
    let unfinished: Vec<&JobSummary> = jobs.iter().filter(|job| !job_ended(job.state())).collect();
    if wanted.fresh {
        let cancel = unfinished.iter().map(|job| job.job_id.clone()).collect();
        return Ok(Plan::Submit { cancel });
    }
    let same_name = |job: &&&JobSummary| job.name == wanted.name;
    if wanted.resume {
        if let Some(job) = unfinished.iter().find(same_name) {
            return Ok(Plan::GoOn(job.job_id.clone()));
        }
        return match jobs.iter().find(|job| job.name == wanted.name) {
            Some(job) => Ok(Plan::Show(job.job_id.clone())),
            None => Err(nothing_to_resume(wanted)),
        };
    }
    match unfinished.first() {
        None => Ok(Plan::Submit { cancel: Vec::new() }),
        Some(first) => {
            let job = unfinished.iter().find(same_name).unwrap_or(first);
            Err(still_unfinished(wanted, job))
        }
    }
}

fn nothing_to_resume(wanted: Wanted<'_>) -> Failure {
    Failure::usage(format!(
        "nothing to resume: {} has no job named `{}`; run it without --resume",
        wanted.data_dir, wanted.name
    ))
}

/// Two searches at once on one machine is not what anybody means by `run`.
fn still_unfinished(wanted: Wanted<'_>, job: &JobSummary) -> Failure {
    let (id, directory) = (&job.job_id, wanted.data_dir);
    let resume = if job.name == wanted.name {
        "go on with it by --resume".to_owned()
    } else {
        format!(
            "go on with it by `run` on its own spec (`{}`) and --resume",
            job.name
        )
    };
    Failure::usage(format!(
        "{id} in {directory} is not finished: {resume}, cancel it and start anew by --fresh, or \
         use another --data-dir"
    ))
}

/// Where two specs differ, as paths; nothing when they are the same.
pub(crate) fn changes(stored: &Value, now: &Value) -> Vec<String> {
    let mut paths = Vec::new();
    collect("", stored, now, &mut paths);
    let more = paths.len().saturating_sub(LISTED_CHANGES);
    paths.truncate(LISTED_CHANGES);
    if more > 0 {
        paths.push(format!("{more} more"));
    }
    paths
}

fn collect(path: &str, stored: &Value, now: &Value, paths: &mut Vec<String>) {
    match (stored, now) {
        (Value::Object(old), Value::Object(new)) => {
            let added = new.keys().filter(|name| !old.contains_key(*name));
            for name in old.keys().chain(added) {
                let dot = if path.is_empty() { "" } else { "." };
                let inner = format!("{path}{dot}{name}");
                let missing = Value::Null;
                let (old, new) = (old.get(name), new.get(name));
                collect(
                    &inner,
                    old.unwrap_or(&missing),
                    new.unwrap_or(&missing),
                    paths,
                );
            }
        }
        (Value::Array(old), Value::Array(new)) if old.len() == new.len() => {
            for (index, (old, new)) in old.iter().zip(new).enumerate() {
                collect(&format!("{path}[{index}]"), old, new, paths);
            }
        }
        (old, new) if old != new => paths.push(path.to_owned()),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use trainyard_proto::v1::JobState;

    use super::*;
    use crate::exit::Code;

    fn job(id: &str, state: JobState) -> JobSummary {
        let name = id.rsplit_once('-').map_or(id, |(name, _)| name);
        JobSummary {
            job_id: id.into(),
            name: name.into(),
            state: state as i32,
            ..Default::default()
        }
    }

    fn wanted(resume: bool, fresh: bool) -> Wanted<'static> {
        Wanted {
            name: "digits",
            resume,
            fresh,
            data_dir: "./trainyard-data",
        }
    }

    #[test]
    fn a_plain_run_submits_unless_something_is_unfinished() {
        let done = [
            job("digits-1", JobState::Completed),
            job("b-1", JobState::Failed),
        ];
        let submit = Plan::Submit { cancel: vec![] };
        assert_eq!(plan(wanted(false, false), &[]), Ok(submit.clone()));
        assert_eq!(plan(wanted(false, false), &done), Ok(submit));

        let same = [
            job("other-4", JobState::Pending),
            job("digits-3", JobState::Running),
        ];
        let refused = plan(wanted(false, false), &same).unwrap_err();
        assert_eq!(refused.code, Code::Usage);
        for word in ["digits-3", "--resume", "--fresh", "./trainyard-data"] {
            assert!(refused.message.contains(word), "{word}: {refused}");
        }
        let other = plan(wanted(false, false), &same[..1]).unwrap_err();
        assert!(other.message.contains("other-4"), "{other}");
    }

    #[test]
    fn fresh_cancels_what_is_unfinished() {
        let jobs = [
            job("digits-3", JobState::Running),
            job("digits-2", JobState::Completed),
            job("other-1", JobState::Evaluating),
        ];
        let cancel = vec!["digits-3".to_owned(), "other-1".to_owned()];
        assert_eq!(
            plan(wanted(false, true), &jobs),
            Ok(Plan::Submit { cancel })
        );
    }

    #[test]
    fn resume_takes_the_unfinished_job_then_the_newest_finished_one() {
        let jobs = [
            job("digits-3", JobState::Completed),
            job("digits-2", JobState::Pending),
            job("digits-1", JobState::Completed),
        ];
        let resumed = plan(wanted(true, false), &jobs);
        assert_eq!(resumed, Ok(Plan::GoOn("digits-2".into())));
        let shown = plan(wanted(true, false), &[jobs[0].clone(), jobs[2].clone()]);
        assert_eq!(shown, Ok(Plan::Show("digits-3".into())));
        let nothing = plan(wanted(true, false), &[job("b-1", JobState::Running)]).unwrap_err();
        assert_eq!(nothing.code, Code::Usage);
        assert!(
            nothing.message.starts_with("nothing to resume"),
            "{nothing}"
        );
    }

    #[test]
    fn changes_are_named_by_path() {
        let stored = json!({"a": {"b": 1, "c": [1, 2]}, "d": "x"});
        assert_eq!(changes(&stored, &stored), Vec::<String>::new());
        let now = json!({"a": {"b": 2, "c": [1, 3]}, "e": 1});
        assert_eq!(changes(&stored, &now), ["a.b", "a.c[1]", "d", "e"]);
        let many: Value = (0..9).map(|i| (i.to_string(), json!(i))).collect();
        assert_eq!(changes(&json!({}), &many).last().unwrap(), "4 more");
    }
}
