//! `validate`: checks a spec, and the folder that it ships, without a cluster.

use crate::exit::{Code, Failure, Outcome};
use crate::options::{Format, Global};
use crate::print;
use crate::ship;
use crate::spec::file::{self, Parsed, SpecArgs};
use crate::view::output::{Ships, Validation};
use crate::view::text;

/// Check a job spec; every error at once, each with its place in the file
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    spec: SpecArgs,
}

pub(crate) fn run(global: &Global, args: &Args) -> Outcome {
    let parsed = args.spec.parse(None)?;
    match global.output {
        Format::Json => as_json(parsed),
        Format::Text => as_text(parsed, args),
    }
}

fn as_json(parsed: Parsed) -> Outcome {
    let looked = match parsed {
        Ok(document) => ship::look(&document)
            .map(|looked| (document, looked))
            .map_err(|problem| vec![problem]),
        Err(errors) => Err(file::problems(&errors)),
    };
    match looked {
        Ok((document, looked)) => {
            let mut warnings = document.warnings().to_vec();
            warnings.extend(looked.iter().flat_map(|looked| looked.warnings.clone()));
            print::json(&Validation {
                valid: true,
                errors: Vec::new(),
                warnings,
                allowed_share: document.space().allowed_share(),
                ships: looked.map(|looked| Ships {
                    files: looked.files(),
                    bytes: looked.bytes(),
                }),
            })
        }
        Err(errors) => {
            print::json(&Validation {
                valid: false,
                errors,
                warnings: Vec::new(),
                allowed_share: None,
                ships: None,
            })?;
            Err(Failure::quiet(Code::Usage))
        }
    }
}

fn as_text(parsed: Parsed, args: &Args) -> Outcome {
    let document = parsed.map_err(|errors| args.spec.refusal(&errors))?;
    for warning in document.warnings() {
        print::remark(&format!("warning: {warning}"));
    }
    ship::tell(&document)?;
    if let Some(share) = document.space().allowed_share() {
        print::remark(&text::allowed(share));
    }
    print::line(&format!("{} is valid", args.spec.job.display()))
}
