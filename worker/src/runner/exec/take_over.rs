//! A program's checkpoint or artifact on this machine, taken from the program: moved away, else copied. Blocks.
//!
//! Where programs run as a user of their own, everything of the program's is looked at and read with that user's
//! rights: what it could not read itself is no checkpoint or artifact of its, whatever path, link or hard link leads there. What
//! it has made is copied then and removed, since what it was moved from it might still change.

use std::fs::{self, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::checkpoint::{ArtifactKind, Entry, scan};
use crate::runner::user::User;

/// Where the program's checkpoints are, and where they go.
#[derive(Debug, Clone)]
pub(super) struct Places {
    /// Paths that the program gives are relative to it.
    pub(super) working: PathBuf,
    /// `TRAINYARD_CHECKPOINT_DIR`, links resolved: what lies in it is moved.
    pub(super) directory: PathBuf,
    /// The attempt's own folder, links resolved.
    pub(super) attempt: PathBuf,
    /// As whom the program runs, if not as the worker.
    pub(super) user: Option<Arc<User>>,
}

impl Places {
    /// What the program itself would see.
    pub(super) fn sees<T>(&self, look: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        match &self.user {
            Some(user) => user.does(look)?,
            None => look(),
        }
    }

    fn scan(&self, root: &Path) -> Result<Vec<Entry>, String> {
        match &self.user {
            Some(user) => match user.does(|| scan(root)) {
                Ok(found) => found,
                Err(error) => Err(format!("it cannot be read: {error}")),
            },
            None => scan(root),
        }
    }
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
    let real = places.sees(|| given.canonicalize());
    let real = real.map_err(|error| unseen(&error))?;
    if real != places.directory && places.directory.starts_with(&real) {
        return Err(
            "it holds TRAINYARD_CHECKPOINT_DIR itself, expected a folder below it".to_owned(),
        );
    }
    let found = places.sees(|| real.metadata());
    let found = found.map_err(|error| unseen(&error))?;
    let inside = real.starts_with(&places.directory);
    if !inside && real.starts_with(&places.attempt) {
        return Err("it is Trainyard's own, expected one that the program has made".to_owned());
    }
    let own = inside && how == How::Move;
    let taken = if found.is_dir() {
        folder(places, &real, to, own)
    } else if found.is_file() {
        file(places, &real, to, own)
    } else {
        Err("it is neither a folder nor a file".to_owned())
    };
    if taken.is_err() {
        // It is not the program's, and nobody would look at half a copy.
        let _ = fs::remove_dir_all(to);
    }
    taken
}

/// Whether a file or a folder lies at a path, and of how many bytes.
///
/// # Errors
/// As [`take_over`], of what can be seen before.
pub(super) fn measure(places: &Places, path: &Path) -> Result<(ArtifactKind, u64), String> {
    let given = places.working.join(path);
    let found = places.sees(|| given.metadata());
    let found = found.map_err(|error| unseen(&error))?;
    if !found.is_dir() {
        return Ok((ArtifactKind::File, found.len()));
    }
    let bytes = places.scan(&given)?.into_iter().map(|entry| entry.bytes());
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

fn folder(places: &Places, real: &Path, to: &Path, own: bool) -> Result<Vec<Entry>, String> {
    let entries = places.scan(real)?;
    let is_root = real == places.directory;
    if own && places.user.is_none() && fs::rename(real, to).is_ok() {
        if is_root {
            // It lies where others come next.
            fs::create_dir(real).map_err(|error| untaken(real, &error))?;
        }
        return Ok(entries);
    }
    fs::create_dir(to).map_err(|error| untaken(to, &error))?;
    for entry in &entries {
        copy(places, real, entry, to)?;
    }
    if own {
        remove(places, real, is_root);
    }
    // Of what is uploaded, not of what it was copied from.
    scan(to)
}

/// What stays of it is in the program's way alone, which may remove it as well.
fn remove(places: &Places, real: &Path, is_root: bool) {
    let removed = places.sees(|| {
        if !is_root {
            return fs::remove_dir_all(real);
        }
        for entry in fs::read_dir(real)? {
            let path = entry?.path();
            match path.symlink_metadata()?.is_dir() {
                true => fs::remove_dir_all(path)?,
                false => fs::remove_file(path)?,
            }
        }
        Ok(())
    });
    if let Err(error) = removed {
        tracing::debug!(folder = %real.display(), %error, "a program's checkpoint stays where it was made");
    }
}

fn file(places: &Places, real: &Path, to: &Path, own: bool) -> Result<Vec<Entry>, String> {
    fs::create_dir(to).map_err(|error| untaken(to, &error))?;
    let name = real.file_name().unwrap_or_default();
    let at = to.join(name);
    if !(own && places.user.is_none() && fs::rename(real, &at).is_ok()) {
        copy_file(places, real, &at).map_err(|error| untaken(&at, &error))?;
        if own {
            // As with a folder.
            let _ = places.sees(|| fs::remove_file(real));
        }
    }
    scan(to)
}

fn copy(places: &Places, from: &Path, entry: &Entry, to: &Path) -> Result<(), String> {
    let at = to.join(entry.path());
    let failed = |error: io::Error| untaken(&at, &error);
    if let Some(folder) = at.parent() {
        fs::create_dir_all(folder).map_err(failed)?;
    }
    match entry {
        Entry::File { path, .. } => copy_file(places, &from.join(path), &at),
        Entry::Link { target, .. } => symlink(target, &at),
        Entry::Folder { .. } => fs::create_dir(&at),
    }
    .map_err(failed)
}

/// Opened as the program would open it, and no link by now. As long as it is then: of a file that grows no more is
/// taken, and of the system's own, which have no length (`/proc/self/maps` is another's to a worker), nothing.
fn copy_file(places: &Places, from: &Path, to: &Path) -> io::Result<()> {
    let source = places.sees(|| {
        let mut options = OpenOptions::new();
        // A pipe that has taken the file's place is not waited for.
        let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
        options.read(true).custom_flags(flags).open(from)
    });
    let source = source.map_err(|error| {
        let what = format!("{} cannot be read: {error}", from.display());
        io::Error::new(error.kind(), what)
    })?;
    let found = source.metadata()?;
    if !found.is_file() {
        let what = format!("{} is no file any more", from.display());
        return Err(io::Error::new(io::ErrorKind::InvalidInput, what));
    }
    let mut target = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(found.mode() & 0o777)
        .open(to)?;
    io::copy(&mut source.take(found.len()), &mut target).map(drop)
}

fn unseen(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "there is no such folder or file".to_owned(),
        _ => format!("it cannot be read: {error}"),
    }
}

fn untaken(path: &Path, error: &io::Error) -> String {
    format!("it cannot be taken over to {}: {error}", path.display())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, lchown};

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
                user: None,
            };
            fs::create_dir_all(&places.directory).unwrap();
            fs::create_dir_all(&places.working).unwrap();
            Self {
                to: root.join("attempt/taken"),
                _folder: folder,
                places,
            }
        }

        fn write(&self, path: &Path, text: &str) {
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
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
            fs::remove_dir_all(&self.to).unwrap();
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
        fs::remove_dir_all(&inside).unwrap();
        // The folder itself, by a program that makes no folders in it.
        bench.write(&bench.places.directory.join("w.bin"), "3");
        let whole = bench.places.directory.clone();
        assert_eq!(bench.taken(&whole), Ok(vec!["w.bin".to_owned()]));
        assert_eq!(fs::read_dir(&whole).unwrap().count(), 0);
        // Elsewhere, by a path that is relative to the program's working directory.
        let outside = bench.places.working.join("out");
        bench.write(&outside.join("a/w.bin"), "4");
        symlink("a/w.bin", outside.join("latest")).unwrap();
        fs::create_dir(outside.join("none")).unwrap();
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

    #[test]
    fn what_the_system_shows_of_a_reader_is_not_the_workers() {
        let bench = Bench::new();
        let entries = take_over(
            &bench.places,
            Path::new("/proc/self/maps"),
            &bench.to,
            How::Copy,
        );
        assert_eq!(entries.unwrap().len(), 1);
        assert_eq!(fs::read(bench.to.join("maps")).unwrap(), b"");
    }

    #[test]
    fn what_the_program_could_not_read_itself_is_none_of_its_checkpoints() {
        if !crate::runner::user::is_root() {
            eprintln!("skipped: only root can become another user");
            return;
        }
        let mut bench = Bench::new();
        let user = Arc::new(User::find("nobody").unwrap());
        let root = bench.places.attempt.parent().unwrap().to_owned();
        for folder in [&root, &bench.places.attempt] {
            fs::set_permissions(folder, PermissionsExt::from_mode(0o711)).unwrap();
        }
        user.own(&bench.places.directory).unwrap();
        user.own(&bench.places.working).unwrap();
        bench.places.user = Some(user.clone());
        let private = root.join("private/secret");
        bench.write(&private, "the worker's");
        fs::set_permissions(&private, PermissionsExt::from_mode(0o600)).unwrap();
        let refused = |path: &Path, why: &str| {
            let told = bench.taken(path).unwrap_err();
            assert!(told.contains(why), "{told}");
            assert!(!bench.to.exists());
        };
        refused(&private, "cannot be read");
        refused(private.parent().unwrap(), "cannot be read");
        // By a link from what is its own, and by another name of the same file.
        let link = bench.places.directory.join("link");
        symlink(&private, &link).unwrap();
        refused(&link, "cannot be read");
        fs::remove_file(&link).unwrap();
        let inside = bench.places.directory.join("one");
        fs::create_dir(&inside).unwrap();
        fs::hard_link(&private, inside.join("w.bin")).unwrap();
        lchown(&inside, Some(user.uid), Some(user.gid)).unwrap();
        refused(&inside, "denied");
        assert!(inside.join("w.bin").exists());
        // What it has made itself is taken from it.
        fs::remove_file(inside.join("w.bin")).unwrap();
        bench.write(&inside.join("a/w.bin"), "1");
        fs::set_permissions(inside.join("a/w.bin"), PermissionsExt::from_mode(0o500)).unwrap();
        user.own(&inside).unwrap();
        let entries = take_over(&bench.places, &inside, &bench.to, How::Move).unwrap();
        assert_eq!(entries.len(), 1, "{entries:?}");
        let taken = bench.to.join("a/w.bin").metadata().unwrap();
        assert_eq!((taken.uid(), taken.mode() & 0o777), (0, 0o500));
        assert!(!inside.exists() && bench.places.directory.exists());
        fs::remove_dir_all(&bench.to).unwrap();
        // The whole folder, and a file of it.
        let whole = bench.places.directory.clone();
        bench.write(&whole.join("b/w.bin"), "2");
        user.own(&whole).unwrap();
        assert_eq!(bench.taken(&whole), Ok(vec!["b/w.bin".to_owned()]));
        assert_eq!(fs::read_dir(&whole).unwrap().count(), 0);
        bench.write(&whole.join("w.pt"), "3");
        user.own(&whole).unwrap();
        let file = whole.join("w.pt");
        assert_eq!(bench.taken(&file), Ok(vec!["w.pt".to_owned()]));
        assert!(!file.exists());
    }
}
