//! `validate`: checks a spec without a cluster.

use crate::exit::{Code, Failure, Outcome};
use crate::options::{Format, Global};
use crate::print;
use crate::spec::file::{self, SpecArgs};
use crate::view::output::Validation;
use crate::view::text;

/// Check a job spec; every error at once, each with its place in the file
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    spec: SpecArgs,
}

pub(crate) fn run(global: &Global, args: &Args) -> Outcome {
    let parsed = args.spec.parse(None)?;
    match (global.output, parsed) {
        (Format::Json, Ok(document)) => print::json(&Validation {
            valid: true,
            errors: Vec::new(),
            warnings: document.warnings().to_vec(),
            allowed_share: document.space().allowed_share(),
        }),
        (Format::Json, Err(errors)) => {
            print::json(&Validation {
                valid: false,
                errors: file::problems(&errors),
                warnings: Vec::new(),
                allowed_share: None,
            })?;
            Err(Failure::quiet(Code::Usage))
        }
        (Format::Text, Ok(document)) => {
            for warning in document.warnings() {
                print::remark(&format!("warning: {warning}"));
            }
            if let Some(share) = document.space().allowed_share() {
                print::remark(&text::allowed(share));
            }
            print::line(&format!("{} is valid", args.spec.job.display()))
        }
        (Format::Text, Err(errors)) => Err(args.spec.refusal(&errors)),
    }
}
