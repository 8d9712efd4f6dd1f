//! What the real programs read, by their own account.

use std::collections::BTreeSet;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use trainyard_common::store_url;
use trainyard_tests::program;

/// The flags and environment variables of one program.
#[derive(Debug)]
pub(crate) struct Reads {
    program: String,
    flags: BTreeSet<String>,
    variables: BTreeSet<String>,
    help: String,
}

impl Reads {
    /// Asks `PROGRAM --help`.
    pub(crate) fn of(name: &str) -> Result<Self> {
        let output = Command::new(program(name)?).arg("--help").output()?;
        ensure!(output.status.success(), "{name} --help failed");
        let help = String::from_utf8(output.stdout)?;
        let flags = help
            .lines()
            .filter_map(|line| {
                let line = line.trim_start();
                let long = line.split_once(", --").map_or(line, |(_, long)| long);
                long.strip_prefix("--")
                    .or_else(|| (long.len() < line.len()).then_some(long))
            })
            .map(|flag| {
                let end = flag.find(|c: char| !c.is_ascii_alphanumeric() && c != '-');
                format!("--{}", &flag[..end.unwrap_or(flag.len())])
            })
            .collect();
        // Long lines are wrapped at spaces.
        let words = help.split_whitespace().collect::<Vec<_>>().join(" ");
        let variables = words
            .split("[env: ")
            .skip(1)
            .map(|rest| {
                let end = rest.find(['=', ']']).unwrap_or(rest.len());
                rest[..end].to_owned()
            })
            .collect();
        Ok(Self {
            program: name.to_owned(),
            flags,
            variables,
            help: words,
        })
    }

    /// An argument as in `--flag` or `--flag=value`.
    pub(crate) fn argument(&self, argument: &str) -> Result<()> {
        let flag = argument.split('=').next().unwrap_or_default();
        ensure!(
            self.flags.contains(flag),
            "{} does not know {flag}: {:?}",
            self.program,
            self.flags
        );
        Ok(())
    }

    /// What the help says of a flag after `[default: `.
    pub(crate) fn default_of(&self, flag: &str) -> Result<&str> {
        let told = self.help.split_once(flag).context("no such flag")?.1;
        let told = told.split_once("[default: ").context("no default")?.1;
        Ok(told.split(']').next().unwrap_or(told))
    }

    /// An environment variable: the program's own, or the object store's.
    pub(crate) fn variable(&self, name: &str) -> Result<()> {
        ensure!(
            self.variables.contains(name) || store_url::is_setting(name),
            "{} does not read {name}: {:?}",
            self.program,
            self.variables
        );
        Ok(())
    }
}

#[test]
fn programs_tell_what_they_read() -> Result<()> {
    for (name, flag, variable) in [
        ("coordinator", "--listen", "TRAINYARD_LISTEN"),
        ("worker", "--drain-grace-ms", "TRAINYARD_DRAIN_GRACE_MS"),
        ("coordinatorctl", "--coordinator", "TRAINYARD_COORDINATOR"),
    ] {
        let reads = Reads::of(name)?;
        reads.argument(&format!("{flag}=1"))?;
        reads.variable(variable)?;
        reads.variable("AWS_ENDPOINT")?;
        assert!(reads.argument("--no-such-flag").is_err());
        assert!(reads.variable("TRAINYARD_NO_SUCH_VARIABLE").is_err());
        assert!(reads.variable("AWS_NO_SUCH_VARIABLE").is_err());
    }
    Ok(())
}
