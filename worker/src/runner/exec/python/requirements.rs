//! What an environment is made of: the packages that were asked for and the interpreter, and so what two of them have
//! in common that are the same.

use std::collections::BTreeSet;
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// Changes when environments are made in another way.
const HOW: &str = "trainyard-environment-1";
/// Digits of a key. They stand in the first line of each script of an environment, which is not to be long.
const DIGITS: usize = 16;
/// Longest file of requirements, bytes: lists of packages with their digests are tens of kilobytes.
const MAX_BYTES: u64 = 1 << 20;
/// Files that one names, and those in turn.
const MAX_FILES: usize = 100;
/// Files of local packages whose changes are seen.
const MAX_STAMPS: usize = 20_000;
/// What building a package puts into its folder.
const BUILT: [&str; 5] = ["build", "dist", "__pycache__", ".git", ".venv"];

/// A file of requirements, with those that it names.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Requirements {
    pub(super) path: PathBuf,
    texts: Vec<String>,
    /// Files and folders of packages, of which the text does not say what they hold.
    local: Vec<PathBuf>,
}

/// What a line names on the disk.
#[derive(Debug, PartialEq, Eq)]
enum Named<'a> {
    List(&'a str),
    Package(&'a str),
    /// A package that stays where it is.
    Editable,
    /// What of it is not accepted: pip would understand it, and it could not be told when it changes.
    Refused(&'static str),
}

/// Options of a file of requirements that name nothing on the disk.
const OPTIONS: [&str; 13] = [
    "--index-url",
    "--extra-index-url",
    "--no-index",
    "--pre",
    "--hash",
    "--require-hashes",
    "--no-binary",
    "--only-binary",
    "--prefer-binary",
    "--trusted-host",
    "--use-feature",
    "--config-settings",
    "--global-option",
];

impl Requirements {
    /// # Errors
    /// What is wrong with which file, as a sentence.
    pub(super) fn read(path: &Path) -> Result<Self, String> {
        let folder = path.parent().unwrap_or(path);
        let mut found = Self {
            path: path.to_owned(),
            ..Self::default()
        };
        let mut open = vec![path.to_owned()];
        let mut seen = BTreeSet::new();
        while let Some(file) = open.pop() {
            if !seen.insert(file.clone()) {
                continue;
            }
            let shown = file.strip_prefix(folder).unwrap_or(&file).display();
            if seen.len() > MAX_FILES {
                return Err(format!("it names more than {MAX_FILES} files"));
            }
            let text = text(&file).map_err(|why| match file == path {
                true => why,
                false => format!("{shown}, which it names: {why}"),
            })?;
            for line in lines(&text) {
                let within = file.parent().unwrap_or(folder);
                match named(&line) {
                    Some(Named::List(list)) => open.push(within.join(list)),
                    Some(Named::Package(package)) => found.local.push(folder.join(package)),
                    Some(Named::Editable) => {
                        return Err(format!(
                            "`{line}` in {shown} installs a folder by reference, and the environment outlives what is \
                             shipped with a job; accepted are packages, and paths without -e"
                        ));
                    }
                    Some(Named::Refused(why)) => return Err(format!("`{line}` in {shown}: {why}")),
                    None => {}
                }
            }
            found.texts.push(text);
        }
        Ok(found)
    }

    /// Whether packages lie on the disk, which may change.
    pub(super) fn is_local(&self) -> bool {
        !self.local.is_empty()
    }

    /// Takes in the value of a variable of the installer, which may name files and folders.
    pub(super) fn may_name(&mut self, value: &str) {
        let folder = self.path.parent().unwrap_or(&self.path);
        let words = value
            .split_whitespace()
            .filter(|word| !word.contains("://"));
        let there = words
            .map(|word| folder.join(word))
            .filter(|path| path.exists());
        self.local.extend(there);
    }

    /// Whether a variable has a say in what is installed.
    pub(super) fn depends_on(&self, name: &str) -> bool {
        let reference = format!("${{{name}}}");
        is_installer_s(name) || self.texts.iter().any(|text| text.contains(&reference))
    }
}

/// Whether a variable is read by pip or uv.
pub(super) fn is_installer_s(name: &str) -> bool {
    name.starts_with("PIP_") || name.starts_with("UV_")
}

fn text(file: &Path) -> Result<String, String> {
    let failed = |error: std::io::Error| error.to_string();
    let found = std::fs::metadata(file).map_err(failed)?;
    if !found.is_file() {
        return Err("it is no file".to_owned());
    }
    let mut text = String::new();
    let file = std::fs::File::open(file).map_err(failed)?;
    let read = file.take(MAX_BYTES + 1).read_to_string(&mut text);
    read.map_err(failed)?;
    match text.len() as u64 > MAX_BYTES {
        true => Err(format!(
            "it has more than {MAX_BYTES} bytes, the most that are accepted"
        )),
        // Editors put a mark before the first character, which is none of the text.
        false => Ok(text
            .strip_prefix('\u{feff}')
            .map(str::to_owned)
            .unwrap_or(text)),
    }
}

/// What is said in it: lines put together at `\`, without comments.
fn lines(text: &str) -> Vec<String> {
    let joined = text.replace("\\\r\n", " ").replace("\\\n", " ");
    let lines = joined.lines().map(|line| {
        let comment = line
            .match_indices('#')
            .find(|(at, _)| line[..*at].chars().last().is_none_or(char::is_whitespace));
        let end = comment.map_or(line.len(), |(at, _)| at);
        line[..end].trim().to_owned()
    });
    lines.filter(|line| !line.is_empty()).collect()
}

/// What stands behind an option, however it is separated.
fn behind<'a>(line: &'a str, options: &[&str]) -> Option<&'a str> {
    options.iter().find_map(|option| {
        let rest = line.strip_prefix(option)?;
        let is_long = option.starts_with("--");
        let separated = rest.starts_with(|c: char| c == '=' || c.is_whitespace());
        (separated || (!is_long && !rest.is_empty())).then(|| {
            let rest = rest.trim_start_matches(|c: char| c == '=' || c.is_whitespace());
            rest.trim_matches(['"', '\''])
        })
    })
}

fn named(line: &str) -> Option<Named<'_>> {
    let on_disk = |path: &&str| !path.contains("://");
    if behind(line, &["--editable", "-e"]).is_some() {
        return Some(Named::Editable);
    }
    let list = ["--requirement", "-r", "--constraint", "-c"];
    if let Some(list) = behind(line, &list) {
        let quoted = line.contains(['"', '\'']);
        if list.contains("${") || (!quoted && list.contains(char::is_whitespace)) {
            return Some(Named::Refused(
                "accepted is the path of one file, without variables and other options",
            ));
        }
        return Some(list).filter(on_disk).map(Named::List);
    }
    if let Some(folder) = behind(line, &["--find-links", "-f"]) {
        return Some(folder).filter(on_disk).map(Named::Package);
    }
    if line.starts_with('-') {
        let option = line.split(|c: char| c == '=' || c.is_whitespace()).next()?;
        // A short one needs nothing between it and what it is given.
        let known = OPTIONS.contains(&option) || line.starts_with("-i");
        return (!known).then_some(Named::Refused(
            "options are written in full; this one is not known",
        ));
    }
    if let Some((_, at)) = line.split_once('@')
        && !line.contains("://")
    {
        let path = at.trim_start().split([' ', ';']).next()?;
        // Where it leads is known only later: anything beside the file may matter.
        return Some(Named::Package(if path.contains("${") { "." } else { path }));
    }
    if let Some((_, path)) = line.split_once("file://") {
        let path = path.split([' ', '#', ';']).next()?;
        return Some(Named::Package(
            path.strip_prefix("localhost").unwrap_or(path),
        ));
    }
    let path = line.split([' ', '[', ';']).next()?;
    let is_archive = [".whl", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".zip"]
        .iter()
        .any(|kind| path.ends_with(kind));
    let is_path = path.contains('/') || path.starts_with('.') || is_archive;
    // `name @ https://...` is neither.
    (is_path && on_disk(&path)).then_some(Named::Package(path))
}

/// What else an environment is made with.
pub(super) struct With<'a> {
    /// What the interpreter says of itself.
    pub(super) interpreter: &'a str,
    /// Whose it is.
    pub(super) user: u32,
    /// Variables that have a say, with their values; of a secret its name.
    pub(super) variables: &'a [(String, String)],
    /// The digest of the code in which the file lies.
    pub(super) bundle: Option<&'a str>,
}

/// By what an environment is found again.
pub(super) fn key(requirements: &Requirements, with: &With<'_>) -> String {
    let mut hasher = blake3::Hasher::new();
    let mut add = |part: &[u8]| {
        hasher.update(&(part.len() as u64).to_le_bytes());
        hasher.update(part);
    };
    add(HOW.as_bytes());
    add(with.interpreter.as_bytes());
    add(&with.user.to_le_bytes());
    add(&(requirements.texts.len() as u64).to_le_bytes());
    for text in &requirements.texts {
        add(text.as_bytes());
    }
    for (name, value) in with.variables {
        add(name.as_bytes());
        add(value.as_bytes());
    }
    match with.bundle {
        _ if !requirements.is_local() => {}
        Some(bundle) => add(bundle.as_bytes()),
        None => {
            for stamp in stamps(&requirements.local) {
                add(stamp.as_bytes());
            }
        }
    }
    let digest = hasher.finalize().to_hex();
    digest.chars().take(DIGITS).collect()
}

/// What changes with the files of local packages: their lengths and times.
fn stamps(packages: &[PathBuf]) -> Vec<String> {
    let mut stamps = Vec::new();
    let mut open = packages.to_vec();
    while let Some(path) = open.pop() {
        let of_package = packages.contains(&path);
        let found = match of_package {
            true => path.metadata(),
            false => path.symlink_metadata(),
        };
        // What is not there the tool tells.
        let Ok(found) = found else { continue };
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let is_built = BUILT.contains(&&*name) || name.ends_with(".egg-info");
        if stamps.len() == MAX_STAMPS || (is_built && !of_package) {
            continue;
        }
        if found.is_dir() {
            let entries = std::fs::read_dir(&path).into_iter().flatten().flatten();
            open.extend(entries.map(|entry| entry.path()));
        } else {
            let shown = path.display();
            stamps.push(format!(
                "{shown} {} {} {}",
                found.len(),
                found.mtime(),
                found.mtime_nsec()
            ));
        }
    }
    stamps.sort();
    stamps
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(folder: &Path, text: &str) -> Result<Requirements, String> {
        let path = folder.join("r.txt");
        std::fs::write(&path, text).unwrap();
        Requirements::read(&path)
    }

    fn with<'a>(interpreter: &'a str, bundle: Option<&'a str>) -> With<'a> {
        With {
            interpreter,
            user: 0,
            variables: &[],
            bundle,
        }
    }

    #[test]
    fn lines_say_what_they_name_on_the_disk() {
        use Named::{Editable, List, Package, Refused};
        let text = "a==1 # -e x\n#./no\n./one.whl[extra] ; x\nb \\\n  --hash=sha256:12\nc#d";
        let expected = [
            "a==1",
            "./one.whl[extra] ; x",
            "b    --hash=sha256:12",
            "c#d",
        ];
        assert_eq!(lines(text), expected);
        for refused in [
            "--requirem more.txt",
            "--edit ./lib",
            "-r more.txt --pre",
            "-r ${KIND}.txt",
        ] {
            assert!(matches!(named(refused), Some(Refused(_))), "{refused}");
        }
        let folder = tempfile::tempdir().unwrap();
        let refused = of(folder.path(), "\u{feff}-e .").unwrap_err();
        assert!(refused.starts_with("`-e .` in"), "{refused}");
        for (line, expected) in [
            ("numpy>=2,<3", None),
            ("torch[opt]==2.4; python_version > '3'", None),
            ("-r more.txt", Some(List("more.txt"))),
            ("-rmore.txt", Some(List("more.txt"))),
            ("--requirement=a/b.txt", Some(List("a/b.txt"))),
            ("-c \"c d.txt\"", Some(List("c d.txt"))),
            ("--constraint c.txt", Some(List("c.txt"))),
            ("-r https://x/y.txt", None),
            ("-f wheels", Some(Package("wheels"))),
            ("--find-links https://x", None),
            ("--extra-index-url https://x", None),
            ("--pre", None),
            ("-i https://x", None),
            ("-e .", Some(Editable)),
            (
                "x @ ./w/x.whl ; python_version > '3'",
                Some(Package("./w/x.whl")),
            ),
            ("x @ ${LIB}", Some(Package("."))),
            ("x @ git+ssh://git@host/x", None),
            ("x.tgz", Some(Package("x.tgz"))),
            ("--editable=./lib", Some(Editable)),
            ("./lib[all]", Some(Package("./lib"))),
            (".", Some(Package("."))),
            ("/opt/x-1.0.tar.gz", Some(Package("/opt/x-1.0.tar.gz"))),
            ("lib/x", Some(Package("lib/x"))),
            (
                "x-1-py3-none-any.whl",
                Some(Package("x-1-py3-none-any.whl")),
            ),
            ("x @ file:///opt/x", Some(Package("/opt/x"))),
            ("file://localhost/x#egg=y", Some(Package("/x"))),
            ("x @ https://y/z.whl", None),
            ("git+https://y/z.git@main", None),
        ] {
            assert_eq!(named(line), expected, "{line}");
        }
    }

    #[test]
    fn what_is_installed_by_whom_and_for_whom_makes_the_key() {
        let folder = tempfile::tempdir().unwrap();
        let numpy = of(folder.path(), "numpy==2\n").unwrap();
        let base = key(&numpy, &with("3.11", Some("a")));
        assert_eq!(base.len(), DIGITS);
        // What else is shipped does not matter.
        assert_eq!(base, key(&numpy, &with("3.11", Some("b"))));
        assert_eq!(base, key(&numpy, &with("3.11", None)));
        assert_ne!(base, key(&numpy, &with("3.12", None)));
        let other = of(folder.path(), "numpy==3\n").unwrap();
        assert_ne!(base, key(&other, &with("3.11", None)));
        let variables = [("PIP_INDEX_URL".to_owned(), "https://x".to_owned())];
        let indexed = With {
            variables: &variables,
            ..with("3.11", None)
        };
        assert_ne!(base, key(&numpy, &indexed));
        let of_nobody = With {
            user: 65_534,
            ..with("3.11", None)
        };
        assert_ne!(base, key(&numpy, &of_nobody));
        assert!(numpy.depends_on("UV_INDEX_URL") && !numpy.depends_on("VERSION"));
        let versioned = of(folder.path(), "numpy==${VERSION}").unwrap();
        assert!(versioned.depends_on("VERSION"));
    }

    #[test]
    fn what_lies_on_the_disk_counts_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        std::fs::create_dir_all(at("lib/src")).unwrap();
        std::fs::write(at("lib/src/a.py"), "1").unwrap();
        let lib = of(folder.path(), "./lib").unwrap();
        let (one, two) = (with("3", Some("a")), with("3", Some("b")));
        assert_ne!(key(&lib, &one), key(&lib, &two));
        let before = key(&lib, &with("3", None));
        assert_eq!(before, key(&lib, &with("3", None)));
        // A build is no change.
        std::fs::create_dir_all(at("lib/x.egg-info")).unwrap();
        std::fs::write(at("lib/x.egg-info/PKG-INFO"), "1").unwrap();
        assert_eq!(before, key(&lib, &with("3", None)));
        std::fs::write(at("lib/src/a.py"), "22").unwrap();
        assert_ne!(before, key(&lib, &with("3", None)));
        // What another list says counts by its text.
        std::fs::write(at("more.txt"), "x==1\n-r r.txt").unwrap();
        let one = of(folder.path(), "-r more.txt").unwrap();
        std::fs::write(at("more.txt"), "x==2").unwrap();
        let two = of(folder.path(), "-r more.txt").unwrap();
        assert_eq!((one.texts.len(), two.texts.len()), (2, 2));
        assert_ne!(key(&one, &with("3", None)), key(&two, &with("3", None)));
    }

    #[test]
    fn what_cannot_be_read_or_kept_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let told = |text: &str| of(folder.path(), text).unwrap_err();
        for line in ["-e .", "numpy\n  --editable ./lib"] {
            let why = told(line);
            assert!(why.contains("accepted are packages"), "{why}");
        }
        assert!(of(folder.path(), "# -e .\nnumpy").is_ok());
        let why = told("-r none.txt");
        assert!(
            why.starts_with("none.txt, which it names: No such file"),
            "{why}"
        );
        let long = "#".repeat(MAX_BYTES as usize + 1);
        assert!(told(&long).contains("1048576 bytes"));
        let why = Requirements::read(folder.path()).unwrap_err();
        assert!(why.contains("no file"), "{why}");
        for n in 0..=MAX_FILES {
            let next = format!("-r n{}.txt", n + 1);
            std::fs::write(folder.path().join(format!("n{n}.txt")), next).unwrap();
        }
        assert!(told("-r n0.txt").contains("more than 100 files"));
    }
}
