//! A program's checkpoint or artifact on this machine, taken from the program: moved away, else copied. Blocks.

use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use crate::checkpoint::{ArtifactKind, Entry, scan};

/// Where the program's checkpoints are, and where they go.
#[derive(Debug, Clone)]
pub(super) struct Places {
    /// Paths that the program gives are relative to it.
    pub(super) working: PathBuf,
    /// `TRAINYARD_CHECKPOINT_DIR`, links resolved: what lies in it is moved.
    pub(super) directory: PathBuf,
    /// The attempt's own folder, links resolved.
    pub(super) attempt: PathBuf,
}

/// What becomes of what lies in `TRAINYARD_CHECKPOINT_DIR`; the rest is copied in any case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum How {
    Move,
    Copy,
}

/// Moves or copies what lies at a path to `to`, which is a folder then; a file is put into it.
///
/// # Errors
/// Why it cannot be taken, as a sentence without the path that was given. The program keeps it then.
pub(super) fn take_over(
    places: &Places,
    path: &Path,
    to: &Path,
    how: How,
) -> Result<Vec<Entry>, String> {
    let given = places.working.join(path);
    let real = given.canonicalize().map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => "there is no such folder or file".to_owned(),
        _ => format!("it cannot be read: {error}"),
    })?;
    if real != places.directory && places.directory.starts_with(&real) {
        return Err(
            "it holds TRAINYARD_CHECKPOINT_DIR itself, expected a folder below it".to_owned(),
        );
    }
    let found = real
        .metadata()
        .map_err(|error| format!("it cannot be read: {error}"))?;
    let inside = real.starts_with(&places.directory);
    if !inside && real.starts_with(&places.attempt) {
        return Err("it is Trainyard's own, expected one that the program has made".to_owned());
    }
    let own = inside && how == How::Move;
    let taken = if found.is_dir() {
        folder(&real, to, own, real == places.directory)
    } else if found.is_file() {
        file(&real, to, own)
    } else {
        Err("it is neither a folder nor a file".to_owned())
    };
    if taken.is_err() {
        // It is not the program's, and nobody would look at half a copy.
        let _ = std::fs::remove_dir_all(to);
    }
    taken
}

/// Whether a file or a folder lies at a path, and of how many bytes.
///
/// # Errors
/// As [`take_over`], of what can be seen before.
pub(super) fn measure(places: &Places, path: &Path) -> Result<(ArtifactKind, u64), String> {
    let given = places.working.join(path);
    let found = given.metadata().map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => "there is no such folder or file".to_owned(),
        _ => format!("it cannot be read: {error}"),
    })?;
    if !found.is_dir() {
        return Ok((ArtifactKind::File, found.len()));
    }
    let bytes = scan(&given)?.into_iter().map(|entry| entry.bytes());
    Ok((ArtifactKind::Folder, bytes.fold(0, u64::saturating_add)))
}

/// Off the runtime's threads.
pub(super) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        // The task is never cancelled; its panic is this attempt's.
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}

fn folder(real: &Path, to: &Path, own: bool, is_root: bool) -> Result<Vec<Entry>, String> {
    let entries = scan(real)?;
    if own && std::fs::rename(real, to).is_ok() {
        if is_root {
            // It lies where others come next.
            std::fs::create_dir(real).map_err(|error| untaken(real, &error))?;
        }
        return Ok(entries);
    }
    std::fs::create_dir(to).map_err(|error| untaken(to, &error))?;
    for entry in &entries {
        copy(real, entry, to)?;
    }
    // Of what is uploaded, not of what it was copied from.
    scan(to)
}

fn file(real: &Path, to: &Path, own: bool) -> Result<Vec<Entry>, String> {
    std::fs::create_dir(to).map_err(|error| untaken(to, &error))?;
    let name = real.file_name().unwrap_or_default();
    let at = to.join(name);
    if !(own && std::fs::rename(real, &at).is_ok()) {
        std::fs::copy(real, &at).map_err(|error| untaken(&at, &error))?;
    }
    scan(to)
}

fn copy(from: &Path, entry: &Entry, to: &Path) -> Result<(), String> {
    let at = to.join(entry.path());
    let failed = |error: io::Error| untaken(&at, &error);
    if let Some(folder) = at.parent() {
        std::fs::create_dir_all(folder).map_err(failed)?;
    }
    match entry {
        Entry::File { path, .. } => std::fs::copy(from.join(path), &at).map(drop),
        Entry::Link { target, .. } => symlink(target, &at),
        Entry::Folder { .. } => std::fs::create_dir(&at),
    }
    .map_err(failed)
}

fn untaken(path: &Path, error: &io::Error) -> String {
    format!("it cannot be taken over to {}: {error}", path.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Bench {
        _folder: tempfile::TempDir,
        places: Places,
        to: PathBuf,
    }

    impl Bench {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let root = folder.path().canonicalize().unwrap();
            let places = Places {
                working: root.join("working"),
                directory: root.join("attempt/checkpoints"),
                attempt: root.join("attempt"),
            };
            std::fs::create_dir_all(&places.directory).unwrap();
            std::fs::create_dir_all(&places.working).unwrap();
            Self {
                to: root.join("attempt/taken"),
                _folder: folder,
                places,
            }
        }

        fn write(&self, path: &Path, text: &str) {
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }

        fn taken(&self, path: &Path) -> Result<Vec<String>, String> {
            self.taken_as(path, How::Move)
        }

        fn taken_as(&self, path: &Path, how: How) -> Result<Vec<String>, String> {
            let entries = take_over(&self.places, path, &self.to, how)?;
            let paths = entries.iter().map(|entry| {
                assert!(self.to.join(entry.path()).symlink_metadata().is_ok());
                entry.path().to_owned()
            });
            let paths = paths.collect();
            std::fs::remove_dir_all(&self.to).unwrap();
            Ok(paths)
        }
    }

    #[test]
    fn what_lies_in_the_folder_for_it_is_moved_and_the_rest_is_copied() {
        let bench = Bench::new();
        let inside = bench.places.directory.join("one");
        bench.write(&inside.join("model/w.bin"), "1");
        assert_eq!(bench.taken(&inside), Ok(vec!["model/w.bin".to_owned()]));
        assert!(!inside.exists() && bench.places.directory.exists());
        let file = bench.places.directory.join("two.pt");
        bench.write(&file, "2");
        assert_eq!(bench.taken(&file), Ok(vec!["two.pt".to_owned()]));
        assert!(!file.exists());
        // Asked for a copy, it stays.
        bench.write(&inside.join("plot.png"), "1");
        let kept = inside.join("plot.png");
        assert_eq!(
            bench.taken_as(&kept, How::Copy),
            Ok(vec!["plot.png".to_owned()])
        );
        let whole = bench.taken_as(&inside, How::Copy);
        assert_eq!(whole, Ok(vec!["plot.png".to_owned()]));
        assert!(kept.exists());
        std::fs::remove_dir_all(&inside).unwrap();
        // The folder itself, by a program that makes no folders in it.
        bench.write(&bench.places.directory.join("w.bin"), "3");
        let whole = bench.places.directory.clone();
        assert_eq!(bench.taken(&whole), Ok(vec!["w.bin".to_owned()]));
        assert_eq!(std::fs::read_dir(&whole).unwrap().count(), 0);
        // Elsewhere, by a path that is relative to the program's working directory.
        let outside = bench.places.working.join("out");
        bench.write(&outside.join("a/w.bin"), "4");
        symlink("a/w.bin", outside.join("latest")).unwrap();
        std::fs::create_dir(outside.join("none")).unwrap();
        let all = ["a/w.bin", "latest", "none"].map(str::to_owned).to_vec();
        assert_eq!(bench.taken(Path::new("out")), Ok(all));
        assert!(outside.join("a/w.bin").exists(), "it is the program's");
        bench.write(&bench.places.working.join("w.pt"), "5");
        assert_eq!(bench.taken(Path::new("w.pt")), Ok(vec!["w.pt".to_owned()]));
    }

    #[test]
    fn what_is_none_is_refused_and_stays() {
        let bench = Bench::new();
        let refused = |path: &Path, why: &str| {
            let told = bench.taken(path).unwrap_err();
            assert!(told.contains(why), "{told}");
            assert!(!bench.to.exists());
        };
        refused(Path::new("none"), "no such folder");
        refused(&bench.places.attempt, "TRAINYARD_CHECKPOINT_DIR itself");
        refused(Path::new("/"), "TRAINYARD_CHECKPOINT_DIR itself");
        refused(Path::new("/dev/null"), "neither");
        refused(&bench.places.directory, "nothing in it");
        let private = bench.places.attempt.join("restored/w.bin");
        bench.write(&private, "1");
        let inside = bench.places.directory.join("one");
        bench.write(&inside.join("w.bin"), "1");
        symlink("/etc/passwd", inside.join("link")).unwrap();
        refused(&inside, "\"/etc/passwd\"");
        assert!(inside.join("w.bin").exists(), "the program may mend it");
    }
}
