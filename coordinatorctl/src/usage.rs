//! What a person is told whose command line was not understood: a usage line of the verb that was meant, the
//! subcommands that there are, and numbers called numbers.

use std::ffi::OsString;
use std::num::{IntErrorKind, ParseFloatError, ParseIntError};

use clap::builder::StyledStr;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Command, CommandFactory, Error, Parser};

use crate::cli::Cli;

/// The command line, or the end of the process with what is wrong with it.
pub(crate) fn parse() -> Cli {
    let words: Vec<OsString> = std::env::args_os().collect();
    Cli::try_parse_from(&words).unwrap_or_else(|error| explained(error, &words).exit())
}

/// The parser's error in a person's words. Its own usage lines show whatever was given, optional or not, as
/// needed.
fn explained(mut error: Error, words: &[OsString]) -> Error {
    if !error.use_stderr() || error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        return error;
    }
    let mut root = Cli::command();
    root.build();
    let mut meant = meant(&root, words).clone();
    let usage = meant.render_usage();
    if let Some(message) = not_a_number(&error) {
        let message = format!("{message}\n\n{usage}\n\nFor more information, try '--help'.\n");
        return Error::raw(ErrorKind::ValueValidation, message);
    }
    let usage = ContextValue::StyledStr(usage);
    error.insert(ContextKind::Usage, usage);
    if error.kind() == ErrorKind::InvalidSubcommand
        && error.get(ContextKind::SuggestedSubcommand).is_none()
    {
        let known = meant.get_subcommands().map(Command::get_name);
        let known: Vec<&str> = known.collect();
        let tip = StyledStr::from(format!("accepted are {}", known.join(", ")));
        error.insert(ContextKind::Suggested, ContextValue::StyledStrs(vec![tip]));
    }
    error
}

/// The verb that the words name, as far as they name one.
fn meant<'a>(root: &'a Command, words: &[OsString]) -> &'a Command {
    let mut command = root;
    let mut words = words.iter().skip(1).map(|word| word.to_string_lossy());
    while let Some(word) = words.next() {
        if let Some(option) = word.strip_prefix("--") {
            let mut known = command.get_arguments();
            let takes = known
                .any(|known| known.get_long() == Some(option) && known.get_action().takes_values());
            if takes {
                words.next();
            }
        } else if !word.starts_with('-') {
            match command.find_subcommand(&*word) {
                Some(found) => command = found,
                None => break,
            }
        }
    }
    command
}

/// What is said of a value that is no number at all; the parser's words for it are about digits.
fn not_a_number(error: &Error) -> Option<String> {
    if error.kind() != ErrorKind::ValueValidation {
        return None;
    }
    let source = std::error::Error::source(error)?;
    let whole = source
        .downcast_ref::<ParseIntError>()
        .map(ParseIntError::kind);
    let expected = match whole {
        Some(IntErrorKind::InvalidDigit | IntErrorKind::Empty) => "a whole number",
        None if source.is::<ParseFloatError>() => "a number",
        _ => return None,
    };
    let said = |kind| match error.get(kind) {
        Some(ContextValue::String(said)) => said.clone(),
        _ => String::new(),
    };
    let argument = said(ContextKind::InvalidArg);
    let given = said(ContextKind::InvalidValue);
    Some(format!(
        "`{given}` given for {argument}; expected {expected}\n"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(line: &str) -> String {
        let words = std::iter::once("coordinatorctl").chain(line.split(' '));
        let words: Vec<OsString> = words.map(OsString::from).collect();
        let error = Cli::try_parse_from(&words).expect_err(line);
        explained(error, &words).render().to_string()
    }

    #[test]
    fn usage_lines_name_the_verb_and_nothing_optional_as_needed() {
        let cases = [
            (
                "watch --data-dir d",
                "Usage: coordinatorctl watch [OPTIONS] <JOB>",
            ),
            (
                "--data-dir trial watch",
                "Usage: coordinatorctl watch [OPTIONS] <JOB>",
            ),
            (
                "trial describe j-1 --output json",
                "Usage: coordinatorctl trial describe [OPTIONS] <JOB> <TRIAL>",
            ),
            (
                "watch j-1 j-2",
                "Usage: coordinatorctl watch [OPTIONS] <JOB>",
            ),
            ("frobnicate", "Usage: coordinatorctl [OPTIONS] <COMMAND>"),
        ];
        for (line, expected) in cases {
            let told = told(line);
            assert!(told.contains(&format!("{expected}\n")), "{line}: {told}");
        }
    }

    #[test]
    fn subcommands_are_listed_where_none_is_meant() {
        let told = told("trial house-2 1");
        assert!(told.contains("list, describe, logs, explain"), "{told}");
        // One that is near is named alone.
        let near = self::told("trial lst j-1");
        assert!(
            near.contains("'list'") && !near.contains("explain"),
            "{near}"
        );
    }

    #[test]
    fn what_is_no_number_is_called_so_with_its_place() {
        let cases = [
            (
                "list --limit x",
                "`x` given for --limit <N>; expected a whole number",
            ),
            (
                "trial describe j-1 first",
                "`first` given for <TRIAL>; expected a whole number",
            ),
            (
                "extend j-1 --time soon",
                "`soon` given for --time <SECONDS>; expected a number",
            ),
        ];
        for (line, expected) in cases {
            let told = told(line);
            assert!(told.contains(expected), "{line}: {told}");
            assert!(
                !told.contains("digit") && told.contains("Usage: "),
                "{told}"
            );
        }
    }
}
