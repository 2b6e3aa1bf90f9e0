//! Small file systems that tests may fill, freeze and break.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// A small file system of its own, unmounted at the end.
pub struct Mount {
    /// Where it is mounted.
    pub at: PathBuf,
    image: tempfile::TempDir,
}

impl Mount {
    /// `None` where one may not mount: then the test shows nothing and says so.
    pub fn of(kind: &str, mebibytes: u64) -> Option<Self> {
        let image = tempfile::tempdir().unwrap();
        let at = image.path().join("mounted");
        fs::create_dir(&at).unwrap();
        let is_mounted = match kind {
            "tmpfs" => run(
                "mount",
                &["-t", "tmpfs", "-o", &format!("size={mebibytes}m"), "none"],
                &at,
            ),
            _ => {
                let file = image.path().join("image");
                fs::File::create(&file)
                    .unwrap()
                    .set_len(mebibytes << 20)
                    .unwrap();
                run("mkfs.ext4", &["-q", "-F"], &file)
                    && run(
                        "mount",
                        &["-o", "loop,errors=remount-ro", file.to_str().unwrap()],
                        &at,
                    )
            }
        };
        if !is_mounted {
            eprintln!("skipped: no {kind} can be mounted here");
            return None;
        }
        Some(Self { at, image })
    }

    /// Freezes it, or thaws it; whether that can be done.
    pub fn freeze(&self, frozen: bool) -> bool {
        run("fsfreeze", &[if frozen { "-f" } else { "-u" }], &self.at)
    }
}

impl Mount {
    /// Lets the kernel find an error in an ext4, on which it turns read-only for
    /// good; whether that can be done.
    pub fn break_for_good(&self) -> bool {
        let found = Command::new("findmnt")
            .args(["-n", "-o", "SOURCE"])
            .arg(&self.at)
            .output();
        let source = found.map_or_else(
            |_| String::new(),
            |found| String::from_utf8_lossy(&found.stdout).trim().to_owned(),
        );
        let device = source.rsplit('/').next().unwrap_or_default();
        fs::write(format!("/sys/fs/ext4/{device}/trigger_fs_error"), "1").is_ok()
    }

    /// Puts a new, empty ext4 in its place.
    pub fn replace(&self) {
        assert!(run("umount", &["-l"], &self.at));
        let file = self.image.path().join("another");
        fs::File::create(&file).unwrap().set_len(32 << 20).unwrap();
        assert!(run("mkfs.ext4", &["-q", "-F"], &file));
        assert!(run(
            "mount",
            &["-o", "loop", file.to_str().unwrap()],
            &self.at
        ));
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        // A frozen one can't be unmounted.
        self.freeze(false);
        run("umount", &["-l"], &self.at);
    }
}

/// Whether a program could be run and succeeded.
pub fn run(program: &str, args: &[&str], last: &Path) -> bool {
    let output = Command::new(program).args(args).arg(last).output();
    output.is_ok_and(|output| output.status.success())
}
