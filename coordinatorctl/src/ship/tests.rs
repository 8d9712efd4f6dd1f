//! Folders and commands looked at before anything is packed.

use std::path::Path;

use super::*;

fn program(root: &Path, command: &[&str]) -> EntrypointSpec {
    EntrypointSpec {
        command: command.iter().map(|word| (*word).to_owned()).collect(),
        ship: Some(root.to_owned()),
        exclude: vec!["left/".to_owned()],
        ..EntrypointSpec::default()
    }
}

fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for name in [
        "train.py",
        "lib/model.py",
        "conf/a.yaml",
        "left/data.csv",
        "left/part.py",
    ] {
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, "12").unwrap();
    }
    std::os::unix::fs::symlink("lib", folder.path().join("linked")).unwrap();
    folder
}

fn warnings(root: &Path, command: &[&str]) -> Vec<String> {
    look_at(&program(root, command)).unwrap().unwrap().warnings
}

#[test]
fn what_is_shipped_is_counted() {
    let folder = folder();
    let looked = look_at(&program(folder.path(), &["python3", "train.py"]));
    let looked = looked.unwrap().unwrap();
    assert_eq!((looked.files(), looked.bytes()), (4, 6));
    assert_eq!(looked.told(), "4 files, 6 B");
    assert_eq!(looked.warnings, Vec::<String>::new());
    assert!(look_at(&EntrypointSpec::default()).unwrap().is_none());
}

#[test]
fn what_the_command_names_and_is_not_there_is_told() {
    let folder = folder();
    let root = folder.path();
    std::fs::create_dir(root.join("inner")).unwrap();
    for command in [
        &["python3", "train.py", "--lr", "${lr}", "out/model.pt"][..],
        &["python3", "./lib/model.py", "--config=conf/a.yaml", "conf"],
        &["python3", "linked/model.py", "/usr/bin/x.py", "--flag.py"],
        &["sh", "-c", "python3 missing.py"],
        &["python3", "-m", "lib.model"],
        &["python3", "-m", "torch.distributed.run", "train.py"],
        &["train.sh", "run-${lr}.py", "a=b.txt"],
    ] {
        assert_eq!(warnings(root, command), Vec::<String>::new(), "{command:?}");
    }
    for (command, told) in [
        (
            &["python3", "trian.py"][..],
            "`trian.py`, which the shipped folder",
        ),
        (&["python3", "trian.py"], "did you mean `train.py`?"),
        (&["./run"], "`./run`, which the shipped folder"),
        (&["python3", "train.py", "--more", "x/y.sh"], "`x/y.sh`"),
        (
            &["python3", "train.py", "left/data.csv"],
            "`left/data.csv`, which stays behind",
        ),
        (
            &["python3", "train.py", "--data=left"],
            "`left`, which stays behind",
        ),
        (
            &["python3", "-m", "left.part"],
            "`left/part.py`, which stays behind",
        ),
    ] {
        let warnings = warnings(root, command);
        assert!(
            warnings.len() == 1 && warnings[0].contains(told),
            "{command:?}: {warnings:?}"
        );
    }
    let outside = folder.path().join("inner");
    std::fs::write(outside.join("train.py"), "").unwrap();
    let told = warnings(&outside, &["python3", "train.py", "../conf/a.yaml"]);
    assert!(
        told.len() == 1 && told[0].contains("outside of the shipped folder"),
        "{told:?}"
    );
}

#[test]
fn where_the_program_starts_must_come_along() {
    let folder = folder();
    let mut given = program(folder.path(), &["python3", "model.py"]);
    for (working, told) in [
        ("lib", None),
        ("./lib/.", None),
        ("linked", None),
        ("left", Some("`left` is not among what is shipped")),
        ("none", Some("`none` is not among what is shipped")),
    ] {
        given.working_directory = Some(working.into());
        match (look_at(&given), told) {
            (Ok(looked), None) => assert!(looked.unwrap().warnings.is_empty(), "{working}"),
            (Err(problem), Some(told)) => {
                assert_eq!(problem.path, "entrypoint.working_directory");
                assert!(problem.message.contains(told), "{}", problem.message);
            }
            (found, told) => panic!("{working}: {found:?}, not {told:?}"),
        }
    }
    given.ship = Some(folder.path().join("nowhere"));
    let problem = look_at(&given).unwrap_err();
    assert_eq!(problem.path, "entrypoint.ship");
    assert!(problem.message.contains("nowhere"), "{}", problem.message);
}

#[test]
fn a_list_of_packages_that_stays_behind_is_refused() {
    let folder = folder();
    let look = |file: &str| {
        let mut program = program(folder.path(), &["python", "train.py"]);
        let python = serde_json::json!({"requirements": file});
        program.python = serde_json::from_value(python).unwrap();
        look_at(&program)
    };
    for fine in ["conf/a.yaml", "./conf/a.yaml", "/opt/r.txt", "${file}"] {
        assert!(look(fine).is_ok(), "{fine}");
    }
    for wrong in ["r.txt", "left/part.py"] {
        let refused = look(wrong).unwrap_err();
        assert_eq!(refused.path, "entrypoint.python.requirements");
        let told = format!("`{wrong}` is not among what is shipped");
        assert!(refused.message.starts_with(&told), "{}", refused.message);
    }
}
