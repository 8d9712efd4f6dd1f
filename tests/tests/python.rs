//! The Python package under `sdk/python` passes its own tests with every Python that is found.

use std::process::Command;

use anyhow::{Result, ensure};
use trainyard_common::testing::report_skip;
use trainyard_tests::{program, repository};

/// What `test.sh` ends with where no Python that the package supports is installed.
const NO_PYTHON: i32 = 77;

#[test]
fn the_python_package_passes_its_tests() -> Result<()> {
    let output = Command::new("bash")
        .arg(repository().join("sdk/python/test.sh"))
        .env("TRAINYARD_CTL", program("coordinatorctl")?)
        .output()?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned()
        + &String::from_utf8_lossy(&output.stderr);
    if output.status.code() == Some(NO_PYTHON) {
        report_skip("the_python_package_passes_its_tests", said.trim());
        return Ok(());
    }
    println!("{said}");
    ensure!(output.status.success(), "{said}");
    Ok(())
}
