//! The Python package under `sdk/python` passes its own tests with every Python that is found.

use std::process::Command;

use anyhow::{Result, ensure};
use trainyard_common::testing::report_skip;
use trainyard_tests::{program, repository};

/// What `test.sh` ends with where no Python that the package supports is installed.
const NO_PYTHON: i32 = 77;

#[test]
fn the_python_package_passes_its_tests() -> Result<()> {
    run_tests("the_python_package_passes_its_tests", &[])
}

/// With the frameworks of `TRAINYARD_TORCH_PYTHON` (`python3` unless set), of which PyTorch is the least.
#[test]
fn the_python_package_works_with_pytorch() -> Result<()> {
    let test = "the_python_package_works_with_pytorch";
    let python = std::env::var("TRAINYARD_TORCH_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let imported = Command::new(&python).args(["-c", "import torch"]).output();
    if !imported.is_ok_and(|done| done.status.success()) {
        report_skip(test, &format!("PyTorch cannot be imported by {python}"));
        return Ok(());
    }
    run_tests(test, &[&python])
}

/// Runs them with these Pythons, or with all that are found.
fn run_tests(test: &str, pythons: &[&str]) -> Result<()> {
    let output = Command::new("bash")
        .arg(repository().join("sdk/python/test.sh"))
        .args(pythons)
        .env("TRAINYARD_CTL", program("coordinatorctl")?)
        .output()?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned()
        + &String::from_utf8_lossy(&output.stderr);
    if output.status.code() == Some(NO_PYTHON) {
        report_skip(test, said.trim());
        return Ok(());
    }
    // Shown with `--nocapture`: which Pythons ran how many tests.
    #[allow(clippy::print_stdout)]
    {
        println!("{said}");
    }
    ensure!(output.status.success(), "{said}");
    Ok(())
}
