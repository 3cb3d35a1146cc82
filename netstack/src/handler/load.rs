//! From what a user says to handlers: names of those that come with us, files, pipelines; parameters that the
//! server knows.

use std::fmt;
use std::fs;
use std::path::Path;

use pipe_lib::handler::{Handler, HandlerError};
use pipe_lib::{Diagnostics, Library};

use super::NamedHandler;

/// The text of the handlers that come with us.
const STANDARD: &str = include_str!("handlers.pipe");

/// A parameter that a handler may have without being given it: `addr`, `http_port`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Binding {
    /// The parameter's name.
    pub name: &'static str,
    /// Its value.
    pub value: u64,
}

/// Why there is no such handler.
#[derive(Debug)]
pub enum LoadError {
    /// The file cannot be read.
    Read(String, std::io::Error),
    /// The text is wrong, or names nothing.
    Text(Diagnostics),
    /// The file has nothing of that name; what it has.
    NotThere(String, String, Vec<String>),
    /// It is no handler.
    Refused(String, HandlerError),
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LoadError::Read(path, error) => write!(f, "cannot read {path}: {error}"),
            LoadError::Text(diagnostics) => write!(f, "{diagnostics}"),
            LoadError::NotThere(path, name, names) => write!(
                f,
                "{path} has no pipe or pipeline `{name}`: name one, as in {path}:NAME, of {}",
                names.join(", ")
            ),
            LoadError::Refused(name, error) => write!(f, "{name}: {error}"),
        }
    }
}

impl core::error::Error for LoadError {}

/// The handler that `text` means: `NAME` or `NAME(parameter = value, ..)` of those that come with us, any
/// pipeline of these and the standard pipes, `FILE.pipe` for what bears the file's name in it, or
/// `FILE.pipe:PIPELINE`. Parameters that are not given get what `bindings` have for their names.
///
/// # Errors
/// See [`LoadError`].
pub fn load(text: &str, bindings: &[Binding]) -> Result<NamedHandler, LoadError> {
    let mut library = Library::standard();
    library.load("<handlers.pipe>", STANDARD).map_err(LoadError::Text)?;
    let (file, pipeline) = match text.find(".pipe") {
        Some(at) => {
            let (path, rest) = text.split_at(at + ".pipe".len());
            let stem = Path::new(path).file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
            (Some(path), rest.strip_prefix(':').unwrap_or(stem))
        }
        None => (None, text),
    };
    if let Some(path) = file {
        let known: Vec<String> = names(&library).collect();
        let source = fs::read_to_string(path).map_err(|error| LoadError::Read(path.to_owned(), error))?;
        library.load(path, &source).map_err(LoadError::Text)?;
        let is_name = pipeline.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        if is_name && !names(&library).any(|name| name == pipeline) {
            let own = names(&library).filter(|name| !known.contains(name)).collect();
            return Err(LoadError::NotThere(path.to_owned(), pipeline.to_owned(), own));
        }
    }
    let bound = bind(&library, pipeline, bindings);
    let composed = library.pipeline(&bound).map_err(LoadError::Text)?;
    let handler =
        Handler::new(composed.composition()).map_err(|error| LoadError::Refused(text.to_owned(), error))?;
    Ok(NamedHandler { name: text.to_owned(), handler })
}

fn names(library: &Library) -> impl Iterator<Item = String> + '_ {
    let pipes = library.pipes().map(|pipe| pipe.name.clone());
    pipes.chain(library.pipelines().map(|pipeline| pipeline.name.clone()))
}

/// `NAME` and `NAME(..)` with the parameters that they lack; anything else as it is.
fn bind(library: &Library, text: &str, bindings: &[Binding]) -> String {
    let (name, given) = match text.split_once('(') {
        Some((name, rest)) => match rest.trim_end().strip_suffix(')') {
            Some(given) if !given.contains(')') => (name.trim(), given.trim()),
            _ => return text.to_owned(),
        },
        None => (text.trim(), ""),
    };
    let params = library.pipe(name).map(|pipe| &pipe.params).or_else(|| {
        library.pipelines().find(|pipeline| pipeline.name == name).map(|pipeline| &pipeline.params)
    });
    let Some(params) = params else { return text.to_owned() };
    let is_given = |param: &str| {
        given.split(',').any(|argument| argument.split('=').next().is_some_and(|name| name.trim() == param))
    };
    let mut arguments: Vec<String> = if given.is_empty() { Vec::new() } else { vec![given.to_owned()] };
    for param in params.iter().filter(|param| !is_given(&param.name)) {
        if let Some(binding) = bindings.iter().find(|binding| binding.name == param.name) {
            arguments.push(format!("{} = {}", param.name, binding.value));
        }
    }
    if arguments.is_empty() { name.to_owned() } else { format!("{name}({})", arguments.join(", ")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BINDINGS: [Binding; 3] = [
        Binding { name: "addr", value: 0x0a09_0001 },
        Binding { name: "http_port", value: 80 },
        Binding { name: "https_port", value: 443 },
    ];

    #[test]
    fn handlers_by_name_with_what_the_server_knows() {
        for text in [
            "closed_ports",
            "foreign",
            "echo",
            "healthz",
            "healthz(health_port = 99)",
            "count_prefix(prefix = 1)",
        ] {
            let named = load(text, &BINDINGS).unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!(named.name, text);
        }
    }

    #[test]
    fn handlers_of_a_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("mine.pipe");
        let text = "pipe mine : u8 { state n: u8\n in x\n mov n, x\n export verdict = mov.u8 1\n export n }\n\
                    pipe other(addr: u32) : u8 { in _x\n export verdict = mov.u32 addr }\n";
        fs::write(&path, text).unwrap();
        let path = path.to_str().unwrap();
        assert_eq!(load(path, &BINDINGS).unwrap().handler.counters().collect::<Vec<_>>(), ["n"]);
        assert!(load(&format!("{path}:other"), &BINDINGS).is_ok());
        let error = load(&format!("{path}:third"), &BINDINGS).unwrap_err().to_string();
        assert!(
            error.contains("has no pipe or pipeline `third`") && error.contains("mine, other"),
            "{error}"
        );
        let error = load("nowhere.pipe", &BINDINGS).unwrap_err().to_string();
        assert!(error.contains("cannot read nowhere.pipe"), "{error}");
    }

    #[test]
    fn what_is_no_handler_is_told_why() {
        for (text, why) in [
            ("inet_cksum", "no export `verdict`"),
            ("xor8(key = 1)", "writes words"),
            ("count_prefix", "prefix"),
            ("closed_port", "closed_port"),
        ] {
            let error = load(text, &BINDINGS).unwrap_err().to_string();
            assert!(error.contains(why), "{text}: {error}");
        }
    }
}
