//! `pipec fuzz`: random pipelines on every backend, in every way to run, against the oracle.

use super::{Outcome, Status};
use crate::parse;
use pipe_lib::Backend;
use pipe_lib::testing::shrink::shrink;
use pipe_lib::testing::{Rng, judge_seed};
use std::io::{IsTerminal as _, Write as _};
use std::time::{Duration, Instant, SystemTime};

/// Run random pipelines on every backend and compare with the reference interpreter
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    /// How long to go on
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// Stop after this many pipelines
    #[arg(long)]
    rounds: Option<u64>,
    /// Where to start; a failure names the seed that shows it at once
    #[arg(long, value_parser = parse::number)]
    seed: Option<u64>,
    /// Judge one backend only
    #[arg(long, value_parser = parse::backend)]
    backend: Option<Backend>,
}

/// How often a long run says how far it is, on a terminal and elsewhere.
const NEWS: [Duration; 2] = [Duration::from_secs(60), Duration::from_secs(1)];

pub(crate) fn run(args: &Args) -> Outcome {
    let seed = args.seed.unwrap_or_else(|| {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Rng::new(now.as_nanos() as u64).next_u64() >> 16
    });
    let backends = match args.backend {
        Some(backend) => vec![backend],
        None => vec![Backend::Interp, Backend::Cranelift, Backend::Native],
    };
    let mut err = std::io::stderr();
    let terminal = err.is_terminal();
    let (start, limit) = (Instant::now(), Duration::from_secs(args.seconds));
    let mut shown = start;
    let mut rounds = 0;
    writeln!(err, "seed {seed}")?;
    while start.elapsed() < limit && args.rounds.is_none_or(|most| rounds < most) {
        let this = seed.wrapping_add(rounds);
        if let Err(failed) = judge_seed(this, &backends) {
            let (composition, failure) = *failed;
            writeln!(err, "{failure}\n{composition}\nagain with: pipec fuzz --rounds 1 --seed {this}")?;
            writeln!(err, "making it small ..")?;
            let (composition, failure) = shrink(composition, failure);
            writeln!(err, "{failure}\n{composition}")?;
            return Ok(Status::Refused);
        }
        rounds += 1;
        if shown.elapsed() > NEWS[usize::from(terminal)] {
            shown = Instant::now();
            let (start, end) = if terminal { ("\r", " ") } else { ("", "\n") };
            write!(err, "{start}{rounds} pipelines{end}")?;
        }
    }
    if terminal {
        write!(err, "\r")?;
    }
    writeln!(err, "{rounds} pipelines agree with the reference in {:.1} s", start.elapsed().as_secs_f64())?;
    Ok(Status::Fine)
}
