//! The operations that dominate training, forward and backward. Run with
//! `cargo bench --workspace --bench operations`.
//!
//! `resnet-bk bench kernel` measures the same at the seed model's full size, compared with the
//! machine's limits.

use divan::Bencher;
use divan::counter::ItemsCount;
use resnet_bk::Buffer;
use resnet_bk::numerics::Precision;
use resnet_bk::ops::{DropoutMask, HeadLoss, experts, head_loss, layer_norm};
use resnet_bk::random::{Random, StepStream};
use resnet_bk::tape::{Tape, Tensor};
use resnet_bk_runtime::internal::embedding::TableLayout;

const TOKENS: usize = 2_560;
const WIDTH: usize = 64;

fn main() {
    divan::main();
}

fn values(n: usize) -> Buffer {
    (0..n).map(|i| (i * 7919 % 2003) as f32 / 1001.0 - 1.0).collect::<Vec<f32>>().into()
}

/// Leaves of a new tape.
fn leaves<const N: usize>(values: &[(Buffer, [usize; 2]); N]) -> [Tensor; N] {
    let tape = Tape::default();
    values.each_ref().map(|(values, shape)| tape.leaf(values.clone(), *shape))
}

/// Cross-entropy over 8,000 words.
#[divan::bench(args = [Precision::Bf16, Precision::Float32])]
fn head(bencher: Bencher, precision: Precision) {
    const WORDS: usize = 8_000;
    let layout = TableLayout::full(WORDS, WIDTH);
    let inputs = [
        (values(TOKENS * WIDTH), [TOKENS, WIDTH]),
        (values(layout.len()), [1, layout.len()]),
        (values(WORDS), [1, WORDS]),
    ];
    let targets: Vec<u32> = (0..TOKENS).map(|t| (t * 7 % WORDS) as u32).collect();
    bencher.counter(ItemsCount::new(TOKENS)).bench_local(|| {
        let [hidden, table, bias] = leaves(&inputs);
        let loss = HeadLoss { targets: targets.clone().into(), soft: None, precision };
        head_loss(loss, &layout, &hidden, &table, &bias).backward()
    });
}

/// Four experts of width 128; each token uses one.
#[divan::bench]
fn mixture_of_experts(bencher: Bencher) {
    const EXPERTS: usize = 4;
    const HIDDEN: usize = 128;
    let parameters = EXPERTS * (2 * WIDTH * HIDDEN + HIDDEN + WIDTH);
    let inputs = [(values(TOKENS * WIDTH), [TOKENS, WIDTH]), (values(parameters), [1, parameters])];
    let routed = (0..TOKENS * EXPERTS).map(|i| f32::from(u8::from(i % EXPERTS == i / EXPERTS * 7 % EXPERTS)));
    let weights = Tensor::constant(routed.collect::<Vec<f32>>().into(), [TOKENS, EXPERTS]);
    let dropout = Some(DropoutMask::new(0.1, StepStream::new(&Random::new(1)).take(1)));
    bencher.counter(ItemsCount::new(TOKENS)).bench_local(|| {
        let [x, parameters] = leaves(&inputs);
        experts(&x, &weights, &parameters, dropout).backward()
    });
}

#[divan::bench]
fn norm(bencher: Bencher) {
    let inputs = [(values(TOKENS * WIDTH), [TOKENS, WIDTH]), (values(WIDTH), [1, WIDTH]), (values(WIDTH), [1, WIDTH])];
    bencher.counter(ItemsCount::new(TOKENS)).bench_local(|| {
        let [x, gamma, beta] = leaves(&inputs);
        layer_norm(&x, &gamma, &beta).backward()
    });
}
