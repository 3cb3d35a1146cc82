//! Criterion groups: each pipeline, each contender, each size. For comparing with an earlier state of this
//! project; for ratios between contenders see the `figures` binary, which interleaves them.

use benches::cases::{CASES, SIZES};
use benches::contenders::contenders;
use benches::harness::Buffers;
use benches::plot::size;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use std::hint::black_box;
use std::time::Duration;

fn copy_loops(criterion: &mut Criterion) {
    for case in &CASES {
        let mut group = criterion.benchmark_group(case.name);
        group
            .warm_up_time(Duration::from_millis(100))
            .measurement_time(Duration::from_millis(500))
            .sample_size(20);
        let list = contenders(case).expect("the standard library has the pipes of every case");
        for bytes in SIZES {
            group.throughput(Throughput::Bytes(bytes as u64));
            let mut buffers = Buffers::new(bytes);
            let (src, dst) = buffers.both();
            for contender in &list {
                group.bench_function(BenchmarkId::new(&contender.name, size(bytes)), |bencher| {
                    bencher.iter(|| black_box((contender.run)(black_box(src), black_box(&mut *dst))));
                });
            }
        }
        group.finish();
    }
}

criterion_group!(benches, copy_loops);
criterion_main!(benches);
