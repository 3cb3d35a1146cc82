//! What a server cannot do any more once it serves, whatever becomes of it: open files that it does not need
//! (landlock), start programs, become somebody else, change the system (seccomp).
//!
//! Files are confined before the first thread is started, for that counts for a thread and those that it
//! starts; system calls once everything is open, for all threads at once. Programs that the server starts
//! itself would be confined as it is, and nobody here knows what they need: then files are not confined, and
//! programs can be started.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use landlock::{
    ABI, Access, AccessFs, BitFlags, CompatLevel, Compatible, Ruleset, RulesetAttr, RulesetCreatedAttr,
    RulesetStatus, Scope, path_beneath_rules,
};
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter};

use super::Usage;

/// Whether a server is confined.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Confinement {
    /// As far as the kernel can.
    Auto,
    /// Or it does not serve.
    Require,
    Off,
}

/// The newest rules that are asked for; an older kernel leaves out what it does not know.
const RULES: ABI = ABI::V6;

/// What the server may open once it is confined.
#[derive(Debug, Default)]
pub(super) struct Allowed {
    /// Files and folders that are read.
    pub(super) read: Vec<PathBuf>,
    /// Folders in which files are made, written and replaced.
    pub(super) write: Vec<PathBuf>,
    /// Folders of which files are taken away.
    pub(super) remove: Vec<PathBuf>,
    /// Devices.
    pub(super) devices: Vec<PathBuf>,
}

impl Allowed {
    /// `path` is read, and what takes its place: its folder, and the one that a link leads to.
    pub(super) fn add_read(&mut self, path: &Path) {
        self.read.extend(folders(path));
    }

    /// `path` is served: of a folder what is in it, of an image what takes its place, of a link whatever it
    /// leads to later.
    pub(super) fn add_site(&mut self, path: &Path) {
        let is_link = std::fs::symlink_metadata(path).is_ok_and(|meta| meta.is_symlink());
        if path.is_dir() && !is_link {
            self.read.push(path.to_owned());
        } else {
            self.add_read(path);
        }
    }

    /// `path` is written, and may be made or replaced.
    pub(super) fn add_write(&mut self, path: &Path) {
        self.write.extend(folders(path));
    }

    /// `path` is taken away in the end. Of the root that is too much to ask.
    pub(super) fn add_remove(&mut self, path: &Path) {
        let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        let folder = absolute.parent().filter(|folder| folder.parent().is_some());
        self.remove.extend(folder.map(Path::to_owned));
    }
}

/// The folder of `path`, and of what it leads to; `path` itself where that would be all there is.
fn folders(path: &Path) -> Vec<PathBuf> {
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let canonical = std::fs::canonicalize(path).unwrap_or_else(|_| absolute.clone());
    let of = |path: PathBuf| match path.parent() {
        Some(folder) if folder.parent().is_some() => folder.to_owned(),
        _ => path,
    };
    let (named, real) = (of(absolute), of(canonical));
    if named == real { vec![named] } else { vec![named, real] }
}

/// Confines this thread, and those that it starts from now on, to files of `allowed`. What was done, for the
/// log.
pub(super) fn confine_files(allowed: &Allowed, confinement: Confinement) -> anyhow::Result<String> {
    if confinement == Confinement::Off {
        return Ok("files are not".to_owned());
    }
    let read = AccessFs::ReadFile | AccessFs::ReadDir;
    let write = (AccessFs::from_all(RULES) ^ AccessFs::Execute) & !special();
    let device = AccessFs::ReadFile | AccessFs::WriteFile | AccessFs::IoctlDev;
    let status = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(RULES))?
        .scope(Scope::Signal)?
        .create()?
        .add_rules(path_beneath_rules(&allowed.read, read))?
        .add_rules(path_beneath_rules(&allowed.write, write))?
        .add_rules(path_beneath_rules(&allowed.remove, AccessFs::RemoveFile))?
        .add_rules(path_beneath_rules(&allowed.devices, device))?
        .restrict_self()?;
    Ok(match status.ruleset {
        RulesetStatus::FullyEnforced => "files are, to those that are served and logs".to_owned(),
        RulesetStatus::PartiallyEnforced => "files are, as far as this kernel can (landlock)".to_owned(),
        RulesetStatus::NotEnforced if confinement == Confinement::Require => {
            bail!(Usage(
                "--sandbox require: this kernel has no landlock; leave it out, or say auto".to_owned()
            ))
        }
        RulesetStatus::NotEnforced => "files are not: this kernel has no landlock".to_owned(),
    })
}

/// What nobody makes in a folder of a site or a log.
fn special() -> BitFlags<AccessFs> {
    AccessFs::MakeChar | AccessFs::MakeBlock | AccessFs::MakeFifo | AccessFs::MakeSock
}

/// System calls that a server never makes once it serves, but one that was taken over would.
const DENIED: &[i64] = &[
    // Other processes and identities.
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_pidfd_getfd,
    libc::SYS_setuid,
    libc::SYS_setgid,
    libc::SYS_setreuid,
    libc::SYS_setregid,
    libc::SYS_setresuid,
    libc::SYS_setresgid,
    libc::SYS_setgroups,
    libc::SYS_setfsuid,
    libc::SYS_setfsgid,
    libc::SYS_capset,
    // Namespaces and mounts.
    libc::SYS_unshare,
    libc::SYS_setns,
    libc::SYS_chroot,
    libc::SYS_pivot_root,
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_open_tree,
    libc::SYS_move_mount,
    libc::SYS_fsopen,
    libc::SYS_fsmount,
    libc::SYS_mount_setattr,
    libc::SYS_open_by_handle_at,
    // The machine.
    libc::SYS_reboot,
    libc::SYS_kexec_load,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_sethostname,
    libc::SYS_setdomainname,
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_adjtimex,
    libc::SYS_acct,
    libc::SYS_quotactl,
    // Wide doors into the kernel.
    libc::SYS_perf_event_open,
    libc::SYS_userfaultfd,
    // Loops have made their rings.
    libc::SYS_io_uring_setup,
    libc::SYS_keyctl,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_personality,
    // Ports: all that there will be are open.
    libc::SYS_listen,
];

/// Those that start programs.
const STARTING: &[i64] = &[libc::SYS_execve, libc::SYS_execveat];

/// What a server still does while it serves.
#[derive(Clone, Copy, Debug)]
pub(super) struct Needs {
    /// Start programs.
    pub(super) programs: bool,
    /// Read the counters of a program in the kernel.
    pub(super) bpf: bool,
}

/// Denies all threads what a server does not do: such calls fail with `EPERM`. What was done, for the log.
pub(super) fn confine_calls(needs: Needs, confinement: Confinement) -> anyhow::Result<String> {
    if confinement == Confinement::Off {
        return Ok("system calls are not".to_owned());
    }
    let denied = denied(needs);
    let count = denied.len();
    match deny(denied) {
        Ok(()) => Ok(format!("{count} system calls are denied")),
        Err(error) if confinement == Confinement::Require => {
            Err(error).context("--sandbox require: system calls cannot be denied")
        }
        Err(error) => Ok(format!("system calls are not: {error:#}")),
    }
}

fn denied(needs: Needs) -> Vec<i64> {
    let mut calls = DENIED.to_vec();
    if !needs.programs {
        calls.extend(STARTING);
    }
    if !needs.bpf {
        calls.push(libc::SYS_bpf);
    }
    calls
}

fn deny(calls: Vec<i64>) -> anyhow::Result<()> {
    let rules: BTreeMap<i64, _> = calls.into_iter().map(|call| (call, Vec::new())).collect();
    let refuse = SeccompAction::Errno(libc::EPERM.unsigned_abs());
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, refuse, std::env::consts::ARCH.try_into()?)?;
    let program: BpfProgram = filter.try_into()?;
    seccompiler::apply_filter_all_threads(&program)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    /// Set for the process that confines itself.
    const FOLDER: &str = "CHEETAH_TEST_SANDBOX";

    /// Run by the test below in a process of its own, which is confined for good.
    #[test]
    fn confined() {
        let Some(folder) = std::env::var_os(FOLDER).map(PathBuf::from) else { return };
        let mut allowed = Allowed::default();
        allowed.add_read(&folder.join("site/a.txt"));
        allowed.add_write(&folder.join("logs/log"));
        println!("{}", confine_files(&allowed, Confinement::Auto).unwrap());
        let read = |path: &str| std::fs::read(folder.join(path)).map(drop).map_err(|error| error.kind());
        let denied = Err(std::io::ErrorKind::PermissionDenied);
        let exists = |path: &str| std::fs::exists(folder.join(path)).unwrap();
        assert_eq!(read("site/a.txt"), Ok(()));
        assert_eq!(read("secret/b.txt"), denied);
        assert_eq!(std::fs::write(folder.join("site/new"), "x").map_err(|error| error.kind()), denied);
        assert_eq!(std::fs::write(folder.join("logs/new"), "x").map_err(|error| error.kind()), Ok(()));
        assert!(exists("logs/new") && !exists("site/new"));
        // Threads that are there already, too.
        let (go, wait) = std::sync::mpsc::channel::<()>();
        let other = std::thread::spawn(move || {
            wait.recv().unwrap();
            Command::new("/bin/true").status().map(drop).map_err(|error| error.kind())
        });
        println!("{}", confine_calls(Needs { programs: false, bpf: false }, Confinement::Require).unwrap());
        go.send(()).unwrap();
        assert_eq!(other.join().unwrap(), denied);
        let listens = std::net::TcpListener::bind("127.0.0.1:0").map(drop).map_err(|error| error.kind());
        assert_eq!(listens, denied);
        println!("as it should be");
    }

    #[test]
    fn what_is_forbidden_fails() {
        let folder = tempfile::tempdir().unwrap();
        for (name, file) in [("site", "a.txt"), ("secret", "b.txt"), ("logs", "log")] {
            std::fs::create_dir(folder.path().join(name)).unwrap();
            std::fs::write(folder.path().join(name).join(file), "x").unwrap();
        }
        let output = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "cmd::serve::sandbox::tests::confined", "--nocapture"])
            .env(FOLDER, folder.path())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        if said.contains("files are not") {
            eprintln!("skipped: no landlock here");
            return;
        }
        assert!(output.status.success() && said.contains("as it should be"), "{output:?}");
    }

    #[test]
    fn what_takes_the_place_of_a_file_is_allowed_and_the_root_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let real = folder.path().canonicalize().unwrap();
        std::fs::create_dir_all(real.join("releases/1")).unwrap();
        std::os::unix::fs::symlink("releases/1", real.join("current")).unwrap();
        assert_eq!(folders(&real.join("current")), [real.clone(), real.join("releases")]);
        assert_eq!(folders(Path::new("/")), [Path::new("/")]);
        assert_eq!(folders(Path::new("/not-there")), [Path::new("/not-there")]);
    }

    #[test]
    fn programs_and_handlers_need_more() {
        let of = |programs, bpf| denied(Needs { programs, bpf });
        assert!(of(false, false).contains(&libc::SYS_execve) && !of(true, false).contains(&libc::SYS_execve));
        assert!(of(false, false).contains(&libc::SYS_bpf) && !of(false, true).contains(&libc::SYS_bpf));
    }
}
