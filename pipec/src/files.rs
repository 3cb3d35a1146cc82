//! Reading source files and what they use, and libraries made of them.

use anyhow::Context;
use clap::Args;
use pipe_lib::library::Fetched;
use pipe_lib::{Diagnostics, Library, Pipeline};
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
    let text = read(path)?;
    let name = path.display().to_string();
    if library.sources().find(&name).is_some() {
        // Another file has used it already.
        return Ok(Ok(Diagnostics::default()));
    }
    Ok(library.load_with(&name, &text, fetch))
}

/// A file named by `use`, relative to the file that uses it.
fn fetch(from: &str, path: &str) -> Result<Fetched, String> {
    let folder = Path::new(from).parent().unwrap_or(Path::new(""));
    let full = folder.join(path);
    let text = read(&full).map_err(|error| format!("{error:#}"))?;
    Ok(Fetched { name: full.display().to_string(), text })
}

/// The text of a file, `-` for the standard input.
pub(crate) fn read(path: &Path) -> anyhow::Result<String> {
    use std::io::Read as _;
    // One byte more than the compiler takes, so that it is the one who refuses a longer file.
    let limit = pipe_lib::limits::SOURCE_BYTES as u64 + 1;
    let mut bytes = Vec::new();
    let cannot = || format!("cannot read {}", path.display());
    if path == Path::new("-") {
        std::io::stdin().lock().take(limit).read_to_end(&mut bytes).with_context(cannot)?;
    } else {
        let file = std::fs::File::open(path).with_context(cannot)?;
        file.take(limit).read_to_end(&mut bytes).with_context(cannot)?;
    }
    String::from_utf8(bytes).map_err(|error| {
        anyhow::anyhow!("{} is not UTF-8 text (byte {})", path.display(), error.utf8_error().valid_up_to())
    })
}
