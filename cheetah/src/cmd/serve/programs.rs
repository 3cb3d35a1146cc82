//! Which programs answer, from the command line.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use cheetah::accelerator::{self, ArchiveOptions, Archivist, Cache};
use cheetah::programs::{Address, Config, Limits, Origin, Route, Start, Target};
use cheetah::upload::Tokens;

use super::Usage;
use crate::cmd::source::Bytes;

/// How long an image of responses gets, unless said otherwise.
const IMAGE_BYTES: u64 = 4 << 30;

/// Programs that answer for some paths (docs/programs.md)
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Programs")]
pub(super) struct RouteOptions {
    /// What is below this path is answered by a FastCGI program that listens at unix:/PATH or tcp:HOST:PORT;
    /// may be given several times
    #[arg(long, value_name = "/PREFIX=ADDRESS")]
    fastcgi: Vec<String>,
    /// What is below this path is answered by a program that shares memory with the server
    /// (docs/programs.md): a command that each thread starts, or unix:/PATH; may be given several times
    #[arg(long, value_name = "/PREFIX=COMMAND")]
    program: Vec<String>,
    /// /PREFIX/NAME is answered by the program NAME in this folder, started for each request; may be given
    /// several times
    #[arg(long, value_name = "/PREFIX=DIR")]
    cgi: Vec<String>,
    /// What is below this path is answered by the HTTP server at http://HOST or http://HOST:PORT; may be
    /// given several times (docs/accelerator.md)
    #[arg(long, value_name = "/PREFIX=ORIGIN")]
    origin: Vec<String>,
}

/// Limits of programs
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Programs")]
pub(super) struct ProgramOptions {
    /// One more parameter for programs, as SCRIPT_FILENAME=/srv/app/index.php; may be given several times
    #[arg(long, value_name = "NAME=VALUE")]
    program_param: Vec<String>,
    /// How long a program may be silent before its request is answered by 504
    #[arg(long, value_name = "SECONDS", default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    program_timeout: u64,
    /// Connections to one program at once, of each thread
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = clap::value_parser!(u16).range(1..=1024))]
    program_connections: u16,
    /// Content that a request to a program may have; it is gathered before the program hears of it
    #[arg(long, value_name = "BYTES", default_value_t = 1 << 20)]
    program_content: u64,
    /// What is kept in memory of what origins answer, as in 256M (the default); 0 keeps nothing
    #[arg(long, value_name = "BYTES", default_value = "256M")]
    origin_cache: Bytes,
    /// Content of one response of an origin that is kept, as in 16M (the default)
    #[arg(long, value_name = "BYTES", default_value = "16M")]
    origin_object: Bytes,
    /// Keep it in this file, too, an image that the server makes and changes, so that it is there after a
    /// restart
    #[arg(long, value_name = "FILE")]
    origin_image: Option<PathBuf>,
    /// How long that file gets, as in 4G (the default); 64M at least
    #[arg(long, value_name = "BYTES", requires = "origin_image")]
    origin_image_size: Option<Bytes>,
    /// Who has one of the tokens in FILE, one a line, may have what is kept of an address forgotten: PURGE,
    /// with `Authorization: Bearer TOKEN`
    #[arg(long, value_name = "FILE")]
    purge_tokens: Option<PathBuf>,
}

impl RouteOptions {
    /// Whether no program answers.
    pub(super) fn is_empty(&self) -> bool {
        self.fastcgi.is_empty() && self.program.is_empty() && self.cgi.is_empty() && self.origin.is_empty()
    }

    /// Whether the server starts any of them itself.
    pub(super) fn start_programs(&self) -> bool {
        let listens =
            |text: &String| text.split_once('=').is_some_and(|(_, start)| start.starts_with("unix:"));
        !self.cgi.is_empty() || !self.program.iter().all(listens)
    }

    /// The programs that were asked for, of that scope.
    pub(super) fn routes(&self, scope: u32) -> anyhow::Result<Vec<Route>> {
        let mut routes = Vec::new();
        for text in &self.fastcgi {
            let route = |prefix: &str, address: &str| {
                let target = Target::FastCgi(Address::parse(address)?);
                Route::new(prefix, target).map_err(str::to_owned)
            };
            routes.push(split("--fastcgi", "/PREFIX=ADDRESS", text, route)?.for_scope(scope));
        }
        for text in &self.program {
            let route = |prefix: &str, start: &str| {
                Route::new(prefix, Target::Shared(Start::parse(start)?)).map_err(str::to_owned)
            };
            routes.push(split("--program", "/PREFIX=COMMAND", text, route)?.for_scope(scope));
        }
        for text in &self.cgi {
            let route = |prefix: &str, dir: &str| {
                let dir = std::fs::canonicalize(dir).map_err(|error| format!("{dir}: {error}"))?;
                if !dir.is_dir() {
                    return Err(format!("{} is no folder", dir.display()));
                }
                Route::new(prefix, Target::Cgi(dir)).map_err(str::to_owned)
            };
            routes.push(split("--cgi", "/PREFIX=DIR", text, route)?.for_scope(scope));
        }
        for text in &self.origin {
            let route = |prefix: &str, origin: &str| {
                Route::new(prefix, Target::Origin(Origin::parse(origin)?)).map_err(str::to_owned)
            };
            routes.push(split("--origin", "/PREFIX=http://HOST:PORT", text, route)?.for_scope(scope));
        }
        for (at, route) in routes.iter().enumerate() {
            if routes[..at].iter().any(|other| other.prefix() == route.prefix()) {
                bail!(Usage(format!(
                    "{}/ is given to two programs: give each a path of its own",
                    route.prefix()
                )));
            }
        }
        Ok(routes)
    }
}

impl ProgramOptions {
    /// What answers by `routes`.
    pub(super) fn config(&self, routes: Vec<Route>) -> anyhow::Result<Arc<Config>> {
        let mut config = Config {
            routes,
            limits: Limits {
                timeout: Duration::from_secs(self.program_timeout),
                max_links: usize::from(self.program_connections),
                max_content: self.program_content,
                ..Limits::default()
            },
            ..Config::default()
        };
        let has_origin = config.routes.iter().any(|route| matches!(route.target(), Target::Origin(_)));
        if has_origin && self.origin_cache.0 > 0 {
            let limits = accelerator::Limits { bytes: self.origin_cache.0, object: self.origin_object.0 };
            config.cache = Some(Arc::new(Cache::new(limits)));
        }
        if self.origin_image.is_some() && config.cache.is_none() {
            bail!(Usage(
                "--origin-image keeps what origins answer: name one by --origin, and leave --origin-cache 0 out"
                    .to_owned()
            ));
        }
        if self.image_bytes() < accelerator::MIN_IMAGE_BYTES {
            bail!(Usage("--origin-image-size: give 64M or more".to_owned()));
        }
        if let Some(path) = &self.purge_tokens {
            let tokens = Tokens::load(path).with_context(|| format!("--purge-tokens {}", path.display()))?;
            config.purgers = Some(tokens);
        }
        for text in &self.program_param {
            let param = |name: &str, value: &str| {
                let is_name = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
                if name.is_empty() || !name.bytes().all(is_name) {
                    return Err(format!("`{name}` is no name of a parameter"));
                }
                Ok((name.to_owned(), value.to_owned()))
            };
            config.params.push(split("--program-param", "NAME=VALUE", text, param)?);
        }
        Ok(Arc::new(config))
    }

    fn image_bytes(&self) -> u64 {
        self.origin_image_size.map_or(IMAGE_BYTES, |Bytes(bytes)| bytes)
    }

    /// The image of what origins answer, if there is one.
    pub(super) fn image(&self) -> Option<&Path> {
        self.origin_image.as_deref()
    }

    /// Opens it, or makes it, for what `config` keeps.
    pub(super) fn open_image(&self, config: &Config) -> anyhow::Result<Option<Archivist>> {
        let (Some(path), Some(cache)) = (&self.origin_image, &config.cache) else { return Ok(None) };
        let origins = config.routes.iter().filter_map(|route| match route.target() {
            Target::Origin(origin) => Some(format!("{} {}/ {origin}\n", route.scope(), route.prefix())),
            _ => None,
        });
        let options =
            ArchiveOptions { path: path.clone(), bytes: self.image_bytes(), origins: origins.collect() };
        let archivist = Archivist::start(cache, &options);
        Ok(Some(archivist.with_context(|| format!("--origin-image {}", path.display()))?))
    }
}

/// Makes something of the two parts of an option's value.
fn split<T>(
    option: &str,
    form: &str,
    text: &str,
    make: impl Fn(&str, &str) -> Result<T, String>,
) -> anyhow::Result<T> {
    let Some((left, right)) = text.split_once('=') else {
        bail!(Usage(format!("{option} {text}: give {form}")));
    };
    make(left, right).map_err(|why| Usage(format!("{option} {text}: {why}")).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_starts_a_program_is_told_from_what_listens() {
        let starts = |program: &str| {
            let program = vec![program.to_owned()];
            RouteOptions { fastcgi: Vec::new(), program, cgi: Vec::new(), origin: Vec::new() }
                .start_programs()
        };
        assert!(!starts("/app=unix:/run/x"));
        assert!(starts("/app=/usr/bin/app"));
        assert!(starts("/app=/usr/bin/app --listen=unix:/run/x"));
    }
}
