//! The Dockerfile: understood by a linter, copies what there is and nothing that the context leaves
//! out, builds programs that exist, and sets only what they read.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use trainyard_tests::repository;

use crate::programs::Reads;
use crate::tools::Tools;

/// The targets, and the program of each.
const TARGETS: [(&str, &str); 3] = [
    ("coordinator", "coordinator"),
    ("worker", "worker"),
    ("ctl", "coordinatorctl"),
];

/// One stage: what it is made from, and its instructions in order.
#[derive(Debug)]
struct Stage {
    name: String,
    from: String,
    instructions: Vec<(String, String)>,
}

impl Stage {
    fn all<'a>(&'a self, word: &'a str) -> impl Iterator<Item = &'a str> {
        self.instructions
            .iter()
            .filter(move |(instruction, _)| instruction == word)
            .map(|(_, rest)| rest.as_str())
    }
}

fn file(path: &str) -> Result<String> {
    std::fs::read_to_string(repository().join(path)).with_context(|| path.to_owned())
}

fn stages() -> Result<Vec<Stage>> {
    let mut stages: Vec<Stage> = Vec::new();
    let text = file("deploy/Dockerfile")?;
    let lines: Vec<&str> = text
        .lines()
        .filter(|line| !line.trim_start().starts_with('#'))
        .collect();
    for line in lines.join("\n").replace("\\\n", " ").lines() {
        let Some((word, rest)) = line.trim().split_once(' ') else {
            continue;
        };
        let rest = rest.split_whitespace().collect::<Vec<_>>().join(" ");
        match (word, stages.last_mut()) {
            ("FROM", _) => {
                let (from, name) = rest.split_once(" AS ").context("every stage has a name")?;
                stages.push(Stage {
                    name: name.to_owned(),
                    from: from.to_owned(),
                    instructions: Vec::new(),
                });
            }
            (_, Some(stage)) => stage.instructions.push((word.to_owned(), rest)),
            (_, None) => ensure!(word == "ARG", "before the first stage: {line}"),
        }
    }
    Ok(stages)
}

fn stage<'a>(stages: &'a [Stage], name: &str) -> Result<&'a Stage> {
    let found = stages.iter().find(|stage| stage.name == name);
    found.with_context(|| format!("no stage {name}"))
}

/// Whether `.dockerignore` lets a path into the context: the last pattern that fits decides.
fn in_context(ignore: &str, path: &str) -> bool {
    let fits = |pattern: &str| match pattern.strip_prefix("**/") {
        Some(name) => Path::new(path).components().any(|part| {
            let part = part.as_os_str().to_string_lossy();
            name.strip_prefix('*')
                .map_or(part == name, |end| part.ends_with(end))
        }),
        None => pattern == "*" || Path::new(path).starts_with(pattern),
    };
    ignore
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .fold(true, |included, line| match line.strip_prefix('!') {
            Some(pattern) => included || fits(pattern),
            None => included && !fits(line),
        })
}

#[test]
fn a_linter_finds_nothing_in_the_dockerfile() -> Result<()> {
    let Some(tools) = Tools::find("a_linter_finds_nothing_in_the_dockerfile")? else {
        return Ok(());
    };
    // DL3008 wants versions of Debian packages, which a release of Debian soon has no more.
    let arguments = ["--ignore", "DL3008", "-"];
    let text = file("deploy/Dockerfile")?;
    let verdict = tools.run("hadolint", &arguments, &text)?;
    ensure!(verdict.content, "{}", verdict.said);
    let wrong = tools.run(
        "hadolint",
        &arguments,
        &text.replace("COPY --from", "COPPY --from"),
    )?;
    ensure!(!wrong.content, "a mistake is seen");
    Ok(())
}

#[test]
fn everything_that_is_copied_exists_and_is_in_the_context() -> Result<()> {
    let ignore = file(".dockerignore")?;
    for stage in stages()? {
        for copy in stage.all("COPY").filter(|copy| !copy.starts_with("--from")) {
            let words: Vec<&str> = copy.split(' ').collect();
            let (_, sources) = words.split_last().context("a target")?;
            for source in sources {
                ensure!(repository().join(source).exists(), "{source} is missing");
                ensure!(
                    in_context(&ignore, source),
                    "{source} is not in the context"
                );
            }
        }
    }
    for left_out in [
        "target/release/worker",
        "trainyard-data",
        ".git",
        "worker/target",
    ] {
        ensure!(
            !in_context(&ignore, left_out),
            "{left_out} is in the context"
        );
    }
    Ok(())
}

/// Programs that the workspace's packages build.
fn programs() -> Result<BTreeMap<String, Vec<String>>> {
    let output = Command::new(env!("CARGO"))
        .args([
            "metadata",
            "--no-deps",
            "--offline",
            "--format-version",
            "1",
        ])
        .current_dir(repository())
        .output()?;
    let metadata: Value = serde_json::from_slice(&output.stdout)?;
    let packages = metadata["packages"].as_array().context("no packages")?;
    let programs = |package: &Value| {
        let targets = package["targets"].as_array()?.iter();
        let names = targets
            .filter(|target| target["kind"][0] == "bin")
            .filter_map(|target| Some(target["name"].as_str()?.to_owned()));
        Some((package["name"].as_str()?.to_owned(), names.collect()))
    };
    Ok(packages.iter().filter_map(programs).collect())
}

#[test]
fn each_target_runs_its_program_as_a_user_who_is_not_root() -> Result<()> {
    let stages = stages()?;
    let programs = programs()?;
    let build = stage(&stages, "build")?;
    let builds: Vec<&str> = build
        .all("RUN")
        .filter(|run| run.contains("cargo build"))
        .collect();
    ensure!(builds.len() == 1, "{builds:?}");
    let built: Vec<&String> = programs
        .iter()
        .filter(|(package, _)| builds[0].contains(&format!("--package {package}")))
        .flat_map(|(_, names)| names)
        .collect();
    ensure!(stage(&stages, "base")?.all("USER").next() == Some("65532:65532"));
    for (target, program) in TARGETS {
        let stage = stage(&stages, target)?;
        ensure!(stage.from == "base" && stage.all("USER").next().is_none());
        let installed = format!("/usr/local/bin/{program}");
        let copies: Vec<&str> = stage.all("COPY").collect();
        assert_eq!(
            copies,
            [format!(
                "--from=build /src/target/release/{program} {installed}"
            )]
        );
        ensure!(built.iter().any(|built| *built == program), "{built:?}");
        let entry = stage.all("ENTRYPOINT").next().context("no entry point")?;
        let entry: Vec<String> = serde_json::from_str(entry)?;
        assert_eq!(entry.last(), Some(&installed));
        let reads = Reads::of(program)?;
        for set in stage.all("ENV").flat_map(|line| line.split(' ')) {
            let (name, _) = set.split_once('=').context("NAME=value")?;
            reads.variable(name)?;
        }
    }
    Ok(())
}

/// The layer of dependencies is built from manifests and empty members: cargo must accept those.
#[test]
fn the_layer_of_dependencies_is_a_workspace() -> Result<()> {
    let stages = stages()?;
    let dependencies = stage(&stages, "dependencies")?;
    let folder = tempfile::tempdir()?;
    for copy in dependencies.all("COPY") {
        let words: Vec<&str> = copy.split(' ').collect();
        let (to, sources) = words.split_last().context("a target")?;
        for source in sources {
            let name = Path::new(source).file_name().context("a name")?;
            let to = match to.ends_with('/') {
                true => folder.path().join(to).join(name),
                false => folder.path().join(to),
            };
            std::fs::create_dir_all(to.parent().context("a folder")?)?;
            let from = repository().join(source);
            let status = Command::new("cp").arg("-r").arg(from).arg(&to).status()?;
            ensure!(status.success(), "{source}");
        }
    }
    let run = dependencies
        .all("RUN")
        .find(|run| run.contains("cargo build"));
    let (prepare, _) = run
        .context("no build")?
        .split_once("&& cargo build")
        .context("a build")?;
    let prepared = Command::new("sh")
        .args(["-euc", prepare])
        .current_dir(folder.path())
        .status()?;
    ensure!(prepared.success(), "{prepare}");
    let output = Command::new(env!("CARGO"))
        .args([
            "metadata",
            "--offline",
            "--locked",
            "--no-deps",
            "--format-version",
            "1",
        ])
        .current_dir(folder.path())
        .output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{said}");
    let metadata: Value = serde_json::from_slice(&output.stdout)?;
    let members = metadata["packages"].as_array().context("no packages")?;
    assert_eq!(members.len(), programs()?.len(), "every member is there");
    Ok(())
}

#[test]
fn the_image_builds_with_the_toolchain_of_the_repository() -> Result<()> {
    let toolchain = file("rust-toolchain.toml")?;
    let channel = toolchain
        .lines()
        .find_map(|line| line.strip_prefix("channel = "));
    let version = channel.context("no channel")?.trim_matches('"').to_owned();
    let text = file("deploy/Dockerfile")?;
    ensure!(
        text.contains(&format!("ARG RUST_VERSION={version}\n")),
        "{version}"
    );
    Ok(())
}
