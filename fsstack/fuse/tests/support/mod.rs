//! Images that are mounted while a test runs.
#![allow(dead_code, unreachable_pub, reason = "each test binary uses a part")]

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use fsstack::OpenOptions;
use fsstack::log::Log;

/// An image on a directory; unmounted at the end.
pub struct Mount {
    pub child: Child,
    dir: PathBuf,
}

impl Mount {
    /// `None`, said in a line, where nothing can be mounted.
    pub fn new(image: &Path, dir: &Path, options: &[&str]) -> Option<Mount> {
        let mut command = Command::new(env!("CARGO_BIN_EXE_fsstack-mount"));
        command.arg(image).arg(dir).args(options).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        if line.contains("is mounted on") {
            return Some(Mount { child, dir: dir.to_owned() });
        }
        let mut said = String::new();
        child.stderr.as_mut().unwrap().read_to_string(&mut said).unwrap();
        child.wait().unwrap();
        assert!(said.contains("/dev/fuse is needed"), "{said}");
        eprintln!("skipped: {}", said.trim());
        None
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// Unmounts; what it said meanwhile.
    pub fn end(mut self) -> String {
        Command::new("kill").arg(self.child.id().to_string()).status().unwrap();
        assert!(self.child.wait().unwrap().success());
        let mut said = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        said
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = Command::new("umount").arg("-l").arg(&self.dir).stderr(Stdio::null()).status();
    }
}

/// A fresh image, and a directory for it.
pub fn fresh() -> (tempfile::TempDir, PathBuf, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let (image, dir) = (folder.path().join("site.img"), folder.path().join("mnt"));
    fs::create_dir(&dir).unwrap();
    drop(Log::create(&image, &OpenOptions::default()).unwrap());
    (folder, image, dir)
}
