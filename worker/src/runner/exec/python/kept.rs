//! Environments on this machine, shared by its workers of one user: made by one at a time, used by many, those that were
//! used longest ago removed.
//!
//! Each has a lock, which its maker holds alone and its users hold together, so that none goes while it is used. Each
//! try at making one has a folder of its own, and an environment exists once a record names its folder: what a maker
//! that was killed has left is never used, even where its tools still write for a moment.

use std::fs::{DirBuilder, File, OpenOptions, Permissions, TryLockError};
use std::io::{self, Write as _};
use std::os::unix::fs::{
    DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _,
};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use crate::runner::scratch::remove_tree;
use crate::runner::user::User;

/// Environments that are kept at most: jobs that take turns, and their versions of some weeks.
const MOST: usize = 32;
/// Below the scratch folder.
const FOLDER: &str = "environments";
/// Tries at a lock whose file goes meanwhile.
const TRIES: u32 = 8;
/// Digits by which tries at one environment differ. They stand in the first line of each script of it, which is not to be
/// long.
const TRY_DIGITS: usize = 8;
/// Nobody looks into it, and the user of programs passes through to what is its own.
const PASSED: u32 = 0o711;

/// Of what says who uses an environment.
const PRIVATE: u32 = 0o600;

/// How many are kept, and how much they may take on the disk.
#[derive(Debug, Clone, Copy)]
struct Bounds {
    count: usize,
    bytes: u64,
}

/// All that are kept.
#[derive(Debug, Clone)]
pub(super) struct Kept {
    folder: PathBuf,
    bounds: Bounds,
}

/// Says that an environment is whole, and where.
#[derive(Debug, Serialize, Deserialize)]
struct Record {
    folder: String,
    /// On the disk.
    bytes: u64,
}

/// What somebody who needs an environment does next.
#[derive(Debug)]
pub(super) enum Turn {
    Ready(InUse),
    Make(Making),
    /// Another makes it.
    Wait,
}

/// One that stays for as long as this lives.
#[derive(Debug)]
pub(super) struct InUse {
    root: PathBuf,
    _lock: File,
}

impl InUse {
    pub(super) fn root(&self) -> &Path {
        &self.root
    }
}

/// One that is this maker's alone, and not there yet. Removed when dropped before it is done.
#[derive(Debug)]
pub(super) struct Making {
    record: PathBuf,
    folder: PathBuf,
    is_done: bool,
    /// After all else.
    _lock: File,
}

impl Making {
    /// Where it is made: an empty folder, of the user of programs.
    pub(super) fn root(&self) -> PathBuf {
        root(&self.folder)
    }

    /// A folder of the same user for what its tools keep meanwhile, which goes when it is done.
    pub(super) fn temporary(&self) -> PathBuf {
        self.folder.join("tmp")
    }

    /// From now on it exists, whatever happens to this machine.
    pub(super) fn done(mut self) -> io::Result<()> {
        remove_tree(&self.temporary())?;
        sync(&self.folder)?;
        let name = self.folder.file_name().unwrap_or_default();
        let record = Record {
            folder: name.to_string_lossy().into_owned(),
            bytes: bytes(&self.folder),
        };
        let partial = self.record.with_extension("partial");
        let mut file = File::create(&partial)?;
        file.write_all(&serde_json::to_vec(&record)?)?;
        file.sync_all()?;
        std::fs::rename(&partial, &self.record)?;
        self.is_done = true;
        Ok(())
    }
}

impl Drop for Making {
    fn drop(&mut self) {
        if !self.is_done {
            removed(&self.folder);
        }
    }
}

fn root(folder: &Path) -> PathBuf {
    folder.join("env")
}

/// Removes what no record names. What stays, the next maker tries again.
fn removed(folder: &Path) {
    if let Err(error) = remove_tree(folder) {
        tracing::warn!(folder = %folder.display(), %error, "an unfinished environment stays on the disk");
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum How {
    Alone,
    Together,
}

impl Kept {
    /// Below the folder that workers share; what they may take together.
    pub(super) fn open(base: &Path, bytes: u64) -> io::Result<Self> {
        let folder = base.join(FOLDER);
        match DirBuilder::new().mode(PASSED).create(&folder) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            // Whatever mask the worker has.
            Ok(()) => std::fs::set_permissions(&folder, Permissions::from_mode(PASSED))?,
            Err(_) => {}
        }
        Ok(Self {
            folder,
            bounds: Bounds { count: MOST, bytes },
        })
    }

    /// Looks once. `user`: whose the environment is, if not the worker's.
    pub(super) fn turn(&self, key: &str, user: Option<&User>) -> io::Result<Turn> {
        let Some(mut together) = self.locked(key, How::Together)? else {
            return Ok(Turn::Wait);
        };
        if let Some(record) = self.record(key) {
            // By the time of this it is known when it was used; where that cannot be noted it goes earlier.
            let _ = together.write_all(b"used\n");
            return Ok(Turn::Ready(InUse {
                root: root(&self.folder.join(record.folder)),
                _lock: together,
            }));
        }
        drop(together);
        let Some(alone) = self.locked(key, How::Alone)? else {
            return Ok(Turn::Wait);
        };
        if self.record(key).is_some() {
            // Made in between: looked at again.
            return Ok(Turn::Wait);
        }
        self.clear(key)?;
        let unique = uuid::Uuid::new_v4().simple().to_string();
        let folder = self.folder.join(format!("{key}-{}", &unique[..TRY_DIGITS]));
        let making = Making {
            record: self.record_of(key),
            folder,
            is_done: false,
            _lock: alone,
        };
        making.begin(user)?;
        Ok(Turn::Make(making))
    }

    /// Removes those that were used longest ago, but none that is used and not this one.
    pub(super) fn make_room(&self, key: &str) {
        if let Err(error) = self.try_make_room(key) {
            tracing::warn!(%error, "more environments are kept than should be");
        }
    }

    fn try_make_room(&self, key: &str) -> io::Result<()> {
        let mut whole = Vec::new();
        for (used, other) in self.by_age()? {
            match self.record(&other) {
                Some(record) => whole.push((other, record.bytes, used)),
                // What a maker has left.
                None if other != key => drop(self.gone(&other)?),
                None => {}
            }
        }
        let mut count = whole.len();
        let mut bytes: u64 = whole.iter().map(|(_, bytes, _)| bytes).sum();
        for (other, size, _) in whole.iter().filter(|(other, ..)| other != key) {
            if count <= self.bounds.count && bytes <= self.bounds.bytes {
                break;
            }
            if self.gone(other)? {
                count -= 1;
                bytes -= size;
            }
        }
        Ok(())
    }

    /// Removes an environment unless it is used.
    fn gone(&self, key: &str) -> io::Result<bool> {
        let Some(_alone) = self.locked(key, How::Alone)? else {
            return Ok(false);
        };
        self.clear(key)?;
        std::fs::remove_file(self.lock_of(key))?;
        Ok(true)
    }

    /// Removes all that there is of one, its record first. By who holds its lock alone.
    fn clear(&self, key: &str) -> io::Result<()> {
        match std::fs::remove_file(self.record_of(key)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let begins = format!("{key}-");
        for entry in std::fs::read_dir(&self.folder)? {
            let entry = entry?;
            if entry.file_name().to_string_lossy().starts_with(&begins) {
                removed(&entry.path());
            }
        }
        Ok(())
    }

    /// Keys and when each was used last, the oldest first.
    fn by_age(&self) -> io::Result<Vec<(SystemTime, String)>> {
        let mut found = Vec::new();
        for entry in std::fs::read_dir(&self.folder)? {
            let path = entry?.path();
            let is_lock = path.extension().is_some_and(|kind| kind == "lock");
            let Some(key) = path.file_stem().and_then(|key| key.to_str()) else {
                continue;
            };
            // Gone meanwhile otherwise.
            if let (true, Ok(lock)) = (is_lock, path.metadata()) {
                found.push((lock.modified()?, key.to_owned()));
            }
        }
        found.sort();
        Ok(found)
    }

    /// What says that it is whole.
    fn record(&self, key: &str) -> Option<Record> {
        let text = std::fs::read(self.record_of(key)).ok()?;
        let record: Record = serde_json::from_slice(&text).ok()?;
        // Somebody may have made room by hand.
        let python = root(&self.folder.join(&record.folder)).join("bin/python");
        python.symlink_metadata().ok()?;
        Some(record)
    }

    fn record_of(&self, key: &str) -> PathBuf {
        self.folder.join(format!("{key}.json"))
    }

    fn lock_of(&self, key: &str) -> PathBuf {
        self.folder.join(format!("{key}.lock"))
    }

    /// The lock, if it is free. It goes with its environment: one whose file is no longer there says nothing.
    fn locked(&self, key: &str, how: How) -> io::Result<Option<File>> {
        let path = self.lock_of(key);
        for _ in 0..TRIES {
            let mut options = OpenOptions::new();
            // Programs pass through here: none is to hold it.
            let options = options.write(true).create(true).truncate(false);
            let options = options.mode(PRIVATE);
            let file = options.open(&path)?;
            let locked = match how {
                How::Alone => file.try_lock(),
                How::Together => file.try_lock_shared(),
            };
            match locked {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => return Ok(None),
                Err(TryLockError::Error(error)) => return Err(error),
            }
            let own = file.metadata()?;
            let still = std::fs::metadata(&path)
                .is_ok_and(|found| (own.dev(), own.ino()) == (found.dev(), found.ino()));
            if still {
                return Ok(Some(file));
            }
        }
        Ok(None)
    }
}

impl Making {
    fn begin(&self, user: Option<&User>) -> io::Result<()> {
        let mode = if user.is_some() { PASSED } else { 0o700 };
        DirBuilder::new().mode(mode).create(&self.folder)?;
        std::fs::set_permissions(&self.folder, Permissions::from_mode(mode))?;
        for folder in [self.root(), self.temporary()] {
            std::fs::create_dir(&folder)?;
            if let Some(user) = user {
                user.own(&folder)?;
            }
        }
        Ok(())
    }
}

/// What a folder takes on the disk. What cannot be looked at counts nothing.
fn bytes(folder: &Path) -> u64 {
    /// The unit of `st_blocks`, whatever the file system has.
    const BLOCK: u64 = 512;
    let mut open = vec![folder.to_owned()];
    let mut bytes = 0;
    while let Some(folder) = open.pop() {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            let Ok(found) = entry.metadata() else {
                continue;
            };
            bytes += found.blocks() * BLOCK;
            if found.is_dir() {
                open.push(entry.path());
            }
        }
    }
    bytes
}

/// Returns once all that was written to the file system of a folder is on its disk: an environment has tens of thousands of
/// files, and a record outlives the machine's sudden end.
#[cfg(target_os = "linux")]
#[allow(unsafe_code)]
fn sync(folder: &Path) -> io::Result<()> {
    use std::os::fd::AsRawFd as _;
    let folder = File::open(folder)?;
    // SAFETY: a plain system call of a descriptor that lives.
    match unsafe { libc::syncfs(folder.as_raw_fd()) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(not(target_os = "linux"))]
fn sync(_: &Path) -> io::Result<()> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(base: &Path) -> Kept {
        Kept::open(base, u64::MAX).unwrap()
    }

    fn begin(kept: &Kept, key: &str) -> Making {
        match kept.turn(key, None).unwrap() {
            Turn::Make(making) => making,
            other => panic!("{key}: {other:?}"),
        }
    }

    fn make(kept: &Kept, key: &str) {
        let making = begin(kept, key);
        std::fs::create_dir(making.root().join("bin")).unwrap();
        std::fs::write(making.root().join("bin/python"), [0; 1 << 16]).unwrap();
        making.done().unwrap();
    }

    fn ready(kept: &Kept, key: &str) -> InUse {
        match kept.turn(key, None).unwrap() {
            Turn::Ready(in_use) => in_use,
            other => panic!("{key}: {other:?}"),
        }
    }

    fn used_at(kept: &Kept, key: &str, second: u64) {
        let lock = File::options().write(true).open(kept.lock_of(key)).unwrap();
        let at = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(second);
        lock.set_modified(at).unwrap();
    }

    #[test]
    fn one_makes_it_and_all_use_it() {
        let base = tempfile::tempdir().unwrap();
        let kept = of(base.path());
        let making = begin(&kept, "a");
        assert!(matches!(kept.turn("a", None).unwrap(), Turn::Wait));
        assert!(matches!(kept.turn("b", None).unwrap(), Turn::Make(_)));
        drop(making);
        let lock = kept.lock_of("a").metadata().unwrap();
        assert_eq!(lock.mode() & 0o777, PRIVATE);
        make(&kept, "a");
        let both = [ready(&kept, "a"), ready(&kept, "a")];
        assert_eq!(both[0].root(), both[1].root());
        // The next worker finds it, too.
        ready(&of(base.path()), "a");
    }

    #[test]
    fn what_a_killed_maker_has_left_is_never_used() {
        let base = tempfile::tempdir().unwrap();
        let kept = of(base.path());
        let making = begin(&kept, "a");
        let left = making.folder.clone();
        std::fs::create_dir(making.root().join("bin")).unwrap();
        std::fs::write(making.root().join("bin/python"), "half").unwrap();
        // As if it had been killed: nothing is removed, but its lock ends.
        let killed = std::mem::ManuallyDrop::new(making);
        killed._lock.unlock().unwrap();
        let next = begin(&kept, "a");
        assert!(!left.exists() && next.folder != left);
        // Its installer still writes, into what nobody has.
        std::fs::create_dir_all(left.join("env/bin")).unwrap();
        drop(next);
        make(&kept, "a");
        let found = ready(&kept, "a").root().to_owned();
        assert!(!left.exists() && found.join("bin/python").exists());
        // A record that was cut off says nothing.
        std::fs::write(kept.record_of("a"), "{\"folder\"").unwrap();
        drop(begin(&kept, "a"));
        assert!(!found.exists());
    }

    #[test]
    fn the_oldest_that_nobody_uses_makes_room() {
        for by_bytes in [false, true] {
            let base = tempfile::tempdir().unwrap();
            let mut kept = of(base.path());
            make(&kept, "k0");
            let size = kept.record("k0").unwrap().bytes;
            assert!(size >= 1 << 16);
            kept.bounds = match by_bytes {
                true => Bounds {
                    count: 99,
                    bytes: 3 * size + size / 2,
                },
                false => Bounds {
                    count: 3,
                    bytes: u64::MAX,
                },
            };
            for (second, key) in ["k0", "k1", "k2"].into_iter().enumerate() {
                if key != "k0" {
                    make(&kept, key);
                }
                used_at(&kept, key, second as u64);
            }
            let used = ready(&kept, "k0");
            used_at(&kept, "k0", 0);
            make(&kept, "new");
            kept.make_room("new");
            let there = |key: &str| kept.record(key).is_some();
            assert!(there("k0") && !there("k1") && there("k2") && there("new"));
            assert!(!kept.lock_of("k1").exists());
            drop(used);
            // Used since: another is the oldest.
            drop(ready(&kept, "k0"));
            make(&kept, "k1");
            kept.make_room("k1");
            assert!(there("k0") && !there("k2") && there("k1"));
        }
    }

    #[test]
    fn what_makers_have_left_goes_with_the_next_that_is_made() {
        let base = tempfile::tempdir().unwrap();
        let kept = of(base.path());
        let killed = std::mem::ManuallyDrop::new(begin(&kept, "a"));
        let busy = begin(&kept, "b");
        make(&kept, "c");
        kept.make_room("c");
        assert!(killed.folder.exists() && busy.folder.exists());
        killed._lock.unlock().unwrap();
        kept.make_room("c");
        assert!(!killed.folder.exists() && !kept.lock_of("a").exists());
        assert!(busy.folder.exists() && kept.record("c").is_some());
    }
}
