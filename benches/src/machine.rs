//! What a result was measured on: without that it is worth nothing.

use crate::contenders::allowed;
use pipe_lib::Features;
use serde::Serialize;
use std::fs;
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

/// The machine and the build.
#[derive(Clone, Debug, Serialize)]
pub struct Machine {
    /// As the processor calls itself.
    pub cpu: String,
    /// Processors online.
    pub cpus: usize,
    /// Data and unified caches of the first processor, by level.
    pub caches: Vec<String>,
    /// Whether a hypervisor is below: neighbours share caches and memory, and are not seen.
    pub is_virtual: bool,
    /// The kernel's way with huge pages for memory that asks for them.
    pub huge_pages: String,
    /// The kernel's release.
    pub kernel: String,
    /// The compiler, if it is there to be asked.
    pub rustc: String,
    /// Instruction set of the rivals.
    pub rivals: &'static str,
    /// The features that engines and rivals were kept to, if not all.
    pub features: Option<String>,
    /// Whether the build is optimised: without that no figure means anything.
    pub is_release: bool,
    /// Processes that were running when the measurement began, other than this one: above 0.5 the machine was
    /// not quiet.
    pub load: f64,
    /// Seconds since 1970.
    pub unix_time: u64,
}

impl Machine {
    /// This machine, now, kept to these features if any are named.
    pub fn here(features: Option<Features>) -> Machine {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default().trim().to_owned();
        let cpuinfo = read("/proc/cpuinfo");
        let cpu = cpuinfo.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
        let caches = (0..8).filter_map(|i| {
            let cache = |file: &str| read(&format!("/sys/devices/system/cpu/cpu0/cache/index{i}/{file}"));
            let (level, kind, size) = (cache("level"), cache("type"), cache("size"));
            (!size.is_empty() && kind != "Instruction")
                .then(|| format!("L{level} {} {size}", kind.to_lowercase()))
        });
        let rustc = Command::new("rustc").arg("--version").output().ok();
        let load = read("/proc/loadavg");
        Machine {
            cpu: cpu.map_or_else(|| std::env::consts::ARCH.into(), |(_, name)| name.into()),
            cpus: std::thread::available_parallelism().map_or(1, usize::from),
            caches: caches.collect(),
            is_virtual: cpuinfo.lines().any(|line| line.starts_with("flags") && line.contains(" hypervisor")),
            huge_pages: huge_pages(&read("/sys/kernel/mm/transparent_hugepage/enabled")),
            kernel: read("/proc/sys/kernel/osrelease"),
            rustc: rustc.map_or_else(String::new, |out| String::from_utf8_lossy(&out.stdout).trim().into()),
            rivals: allowed(features).isa.name(),
            features: features.map(|features| features.to_string()),
            is_release: !cfg!(debug_assertions),
            load: load.split(' ').next().and_then(|load| load.parse().ok()).unwrap_or(f64::NAN),
            unix_time: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()),
        }
    }

    /// What a reader of the results must be told, line by line.
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        if !self.is_release {
            warnings.push("not an optimised build: run with --release".into());
        }
        if let Some(features) = &self.features {
            warnings.push(format!(
                "engines and rivals were kept to {features}; a library marked \"alone\" uses all that the processor has"
            ));
        }
        if self.load > 0.5 {
            warnings.push(format!("the machine was busy (load {}): trust ratios more than rates", self.load));
        }
        warnings
    }
}

/// The chosen one of `always [madvise] never`.
fn huge_pages(text: &str) -> String {
    let chosen = text.split_once('[').and_then(|(_, rest)| rest.split_once(']'));
    chosen.map_or_else(|| "unknown".into(), |(word, _)| word.into())
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_chosen_word_stands_in_brackets() {
        assert_eq!(super::huge_pages("always [madvise] never"), "madvise");
        assert_eq!(super::huge_pages(""), "unknown");
    }
}
