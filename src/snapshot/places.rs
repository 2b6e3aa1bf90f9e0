//! Whether the Unix sockets and the trail of a config can stand where it says, without
//! making them.

use std::{
    fs::{self, Metadata},
    io,
    os::unix::fs::FileTypeExt,
    path::{Path, PathBuf},
};

use rustix::fs::{Access, FsWord, PROC_SUPER_MAGIC, access, statfs};

use crate::{
    config::{
        problem::{FieldPath, Problem},
        quote,
        settings::{Audit, ListenAddress, Settings},
    },
    named_file,
};

/// Where names of groups stand, and how much of it is read, in bytes.
const GROUPS: &str = "/etc/group";
const GROUPS_BYTES_MAX: u64 = 4 << 20;
/// What statfs(2) says of /sys.
const SYSFS_MAGIC: FsWord = 0x6265_6572;

/// A socket that a config wants.
#[derive(PartialEq, Eq)]
struct Wanted<'a> {
    path: &'a Path,
    group: Option<&'a str>,
}

/// What stands in the way of a socket. Those that `before` has, too, are bound already:
/// whatever becomes of their files must not hold up another config.
pub fn unbindable(settings: &Settings, before: Option<&Settings>) -> Vec<Problem> {
    let mut problems = Vec::new();
    for (at, socket) in wanted(settings, before) {
        if let Some(what) = in_the_way(socket.path) {
            problems.push(Problem::new(at.path, what));
        }
        if let Some(Err(why)) = socket.group.map(group_id) {
            problems.push(Problem::new(at.group, why));
        }
    }
    problems
}

/// Sockets whose directory is missing. What starts the gateway may make it first, as
/// systemd does with RuntimeDirectory=, so this is a warning before a start.
pub fn without_directory(settings: &Settings, before: Option<&Settings>) -> Vec<Problem> {
    let missing = wanted(settings, before).filter_map(|(at, socket)| {
        let parent = parent_of(socket.path);
        let error = fs::metadata(&parent).err()?;
        let parent = parent.display();
        let what = format!("there is no directory {parent}: what starts the gateway has to make it, as systemd does with RuntimeDirectory=");
        let is_missing = error.kind() == io::ErrorKind::NotFound;
        is_missing.then(|| Problem::new(at.path, what))
    });
    missing.collect()
}

/// Whether the trail can stand where the config says.
///
/// # Errors
///
/// If something else than a directory stands there.
pub fn trail_directory(audit: &Audit) -> Result<(), Vec<Problem>> {
    // What can't be seen from here may be there when it is needed.
    match fs::metadata(&audit.directory) {
        Ok(found) if !found.is_dir() => {
            let what = format!("{} is no directory", audit.directory.display());
            Err(vec![Problem::new(of_trail(), what)])
        }
        _ => Ok(()),
    }
}

/// A warning about a trail that whoever asks could not keep where the config says. It is
/// no error: the gateway may run as another user.
pub fn unwritable_trail(settings: &Settings) -> Option<Problem> {
    let directory = &settings.audit.directory;
    let (place, why) = match nearest(directory) {
        Ok((place, found)) => {
            let why = not_writable(&place, &found)?;
            (place, why)
        }
        Err(error) => (directory.clone(), error.to_string()),
    };
    let place = place.display();
    let message = format!("this user cannot make or write it: {place}: {why}");
    Some(Problem::new(of_trail(), message))
}

fn of_trail() -> FieldPath {
    FieldPath::root().key("audit").key("directory")
}

/// What stands of a path: itself, or what is nearest around it.
fn nearest(path: &Path) -> io::Result<(PathBuf, Metadata)> {
    for place in path.ancestors() {
        let place = match place.as_os_str().is_empty() {
            true => Path::new("."),
            false => place,
        };
        match fs::metadata(place) {
            Ok(found) => return Ok((place.to_owned(), found)),
            Err(error) if is_missing(&error) => {}
            Err(error) => return Err(error),
        }
    }
    Err(io::ErrorKind::NotFound.into())
}

fn is_missing(error: &io::Error) -> bool {
    use io::ErrorKind::{NotADirectory, NotFound};
    matches!(error.kind(), NotFound | NotADirectory)
}

/// Why this process can make nothing there.
fn not_writable(directory: &Path, found: &Metadata) -> Option<String> {
    if !found.is_dir() {
        return Some(io::Error::from(io::ErrorKind::NotADirectory).to_string());
    }
    // To root these look as if they could be written.
    let is_kernels = statfs(directory)
        .is_ok_and(|found| [PROC_SUPER_MAGIC, SYSFS_MAGIC].contains(&found.f_type));
    if is_kernels {
        return Some("it belongs to the kernel, and takes no files".to_owned());
    }
    let allowed = access(directory, Access::WRITE_OK | Access::EXEC_OK);
    allowed
        .err()
        .map(|error| io::Error::from(error).to_string())
}

/// The number of a group, as /etc/group has it.
///
/// # Errors
///
/// If it has none of that name.
pub fn group_id(name: &str) -> Result<u32, String> {
    if let Ok(number) = name.parse() {
        return Ok(number);
    }
    let groups = named_file::read(Path::new(GROUPS), GROUPS_BYTES_MAX)
        .map_err(|error| format!("cannot read {GROUPS}: {error}; a number needs no file"))?;
    let groups = String::from_utf8_lossy(&groups);
    let mut lines = groups.lines().map(|line| line.split(':'));
    lines
        .find_map(|mut fields| {
            let is_it = fields.next() == Some(name);
            fields.nth(1)?.parse().ok().filter(|_| is_it)
        })
        .ok_or_else(|| format!("there is no group {}", quote(name)))
}

/// Where the fields of a socket stand.
struct Fields {
    path: FieldPath,
    group: FieldPath,
}

fn wanted<'a>(
    settings: &'a Settings,
    before: Option<&'a Settings>,
) -> impl Iterator<Item = (Fields, Wanted<'a>)> {
    let known: Vec<_> = before.map_or_else(Vec::new, |before| sockets(before).collect());
    sockets(settings).filter(move |(_, new)| !known.iter().any(|(_, old)| old == new))
}

fn sockets(settings: &Settings) -> impl Iterator<Item = (Fields, Wanted<'_>)> {
    let listen = settings.listen.iter().enumerate();
    let listen = listen.filter_map(|(at, listen)| {
        let ListenAddress::Unix { path, group, .. } = &listen.address else {
            return None;
        };
        let at = FieldPath::root().key("listen").index(at).key("unix");
        let group = group.as_deref();
        let fields = Fields {
            path: at.clone().key("path"),
            group: at.key("group"),
        };
        Some((fields, Wanted { path, group }))
    });
    let admin = settings.admin.socket.as_deref().map(|path| {
        let at = || FieldPath::root().key("admin").key("socket");
        let fields = Fields {
            path: at(),
            group: at(),
        };
        (fields, Wanted { path, group: None })
    });
    listen.chain(admin)
}

/// What can't be seen from here may be there when it is needed.
fn in_the_way(path: &Path) -> Option<String> {
    let parent = parent_of(path);
    if fs::metadata(&parent).is_ok_and(|found| !found.is_dir()) {
        return Some(format!("{} is no directory", parent.display()));
    }
    // As at the start: a link to a socket is not one.
    let found = fs::symlink_metadata(path).ok()?;
    let what = || format!("{} is no socket, and is not replaced", path.display());
    (!found.file_type().is_socket()).then(what)
}

fn parent_of(path: &Path) -> PathBuf {
    match path.parent() {
        Some(parent) if parent != Path::new("") => parent.to_owned(),
        _ => PathBuf::from("."),
    }
}
