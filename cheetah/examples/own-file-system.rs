//! A server whose owner decides what lies together, what of the cache is given up, what is read beside what
//! is missing, and how it is read: each in a few lines.
//!
//!   own-file-system FOLDER      packs it, serves it on http://127.0.0.1:8080/ until the end of standard input

use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result};
use cheetah::reading::{OwnReading, Reading};
use cheetah::server::{Config, Server};
use cheetah::site::LazySite;
use cheetah::site::layout::{Group, Layout, LayoutName};
use cheetah::site::pack::{self, PackOptions, Tree};
use cheetah::store::Dotfiles;
use fsstack::OpenOptions;
use fsstack::cache::FileCache;
use fsstack::cache::misses::{MissPolicy, Missed};
use fsstack::cache::policy::{FrameId, Policy, Told};
use fsstack::cache::reads::{ReadOrder, ReadQueue};
use fsstack::device::AtomicFile;
use runtime::event_loop::Waker;

/// Allocation: pages first, each folder's together with what else is in it.
#[derive(Debug)]
struct FolderByFolder;

impl Layout for FolderByFolder {
    fn groups(&self, tree: &Tree) -> io::Result<Vec<Group>> {
        let folder = |item: usize| tree.items[item].path.rsplitn(2, |&byte| byte == b'/').nth(1);
        let mut files: Vec<usize> = (0..tree.items.len()).filter(|&i| !tree.items[i].is_directory).collect();
        files.sort_by_key(|&item| (folder(item), !tree.items[item].path.ends_with(b".html")));
        let groups = files.chunk_by(|&a, &b| folder(a) == folder(b));
        Ok(groups.map(|files| Group { files: files.to_vec(), is_wanted_together: true }).collect())
    }
}

/// Replacement: first in, first out, but what belongs to small files stays for a second round.
#[derive(Debug, Default)]
struct SmallTwice(std::collections::VecDeque<(FrameId, bool)>);

impl Policy for SmallTwice {
    fn filled(&mut self, frame: FrameId, told: &Told) {
        self.0.push_back((frame, told.owner_frames <= 2));
    }

    fn victim(&mut self, may_go: &mut dyn FnMut(FrameId) -> bool) -> Option<FrameId> {
        for _ in 0..2 * self.0.len() {
            let (frame, again) = self.0.pop_front()?;
            if !again && may_go(frame) {
                return Some(frame);
            }
            self.0.push_back((frame, false));
        }
        None
    }
}

/// Misses: what is left of a file if that is little, else two blocks more.
#[derive(Debug)]
struct EndsWhole;

impl MissPolicy for EndsWhole {
    fn read_end(&self, missed: &Missed) -> u64 {
        let left = missed.owner_end.saturating_sub(missed.index);
        let ahead = if left <= 16 { left } else { 3 };
        missed.group_end.max(missed.index + ahead)
    }
}

/// Readings: in the order of their places on the disk, a turn's all together.
#[derive(Debug, Default)]
struct Elevator(Vec<ReadOrder>);

impl ReadQueue for Elevator {
    fn submit(&mut self, order: ReadOrder) {
        self.0.push(order);
    }

    fn turn(&mut self) {
        self.0.sort_by_key(|order| std::cmp::Reverse(order.offset()));
        while let Some(order) = self.0.pop() {
            order.read_here();
        }
    }

    fn has_work(&self) -> bool {
        !self.0.is_empty()
    }
}

#[derive(Debug)]
struct Elevators;

impl OwnReading for Elevators {
    fn queue(&self, _waker: &Waker) -> io::Result<Box<dyn ReadQueue + Send>> {
        Ok(Box::new(Elevator::default()))
    }
}

/// Packs `folder` into `image`, and serves that.
pub fn serve(folder: &Path, image: &Path, port: u16) -> Result<Server> {
    let tree = pack::walk(folder, Dotfiles::default())?;
    let options = PackOptions { layout: LayoutName::Own(Arc::new(FolderByFolder)), ..PackOptions::default() };
    let (file, _) = pack::pack(&tree, AtomicFile::create(image)?, &options, |_, _| {})?;
    file.publish()?;
    let cache = FileCache::with(1 << 20, |_| Box::new(SmallTwice::default())).with_misses(EndsWhole);
    let options = OpenOptions { cache: Some(Arc::new(cache)), ..OpenOptions::default() };
    let site = LazySite::open_any(image, &options)?.context("it was made just now")?;
    let config = Config { reading: Reading::Own(Arc::new(Elevators)), ..Config::default() };
    Ok(Server::on_kernel(Arc::new(site), ([127, 0, 0, 1], port).into(), 1, &config)?)
}

fn main() -> Result<()> {
    let folder = std::env::args().nth(1).context("give a folder")?;
    let image = std::env::temp_dir().join(format!("own-file-system-{}.img", std::process::id()));
    let server = serve(Path::new(&folder), &image, 8080)?;
    println!("listening on http://{}/", server.addr());
    io::stdin().read_to_end(&mut Vec::new())?;
    server.shut_down()?;
    Ok(std::fs::remove_file(image)?)
}
