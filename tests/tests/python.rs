//! The Python package under `sdk/python` passes its own tests with every Python that is found.

use std::process::Command;

use anyhow::{Result, ensure};
use trainyard_common::testing::report_skip;
use trainyard_tests::{Sandbox, program, repository};

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

/// `TRAINYARD_TORCH_PYTHON` with Transformers: its own callback reports, and the script knows nothing of Trainyard.
#[test]
fn an_unmodified_script_of_transformers_reports() -> Result<()> {
    let test = "an_unmodified_script_of_transformers_reports";
    let python = std::env::var("TRAINYARD_TORCH_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let needed = "import torch, accelerate; from transformers.integrations.integration_utils import KubeflowCallback";
    let imported = Command::new(&python).args(["-c", needed]).output();
    if !imported.is_ok_and(|done| done.status.success()) {
        report_skip(test, &format!("{python} cannot run: {needed}"));
        return Ok(());
    }
    let sandbox = Sandbox::new()?;
    let script = repository().join("examples/python/plain/transformers_letters.py");
    let spec = format!(
        "name: letters\nentrypoint: {{command: [\"{python}\", \"{}\"], working_directory: \"{}\"}}\n\
         searcher: {{max_trials: 1}}\nobjectives: [{{metric: eval_loss, mode: minimize}}]\n",
        script.display(),
        sandbox.path().display()
    );
    let spec = sandbox.write("letters.yaml", &spec)?;
    let run = sandbox.json(&["run", &spec])?;
    ensure!(run["job"]["best_value"].is_number(), "{run:#}");
    Ok(())
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
