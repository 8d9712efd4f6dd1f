//! `completion`: a script by which a shell completes this command.

use clap::Command;
use clap_complete::Shell;

use crate::exit::{Failure, Outcome};
use crate::options::{Format, Global};
use crate::print;
use crate::view::output::Completion;

/// Print a completion script, such as for `source <(coordinatorctl completion bash)`
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[arg(value_enum)]
    shell: Shell,
}

/// `command` is the whole command line that is completed.
pub(crate) fn run(global: &Global, args: &Args, mut command: Command) -> Outcome {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut command, "coordinatorctl", &mut script);
    let script = String::from_utf8(script)
        .map_err(|error| Failure::failed(format!("the script is no text: {error}")))?;
    match global.output {
        Format::Text => print::line(script.trim_end()),
        Format::Json => print::json(&Completion {
            shell: args.shell.to_string(),
            script,
        }),
    }
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, ValueEnum};

    use super::*;
    use crate::cli::Cli;

    #[test]
    fn every_shell_completes_every_verb() {
        for shell in Shell::value_variants() {
            let mut script = Vec::new();
            clap_complete::generate(*shell, &mut Cli::command(), "coordinatorctl", &mut script);
            let script = String::from_utf8(script).unwrap();
            for verb in Cli::command().get_subcommands() {
                assert!(
                    script.contains(verb.get_name()),
                    "{shell}: {}",
                    verb.get_name()
                );
            }
        }
    }
}
