//! `pipec fuzz`: random pipelines on every backend, in every way to run, against the oracle.

use super::{Outcome, Status};
use crate::parse;
use pipe_lib::testing::{Failure, Generator, Judge, Rng};
use pipe_lib::{Backend, Composition};
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

/// Lengths tried for each pipeline.
const LENGTHS: usize = 4;

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
    let (start, limit) = (Instant::now(), Duration::from_secs(args.seconds));
    let mut shown = start;
    let mut rounds = 0;
    writeln!(err, "seed {seed}")?;
    while start.elapsed() < limit && args.rounds.is_none_or(|most| rounds < most) {
        let this = seed.wrapping_add(rounds);
        if let Err((composition, failure)) = round(this, &backends) {
            let (composition, failure) = reduce(composition, failure, &backends);
            writeln!(err, "{failure}\nreduced to: {composition:#?}")?;
            writeln!(err, "again with: pipec fuzz --rounds 1 --seed {this}")?;
            return Ok(Status::Refused);
        }
        rounds += 1;
        if err.is_terminal() && shown.elapsed() > Duration::from_secs(1) {
            shown = Instant::now();
            write!(err, "\r{rounds} pipelines ")?;
        }
    }
    if err.is_terminal() {
        write!(err, "\r")?;
    }
    writeln!(err, "{rounds} pipelines agree with the reference in {:.1} s", start.elapsed().as_secs_f64())?;
    Ok(Status::Fine)
}

/// One pipeline over a few lengths.
fn round(seed: u64, backends: &[Backend]) -> Result<(), (Composition, Failure)> {
    let mut rng = Rng::new(seed);
    let composition = Generator::new(&mut rng).composition();
    let fail = |failure| (composition.clone(), failure);
    let judge = Judge::new(composition.clone(), backends).map_err(fail)?;
    for _ in 0..LENGTHS {
        let len = match rng.below(20) {
            0 => rng.between(3000, 10_000),
            1..4 => rng.between(0, 20),
            _ => rng.between(0, 300),
        };
        judge.judge(&mut rng, len).map_err(fail)?;
    }
    Ok(())
}

/// Leaves out stages and shortens the stream as long as it still fails.
fn reduce(
    mut composition: Composition,
    mut failure: Failure,
    backends: &[Backend],
) -> (Composition, Failure) {
    loop {
        let mut candidates: Vec<(Composition, usize)> = Vec::new();
        for stage in 0..composition.stages.len() {
            let mut smaller = composition.clone();
            smaller.stages.remove(stage);
            candidates.push((smaller, failure.len));
        }
        for (index, _) in composition.stages.iter().enumerate().filter(|(_, stage)| stage.window.is_some()) {
            let mut smaller = composition.clone();
            smaller.stages[index].window = None;
            candidates.push((smaller, failure.len));
        }
        for layout in [composition.source.is_some(), composition.sink.is_some()] {
            if layout {
                candidates
                    .push((Composition { source: None, sink: None, ..composition.clone() }, failure.len));
            }
        }
        for len in [failure.len / 2, failure.len.saturating_sub(8), failure.len.saturating_sub(1)] {
            if len < failure.len {
                candidates.push((composition.clone(), len));
            }
        }
        let smaller = candidates.into_iter().find_map(|(composition, len)| {
            let failure = fails(&composition, len, backends)?;
            Some((composition, failure))
        });
        match smaller {
            Some(found) => (composition, failure) = found,
            None => return (composition, failure),
        }
    }
}

/// How the pipeline fails on some stream of that length, if it does.
fn fails(composition: &Composition, len: usize, backends: &[Backend]) -> Option<Failure> {
    let judge = match Judge::new(composition.clone(), backends) {
        Ok(judge) => judge,
        Err(failure) => return Some(failure),
    };
    (0..20).find_map(|seed| judge.judge(&mut Rng::new(seed), len).err())
}
