//! Where attempts keep files on this machine: a folder of this worker, and in it one for each attempt.
//!
//! A worker holds a lock on a file beside its folder for as long as it lives. What dead workers have left is
//! therefore known as such, whoever has their process's number now.

use std::fs::{DirBuilder, File, OpenOptions, Permissions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};

use private::private_to_this_user;

use super::user::User;

/// Tries at making a folder while others sweep.
const TRIES: u32 = 8;
/// Nobody else reads what an attempt keeps.
const PRIVATE: u32 = 0o700;
/// The user of programs passes through, to what is its own.
const PASSED: u32 = 0o711;

/// The longest path of a socket, in bytes: `sun_path` has 108 on Linux, 104 elsewhere, with a zero at its end.
const MAX_SOCKET_BYTES: usize = 103;
/// What stands behind a worker's folder in such a path, at its longest.
const SOCKET: &str = "/18446744073709551615/s";

/// Of the thread that removes a tree where there is no `rm`: at some 130 bytes a level, more levels than a process
/// has descriptors.
const REMOVING_STACK: usize = 256 << 20;

/// The folder of one worker. Removed when dropped.
#[derive(Debug)]
pub(crate) struct Scratch {
    folder: PathBuf,
    lock: PathBuf,
    /// Its lock says that this worker lives.
    _held: File,
    attempts: AtomicU64,
    /// Where sockets are, if paths below `folder` are too long for them.
    sockets: Option<Result<Box<Scratch>, String>>,
}

impl Scratch {
    /// Below `base`, or else in a folder of this user in the system's temporary directory. `programs`: who is to
    /// reach what is its own there.
    ///
    /// # Errors
    /// A sentence that names the folder.
    pub(crate) fn open(base: Option<&Path>, programs: Option<&User>) -> Result<Self, String> {
        let own = || folder_in(&std::env::temp_dir());
        let folder = base.map_or_else(own, Path::to_owned);
        let mut scratch = Self::open_in(&folder, base.is_none(), programs)?;
        if !scratch.has_room_for_sockets() {
            let mut sockets = Err(String::new());
            for place in [std::env::temp_dir(), PathBuf::from("/tmp")] {
                sockets = Self::open_in(&folder_in(&place), true, programs);
                if sockets.as_ref().is_ok_and(Self::has_room_for_sockets) {
                    break;
                }
            }
            scratch.sockets = Some(sockets.map(Box::new));
        }
        Ok(scratch)
    }

    /// `shared`: its place is everybody's.
    fn open_in(folder: &Path, shared: bool, programs: Option<&User>) -> Result<Self, String> {
        let failed = |error: io::Error| {
            format!(
                "scratch_dir: the folder {} cannot be used: {error}",
                folder.display()
            )
        };
        let mode = if programs.is_some() { PASSED } else { PRIVATE };
        let mut builder = DirBuilder::new();
        let made = builder.mode(mode).recursive(true).create(folder);
        made.map_err(failed)?;
        // Links to it resolved: what lies in it is recognised by its path.
        let folder = folder.canonicalize().map_err(failed)?;
        if shared {
            private_to_this_user(&folder)?;
            if programs.is_some() {
                let mode = Permissions::from_mode(PASSED);
                std::fs::set_permissions(&folder, mode).map_err(failed)?;
            }
        }
        let scratch = Self::within(&folder).map_err(failed)?;
        if let Some(user) = programs {
            scratch.let_through(user)?;
        }
        Ok(scratch)
    }

    /// Lets the user of programs pass through this worker's folder.
    fn let_through(&self, user: &User) -> Result<(), String> {
        let folder = &self.folder;
        let failed = |error: io::Error| {
            format!(
                "scratch_dir: user {} of programs cannot pass through {}: {error}; let others enter it and the folders \
                 above it (chmod o+x), or give another",
                user.uid,
                folder.display()
            )
        };
        std::fs::set_permissions(folder, Permissions::from_mode(PASSED)).map_err(failed)?;
        let passed = user.does(|| folder.join(".").metadata());
        passed.and_then(|passed| passed).map(drop).map_err(failed)
    }

    fn within(base: &Path) -> io::Result<Self> {
        let mut last = io::Error::other("its lock is removed again and again");
        for _ in 0..TRIES {
            let unique = uuid::Uuid::new_v4().simple().to_string();
            let folder = base.join(&unique[..12]);
            let lock = lock_of(&folder);
            match held(&lock) {
                Ok(Some(held)) => {
                    make(&folder)?;
                    return Ok(Self {
                        folder,
                        lock,
                        _held: held,
                        attempts: AtomicU64::new(0),
                        sockets: None,
                    });
                }
                Ok(None) => {}
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// Removes what dead workers have left beside this one's folder, on a thread of its own.
    pub(crate) fn start_sweep(&self) {
        if let Some(Ok(sockets)) = &self.sockets {
            sockets.start_sweep();
        }
        let Some(base) = self.folder.parent().map(Path::to_owned) else {
            return;
        };
        let told = move || match sweep(&base) {
            Ok(0) => {}
            Ok(workers) => {
                tracing::info!(workers, "removed what dead workers had left on the disk")
            }
            Err(error) => {
                let folder = base.display();
                tracing::warn!(%folder, %error, "what dead workers left on the disk stays");
            }
        };
        let started = std::thread::Builder::new()
            .name("sweep".to_owned())
            .spawn(told);
        if let Err(error) = started {
            tracing::warn!(%error, "what dead workers left on the disk stays");
        }
    }

    /// The folder of all workers that were given the same one. What lies there outlives this worker.
    pub(crate) fn base(&self) -> &Path {
        self.folder.parent().unwrap_or(&self.folder)
    }

    /// A folder of this worker's own, for what is not one attempt's. Attempts' are called by numbers.
    pub(crate) fn shared(&self, name: &str) -> io::Result<PathBuf> {
        let path = self.folder.join(name);
        match make(&path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
            _ => Ok(path),
        }
    }

    fn has_room_for_sockets(&self) -> bool {
        self.folder.as_os_str().len() + SOCKET.len() <= MAX_SOCKET_BYTES
    }

    /// A new folder with a path so short that a socket may lie in it.
    pub(crate) fn for_socket(&self) -> io::Result<AttemptFolder> {
        match &self.sockets {
            None => self.attempt(),
            Some(Ok(sockets)) => sockets.attempt(),
            Some(Err(why)) => Err(io::Error::other(why.clone())),
        }
    }

    /// A new folder for an attempt.
    pub(crate) fn attempt(&self) -> io::Result<AttemptFolder> {
        let number = self.attempts.fetch_add(1, Ordering::Relaxed);
        let path = self.folder.join(number.to_string());
        make(&path)?;
        Ok(AttemptFolder(path))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        remove(&self.folder);
        let _ = std::fs::remove_file(&self.lock);
    }
}

/// What one attempt keeps on the disk. Removed when dropped.
#[derive(Debug)]
pub(crate) struct AttemptFolder(PathBuf);

impl AttemptFolder {
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// Lets everybody pass through to what they know the name of.
    pub(crate) fn let_through(&self) -> io::Result<()> {
        std::fs::set_permissions(&self.0, Permissions::from_mode(PASSED))
    }

    /// Makes folders in it a user's own, whom it lets through to them; nobody else reads them.
    pub(crate) fn give(&self, folders: &[&Path], user: &User) -> io::Result<()> {
        for folder in folders {
            user.own(folder)?;
        }
        // Last: what was not the user's yet was behind it.
        self.let_through()
    }

    /// A new folder in it.
    pub(crate) fn with(&self, name: &str) -> io::Result<PathBuf> {
        let path = self.0.join(name);
        make(&path)?;
        Ok(path)
    }
}

impl Drop for AttemptFolder {
    fn drop(&mut self) {
        remove(&self.0);
    }
}

/// This user's folder in one that is everybody's.
fn folder_in(place: &Path) -> PathBuf {
    place.join(format!("trainyard-{}", private::user()))
}

fn make(folder: &Path) -> io::Result<()> {
    DirBuilder::new().mode(PRIVATE).create(folder)
}

fn remove(folder: &Path) {
    if let Err(error) = remove_tree(folder) {
        // The next worker's start tries again.
        tracing::warn!(folder = %folder.display(), %error, "an attempt's files stay on the disk");
    }
}

/// Removes what a program has made, however deep: the standard library's way takes stack and a descriptor for each
/// level, of which a program can make enough to end its worker. `rm` takes neither; where there is none, it is done
/// with a stack that no tree fills before the descriptors are used up, which is an error and no more.
pub(crate) fn remove_tree(folder: &Path) -> io::Result<()> {
    if !folder.try_exists()? {
        return Ok(());
    }
    let rm = Command::new("rm")
        .args(["-rf", "--"])
        .arg(folder)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    if rm.is_ok_and(|status| status.success()) {
        return Ok(());
    }
    let folder = folder.to_owned();
    let removing = std::thread::Builder::new()
        .name("remove".to_owned())
        .stack_size(REMOVING_STACK)
        .spawn(move || std::fs::remove_dir_all(folder))?;
    match removing.join() {
        Ok(Err(error)) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(_) => Ok(()),
        Err(panic) => std::panic::resume_unwind(panic),
    }
}

/// The file whose lock says that the worker of a folder lives.
fn lock_of(folder: &Path) -> PathBuf {
    folder.with_extension("lock")
}

/// Makes and locks a file. `None`: a sweep took it for a dead worker's in between.
fn held(lock: &Path) -> io::Result<Option<File>> {
    let mut options = OpenOptions::new();
    let file = options.write(true).create_new(true).open(lock)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Ok(None),
        Err(TryLockError::Error(error)) => return Err(error),
    }
    let still = std::fs::metadata(lock).is_ok_and(|found| {
        file.metadata()
            .is_ok_and(|own| (own.dev(), own.ino()) == (found.dev(), found.ino()))
    });
    Ok(still.then_some(file))
}

/// Folders of workers that are dead, and their locks. Returns how many they were.
fn sweep(base: &Path) -> io::Result<usize> {
    let mut swept = 0;
    for entry in std::fs::read_dir(base)? {
        let lock = entry?.path();
        if lock.extension().is_none_or(|extension| extension != "lock") {
            continue;
        }
        // Gone already where its worker ends now.
        let Ok(file) = File::open(&lock) else {
            continue;
        };
        if file.try_lock().is_err() {
            continue;
        }
        let folder = lock.with_extension("");
        remove_tree(&folder)?;
        std::fs::remove_file(&lock)?;
        swept += 1;
    }
    Ok(swept)
}

/// The system's temporary directory is everybody's: somebody else may have made the folder first.
mod private {
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
    use std::path::Path;

    #[allow(unsafe_code)]
    pub(super) fn user() -> u32 {
        // SAFETY: a system call without arguments that cannot fail.
        unsafe { libc::geteuid() }
    }

    pub(super) fn private_to_this_user(folder: &Path) -> Result<(), String> {
        let at = folder.display();
        let found = folder
            .symlink_metadata()
            .map_err(|error| format!("scratch_dir: {at}: {error}"))?;
        let (owner, own) = (found.uid(), user());
        if owner != own {
            return Err(format!(
                "scratch_dir: {at} belongs to user {owner}, expected one of user {own}; give another"
            ));
        }
        // To pass through is harmless: each worker's folder in it is closed, or its programs' user's.
        if found.permissions().mode() & 0o066 != 0 {
            return Err(format!(
                "scratch_dir: others may look into {at}, expected mode 0700; change it or give another"
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn names(base: &Path) -> usize {
        std::fs::read_dir(base).unwrap().count()
    }

    /// Deeper than a recursion of the standard library has stack, or a path of it bytes.
    #[test]
    fn whatever_depth_a_program_makes_is_removed() {
        let base = tempfile::tempdir().unwrap();
        let scratch = Scratch::open(Some(base.path()), None).unwrap();
        let attempt = scratch.attempt().unwrap();
        let deeper = "import os\nfor _ in range(20000): os.mkdir('d'); os.chdir('d')";
        let made = Command::new("python3")
            .args(["-c", deeper])
            .current_dir(attempt.path())
            .status();
        if !made.is_ok_and(|status| status.success()) {
            eprintln!("skipped: python3 is not there");
            return;
        }
        let path = attempt.path().to_owned();
        drop(attempt);
        assert!(!path.exists());
    }

    #[test]
    fn an_attempt_s_folder_is_private_and_goes_with_it() {
        let base = tempfile::tempdir().unwrap();
        let scratch = Scratch::open(Some(&base.path().join("not/yet")), None).unwrap();
        let attempt = scratch.attempt().unwrap();
        let path = attempt.with("checkpoints").unwrap();
        for folder in [attempt.path(), &path] {
            let mode = folder.metadata().unwrap().permissions().mode();
            assert_eq!(mode & 0o777, PRIVATE);
        }
        std::fs::write(path.join("file"), "x").unwrap();
        let other = scratch.attempt().unwrap();
        assert_ne!(other.path(), attempt.path());
        drop(attempt);
        assert!(!path.exists() && other.path().exists());
        drop(other);
        drop(scratch);
        assert_eq!(names(&base.path().join("not/yet")), 0);
    }

    #[test]
    fn dead_workers_are_swept_and_living_ones_are_not() {
        let base = tempfile::tempdir().unwrap();
        let living = Scratch::open(Some(base.path()), None).unwrap();
        let kept = living.attempt().unwrap();
        let dead = Scratch::open(Some(base.path()), None).unwrap();
        let left = dead.folder.join("left");
        std::fs::create_dir_all(&left).unwrap();
        // As if it had been killed: nothing is removed, but its lock ends.
        let lock = dead.lock.clone();
        let Scratch { _held: held, .. } = &*std::mem::ManuallyDrop::new(dead);
        held.unlock().unwrap();
        assert_eq!(sweep(base.path()).unwrap(), 1);
        assert!(!left.exists() && !lock.exists());
        assert!(kept.path().exists());
        let strangers = base.path().join("somebody-else-s");
        std::fs::create_dir(&strangers).unwrap();
        assert_eq!(sweep(base.path()).unwrap(), 0);
        assert!(strangers.exists() && kept.path().exists());
    }

    #[test]
    fn sockets_have_short_paths_wherever_files_lie() {
        let base = tempfile::tempdir().unwrap();
        for length in [0, 100] {
            let place = base.path().join("x".repeat(length));
            let scratch = Scratch::open(Some(&place), None).unwrap();
            let folder = scratch.for_socket().unwrap();
            let inside = folder.path().starts_with(place.canonicalize().unwrap());
            assert_eq!(inside, length == 0);
            let socket = folder.path().join("s");
            assert!(socket.as_os_str().len() <= MAX_SOCKET_BYTES);
            drop(std::os::unix::net::UnixListener::bind(&socket).unwrap());
            let path = folder.path().to_owned();
            drop(scratch);
            assert!(!path.exists(), "it goes with the worker");
        }
    }

    #[test]
    fn a_folder_of_others_is_refused_by_name() {
        let base = tempfile::tempdir().unwrap();
        std::fs::set_permissions(base.path(), PermissionsExt::from_mode(0o755)).unwrap();
        let told = private_to_this_user(base.path()).unwrap_err();
        assert!(
            told.contains("0700") && told.contains("scratch_dir"),
            "{told}"
        );
        let file = base.path().join("file");
        std::fs::write(&file, "x").unwrap();
        let told = Scratch::open(Some(&file), None).unwrap_err();
        assert!(
            told.contains("scratch_dir") && told.contains("file"),
            "{told}"
        );
    }
}
