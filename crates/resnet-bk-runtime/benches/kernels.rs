//! Benchmarks of the kernels in which inference spends most of its time. `cargo bench --workspace
//! --bench kernels`

use divan::Bencher;
use divan::counter::ItemsCount;
use resnet_bk_runtime::internal::kernels::lanes::Strips;
use resnet_bk_runtime::internal::kernels::{layer_norm, left_ratios, linear};
use resnet_bk_runtime::internal::quantization::{ScaleMode, Scheme, q_max};
use resnet_bk_runtime::internal::resolvent::Chain;

fn main() {
    divan::main();
}

fn values(n: usize) -> Vec<f32> {
    (0..n).map(|i| (i * 7919 % 2003) as f32 / 1001.0 - 1.0).collect()
}

/// Arguments: strips, heads, time steps.
#[divan::bench(args = [(1, 1, 128), (20, 1, 128), (1, 64, 128), (64, 1, 16_384)])]
fn resolvent_left(bencher: Bencher, (strips, heads, length): (usize, usize, usize)) {
    let (diagonal, hopping, eta) = (vec![-2.0; heads], vec![1.0; heads], vec![1.0; heads]);
    let chain = Chain { diagonal: &diagonal, hopping: &hopping, eta: &eta };
    let potential = values(strips * heads * length);
    let mut ratios = vec![0.0; 2 * potential.len()];
    bencher.counter(ItemsCount::new(potential.len())).bench_local(|| {
        let states = vec![0.0; 2 * strips * heads];
        left_ratios(&potential, Strips { length, heads }, chain, &states, &mut ratios);
    });
}

/// Arguments: rows, inputs, outputs.
#[divan::bench(args = [(1, 64, 128), (128, 64, 128), (128, 128, 64)])]
fn affine(bencher: Bencher, (rows, input, output): (usize, usize, usize)) {
    let (x, weight, bias) = (values(rows * input), values(input * output), values(output));
    let mut out = vec![0.0; rows * output];
    let counter = ItemsCount::new(rows * input * output);
    bencher.counter(counter).bench_local(|| linear(&x, &weight, &bias, &mut out));
}

#[divan::bench]
fn norm(bencher: Bencher) {
    let (x, gamma, beta) = (values(128 * 64), values(64), values(64));
    let mut out = vec![0.0; x.len()];
    bencher.counter(ItemsCount::new(x.len())).bench_local(|| layer_norm(&x, &gamma, &beta, &mut out));
}

#[divan::bench(args = [4, 8])]
fn fake_quantize(bencher: Bencher, bits: u8) {
    let scheme = Scheme { qmax: q_max(bits), mode: ScaleMode::AbsMax(128) };
    let x = values(1 << 16);
    bencher.counter(ItemsCount::new(x.len())).with_inputs(|| x.clone()).bench_local_values(|mut x| {
        let scales = scheme.scales(&x, None);
        scheme.fake_quantize(&mut x, &scales);
        x
    });
}
