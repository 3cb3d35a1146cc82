//! Figures of the file system, each with what it is compared with in the same run: what `scripts/bench-fs`
//! prints.
//!
//!   fs-figures write DIR          10,000 files of 4 KB with one sync: into a log in DIR, and as files of DIR's file system
//!   fs-figures commits DIR        200 commits of 64 files of 4 KB, each waited for, and each begun while the next is made
//!   fs-figures tree DIR FILES     a folder of so many files of 4.5 KB, for `pack` and `cp -r`
//!   fs-figures make IMAGE FILES   an image of so many small files; make-large: of 1 MB
//!   fs-figures open IMAGE         how long opening it takes, and the first answer
//!   fs-figures first PROGRAM IMAGE   milliseconds from the start of PROGRAM serve IMAGE to the end of its first answer
//!   fs-figures hot                look-up, head and first block of a file that was just asked for
//!   fs-figures page DIR           pages with eight images past the kernel's cache: readings and time, lying together and by name
//!   fs-figures verify IMAGE       reading all of it, hot and cold, with and without --verify
//!   fs-figures verify-cold IMAGE SECONDS   cold again: file by file, those with and those without --verify in turn, with what
//!                                          is left to chance

use std::fs;
use std::hint::black_box;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use cheetah::http::response::Status;
use cheetah::site::layout::LayoutName;
use cheetah::site::pack::PackOptions;
use cheetah::site::writable::SiteWriter;
use cheetah::site::{LazySite, Site, change, pack};
use cheetah::store::{Document, Dotfiles, Found, Store};
use fsstack::cache::FileCache;
use fsstack::cache::policy::PolicyName;
use fsstack::device::AtomicFile;
use fsstack::fs::Access;
use fsstack::image::build::Mtime;
use fsstack::log::Log;
use fsstack::{BuildOptions, Builder, Image, OpenOptions};
use runtime::stats::work::{Quantity, Work};

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["write", folder] => write(Path::new(folder)),
        ["commits", folder] => commits(Path::new(folder)),
        ["tree", folder, files] => tree(Path::new(folder), files.parse()?),
        ["make", image, files] => make(Path::new(image), files.parse()?),
        ["make-large", image, files] => make_large(Path::new(image), files.parse()?),
        ["open", image] => open(Path::new(image)),
        ["first", program, image] => first(program, Path::new(image)),
        ["hot"] => hot(),
        ["page", folder] => page(Path::new(folder)),
        ["verify", image] => verify(Path::new(image)),
        ["verify-cold", image, seconds] => verify_cold(Path::new(image), seconds.parse()?),
        _ => bail!("what is there to do stands at the top of this example's source"),
    }
}

const MTIME: Mtime = Mtime { seconds: 1_000_000_000, nanoseconds: 0 };

/// Bytes that no file system finds twice.
fn contents(number: u64, len: usize) -> Vec<u8> {
    let mut state = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
        bytes.extend_from_slice(&(state ^ state >> 29).to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

fn write(folder: &Path) -> Result<()> {
    const FILES: u64 = 10_000;
    const BYTES: usize = 4096;
    let files: Vec<Vec<u8>> = (0..FILES).map(|i| contents(i, BYTES)).collect();
    let (mut ours, mut theirs, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..7 {
        let image = folder.join(format!("{round}.img"));
        let began = Instant::now();
        let mut log = Log::create(&image, &OpenOptions::default())?;
        for (i, bytes) in files.iter().enumerate() {
            let path = format!("d{}/{i}.html", i % 100);
            log.make_parents(path.as_bytes(), MTIME)?;
            change::put(&mut log, path.as_bytes(), MTIME, &bytes[..])?;
        }
        log.sync()?;
        ours.push(began.elapsed());
        drop(log);
        let tree = folder.join(format!("{round}.d"));
        let began = Instant::now();
        for (i, bytes) in files.iter().enumerate() {
            let directory = tree.join(format!("d{}", i % 100));
            if i < 100 {
                fs::create_dir_all(&directory)?;
            }
            fs::write(directory.join(format!("{i}.html")), bytes)?;
        }
        rustix::fs::syncfs(fs::File::open(&tree)?)?;
        theirs.push(began.elapsed());
        ratios.push(theirs[round].as_secs_f64() / ours[round].as_secs_f64());
        fs::remove_file(&image)?;
        fs::remove_dir_all(&tree)?;
        rustix::fs::syncfs(fs::File::open(folder)?)?;
    }
    ratios.sort_unstable_by(f64::total_cmp);
    let (ours, theirs) = (median(ours), median(theirs));
    println!("{FILES} files of {BYTES} bytes, one sync: log {ours:.1?}, files {theirs:.1?}");
    println!("times as fast, median of 7: {:.2} ({:.2} to {:.2})", ratios[3], ratios[0], ratios[6]);
    Ok(())
}

fn commits(folder: &Path) -> Result<()> {
    const COMMITS: u64 = 200;
    const FILES: u64 = 64;
    let image = folder.join("commits.img");
    let bytes: Vec<Vec<u8>> = (0..FILES).map(|i| contents(i, 4096)).collect();
    let run = |waits: bool| -> Result<(Duration, u64)> {
        let mut log = Log::create(&image, &OpenOptions::default())?;
        let began = Instant::now();
        let first = log.snapshot().number();
        let mut before = None;
        for commit in 0..COMMITS {
            for (i, bytes) in bytes.iter().enumerate() {
                change::put(&mut log, format!("{commit}-{i}.html").as_bytes(), MTIME, &bytes[..])?;
            }
            if waits {
                log.sync()?;
            } else {
                // Those of one are made while the one before is on its way: no more than that.
                if let Some(before) = before.take() {
                    log.wait_for(before)?;
                }
                before = Some(log.begin_sync(()));
            }
        }
        if let Some(last) = before {
            log.wait_for(last)?;
        }
        let (took, commits) = (began.elapsed(), (log.snapshot().number() - first));
        drop(log);
        fs::remove_file(&image)?;
        Ok((took, commits))
    };
    let (mut waiting, mut begun, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..7 {
        let [one, other] = [run(round % 2 == 0)?, run(round % 2 == 1)?];
        anyhow::ensure!(one.1 == COMMITS && other.1 == COMMITS, "{} and {} commits", one.1, other.1);
        let (waited, went_on) = if round % 2 == 0 { (one.0, other.0) } else { (other.0, one.0) };
        ratios.push(waited.as_secs_f64() / went_on.as_secs_f64());
        waiting.push(waited);
        begun.push(went_on);
    }
    ratios.sort_unstable_by(f64::total_cmp);
    println!(
        "{COMMITS} commits of {FILES} files of 4 KB: waited for {:.1?}, begun while the next is made {:.1?}; \
         times as fast, median of 7: {:.2} ({:.2} to {:.2})",
        median(waiting),
        median(begun),
        ratios[3],
        ratios[0],
        ratios[6]
    );
    Ok(())
}

fn make(path: &Path, files: u64) -> Result<()> {
    let began = Instant::now();
    let mut builder = Builder::new(AtomicFile::create(path)?, &BuildOptions::default())?;
    for i in 0..files {
        let name = format!("d{:03}/e{:02}/page-{i}.html", i / 1000 % 1000, i % 10);
        pack::add(&mut builder, name.as_bytes(), MTIME, &contents(i, 100 + i as usize % 400)[..])?;
    }
    let (file, summary) = builder.finish()?;
    file.publish()?;
    println!("{files} files, {} bytes, made in {:.1?}", summary.image_bytes, began.elapsed());
    Ok(())
}

fn tree(folder: &Path, files: u64) -> Result<()> {
    for i in 0..files {
        let directory = folder.join(format!("d{:03}", i / 100));
        if i % 100 == 0 {
            fs::create_dir_all(&directory)?;
        }
        fs::write(directory.join(format!("{i}.html")), contents(i, 4500))?;
    }
    Ok(rustix::fs::syncfs(fs::File::open(folder)?)?)
}

fn make_large(path: &Path, files: u64) -> Result<()> {
    let mut builder = Builder::new(AtomicFile::create(path)?, &BuildOptions::default())?;
    for i in 0..files {
        let name = format!("{i}.bin");
        pack::add(&mut builder, name.as_bytes(), MTIME, &contents(i, 1 << 20)[..])?;
    }
    Ok(builder.finish()?.0.publish()?)
}

fn first(program: &str, image: &Path) -> Result<()> {
    forget(image)?;
    let began = Instant::now();
    let mut server = Command::new(program)
        .arg("serve")
        .arg(image)
        .args(["--listen", "127.0.0.1:0"])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    let mut line = String::new();
    BufReader::new(server.stdout.take().context("no output")?).read_line(&mut line)?;
    let addr = line.trim().strip_prefix("listening on http://").context("it does not listen")?;
    let mut stream = TcpStream::connect(addr.trim_end_matches('/'))?;
    write!(stream, "GET {} HTTP/1.0\r\n\r\n", path_of(4242))?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    let took = began.elapsed();
    server.kill()?;
    server.wait()?;
    anyhow::ensure!(answer.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&answer));
    println!("{:.1}", took.as_secs_f64() * 1e3);
    Ok(())
}

/// The path of a file that [`make`] made.
fn path_of(i: u64) -> String {
    format!("/d{:03}/e{:02}/page-{i}.html", i / 1000 % 1000, i % 10)
}

fn find(store: &dyn Store, path: &str) -> Result<Arc<dyn Document>> {
    match store.find(path.as_bytes()) {
        Found::File(document) => Ok(document),
        other => bail!("`{path}` leads to {other:?}"),
    }
}

fn open(path: &Path) -> Result<()> {
    let (mut opened, mut answered) = (Vec::new(), Vec::new());
    for round in 0..9 {
        if round > 0 {
            forget(path)?;
        }
        let began = Instant::now();
        let site = LazySite::open_any(path, &OpenOptions::default())?.context("of an old version")?;
        opened.push(began.elapsed());
        let document = find(&site, &path_of(round * 77))?;
        black_box(document.ready_head(Status::Ok).context("no head")?.bytes.len());
        black_box(document.fetch(0)?);
        answered.push(began.elapsed());
    }
    println!(
        "lazily, nothing in the page cache: open {:.2?}, first answer {:.2?} (medians of 9)",
        median(opened),
        median(answered)
    );
    let began = Instant::now();
    let options =
        OpenOptions { max_metadata_bytes: 8 << 30, access: Access::Blocks, ..OpenOptions::default() };
    let image = Image::open(path, &options)?;
    println!("checked whole ({} inodes): {:.2?}", image.inode_count(), began.elapsed());
    Ok(())
}

/// Takes a file out of the page cache.
fn forget(path: &Path) -> Result<()> {
    let file = fs::File::open(path)?;
    file.sync_all()?;
    rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed)?;
    Ok(())
}

fn hot() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("site.img");
    make(&path, 2000)?;
    let site = Site::open(&path)?;
    let lazy = LazySite::open_any(&path, &OpenOptions::default())?.context("of an old version")?;
    let log = folder.path().join("log.img");
    fs::copy(&path, &log)?;
    let writable = SiteWriter::open(&log, &OpenOptions::default())?.site();
    let paths: Vec<String> = (0..1024).map(path_of).collect();
    for (name, store) in
        [("packed, in memory", &site as &dyn Store), ("packed, lazily", &lazy), ("writable", &*writable)]
    {
        let mut times = Vec::new();
        for _ in 0..41 {
            let began = Instant::now();
            for path in &paths {
                let document = find(store, path)?;
                black_box(document.ready_head(Status::Ok).map(|piece| piece.bytes[0]));
                if document.is_resident() {
                    black_box(document.resident(0, 4096).map(|piece| piece.bytes[0]));
                } else {
                    black_box(document.fetch(0)?.bytes()[0]);
                }
            }
            times.push(began.elapsed() / 1024);
        }
        println!("{name}: look-up, head and first block {:?} (median of 41)", median(times));
    }
    Ok(())
}

const PAGES: u64 = 200;
const IMAGES: u64 = 8;

/// Names by which images of other pages lie between those of one.
fn image_of(page: u64, image: u64) -> String {
    format!("img/{:08x}.png", (page * IMAGES + image) as u32 ^ 0x5bd1_e995_u32.wrapping_mul(image as u32 + 1))
}

/// What of a page is asked for, one after the other.
type Order<'a> = dyn Fn(u64) -> Vec<String> + 'a;

fn page(folder: &Path) -> Result<()> {
    let site = folder.join("pages");
    fs::create_dir_all(site.join("img"))?;
    for page in 0..PAGES {
        let mut html = String::from("<!doctype html><title>page</title>");
        for image in 0..IMAGES {
            let name = image_of(page, image);
            html += &format!("<p><img src=\"{name}\">");
            fs::write(site.join(name), contents(page * IMAGES + image, 6000 + image as usize * 1000))?;
        }
        fs::write(site.join(format!("page{page:03}.html")), html + &"<p>words".repeat(500))?;
    }
    let tree = pack::walk(&site, Dotfiles::default())?;
    let mut rows = Vec::new();
    for (name, layout) in [("together", LayoutName::Html), ("by name", LayoutName::Name)] {
        let image = folder.join("pages.img");
        let options = PackOptions { layout, ..PackOptions::default() };
        pack::pack(&tree, AtomicFile::create(&image)?, &options, |_, _| {})?.0.publish()?;
        let store = || -> Result<Site> {
            let cache = Some(Arc::new(FileCache::aligned(4 << 20, PolicyName::default())?));
            let options =
                OpenOptions { access: Access::Blocks, direct: true, cache, ..OpenOptions::default() };
            Ok(Site::open_with(&image, &options)?)
        };
        // Readings, and blocks that they were of.
        let ask = |store: &Site, paths: &[String]| -> Result<[u64; 2]> {
            let before = Work::of_this_thread();
            for path in paths {
                let document = find(store, &format!("/{path}"))?;
                let mut at = 0;
                while at < document.facts().size {
                    at += black_box(document.fetch(at)?).len() as u64;
                }
            }
            let work = Work::of_this_thread().since(&before);
            Ok([work[Quantity::BlockReads], work[Quantity::BlocksRead]])
        };
        let images = |page: u64| (0..IMAGES).map(move |image| image_of(page, image));
        let whole = |page: u64| std::iter::once(format!("page{page:03}.html")).chain(images(page));
        let view =
            |store: &Site, page| Ok::<u64, anyhow::Error>(ask(store, &whole(page).collect::<Vec<_>>())?[0]);
        let (mut readings, mut times) = (0, Vec::new());
        // Not in the order in which they lie, and each with nothing of the others in memory.
        let pages = || (0..PAGES).map(|page| page * 77 % PAGES);
        for page in pages() {
            let store = store()?;
            let began = Instant::now();
            readings += view(&store, page)?;
            times.push(began.elapsed());
        }
        let readings = readings as f64 / PAGES as f64;
        let shared = store()?;
        let with_others: u64 = pages().map(|page| view(&shared, page)).sum::<Result<u64>>()?;
        println!(
            "{name}: {readings:.2} readings a page, {:.1?} (median of {PAGES}); {:.2} with blocks of others in memory",
            median(times.clone()),
            with_others as f64 / PAGES as f64
        );
        rows.push((readings, median(times).as_secs_f64()));
        // Not as a browser asks that has nothing: without the page, against the order, one alone.
        let orders: [(&str, &Order<'_>); 4] = [
            ("in order", &|page| whole(page).collect()),
            ("the page last and the last image first", &|page| {
                let mut paths: Vec<String> = whole(page).collect();
                paths.reverse();
                paths
            }),
            ("images alone, the last first", &|page| {
                let mut paths: Vec<String> = images(page).collect();
                paths.reverse();
                paths
            }),
            ("one image", &|page| vec![image_of(page, page % IMAGES)]),
        ];
        for (order, paths) in orders {
            let (mut readings, mut blocks, mut times) = (0, 0, Vec::new());
            for page in pages() {
                let (store, paths) = (store()?, paths(page));
                let began = Instant::now();
                let [more_readings, more_blocks] = ask(&store, &paths)?;
                times.push(began.elapsed());
                (readings, blocks) = (readings + more_readings, blocks + more_blocks);
            }
            let of_each = |count: u64| count as f64 / PAGES as f64;
            println!(
                "{name}, {order}: {:.2} readings, {:.1} KB, {:.1?} (median of {PAGES})",
                of_each(readings),
                of_each(blocks) * 16.384,
                median(times)
            );
        }
    }
    println!(
        "by name / together: {:.1} times the readings, {:.1} times the time",
        rows[1].0 / rows[0].0,
        rows[1].1 / rows[0].1
    );
    fs::remove_dir_all(site)?;
    Ok(())
}

fn read_whole(inode: fsstack::Inode<'_>) -> Result<()> {
    let mut at = 0;
    while at < inode.size() {
        let bytes = inode.fetch(at, usize::MAX)?;
        black_box(bytes.bytes().iter().step_by(64).fold(0u8, |sum, byte| sum ^ byte));
        at += bytes.len() as u64;
    }
    Ok(())
}

fn plain_and_verified(path: &Path, cache_bytes: u64, direct: bool) -> Result<[Image; 2]> {
    let open = |verify| -> Result<Image> {
        let cache = Some(Arc::new(FileCache::aligned(cache_bytes, PolicyName::default())?));
        let (access, max_metadata_bytes) = (Access::Blocks, 8 << 30);
        let options =
            OpenOptions { access, verify, cache, max_metadata_bytes, direct, ..OpenOptions::default() };
        Ok(Image::open(path, &options)?)
    };
    Ok([open(false)?, open(true)?])
}

/// What a disk does from one second to the next is more than what is looked for: files take turns, and those
/// of one turn are compared.
fn verify_cold(path: &Path, seconds: u64) -> Result<()> {
    for (name, direct) in [("past the kernel's cache", true), ("by way of the kernel's cache", false)] {
        let images = plain_and_verified(path, 8 << 20, direct)?;
        let files: [Vec<_>; 2] =
            [0, 1].map(|which: usize| images[which].inodes().filter(|inode| inode.is_file()).collect());
        let began = Instant::now();
        let (mut logs, mut sums) = (Vec::new(), [Duration::ZERO; 2]);
        let mut pass = 0;
        while began.elapsed().as_secs() < seconds {
            forget(path)?;
            // Who reads a file, and who comes first of two, is another one in each pass.
            for at in 0..files[0].len() / 2 {
                let mut took = [Duration::ZERO; 2];
                for turn in 0..2 {
                    let which = (turn + at + pass) % 2;
                    let began = Instant::now();
                    read_whole(files[which][2 * at + turn])?;
                    took[which] = began.elapsed();
                    sums[which] += took[which];
                }
                logs.push((took[0].as_secs_f64() / took[1].as_secs_f64()).ln());
            }
            pass += 1;
        }
        logs.sort_unstable_by(f64::total_cmp);
        let count = logs.len() as f64;
        // The interval of a median by ranks: 1.96 of the binomial distribution's deviations around the
        // middle.
        let rank = |deviations: f64| logs[(count / 2.0 + deviations * 0.98 * count.sqrt()) as usize].exp();
        println!(
            "cold, {name}: without / --verify {:.3} (95 %: {:.3} to {:.3}; median of {count} pairs of 1 MB); all of it {:.3}",
            rank(0.0),
            rank(-1.0),
            rank(1.0),
            sums[0].as_secs_f64() / sums[1].as_secs_f64()
        );
    }
    Ok(())
}

fn verify(path: &Path) -> Result<()> {
    let read_all = |image: &Image| -> Result<()> {
        image.inodes().filter(|inode| inode.is_file()).try_for_each(read_whole)
    };
    for (name, cache_bytes) in [("hot", 1 << 30), ("cold", 8 << 20)] {
        let (mut times, mut ratios) = ([Vec::new(), Vec::new()], Vec::new());
        let images = plain_and_verified(path, cache_bytes, false)?;
        for round in 0..10 {
            for (image, times) in images.iter().zip(&mut times) {
                if name == "cold" {
                    forget(path)?;
                }
                let began = Instant::now();
                read_all(image)?;
                // The first fills the caches.
                if round > 0 {
                    times.push(began.elapsed());
                }
            }
            if round > 0 {
                ratios.push(times[0][round - 1].as_secs_f64() / times[1][round - 1].as_secs_f64());
            }
        }
        ratios.sort_unstable_by(f64::total_cmp);
        let [plain, verified] = times.map(median);
        println!(
            "{name}: without {plain:.1?}, --verify {verified:.1?}, ratio {:.2} ({:.2} to {:.2})",
            ratios[4], ratios[0], ratios[8]
        );
    }
    Ok(())
}
