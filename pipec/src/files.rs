//! Reading source files and what they use, and libraries made of them.

use anyhow::Context;
use clap::Args;
use pipe_lib::library::Fetched;
use pipe_lib::{Diagnostics, Library, Pipeline};
use std::collections::HashMap;
use std::io::Read;
use std::path::{Path, PathBuf};

/// Files whose pipes are known besides the standard ones.
#[derive(Args, Debug)]
pub(crate) struct LibraryArgs {
    /// Load the pipes, layouts and pipelines of a file
    #[arg(short = 'L', long = "library", value_name = "FILE.pipe")]
    pub(crate) libraries: Vec<PathBuf>,
}

impl LibraryArgs {
    /// The standard library and these files; shows what is wrong with them and gives nothing then.
    pub(crate) fn load(&self) -> anyhow::Result<Option<Library>> {
        let mut library = Library::standard();
        for path in &self.libraries {
            match load_file(&mut library, path)? {
                Ok(warnings) => crate::render::to_stderr(&warnings)?,
                Err(diagnostics) => {
                    crate::render::to_stderr(&diagnostics)?;
                    return Ok(None);
                }
            }
        }
        Ok(Some(library))
    }

    /// A pipeline of this library; shows what is wrong with it and gives nothing then.
    pub(crate) fn pipeline(&self, text: &str) -> anyhow::Result<Option<Pipeline>> {
        let Some(library) = self.load()? else { return Ok(None) };
        match library.pipeline(text) {
            Ok(pipeline) => Ok(Some(pipeline)),
            Err(diagnostics) => {
                crate::render::to_stderr(&diagnostics)?;
                Ok(None)
            }
        }
    }
}

/// Loads a file and what it uses: its warnings, or what is wrong with it.
pub(crate) fn load_file(
    library: &mut Library,
    path: &Path,
) -> anyhow::Result<Result<Diagnostics, Diagnostics>> {
    let mut known = Known::of(library);
    if known.name(path).is_some() {
        // Another file has used it already.
        return Ok(Ok(Diagnostics::default()));
    }
    let text = read(path)?;
    let name = known.enter(path);
    Ok(library.load_with(&name, &text, |from, path| known.fetch(from, path)))
}

/// The files that were read: each path that leads to a file, through `..` or links, stands for the name that
/// it was read by.
struct Known(HashMap<PathBuf, String>);

impl Known {
    fn of(library: &Library) -> Known {
        let names = library.sources().iter().map(|(_, source)| &source.name);
        Known(names.filter_map(|name| Some((std::fs::canonicalize(name).ok()?, name.clone()))).collect())
    }

    fn name(&self, path: &Path) -> Option<&String> {
        self.0.get(&std::fs::canonicalize(path).ok()?)
    }

    /// Takes up a path that was read, and gives the name by which the file is known from now on.
    fn enter(&mut self, path: &Path) -> String {
        let name = path.display().to_string();
        if let Ok(canonical) = std::fs::canonicalize(path) {
            self.0.insert(canonical, name.clone());
        }
        name
    }

    /// A file named by `use`, relative to the file that uses it. It is read once.
    fn fetch(&mut self, from: &str, path: &str) -> Result<Fetched, String> {
        let folder = Path::new(from).parent().unwrap_or(Path::new(""));
        let full = folder.join(path);
        if let Some(name) = self.name(&full) {
            return Ok(Fetched { name: name.clone(), text: String::new() });
        }
        // Neither the standard input nor a device: a text from a stranger must not make us wait.
        if std::fs::metadata(&full).is_ok_and(|metadata| !metadata.is_file()) {
            return Err(format!("{} is not a file", full.display()));
        }
        let text = read_file(&full).map_err(|error| format!("{error:#}"))?;
        Ok(Fetched { name: self.enter(&full), text })
    }
}

/// The text of a file, `-` for the standard input.
pub(crate) fn read(path: &Path) -> anyhow::Result<String> {
    if path == Path::new("-") {
        return text_of(std::io::stdin().lock(), path);
    }
    read_file(path)
}

fn read_file(path: &Path) -> anyhow::Result<String> {
    let file = std::fs::File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
    text_of(file, path)
}

fn text_of(from: impl Read, path: &Path) -> anyhow::Result<String> {
    // One byte more than the compiler takes, so that it is the one who refuses a longer file.
    let limit = pipe_lib::limits::SOURCE_BYTES as u64 + 1;
    let mut bytes = Vec::new();
    from.take(limit).read_to_end(&mut bytes).with_context(|| format!("cannot read {}", path.display()))?;
    String::from_utf8(bytes).map_err(|error| {
        anyhow::anyhow!("{} is not UTF-8 text (byte {})", path.display(), error.utf8_error().valid_up_to())
    })
}
