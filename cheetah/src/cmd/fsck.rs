//! `cheetah fsck SITE.img`: checks every byte of an image that has a checksum.

use std::fs::File;
use std::io::Write;
use std::path::PathBuf;

use anyhow::Context;
use cheetah::site::tags::{self, Compared};
use fsstack::device::FileDevice;
use fsstack::image::check;
use fsstack::log::Generation;
use fsstack::{Image, OpenError, OpenOptions};

use super::image::is_log;
use super::progress;

/// Check an image whole: metadata, contents, application areas, partial sums
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The image file
    image: PathBuf,
    /// Print a JSON object
    #[arg(long)]
    json: bool,
    /// If it is sound, read all files once more, and compare them with the BLAKE3 that is in their entity
    /// tags: checksums find damage, and this finds other contents with sound checksums. Files that are
    /// changed in part have no such tag; of how many there is one is told
    #[arg(long)]
    tags: bool,
}

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    if is_log(&arguments.image) {
        return check_log(arguments);
    }
    let name = arguments.image.display();
    let image = match Image::open(&arguments.image, &OpenOptions::default()) {
        Ok(image) => image,
        Err(error) => {
            if arguments.json {
                print_json(&Outcome {
                    sound: false,
                    problems: vec![error.to_string()],
                    ..Outcome::default()
                })?;
            }
            return Err(refused(arguments, &error)).context(error).with_context(|| format!("{name}"));
        }
    };
    let bar = progress::bar(image.superblock().content_bytes);
    let report = check::check(&image, |bytes| bar.set_position(bytes));
    bar.finish_and_clear();
    let outcome = Outcome {
        sound: report.is_clean(),
        files: report.files,
        directories: report.directories,
        content_bytes: report.content_bytes,
        problems: report.problems.iter().map(ToString::to_string).collect(),
        more_problems: report.more_problems,
        tags: None,
    };
    conclude(arguments, outcome)
}

/// An image that was changed: every segment of it, and that they make a tree.
fn check_log(arguments: &Arguments) -> anyhow::Result<()> {
    let outcome = match Generation::open(&arguments.image, &OpenOptions::default()) {
        Ok(generation) => {
            let bar = progress::bar(generation.segment_bytes());
            let checked = generation.check(|bytes| bar.set_position(bytes));
            bar.finish_and_clear();
            Outcome {
                sound: checked.problems.is_empty(),
                files: checked.files,
                directories: checked.directories,
                content_bytes: checked.content_bytes,
                problems: checked.problems.iter().map(ToString::to_string).collect(),
                more_problems: checked.more_problems,
                tags: None,
            }
        }
        Err(error) => {
            if arguments.json {
                let problems = vec![error.to_string()];
                print_json(&Outcome { sound: false, problems, ..Outcome::default() })?;
            }
            return Err(error).with_context(|| arguments.image.display().to_string());
        }
    };
    conclude(arguments, outcome)
}

/// Of an image that is sound so far, and if it was asked for.
fn compare_tags(arguments: &Arguments, outcome: Outcome) -> Outcome {
    if !arguments.tags || !outcome.sound {
        return outcome;
    }
    let image = match Generation::open(&arguments.image, &OpenOptions::default()) {
        Ok(image) => image,
        // Somebody did something to it in between.
        Err(error) => return Outcome { sound: false, problems: vec![error.to_string()], ..outcome },
    };
    let bar = progress::bar(image.segment_bytes());
    let Compared { files, compared, problems, more_problems } =
        tags::compare(&image, |bytes| bar.set_position(bytes));
    bar.finish_and_clear();
    let tags = Some(ComparedTags { compared, files });
    Outcome { sound: problems.is_empty(), problems, more_problems, tags, ..outcome }
}

/// Tells what was found; damage is an error.
fn conclude(arguments: &Arguments, outcome: Outcome) -> anyhow::Result<()> {
    let outcome = &compare_tags(arguments, outcome);
    let name = arguments.image.display();
    if arguments.json {
        print_json(outcome)?;
    } else {
        for problem in &outcome.problems {
            eprintln!("{name}: {problem}");
        }
        let Outcome { files, directories, content_bytes, .. } = outcome;
        let verdict = if outcome.sound { "sound" } else { "damaged" };
        let tags = outcome.tags.as_ref().map_or_else(String::new, |ComparedTags { compared, files }| {
            format!("; {compared} of {files} files compared with their tags")
        });
        writeln!(
            std::io::stdout(),
            "{name}: {verdict}: {files} files, {directories} folders, {content_bytes} bytes of contents{tags}"
        )?;
    }
    let problems = outcome.problems.len() as u64 + outcome.more_problems;
    anyhow::ensure!(outcome.sound, "{name}: {problems} problem{}", if problems == 1 { "" } else { "s" });
    Ok(())
}

#[derive(Debug, Default, serde::Serialize)]
struct Outcome {
    sound: bool,
    files: u64,
    directories: u64,
    content_bytes: u64,
    problems: Vec<String>,
    more_problems: u64,
    /// If that was asked for, and it was sound so far.
    tags: Option<ComparedTags>,
}

/// How many of how many files.
#[derive(Debug, serde::Serialize)]
struct ComparedTags {
    compared: u64,
    files: u64,
}

fn print_json(outcome: &Outcome) -> anyhow::Result<()> {
    Ok(writeln!(std::io::stdout(), "{}", serde_json::to_string(outcome)?)?)
}

/// What is left to say of an image that cannot be opened.
fn refused(arguments: &Arguments, error: &OpenError) -> anyhow::Error {
    let copy = match error {
        OpenError::Bad(_) => {
            File::open(&arguments.image).and_then(|f| check::copy_is_sound(&FileDevice::new(f)))
        }
        OpenError::Io(_) | OpenError::NoPageSums | OpenError::TooMuchMetadata { .. } => Ok(false),
    };
    match copy {
        Ok(true) => anyhow::anyhow!("the copy of the superblock in the last block is sound"),
        _ => anyhow::anyhow!("the image cannot be opened"),
    }
}
