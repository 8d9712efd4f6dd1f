//! The user as whom programs run, where the worker is root's, and what is done on the disk with that user's rights.

use std::ffi::{CStr, CString, OsStr, OsString};
use std::fs::Permissions;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{PermissionsExt as _, fchown, lchown};
use std::path::{Path, PathBuf};

use tokio::process::Child;

/// As much as the password database may say of one user, in bytes.
const MAX_ENTRY_BYTES: usize = 1 << 20;

/// Not root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct User {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// What the password database says, if it knows the user.
    pub(crate) name: Option<String>,
    pub(crate) home: Option<PathBuf>,
}

/// What the password database says of a user.
struct Known {
    uid: u32,
    gid: u32,
    name: String,
    home: PathBuf,
}

impl User {
    /// From `NAME`, `UID` or either with `:GID` behind it.
    ///
    /// # Errors
    /// What was given and what is accepted.
    pub(crate) fn find(given: &str) -> Result<Self, String> {
        let (who, group) = match given.split_once(':') {
            Some((who, group)) => (who, Some(group)),
            None => (given, None),
        };
        let group = group.map(|group| {
            let group: Result<u32, _> = group.parse();
            group.map_err(|_| format!("{given:?} given; expected a number behind `:`, of a group"))
        });
        let group = group.transpose()?;
        let number: Option<u32> = who.parse().ok();
        let known = match number {
            Some(uid) => lookup(Asked::Number(uid)),
            None => lookup(Asked::Name(who)),
        };
        let known =
            known.map_err(|error| format!("{given:?}: users cannot be looked up: {error}"))?;
        let user = match (known, number, group) {
            (Some(known), _, group) => Self {
                uid: known.uid,
                gid: group.unwrap_or(known.gid),
                name: Some(known.name),
                home: Some(known.home),
            },
            (None, Some(uid), Some(gid)) => Self {
                uid,
                gid,
                name: None,
                home: None,
            },
            (None, Some(uid), None) => {
                return Err(format!(
                    "{given:?} given, a user that this machine does not know; expected {uid}:GID, or a known one"
                ));
            }
            (None, None, _) => {
                return Err(format!(
                    "{given:?} given, and this machine has no such user; expected NAME, UID or UID:GID"
                ));
            }
        };
        match user.uid {
            0 => Err(format!(
                "{given:?} given, which is root; expected another user"
            )),
            _ => Ok(user),
        }
    }

    /// How the program's environment calls it.
    pub(super) fn environment(&self) -> Vec<(&'static str, OsString)> {
        let home = self.home.clone().unwrap_or_else(|| "/".into());
        let name = self.name.clone().unwrap_or_else(|| self.uid.to_string());
        vec![
            ("HOME", home.into()),
            ("USER", name.clone().into()),
            ("LOGNAME", name.into()),
        ]
    }

    /// The program may open its own output anew, as `/dev/stdout`.
    pub(super) fn own_pipes(&self, child: &Child) {
        let output = child.stdout.as_ref().map(AsFd::as_fd);
        let errors = child.stderr.as_ref().map(AsFd::as_fd);
        for pipe in [output, errors].into_iter().flatten() {
            // Both ends are one pipe.
            if let Err(error) = fchown(pipe, Some(self.uid), Some(self.gid)) {
                tracing::debug!(%error, "a program cannot open its output anew");
            }
        }
    }

    /// Does something on the disk with this user's rights and nobody else's, on this thread.
    ///
    /// # Errors
    /// The worker may not become this user. Then nothing was done.
    pub(super) fn does<T>(&self, work: impl FnOnce() -> T) -> io::Result<T> {
        let _guise = guise::Guise::of(self)?;
        Ok(work())
    }

    /// Makes a folder, which nobody else has had access to, with all that is in it the user's own and nobody else's.
    pub(super) fn own(&self, folder: &Path) -> io::Result<()> {
        self.own_below(folder)?;
        std::fs::set_permissions(folder, Permissions::from_mode(0o700))
    }

    fn own_below(&self, path: &Path) -> io::Result<()> {
        if path.symlink_metadata()?.is_dir() {
            for entry in std::fs::read_dir(path)? {
                self.own_below(&entry?.path())?;
            }
        }
        lchown(path, Some(self.uid), Some(self.gid))
    }
}

/// Whether this process is root's, without which it cannot start programs as another user.
#[allow(unsafe_code)]
pub(crate) fn is_root() -> bool {
    // SAFETY: a system call without arguments that cannot fail.
    unsafe { libc::geteuid() == 0 }
}

enum Asked<'a> {
    Name(&'a str),
    Number(u32),
}

#[allow(unsafe_code)]
fn lookup(asked: Asked<'_>) -> io::Result<Option<Known>> {
    let name = match asked {
        Asked::Name(name) => match CString::new(name) {
            Ok(name) => Some(name),
            // No user's name holds a NUL.
            Err(_) => return Ok(None),
        },
        Asked::Number(_) => None,
    };
    let mut buffer: Vec<libc::c_char> = vec![0; 1024];
    loop {
        // SAFETY: all fields of the structure are numbers and pointers, for which zero is a value.
        let mut entry: libc::passwd = unsafe { std::mem::zeroed() };
        let mut found: *mut libc::passwd = std::ptr::null_mut();
        // SAFETY: all pointers are of what lives until the call's end; the buffer's length is its own.
        let failed = unsafe {
            match (&name, &asked) {
                (Some(name), _) => libc::getpwnam_r(
                    name.as_ptr(),
                    &mut entry,
                    buffer.as_mut_ptr(),
                    buffer.len(),
                    &mut found,
                ),
                (None, Asked::Number(uid)) => libc::getpwuid_r(
                    *uid,
                    &mut entry,
                    buffer.as_mut_ptr(),
                    buffer.len(),
                    &mut found,
                ),
                (None, Asked::Name(_)) => return Ok(None),
            }
        };
        match failed {
            libc::ERANGE if buffer.len() < MAX_ENTRY_BYTES => buffer.resize(buffer.len() * 2, 0),
            // What systems say of a user that they do not know.
            0 | libc::ENOENT | libc::ESRCH if found.is_null() => return Ok(None),
            0 => {
                // SAFETY: the call has filled both with texts that end with NUL, in the buffer.
                let (name, home) =
                    unsafe { (CStr::from_ptr(entry.pw_name), CStr::from_ptr(entry.pw_dir)) };
                return Ok(Some(Known {
                    uid: entry.pw_uid,
                    gid: entry.pw_gid,
                    name: name.to_string_lossy().into_owned(),
                    home: OsStr::from_bytes(home.to_bytes()).into(),
                }));
            }
            code => return Err(io::Error::from_raw_os_error(code)),
        }
    }
}

#[cfg(target_os = "linux")]
mod guise {
    use std::io;

    use super::User;

    /// This thread has another user's rights on the disk, until this is dropped. Linux takes the capabilities with
    /// which root passes by all permissions from a thread whose user for files is not root, and gives them back.
    pub(super) struct Guise {
        uid: u32,
        gid: u32,
        groups: Vec<libc::gid_t>,
    }

    /// No user has this number: it asks without setting.
    const ASKS: u32 = u32::MAX;

    #[allow(unsafe_code)]
    fn set_user(uid: u32) -> u32 {
        // SAFETY: a plain system call of this thread alone.
        unsafe { libc::setfsuid(uid) as u32 }
    }

    #[allow(unsafe_code)]
    fn set_group(gid: u32) -> u32 {
        // SAFETY: as above.
        unsafe { libc::setfsgid(gid) as u32 }
    }

    /// Of this thread alone: the function of the C library would change those of all.
    #[allow(unsafe_code)]
    fn set_groups(groups: &[libc::gid_t]) -> io::Result<()> {
        // SAFETY: the pointer is to as many numbers as is said.
        let set = unsafe { libc::syscall(libc::SYS_setgroups, groups.len(), groups.as_ptr()) };
        match set {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }

    #[allow(unsafe_code)]
    fn groups() -> io::Result<Vec<libc::gid_t>> {
        // SAFETY: with no room it only counts.
        let count = unsafe { libc::getgroups(0, std::ptr::null_mut()) };
        let count = usize::try_from(count).map_err(|_| io::Error::last_os_error())?;
        let mut groups = vec![0; count];
        let room = libc::c_int::try_from(count).unwrap_or(libc::c_int::MAX);
        // SAFETY: there is room for as many as is said.
        let found = unsafe { libc::getgroups(room, groups.as_mut_ptr()) };
        let found = usize::try_from(found).map_err(|_| io::Error::last_os_error())?;
        groups.truncate(found);
        Ok(groups)
    }

    impl Guise {
        pub(super) fn of(user: &User) -> io::Result<Self> {
            let groups = groups()?;
            set_groups(&[])?;
            let guise = Self {
                gid: set_group(user.gid),
                uid: set_user(user.uid),
                groups,
            };
            // The calls do not say whether they have done it.
            match (set_user(ASKS), set_group(ASKS)) == (user.uid, user.gid) {
                true => Ok(guise),
                false => Err(io::Error::new(
                    io::ErrorKind::PermissionDenied,
                    format!("this worker may not become user {}", user.uid),
                )),
            }
        }
    }

    impl Drop for Guise {
        fn drop(&mut self) {
            set_user(self.uid);
            set_group(self.gid);
            if let Err(error) = set_groups(&self.groups) {
                tracing::error!(%error, "a thread keeps fewer groups than the worker has");
            }
        }
    }
}

#[cfg(not(target_os = "linux"))]
mod guise {
    use std::io;

    use super::User;

    pub(super) struct Guise;

    impl Guise {
        pub(super) fn of(_: &User) -> io::Result<Self> {
            Err(io::ErrorKind::Unsupported.into())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_found_by_name_and_number() {
        let nobody = User::find("nobody").unwrap();
        assert_ne!(nobody.uid, 0);
        assert_eq!(nobody.name.as_deref(), Some("nobody"));
        let number = nobody.uid.to_string();
        assert_eq!(User::find(&number).unwrap(), nobody);
        let grouped = User::find(&format!("{number}:77")).unwrap();
        assert_eq!((grouped.uid, grouped.gid), (nobody.uid, 77));
        let unknown = User::find("3456789:9").unwrap();
        assert_eq!(
            (unknown.uid, unknown.gid, unknown.name),
            (3_456_789, 9, None)
        );
        for (bad, why) in [
            ("root", "which is root"),
            ("0:5", "which is root"),
            ("3456789", "3456789:GID"),
            ("no-such-user-here", "no such user"),
            ("nobody:staff", "a number behind `:`"),
            ("", "no such user"),
            ("a\0b", "no such user"),
        ] {
            let told = User::find(bad).unwrap_err();
            assert!(
                told.contains(why) && told.contains("given"),
                "{bad}: {told}"
            );
        }
    }

    #[test]
    fn what_a_user_does_it_does_with_its_own_rights() {
        if !is_root() {
            eprintln!("skipped: only root can become another user");
            return;
        }
        let user = User::find("nobody").unwrap();
        let folder = tempfile::tempdir().unwrap();
        let open = Permissions::from_mode(0o755);
        std::fs::set_permissions(folder.path(), open).unwrap();
        let private = folder.path().join("private");
        std::fs::write(&private, "x").unwrap();
        std::fs::set_permissions(&private, Permissions::from_mode(0o640)).unwrap();
        let read = || std::fs::read(&private);
        let refused = user.does(read).unwrap().unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::PermissionDenied);
        let made = user.does(|| std::fs::write(folder.path().join("new"), "y"));
        assert_eq!(
            made.unwrap().unwrap_err().kind(),
            io::ErrorKind::PermissionDenied
        );
        // Afterwards the thread is the worker's again, however it went.
        assert_eq!(read().unwrap(), b"x");
        let panicked = std::panic::catch_unwind(|| user.does(|| panic!("here")));
        assert!(panicked.is_err());
        assert_eq!(read().unwrap(), b"x");
    }
}
