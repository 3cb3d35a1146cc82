//! A configuration file: in TOML, what the command line says in options, and a table for each further host.
//!
//! There is one definition of what can be said, that of the command line (clap's): a key is the long name of
//! an option, its value what the option takes, `true` for one that takes nothing, a list for one that may be
//! given several times. So what is an option is a key, too. What is said on the command line takes the place
//! of what the file says.
//!
//! ```toml
//! site = "/srv/www"                       # what stands on the command line without a name
//! listen = "0.0.0.0:80"
//!
//! [[host]]
//! names = ["example.org", "*.example.org"]
//! site = "/srv/example.img"
//! clean-urls = true
//! ```

use std::ffi::OsString;
use std::fmt;
use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};

use anyhow::Context;
use cheetah::hosts::HostName;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Args, Command, FromArgMatches};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::site::SiteOptions;
use super::{Arguments, Usage};

/// The key of what has no name on the command line.
const SITE: &str = "site";

/// The key of a host's names.
const NAMES: &str = "names";

/// The key of the tables of hosts.
const HOST: &str = "host";

/// Options of the command line that say nothing about the server.
const NO_KEYS: [&str; 2] = ["config", "help"];

/// All that was said: on the command line, and in a configuration.
#[derive(Debug)]
pub(in crate::cmd) struct Plan {
    pub(super) arguments: Arguments,
    pub(super) named: Vec<NamedSite>,
    /// Settings of the file's top.
    settings: Vec<Setting>,
}

/// A host's table.
#[derive(Debug)]
pub(super) struct NamedSite {
    pub(super) names: Vec<HostName>,
    pub(super) options: SiteOptions,
}

/// A key with its value, as the command line would have it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Setting {
    key: String,
    words: Vec<OsString>,
}

/// What is wrong with a configuration, and where.
#[derive(Debug)]
struct ConfigErrors {
    path: PathBuf,
    /// Lines and columns, counted from 1, and what to write instead.
    problems: Vec<(usize, usize, String)>,
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, (line, column, message)) in self.problems.iter().enumerate() {
            let end = if at + 1 == self.problems.len() { "" } else { "\n" };
            write!(f, "{}:{line}:{column}: {message}{end}", self.path.display())?;
        }
        Ok(())
    }
}

impl core::error::Error for ConfigErrors {}

impl Plan {
    /// What `words`, those of the command line behind `serve`, say, together with the configuration that they
    /// name.
    pub(super) fn of_words(words: &[OsString]) -> anyhow::Result<Plan> {
        let matches = command("cheetah serve").try_get_matches_from(behind_name(words))?;
        let arguments = Arguments::from_arg_matches(&matches)?;
        match &arguments.config {
            None => Ok(Plan { arguments, named: Vec::new(), settings: Vec::new() }),
            Some(path) => Plan::read(path, words, &matches),
        }
    }

    /// What the configuration at `path` says.
    pub(in crate::cmd) fn of_file(path: &Path) -> anyhow::Result<Plan> {
        Plan::of_words(&["--config".into(), path.into()])
    }

    fn read(path: &Path, words: &[OsString], given: &ArgMatches) -> anyhow::Result<Plan> {
        let text = fs::read_to_string(path).with_context(|| path.display().to_string())?;
        let mut reader = Reader { text: &text, problems: Vec::new() };
        let (settings, named) = reader.read();
        if !reader.problems.is_empty() {
            let problems = reader.problems.into_iter();
            let problems = problems.map(|(span, message)| {
                let (line, column) = position(&text, span.start);
                (line, column, message)
            });
            let mut problems: Vec<_> = problems.collect();
            problems.sort();
            return Err(ConfigErrors { path: path.to_owned(), problems }.into());
        }
        let command = command("cheetah serve");
        let mut all = vec![OsString::from("cheetah serve")];
        let mut site = None;
        for Setting { key, words } in &settings {
            let Some(of) = argument(&command, key) else { continue };
            let is_given = given.value_source(of.get_id().as_str()) == Some(ValueSource::CommandLine);
            match words.first() {
                _ if is_given => {}
                Some(word) if of.is_positional() => site = Some(word.clone()),
                _ => all.extend_from_slice(words),
            }
        }
        all.extend_from_slice(words);
        if let Some(site) = site {
            all.extend(["--".into(), site]);
        }
        let matches = command.try_get_matches_from(all).map_err(|error| of_file(path, &error))?;
        let arguments = Arguments::from_arg_matches(&matches)?;
        Ok(Plan { arguments, named, settings })
    }

    /// Keys whose values are others than in `earlier`, of options that are only looked at when the server
    /// starts.
    pub(super) fn unheeded<'a>(&'a self, earlier: &'a Plan) -> Vec<&'a str> {
        let of_sites = site_command();
        let is_fixed = |setting: &&Setting| argument(&of_sites, &setting.key).is_none();
        let lacks = |plan: &Plan, setting: &Setting| !plan.settings.contains(setting);
        let fresh = self.settings.iter().filter(|setting| lacks(earlier, setting));
        let gone = earlier.settings.iter().filter(|setting| lacks(self, setting));
        let mut keys: Vec<&str> = fresh.chain(gone).filter(is_fixed).map(|of| of.key.as_str()).collect();
        keys.sort_unstable();
        keys.dedup();
        keys
    }
}

fn behind_name(words: &[OsString]) -> impl Iterator<Item = OsString> {
    std::iter::once("cheetah serve".into()).chain(words.iter().cloned())
}

/// All options of `serve`.
fn command(name: &'static str) -> Command {
    Arguments::augment_args(Command::new(name))
}

/// The options of a host.
fn site_command() -> Command {
    SiteOptions::augment_args(Command::new("host"))
}

/// The option that `key` names.
fn argument<'a>(command: &'a Command, key: &str) -> Option<&'a Arg> {
    command.get_arguments().find(|arg| match arg.get_long() {
        Some(long) => long == key && !NO_KEYS.contains(&long),
        None => arg.is_positional() && key == SITE,
    })
}

/// The options together say something that cannot be: what clap says of it, without how the program is
/// called.
fn of_file(path: &Path, error: &clap::Error) -> Usage {
    Usage(format!("{}: {}", path.display(), first_part(error)))
}

fn first_part(error: &clap::Error) -> String {
    let text = error.render().to_string();
    let text = text.strip_prefix("error: ").unwrap_or(&text);
    let end = text.find("\n\n").unwrap_or(text.len());
    text[..end].trim().to_owned()
}

/// Line and column, from 1, of a byte; columns are characters.
fn position(text: &str, at: usize) -> (usize, usize) {
    let before = &text[..at.min(text.len())];
    let line_start = before.rfind('\n').map_or(0, |end| end + 1);
    (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
}

struct Reader<'a> {
    text: &'a str,
    problems: Vec<(Range<usize>, String)>,
}

impl Reader<'_> {
    fn read(&mut self) -> (Vec<Setting>, Vec<NamedSite>) {
        let top = match DeTable::parse(self.text) {
            Ok(top) => top,
            Err(error) => {
                self.problem(error.span().unwrap_or(0..0), error.message().to_owned());
                return Default::default();
            }
        };
        let command = command("top");
        let (mut settings, mut named) = (Vec::new(), Vec::new());
        for (key, value) in top.get_ref().iter() {
            if key.get_ref() != HOST {
                settings.extend(self.setting(&command, key.get_ref(), key.span(), value));
                continue;
            }
            let tables =
                value.get_ref().as_array().filter(|tables| tables.iter().all(|of| of.get_ref().is_table()));
            let Some(tables) = tables else {
                self.problem(key.span(), "each host is a table of its own: write [[host]]".to_owned());
                continue;
            };
            for table in tables.iter() {
                if let Some(table_of) = table.get_ref().as_table() {
                    named.extend(self.host(table_of, table.span()));
                }
            }
        }
        (settings, named)
    }

    fn problem(&mut self, span: Range<usize>, message: String) {
        self.problems.push((span, message));
    }

    fn host(&mut self, table: &DeTable<'_>, span: Range<usize>) -> Option<NamedSite> {
        let command = site_command();
        let mut words = vec![OsString::from("host")];
        let (mut names, mut site) = (Vec::new(), None);
        let before = self.problems.len();
        for (key, value) in table.iter() {
            if key.get_ref() == NAMES {
                names = self.names(value);
                if names.is_empty() && self.problems.len() == before {
                    self.problem(value.span(), "a host has a name, or no request is for it".to_owned());
                }
                continue;
            }
            let Some(setting) = self.setting(&command, key.get_ref(), key.span(), value) else { continue };
            if setting.key == SITE {
                site = setting.words.into_iter().next();
            } else {
                words.extend(setting.words);
            }
        }
        if names.is_empty() && self.problems.len() == before {
            self.problem(span.clone(), "a host needs names: names = [\"example.org\"]".to_owned());
        }
        let Some(site) = site else {
            if self.problems.len() == before {
                self.problem(
                    span,
                    "a host needs something to serve: site = \"/srv/www\", or an image".to_owned(),
                );
            }
            return None;
        };
        words.extend(["--".into(), site]);
        match command.try_get_matches_from(words).and_then(|matches| SiteOptions::from_arg_matches(&matches))
        {
            Ok(options) => Some(NamedSite { names, options }),
            Err(error) => {
                self.problem(span, first_part(&error));
                None
            }
        }
    }

    fn names(&mut self, value: &Spanned<DeValue<'_>>) -> Vec<HostName> {
        let several = value.get_ref().as_array().map(|names| names.iter().collect());
        let mut names = Vec::new();
        for name in several.unwrap_or_else(|| vec![value]) {
            match name.get_ref().as_str().map(str::parse) {
                Some(Ok(name)) => names.push(name),
                Some(Err(error)) => self.problem(name.span(), error),
                None => {
                    self.problem(name.span(), "write names in quotes: names = [\"example.org\"]".to_owned())
                }
            }
        }
        names
    }

    /// A key as the command line would say it, if it is right.
    fn setting(
        &mut self,
        command: &Command,
        key: &str,
        key_span: Range<usize>,
        value: &Spanned<DeValue<'_>>,
    ) -> Option<Setting> {
        let Some(of) = argument(command, key) else {
            self.problem(key_span, unknown(command, key));
            return None;
        };
        let mut words = Vec::new();
        let takes_list = matches!(of.get_action(), ArgAction::Append);
        match value.get_ref() {
            DeValue::Boolean(is_on) if matches!(of.get_action(), ArgAction::SetTrue) => {
                words.extend(is_on.then(|| OsString::from(format!("--{key}"))));
            }
            _ if matches!(of.get_action(), ArgAction::SetTrue) => {
                self.problem(value.span(), format!("`{key}` is true or false"));
                return None;
            }
            DeValue::Array(values) if takes_list => {
                for value in values.iter() {
                    words.push(self.word(of, key, value)?);
                }
            }
            DeValue::Array(_) => {
                self.problem(value.span(), format!("`{key}` has one value, not a list"));
                return None;
            }
            _ => words.push(self.word(of, key, value)?),
        }
        Some(Setting { key: key.to_owned(), words })
    }

    /// One value, if the option takes it.
    fn word(&mut self, of: &Arg, key: &str, value: &Spanned<DeValue<'_>>) -> Option<OsString> {
        let text = match value.get_ref() {
            DeValue::String(text) => text.to_string(),
            DeValue::Integer(number) => match i64::from_str_radix(number.as_str(), number.radix()) {
                Ok(number) => number.to_string(),
                Err(_) => number.to_string(),
            },
            other => {
                let name = of.get_value_names().and_then(|names| names.first()).map_or("VALUE", |name| name);
                let kind = other.type_str();
                self.problem(
                    value.span(),
                    format!("`{key}` takes {name}, as a string or a number, no {kind}"),
                );
                return None;
            }
        };
        // The option by itself: what it asks of others is looked at when all are known.
        let alone = Arg::new("value").long("value").value_parser(of.get_value_parser().clone());
        let command = Command::new("one").no_binary_name(true).arg(alone);
        let parsed = command.try_get_matches_from([format!("--value={text}")]);
        if let Err(error) = parsed {
            self.problem(value.span(), format!("`{key}`: {}", why(&error, &text)));
            return None;
        }
        Some(if of.is_positional() { text.into() } else { format!("--{key}={text}").into() })
    }
}

/// Why a value is refused, and what there is instead.
fn why(error: &clap::Error, text: &str) -> String {
    if let Some(ContextValue::Strings(there_are)) = error.get(ContextKind::ValidValue) {
        return format!("there is no `{text}`, but {}", there_are.join(", "));
    }
    match (error.kind(), core::error::Error::source(error)) {
        (ErrorKind::ValueValidation, Some(source)) => source.to_string(),
        _ => first_part(error),
    }
}

/// There is no such key; perhaps a similar one, by clap's measure.
fn unknown(command: &Command, key: &str) -> String {
    if [NAMES, HOST].iter().any(|of| key.trim_end_matches('s') == of.trim_end_matches('s')) {
        return format!(
            "`{key}`: names stand in a table of a host, [[host]] in front and names = [...] in it"
        );
    }
    let word = format!("--{key}");
    let error = command.clone().try_get_matches_from(["", &word]).err();
    let suggested = error.as_ref().and_then(|error| error.get(ContextKind::SuggestedArg));
    let is_key = |long: &&str| argument(command, long).is_some();
    let similar = match suggested {
        Some(ContextValue::String(option)) => Some(option.trim_start_matches('-')).filter(is_key),
        _ => None,
    };
    match similar {
        Some(similar) => format!("there is no `{key}`: is it `{similar}`?"),
        None => format!("there is no `{key}`: keys are the options of `cheetah serve --help`"),
    }
}

#[cfg(test)]
mod tests;
