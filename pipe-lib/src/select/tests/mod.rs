//! What is selected, as text that is kept: see [`goldens`].

mod catalogue;
mod forms;
mod goldens;
mod listing;

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

/// The environment variable that makes what comes out the golden text.
const BLESS: &str = "BLESS_GOLDENS";

/// How to look at a difference, and how to accept it.
const ADVICE: &str = "if that is what was meant, `just bless` (or `BLESS_GOLDENS=1 cargo test -p pipe-lib --lib goldens`) keeps it, \
                      and the commit says why; `git diff pipe-lib/goldens` shows it";

/// The folder of golden texts.
fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("goldens")
}

/// Texts that differ from what is kept.
#[derive(Default)]
struct Differences(String);

impl Differences {
    /// Compares with the file, or writes it where that was asked for.
    fn compare(&mut self, path: &Path, is: &str) {
        let was = std::fs::read_to_string(path).unwrap_or_default();
        if was == is {
            return;
        }
        if std::env::var_os(BLESS).is_some() {
            return std::fs::write(path, is).unwrap();
        }
        let name = path.file_name().unwrap_or_default().display();
        let at = was.lines().zip(is.lines()).take_while(|(was, is)| was == is).count();
        let line = |text: &str| text.lines().nth(at).unwrap_or("(the end)").to_owned();
        let section = is.lines().take(at + 1).filter(|line| line.starts_with("====")).last().unwrap_or("");
        let _ = writeln!(self.0, "{name}, line {}, {section}:\n- {}\n+ {}", at + 1, line(&was), line(is));
    }

    #[track_caller]
    fn demand_none(&self) {
        assert!(self.0.is_empty(), "{}\n{ADVICE}", self.0);
    }
}
