//! A job spec on disk: read, changed by `--set` and `--limit`, and checked in full.

use std::io::Read;
use std::path::{Path, PathBuf};

use trainyard_common::spec::{Document, ParseOptions, SpecErrors};

use crate::exit::{Failure, Outcome};
use crate::print;
use crate::view::output::SpecProblem;

/// The largest spec that is read, in bytes: anything larger is a mistaken path.
const MAX_SPEC_BYTES: u64 = 1024 * 1024;

/// Arguments of every verb that takes a spec.
#[derive(Debug, clap::Args)]
pub(crate) struct SpecArgs {
    /// The job spec, YAML or JSON; `-` reads standard input
    #[arg(value_name = "JOB.yaml")]
    pub(crate) job: PathBuf,
    /// Replaces a value of the spec, such as `training.epochs=1`; may be repeated
    #[arg(long, value_name = "PATH=VALUE")]
    pub(crate) set: Vec<String>,
    /// Uses only the first N samples of each part (training.limit_samples)
    #[arg(long, value_name = "N")]
    pub(crate) limit: Option<usize>,
}

/// What came of reading a spec.
pub(crate) type Parsed = Result<Document, SpecErrors>;

impl SpecArgs {
    /// The checked spec, with one more `PATH=VALUE`; its remarks are said on standard error. All errors of a
    /// bad one at once.
    pub(crate) fn load(&self, more: Option<String>) -> Outcome<Document> {
        let document = self.parse(more)?.map_err(|errors| self.refusal(&errors))?;
        Ok(remarked(document))
    }

    /// As [`load`](Self::load), also of a search without a trainer.
    pub(crate) fn load_any(&self) -> Outcome<Document> {
        let text = self.text()?;
        if !Document::is_search(&text) {
            let document = self.parsed(&text, None)?;
            return Ok(remarked(document.map_err(|errors| self.refusal(&errors))?));
        }
        if self.limit.is_some() {
            let path = self.job.display();
            let message =
                format!("--limit: {path} is a search without a trainer, and has no samples");
            return Err(Failure::usage(message));
        }
        check_set(&self.set)?;
        let document = Document::parse_search(&text, &self.set);
        Ok(remarked(
            document.map_err(|errors| refusal(&self.job, "search", &errors))?,
        ))
    }

    /// Reads the file; what is wrong inside it is the inner error.
    pub(crate) fn parse(&self, more: Option<String>) -> Outcome<Parsed> {
        self.parsed(&self.text()?, more)
    }

    fn parsed(&self, text: &str, more: Option<String>) -> Outcome<Parsed> {
        check_set(&self.set)?;
        let folder = self.folder()?;
        let mut set = self.set.clone();
        set.extend(self.limit.map(|n| format!("training.limit_samples={n}")));
        set.extend(more);
        let options = ParseOptions {
            base_dir: Some(&folder),
            set: &set,
        };
        Ok(Document::parse_with(text, options))
    }

    pub(crate) fn refusal(&self, errors: &SpecErrors) -> Failure {
        refusal(&self.job, "job spec", errors)
    }

    fn text(&self) -> Outcome<String> {
        if self.job == Path::new("-") {
            text(Box::new(std::io::stdin()), &self.job)
        } else {
            file(&self.job)
        }
    }

    /// The folder that the spec's relative paths mean.
    fn folder(&self) -> Outcome<PathBuf> {
        let parent = match self.job.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        std::path::absolute(parent)
            .map_err(|error| Failure::usage(format!("cannot find {}: {error}", parent.display())))
    }
}

/// Arguments of every verb that takes a search without a trainer.
#[derive(Debug, clap::Args)]
pub(crate) struct SearchArgs {
    /// The search, YAML or JSON: hyperparameters, constraints, objectives, searcher, scheduler, seed
    #[arg(value_name = "SEARCH.yaml")]
    search: PathBuf,
    /// Replaces a value of the file, such as `searcher.max_trials=100`; may be repeated
    #[arg(long, value_name = "PATH=VALUE")]
    set: Vec<String>,
}

impl SearchArgs {
    /// The checked search, with one more `PATH=VALUE`; its remarks are said on standard error.
    pub(crate) fn load(&self, more: Option<String>) -> Outcome<Document> {
        check_set(&self.set)?;
        if self.search == Path::new("-") {
            return Err(Failure::usage(
                "SEARCH.yaml: `-` given; standard input has the questions, so that the search comes from a \
                 file",
            ));
        }
        let set: Vec<String> = self.set.iter().cloned().chain(more).collect();
        let document = Document::parse_search(&file(&self.search)?, &set)
            .map_err(|errors| refusal(&self.search, "search", &errors))?;
        Ok(remarked(document))
    }
}

/// Refuses what is no assignment: the command line is wrong, not the spec.
fn check_set(set: &[String]) -> Outcome {
    match set.iter().find(|assignment| !assignment.contains('=')) {
        None => Ok(()),
        Some(wrong) => Err(Failure::usage(format!(
            "--set {wrong}: accepted is PATH=VALUE, such as training.epochs=1"
        ))),
    }
}

/// The document; its remarks are said on standard error.
fn remarked(document: Document) -> Document {
    for warning in document.warnings() {
        print::remark(&format!("warning: {warning}"));
    }
    document
}

fn file(path: &Path) -> Outcome<String> {
    let file = std::fs::File::open(path)
        .map_err(|error| Failure::usage(format!("cannot read {}: {error}", path.display())))?;
    text(Box::new(file), path)
}

fn text(source: Box<dyn Read>, path: &Path) -> Outcome<String> {
    let mut text = String::new();
    source
        .take(MAX_SPEC_BYTES + 1)
        .read_to_string(&mut text)
        .map_err(|error| Failure::usage(format!("cannot read {}: {error}", path.display())))?;
    if text.len() as u64 > MAX_SPEC_BYTES {
        return Err(Failure::usage(format!(
            "{} is larger than {MAX_SPEC_BYTES} bytes: that is no job spec",
            path.display()
        )));
    }
    Ok(text)
}

/// Several errors below one another, each as `path: message`.
fn refusal(path: &Path, what: &str, errors: &SpecErrors) -> Failure {
    let mut message = format!("{} is not a valid {what}", path.display());
    for error in errors.iter() {
        message.push_str("\n  ");
        message.push_str(&error.to_string());
    }
    Failure::usage(message)
}

pub(crate) fn problems(errors: &SpecErrors) -> Vec<SpecProblem> {
    errors
        .iter()
        .map(|error| SpecProblem {
            path: error.path.clone(),
            message: error.message.clone(),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exit::Code;

    fn args(job: PathBuf) -> SpecArgs {
        SpecArgs {
            job,
            set: Vec::new(),
            limit: None,
        }
    }

    #[test]
    fn a_missing_or_huge_file_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let missing = folder.path().join("none.yaml");
        let failure = args(missing).load(None).unwrap_err();
        assert_eq!(failure.code, Code::Usage);
        assert!(failure.message.contains("none.yaml"), "{failure}");
        let huge = folder.path().join("huge.yaml");
        std::fs::write(&huge, vec![b' '; MAX_SPEC_BYTES as usize + 1]).unwrap();
        let failure = args(huge).load(None).unwrap_err();
        assert!(failure.message.contains("larger than"), "{failure}");
    }

    #[test]
    fn a_set_without_a_value_is_the_command_lines_fault() {
        let folder = tempfile::tempdir().unwrap();
        let spec = folder.path().join("job.yaml");
        std::fs::write(&spec, "hyperparameters: {x: 1}").unwrap();
        let set = vec!["training.epochs".to_owned()];
        let mut job = args(spec.clone());
        job.set.clone_from(&set);
        let search = SearchArgs { search: spec, set };
        let refused = [
            job.load(None).unwrap_err(),
            job.load_any().unwrap_err(),
            search.load(None).unwrap_err(),
        ];
        for failure in refused {
            assert_eq!(failure.code, Code::Usage);
            let expected = "--set training.epochs: accepted is PATH=VALUE";
            assert!(failure.message.starts_with(expected), "{failure}");
        }
    }

    #[test]
    fn a_search_on_standard_input_is_refused_where_the_questions_come_from_there() {
        let search = SearchArgs {
            search: "-".into(),
            set: Vec::new(),
        };
        let failure = search.load(None).unwrap_err();
        assert!(failure.message.contains("standard input"), "{failure}");
    }

    #[test]
    fn every_error_is_told_with_its_path() {
        use trainyard_common::spec::SpecError;
        let errors = SpecErrors(vec![
            SpecError::new("training.epoch", "unknown field"),
            SpecError::new("", "no model"),
        ]);
        let failure = args(PathBuf::from("job.yaml")).refusal(&errors);
        assert_eq!(
            failure.message,
            "job.yaml is not a valid job spec\n  training.epoch: unknown field\n  no model"
        );
        assert_eq!(problems(&errors)[0].path, "training.epoch");
    }
}
