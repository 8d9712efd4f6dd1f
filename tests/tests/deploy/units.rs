//! The systemd units: their programs read what they set, and they leave time to drain.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use trainyard_common::testing::report_skip;
use trainyard_tests::{program, repository};

use crate::programs::Reads;

const UNITS: [(&str, &str); 2] = [
    ("trainyard-coordinator.service", "coordinator"),
    ("trainyard-worker.service", "worker"),
];

fn unit(name: &str) -> Result<String> {
    let path = repository().join("deploy/systemd").join(name);
    std::fs::read_to_string(&path).with_context(|| path.display().to_string())
}

/// The values of a unit's field.
fn values<'a>(unit: &'a str, field: &'a str) -> impl Iterator<Item = &'a str> {
    unit.lines()
        .filter_map(move |line| line.strip_prefix(field)?.strip_prefix('='))
}

/// Names of variables, set or only spoken of in a comment.
fn variables(unit: &str) -> impl Iterator<Item = &str> {
    unit.split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
        .filter(|word| word.starts_with("TRAINYARD_"))
}

#[test]
fn units_set_only_what_their_programs_read() -> Result<()> {
    for (name, program) in UNITS {
        let unit = unit(name)?;
        let reads = Reads::of(program)?;
        let command = values(&unit, "ExecStart").next().context("no ExecStart")?;
        let mut words = command.split(' ');
        assert_eq!(words.next(), Some(&*format!("/usr/local/bin/{program}")));
        for flag in words.filter(|word| word.starts_with("--")) {
            reads.argument(flag)?;
        }
        assert!(variables(&unit).count() > 0, "{name}");
        for variable in variables(&unit) {
            reads.variable(variable)?;
        }
    }
    Ok(())
}

#[test]
fn a_worker_may_drain_before_it_is_killed() -> Result<()> {
    let unit = unit("trainyard-worker.service")?;
    let stop = values(&unit, "TimeoutStopSec").next().context("no limit")?;
    let reads = Reads::of("worker")?;
    let drain_ms: u64 = reads.default_of("--drain-grace-ms")?.parse()?;
    assert!(
        1000 * stop.parse::<u64>()? > drain_ms,
        "{stop} s, {drain_ms} ms"
    );
    Ok(())
}

#[test]
fn systemd_understands_the_units() -> Result<()> {
    if !Path::new("/usr/bin/systemd-analyze").exists() {
        report_skip("systemd_understands_the_units", "no systemd-analyze");
        return Ok(());
    }
    let folder = tempfile::tempdir()?;
    for (name, binary) in UNITS {
        // Where it is installed there is nothing yet.
        let built = program(binary)?.display().to_string();
        let text = unit(name)?.replace(&format!("/usr/local/bin/{binary}"), &built);
        let path = folder.path().join(name);
        let verify = |text: &str| -> Result<String> {
            std::fs::write(&path, text)?;
            let output = Command::new("systemd-analyze")
                .args(["verify", "--man=no"])
                .arg(&path)
                .output()?;
            Ok(String::from_utf8_lossy(&output.stderr).into_owned())
        };
        let said = verify(&text)?;
        ensure!(said.trim().is_empty(), "{name}: {said}");
        let wrong = verify(&text.replace("Restart=always", "Restart=allways"))?;
        ensure!(
            wrong.contains("allways"),
            "{name}: a mistake is seen: {wrong}"
        );
    }
    Ok(())
}
