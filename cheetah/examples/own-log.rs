//! A server that takes files, whose owner decides when what came leaves memory, how long changes wait for
//! others to share a commit, and where segments go: each in a few lines.
//!
//!   own-log SITE.img TOKEN      serves it on http://127.0.0.1:8080/, and takes PUT and DELETE, until the end of standard input

use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use cheetah::server::{Config, Server};
use cheetah::site::writable::SiteWriter;
use cheetah::upload::{Committer, Tokens, UploadLimits, Uploads};
use fsstack::OpenOptions;
use fsstack::log::policy::{Allocation, Flush, Gap, Held, Policies, Waiting, WriteBack};

/// Write-back: no more than so many bytes in memory, however few files they are.
#[derive(Debug)]
pub struct Little(pub u64);

impl WriteBack for Little {
    fn is_due(&self, held: &Held) -> bool {
        held.bytes > self.0
    }
}

/// Flush: so many changes together, unless the first has waited for so long.
#[derive(Debug)]
pub struct Gather {
    /// So many.
    pub changes: usize,
    /// So long.
    pub longest: Duration,
}

impl Flush for Gather {
    fn wait(&self, waiting: &Waiting) -> Option<Duration> {
        if waiting.changes >= self.changes {
            return None;
        }
        self.longest.checked_sub(waiting.since).filter(|left| !left.is_zero())
    }
}

/// Allocation: small segments fill the smallest gap, large ones go where nothing was, so that they lie behind
/// each other.
#[derive(Debug)]
pub struct SmallInGaps;

impl Allocation for SmallInGaps {
    fn choose(&self, gaps: &[Gap], len: u64) -> usize {
        let smallest = (0..gaps.len()).min_by_key(|&gap| gaps[gap].len);
        smallest.filter(|_| len <= 256 << 10).unwrap_or(usize::MAX)
    }
}

/// Serves `image`, which is made if it is not there, and takes files from whoever has `token`.
pub fn serve(image: &Path, token: &str, gather: Gather, port: u16) -> Result<(Server, Committer)> {
    let policies = Policies { write_back: Arc::new(Little(1 << 20)), allocation: Arc::new(SmallInGaps) };
    let writer = SiteWriter::open_with(image, &OpenOptions::default(), policies)?;
    let site = writer.site();
    let committer = Committer::start_with(writer, Arc::new(gather))?;
    let tokens = Tokens::parse(token.as_bytes())?;
    let uploads = Arc::new(Uploads::new(&committer, tokens, UploadLimits::default()));
    let config = Config { uploads: Some(uploads), ..Config::default() };
    Ok((Server::on_kernel(site, ([127, 0, 0, 1], port).into(), 1, &config)?, committer))
}

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let image = arguments.next().context("give an image and a token")?;
    let token = arguments.next().context("give a token, too")?;
    let gather = Gather { changes: 64, longest: Duration::from_millis(5) };
    let (server, committer) = serve(Path::new(&image), &token, gather, 8080)?;
    println!("listening on http://{}/", server.addr());
    io::stdin().read_to_end(&mut Vec::new())?;
    server.shut_down()?;
    Ok(committer.finish()?)
}
