//! Figures of what is not in memory, each with what it is compared with in the same run: what
//! `scripts/bench-fs miss` prints.
//!
//!   miss-figures image FILE MEGABYTES   an image of 64 KB files
//!   miss-figures random FILE KILOBYTES [DEPTH ROUNDS]
//!                                       random blocks of 4 or 16 KiB past the kernel's cache, 1 to 64 at once: a loop and
//!                                       fio, each with memory and files registered, and without
//!   miss-figures mixed FILE             latency of hot requests while others miss: by io_uring, by threads, waiting

use std::fs::File;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsFd;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Wake, Waker};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use cheetah::reading::Reading;
use cheetah::server::{Config, Server};
use cheetah::site::{LazySite, pack};
use fsstack::cache::policy::PolicyName;
use fsstack::cache::reads::{Block, Damage, Lasting, UringQueue};
use fsstack::cache::{BlockReader, BlockSource, FileCache, Wanted};
use fsstack::device::{AtomicFile, FileDevice};
use fsstack::image::build::Mtime;
use fsstack::{BuildOptions, Builder, OpenOptions};

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["image", file, megabytes] => image(Path::new(file), megabytes.parse()?),
        ["random", file, kilobytes] => {
            [1, 4, 16, 64].into_iter().try_for_each(|depth| random(Path::new(file), kilobytes, depth, 3))
        }
        ["random", file, kilobytes, depth, rounds] => {
            random(Path::new(file), kilobytes, depth.parse()?, rounds.parse()?)
        }
        ["mixed", file] => mixed(Path::new(file)),
        _ => bail!("what is there to do stands at the top of this example's source"),
    }
}

const FILE_BYTES: usize = 64 << 10;

fn image(path: &Path, megabytes: usize) -> Result<()> {
    let mut builder = Builder::new(AtomicFile::create(path)?, &BuildOptions::default())?;
    for i in 0..megabytes * 16 {
        let bytes: Vec<u8> = (0..FILE_BYTES as u32)
            .map(|at| (at.wrapping_add(i as u32).wrapping_mul(0x9e37_79b9) >> 21) as u8)
            .collect();
        pack::add(&mut builder, format!("{i}").as_bytes(), Mtime::default(), &bytes[..])?;
    }
    builder.finish()?.0.publish()?;
    Ok(())
}

struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }
}

#[derive(Debug)]
struct Blocks {
    file: File,
    direct: File,
    /// At most those of a frame.
    block_bytes: usize,
    lasting: Lasting,
}

impl BlockSource for Blocks {
    fn file(&self) -> std::os::fd::BorrowedFd<'_> {
        self.file.as_fd()
    }

    fn direct_file(&self) -> Option<std::os::fd::BorrowedFd<'_>> {
        Some(self.direct.as_fd())
    }

    fn lasting(&self) -> Option<&Lasting> {
        Some(&self.lasting)
    }

    fn place(&self, index: u64) -> std::io::Result<(u64, usize)> {
        Ok((index * self.block_bytes as u64, self.block_bytes))
    }

    fn check(&self, _index: u64, _bytes: &[u8]) -> std::io::Result<Vec<Damage>> {
        Ok(Vec::new())
    }
}

const ROUND: Duration = Duration::from_secs(3);

/// Reads a second by us, with so many at once.
fn ours(path: &Path, block_bytes: usize, depth: usize, registers: bool, seed: u64) -> Result<f64> {
    struct Nobody;
    impl Wake for Nobody {
        fn wake(self: Arc<Self>) {}
    }
    let file = File::open(path)?;
    let blocks = file.metadata()?.len() / block_bytes as u64;
    let device = FileDevice::new(file.try_clone()?);
    let (direct, lasting) = (device.open_direct()?, Lasting::default());
    let source: Arc<dyn BlockSource> = Arc::new(Blocks { direct, file, block_bytes, lasting });
    let bell = rustix::event::eventfd(0, rustix::event::EventfdFlags::CLOEXEC)?;
    let queue = UringQueue::new(bell.as_fd()).context("no io_uring here")?;
    let queue = if registers { queue } else { queue.without_registering() };
    let reader = BlockReader::queued(Box::new(queue), |_| Waker::from(Arc::new(Nobody)));
    let cache = Arc::new(FileCache::aligned(32 << 20, PolicyName::default())?);
    let number = cache.number();
    let mut random = Random(seed);
    let mut under_way = Vec::new();
    let (mut reads, began) = (0u64, Instant::now());
    while began.elapsed() < ROUND {
        while under_way.len() < depth {
            let index = random.below(blocks);
            reader.begin(0, Vec::new());
            let (owner_bytes, end) = (block_bytes as u64, index + 1);
            let wanted =
                Wanted { file: number, index, group_end: end, owner: 0, owner_bytes, owner_end: end };
            match cache.read(&wanted, &source, &reader) {
                // Rarely.
                Block::Here(_) => {}
                Block::Coming(read) => under_way.push(read),
            }
            drop(reader.end());
        }
        reader.turn();
        let before = under_way.len();
        under_way.retain(|read| read.outcome().is_none());
        reads += (before - under_way.len()) as u64;
        if under_way.len() == depth && !reader.has_work() {
            rustix::io::read(&bell, &mut [0; 8])?;
        }
    }
    Ok(reads as f64 / began.elapsed().as_secs_f64())
}

fn fio(path: &Path, block_bytes: usize, depth: usize, registers: bool) -> Result<f64> {
    let registering: &[&str] = if registers { &["--fixedbufs", "--registerfiles"] } else { &[] };
    let output = Command::new("fio")
        .args(["--name=r", "--rw=randread", "--direct=1", "--ioengine=io_uring", "--time_based"])
        .arg("--randrepeat=0")
        .args(registering)
        .args(["--output-format=terse", "--terse-version=3", "--readonly"])
        .arg(format!("--runtime={}", ROUND.as_secs()))
        .arg(format!("--iodepth={depth}"))
        .arg(format!("--bs={block_bytes}"))
        .arg(format!("--filename={}", path.display()))
        .output()
        .context("fio cannot be run (apt-get install fio)")?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let reads = text.split(';').nth(7).and_then(|field| field.parse().ok());
    reads.with_context(|| format!("fio says {text}{}", String::from_utf8_lossy(&output.stderr)))
}

fn random(path: &Path, kilobytes: &str, depth: usize, rounds: u64) -> Result<()> {
    let block_bytes = kilobytes.parse::<usize>()? << 10;
    let mut rows = Vec::new();
    for round in 0..rounds {
        // Each reads blocks of its own: what one has read may be in some memory below.
        let seed = |registers| {
            let now = std::time::UNIX_EPOCH.elapsed().map_or(0, |since| since.as_nanos() as u64);
            now ^ (round * 77 + if registers { 5 } else { 1005 } + depth as u64 * 7919)
        };
        let ours = |registers| ours(path, block_bytes, depth, registers, seed(registers));
        let fio = |registers| fio(path, block_bytes, depth, registers);
        // Who comes first does so half of the time.
        let row = match round % 2 {
            0 => [ours(true)?, fio(true)?, ours(false)?, fio(false)?],
            _ => {
                let (plain_fio, plain) = (fio(false)?, ours(false)?);
                let registered_fio = fio(true)?;
                [ours(true)?, registered_fio, plain, plain_fio]
            }
        };
        rows.push(row);
    }
    let middle = |mut numbers: Vec<f64>| {
        numbers.sort_by(f64::total_cmp);
        [numbers[numbers.len() / 2], numbers[0], numbers[numbers.len() - 1]]
    };
    let ratio = |of: usize, to: usize| {
        let [median, least, most] = middle(rows.iter().map(|row| row[of] / row[to]).collect());
        format!("{median:.2} ({least:.2} to {most:.2})")
    };
    let [ours, fio, plain, plain_fio] =
        [0, 1, 2, 3].map(|of: usize| middle(rows.iter().map(|row| row[of]).collect())[0]);
    println!(
        "{kilobytes} KiB, {depth} at once: {ours:.0} reads a second, fio {fio:.0}: {}; with nothing registered {plain:.0}, \
         fio {plain_fio:.0}: {}; registered / not {} (medians of {rounds} rounds)",
        ratio(0, 1),
        ratio(2, 3),
        ratio(0, 2)
    );
    Ok(())
}

fn get(stream: &mut TcpStream, path: &str) -> Result<()> {
    write!(stream, "GET {path} HTTP/1.1\r\nHost: a\r\n\r\n")?;
    let mut bytes = vec![0; FILE_BYTES + 1024];
    let mut filled = 0;
    loop {
        let n = stream.read(&mut bytes[filled..])?;
        anyhow::ensure!(n > 0, "the server ended the connection");
        filled += n;
        if let Some(end) = bytes[..filled].windows(4).position(|four| four == b"\r\n\r\n")
            && filled == end + 4 + FILE_BYTES
        {
            return Ok(());
        }
    }
}

/// Latencies of a file that is in the cache, and how many others were got meanwhile from the disk, by 16
/// clients.
fn latencies(path: &Path, reading: Reading, files: u64, seed: u64) -> Result<(Vec<Duration>, u64)> {
    let cache = Some(Arc::new(FileCache::aligned(16 << 20, PolicyName::S3Fifo)?));
    let options = OpenOptions { cache, direct: true, ..OpenOptions::default() };
    let site = LazySite::open_any(path, &options)?.context("made by an old version")?;
    let config = Config { reading, ..Config::default() };
    let server = Server::on_kernel(Arc::new(site), SocketAddr::from(([127, 0, 0, 1], 0)), 1, &config)?;
    let addr = server.addr();
    let (over, cold) = (AtomicBool::new(false), AtomicU64::new(0));
    let latencies = std::thread::scope(|scope| -> Result<Vec<Duration>> {
        for client in 0..16 {
            let (over, cold) = (&over, &cold);
            scope.spawn(move || -> Result<()> {
                let mut stream = TcpStream::connect(addr)?;
                let mut random = Random(seed * 1000 + client);
                while !over.load(Ordering::Relaxed) {
                    get(&mut stream, &format!("/{}", random.below(files)))?;
                    cold.fetch_add(1, Ordering::Relaxed);
                }
                Ok(())
            });
        }
        let mut stream = TcpStream::connect(addr)?;
        stream.set_nodelay(true)?;
        let mut latencies = Vec::new();
        let began = Instant::now();
        while began.elapsed() < ROUND {
            let asked = Instant::now();
            get(&mut stream, "/0")?;
            latencies.push(asked.elapsed());
            std::thread::sleep(Duration::from_micros(500));
        }
        over.store(true, Ordering::Relaxed);
        Ok(latencies)
    });
    server.shut_down()?;
    let mut latencies = latencies?;
    latencies.sort_unstable();
    Ok((latencies, cold.into_inner()))
}

fn mixed(path: &Path) -> Result<()> {
    let files = std::fs::metadata(path)?.len() / FILE_BYTES as u64 * 9 / 10;
    for round in 0..3 {
        for reading in [Reading::Uring, Reading::threads(), Reading::InPlace] {
            let name = reading.to_string();
            let (latencies, cold) = latencies(path, reading, files, round)?;
            let at = |part: f64| latencies[(latencies.len() as f64 * part) as usize];
            println!(
                "read {name}: hot p50 {:.1?}, p99 {:.1?}; {:.0} others a second",
                at(0.5),
                at(0.99),
                cold as f64 / ROUND.as_secs_f64()
            );
        }
    }
    Ok(())
}
