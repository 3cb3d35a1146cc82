//! Criterion groups: a choice of pipelines, contenders and sizes, for comparing with an earlier state of this
//! project. For ratios between contenders see the `figures` binary, which interleaves them.

use benches::cases::Case;
use benches::contenders::{HAND, NATIVE, SEPARATE, contenders};
use benches::harness::{Arena, Condition};
use benches::plot::size;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use std::hint::black_box;
use std::time::Duration;

fn copy_loops(criterion: &mut Criterion) {
    let mut arena = Arena::new(4 << 20).expect("memory for the buffers");
    for name in ["checksum+byteswap", "checksum+byteswap+xor", "checksum+byteswap+crc32c", "five pipes"] {
        let case = Case::named(name).expect("one of the cases");
        let mut group = criterion.benchmark_group(name);
        group
            .warm_up_time(Duration::from_millis(100))
            .measurement_time(Duration::from_millis(500))
            .sample_size(20);
        let list = contenders(case, None).expect("the standard library has the pipes of every case");
        for bytes in [64, 1460, 16 << 10, 1 << 20] {
            group.throughput(Throughput::Bytes(bytes as u64));
            let mut slots = arena.slots(bytes, case.written_len(bytes), Condition::Hot);
            for name in [SEPARATE, HAND, NATIVE, "cranelift"] {
                let Some(contender) = list.iter().find(|contender| contender.name == name) else { continue };
                group.bench_function(BenchmarkId::new(&contender.name, size(bytes)), |bencher| {
                    bencher.iter(|| {
                        let (src, dst) = slots.turn();
                        black_box(contender.body.run(black_box(src), black_box(dst)))
                    });
                });
            }
        }
        group.finish();
    }
}

criterion_group!(benches, copy_loops);
criterion_main!(benches);
