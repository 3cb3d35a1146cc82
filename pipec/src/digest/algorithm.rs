//! The digests by name: those of pipes, and those of other crates.

use pipe_lib::Library;
use pipe_lib::digest::DigestKind;

/// A digest that can be asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Algorithm {
    /// As `-a` takes it and JSON has it: `sha3-256`.
    pub(crate) name: String,
    /// As it stands in front of a line: `SHA3-256`.
    pub(crate) tag: String,
    /// Bytes of a value.
    pub(crate) bytes: usize,
    pub(crate) source: Source,
    /// The old tools, which print a decimal number and the size behind it.
    pub(crate) classic: Option<Classic>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// A stage of a pipeline, and the export of it.
    Pipe { stage: String, export: String },
    /// Another crate's.
    Opaque(DigestKind),
}

/// How one of the old tools prints its line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Classic {
    /// `cksum`: the number and the bytes.
    Cksum,
    /// `sum -r`: five digits, and blocks of 1,024 bytes right-aligned.
    Bsd,
    /// `sum -s`: the number and blocks of 512 bytes.
    Sysv,
}

/// Pipes that are known by other names than the library's: name, tag, pipe, export.
const PIPES: [(&str, &str, &str, &str); 13] = [
    ("crc32", "CRC32", "crc32", "crc"),
    ("crc32c", "CRC32C", "crc32c", "crc"),
    ("crc64nvme", "CRC64NVME", "crc64_nvme", "crc"),
    ("crc16-t10dif", "CRC16-T10DIF", "crc16_t10dif", "crc"),
    ("adler32", "ADLER32", "adler32", "adler"),
    ("fletcher16", "FLETCHER16", "fletcher16", "fletcher"),
    ("fletcher32", "FLETCHER32", "fletcher32", "fletcher"),
    ("fletcher64", "FLETCHER64", "fletcher64", "fletcher"),
    ("fnv1a64", "FNV1A64", "fnv1a64", "hash"),
    ("inet", "INET", "inet_cksum", "cksum"),
    ("cksum", "CKSUM", "cksum_posix", "cksum"),
    ("bsd", "BSD", "sum_bsd", "sum"),
    ("sysv", "SYSV", "sum_sysv", "sum"),
];

/// Other names that people know: coreutils', RHash's, XXH's.
const ALIASES: [(&str, &str); 6] = [
    ("crc", "cksum"),
    ("crc64", "crc64nvme"),
    ("t10dif", "crc16-t10dif"),
    ("sha512256", "sha512/256"),
    ("xxh364", "xxh3"),
    ("xxh3128", "xxh128"),
];

/// Behind the names: why the usual ones are missing, if they are.
const NOTE: &str =
    if cfg!(feature = "digests") { "" } else { " (this `pipec` was built without its feature `digests`)" };

/// Those of other crates that take no key.
fn opaque() -> impl Iterator<Item = DigestKind> {
    DigestKind::ALL.iter().copied().filter(|kind| kind.key_words() == 0)
}

/// All by their names, pipes first.
pub(crate) fn names() -> Vec<String> {
    let pipes = PIPES.iter().map(|(name, ..)| (*name).to_owned());
    pipes.chain(opaque().map(|kind| kind.title().to_lowercase())).collect()
}

/// Letters and digits alone, small: tools disagree about the rest (`SHA-256`, `SHA3_256`).
fn plain(name: &str) -> String {
    name.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_lowercase()).collect()
}

impl Algorithm {
    /// The digest of that name, however it is spelled; without it the export of a pipe in the library, as
    /// `pipe.export`, or `pipe` where it has but one.
    ///
    /// # Errors
    /// What to write instead.
    pub(crate) fn named(text: &str, library: &Library) -> Result<Algorithm, String> {
        if let Some(found) = Algorithm::known(text, library) {
            return Ok(found);
        }
        let (stage, export) = text.split_once('.').map_or((text, None), |(stage, e)| (stage, Some(e)));
        let Some(pipe) = library.pipe(stage).filter(|pipe| pipe.digest.is_none()) else {
            return Err(format!(
                "no digest `{text}`: there are {}, and the pipes of `pipec list`{}",
                names().join(", "),
                NOTE,
            ));
        };
        if pipe.out.is_some() {
            return Err(format!("`{stage}` writes: a digest is of a pipe that only reads"));
        }
        if let Some(param) = pipe.params.iter().find(|param| param.default.is_none()) {
            let (param, pipeline) = (&param.name, format!("{stage}({}=..)", param.name));
            return Err(format!(
                "`{stage}` wants its parameter `{param}`: `pipec run '{pipeline}'` takes it"
            ));
        }
        let exports: Vec<&str> = pipe.exports.iter().map(|export| &*export.name).collect();
        let wanted = match (export, &*exports) {
            (None, [only]) => *only,
            (None, []) => return Err(format!("`{stage}` exports nothing")),
            (Some(export), all) if all.contains(&export) => export,
            _ => {
                let ways = exports.iter().map(|export| format!("`{stage}.{export}`"));
                return Err(format!("write {}", ways.collect::<Vec<_>>().join(" or ")));
            }
        };
        let export = pipe.exports.iter().find(|export| &*export.name == wanted);
        let bits = export.map_or(64, |export| pipe.finish.ty(export.value).bits());
        Ok(Algorithm {
            name: text.to_owned(),
            tag: text.to_uppercase(),
            bytes: (bits as usize).div_ceil(8),
            source: Source::Pipe { stage: stage.to_owned(), export: wanted.to_owned() },
            classic: None,
        })
    }

    /// One that has a name of its own.
    pub(crate) fn known(text: &str, library: &Library) -> Option<Algorithm> {
        let wanted = plain(text);
        let wanted =
            ALIASES.iter().find(|(alias, _)| *alias == wanted).map_or(wanted, |(_, name)| plain(name));
        if let Some(&(name, tag, stage, export)) = PIPES.iter().find(|(name, ..)| plain(name) == wanted) {
            let pipe = library.pipe(stage)?;
            let value = pipe.exports.iter().find(|known| &*known.name == export)?.value;
            return Some(Algorithm {
                name: name.to_owned(),
                tag: tag.to_owned(),
                bytes: pipe.finish.ty(value).bits() as usize / 8,
                source: Source::Pipe { stage: stage.to_owned(), export: export.to_owned() },
                classic: match name {
                    "cksum" => Some(Classic::Cksum),
                    "bsd" => Some(Classic::Bsd),
                    "sysv" => Some(Classic::Sysv),
                    _ => None,
                },
            });
        }
        let kind = opaque().find(|kind| plain(kind.title()) == wanted)?;
        Some(Algorithm {
            name: kind.title().to_lowercase(),
            tag: kind.title().to_owned(),
            bytes: kind.bytes(),
            source: Source::Opaque(kind),
            classic: None,
        })
    }
}
