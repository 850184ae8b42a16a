//! The operations that training spends its time in, forward and backward. `cargo bench --workspace --bench operations`
//!
//! `resnet-bk bench kernel` measures the same at the seed model's full size, beside the machine's own ceilings.

use burn_tensor::{Device, Tensor, TensorData};
use divan::Bencher;
use divan::counter::ItemsCount;
use resnet_bk::ops::{ExpertDropout, HeadLoss, Precision, experts, head_loss, layer_norm};
use resnet_bk_runtime::embedding::TableLayout;

const TOKENS: usize = 2_560;
const WIDTH: usize = 64;

fn main() {
    divan::main();
}

fn values(n: usize) -> Vec<f32> {
    (0..n).map(|i| (i * 7919 % 2003) as f32 / 1001.0 - 1.0).collect()
}

fn matrix(rows: usize, columns: usize) -> Tensor<2> {
    let data = TensorData::new(values(rows * columns), [rows, columns]);
    Tensor::from_data(data, &Device::flex().autodiff()).require_grad()
}

fn vector(n: usize) -> Tensor<1> {
    Tensor::from_data(TensorData::new(values(n), [n]), &Device::flex().autodiff()).require_grad()
}

/// Cross-entropy over 8,000 words.
#[divan::bench(args = [Precision::Bf16, Precision::Float32])]
fn head(bencher: Bencher, precision: Precision) {
    const WORDS: usize = 8_000;
    let layout = TableLayout::full(WORDS, WIDTH);
    let (hidden, bank, bias) = (matrix(TOKENS, WIDTH), vector(layout.len()), vector(WORDS));
    let targets: Vec<u32> = (0..TOKENS).map(|t| (t * 7 % WORDS) as u32).collect();
    bencher.counter(ItemsCount::new(TOKENS)).bench_local(|| {
        let loss = HeadLoss { targets: targets.as_slice().into(), soft: None, precision };
        head_loss(loss, &layout, &hidden, &bank, &bias).backward()
    });
}

/// Four experts of width 128, a token to one of them.
#[divan::bench]
fn mixture_of_experts(bencher: Bencher) {
    const EXPERTS: usize = 4;
    const HIDDEN: usize = 128;
    let x = matrix(TOKENS, WIDTH);
    let bank = vector(EXPERTS * (2 * WIDTH * HIDDEN + HIDDEN + WIDTH));
    let routed = (0..TOKENS * EXPERTS).map(|i| f32::from(u8::from(i % EXPERTS == i / EXPERTS * 7 % EXPERTS))).collect();
    let weights = Tensor::<2>::from_data(TensorData::new::<f32, _>(routed, [TOKENS, EXPERTS]), &x.device());
    let dropout = Some(ExpertDropout { p: 0.1, key: 1 });
    bencher.counter(ItemsCount::new(TOKENS)).bench_local(|| experts(&x, &weights, &bank, dropout).sum().backward());
}

#[divan::bench]
fn norm(bencher: Bencher) {
    let (x, gamma, beta) = (matrix(TOKENS, WIDTH), vector(WIDTH), vector(WIDTH));
    bencher.counter(ItemsCount::new(TOKENS)).bench_local(|| layer_norm(&x, &gamma, &beta).sum().backward());
}
