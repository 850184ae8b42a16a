use super::*;
use crate::components::distillation_loss;
use crate::device::Device;
use crate::ops::testing::{check_gradients, forward_and_backward, values};
use resnet_bk_runtime::internal::embedding::EmbeddingBin;

/// bf16 on a machine with AMX. Tests that need it are ignored on other machines.
fn bf16() -> Precision {
    let [bf16, float32] = [Precision::Bf16, Precision::Float32].map(|precision| precision.unit(&Device::Cpu));
    assert_ne!(bf16, float32, "this machine has AMX");
    Precision::Bf16
}

fn op(tokens: usize, layout: &TableLayout, soft: Option<SoftTargets>, precision: Precision) -> HeadLossOp {
    let targets = targets(tokens, layout.bins.iter().map(|bin| bin.words).sum());
    HeadLossOp::new(HeadLoss { targets, soft, precision }, layout)
}

fn targets(tokens: usize, words: usize) -> TokenIds {
    (0..tokens).map(|t| (t * 7 % words) as u32).collect::<Vec<u32>>().into()
}

fn teacher(tokens: usize, words: usize, alpha: f32, temperature: f32) -> SoftTargets {
    teacher_of(tokens, &TableLayout::full(words, 3), alpha, temperature)
}

/// A teacher of width 3.
fn teacher_of(tokens: usize, layout: &TableLayout, alpha: f32, temperature: f32) -> SoftTargets {
    let words = layout.bins.iter().map(|bin| bin.words).sum();
    let head =
        FrozenHead { layout: layout.clone(), table: rounded(layout.len(), 5).into(), bias: values(words, 6).into() };
    SoftTargets { hidden: rounded(3 * tokens, 4).into(), head: Arc::new(head), temperature, alpha }
}

fn bins(sizes: &[(usize, usize)], d_model: usize) -> TableLayout {
    TableLayout { bins: sizes.iter().map(|&(words, width)| EmbeddingBin { words, width }).collect(), d_model }
}

#[test]
fn gradients_match_finite_differences() {
    // Few words: with many, rounding of the loss would hide the differences.
    let words = 11;
    for tokens in [1, 5] {
        for layout in [TableLayout::full(words, 4), bins(&[(3, 4), (5, 2), (3, 1)], 4), bins(&[(11, 3)], 4)] {
            let (x, w, b) = (values(4 * tokens, 1), values(layout.len(), 2), values(words, 3));
            check_gradients([&x, &w, &b], || op(tokens, &layout, None, Precision::Float32), 3e-3);
            for alpha in [0.0, 0.7, 1.0] {
                let soft = || Some(teacher(tokens, words, alpha, 2.0));
                check_gradients([&x, &w, &b], || op(tokens, &layout, soft(), Precision::Float32), 3e-3);
            }
        }
    }
}

#[test]
fn bins_equal_the_widened_table() {
    check_bins(Precision::Float32, 1e-5);
}

#[test]
#[cfg_attr(not(has_amx), ignore = "needs AMX")]
fn bins_equal_the_widened_table_in_bf16() {
    // bf16 rounds the gradients and the narrow hidden states, which are sums of products.
    check_bins(bf16(), 2e-2);
}

fn check_bins(precision: Precision, tolerance: f32) {
    // One group of tokens, and two.
    for tokens in [70, 300] {
        let (words, d_model) = (600, 40);
        let layout = bins(&[(64, d_model), (300, 20), (236, 7)], d_model);
        let (x, w, b) = (values(d_model * tokens, 1), values(layout.len(), 2), values(words, 3));
        let wide = widened(&layout, &w);
        let full = TableLayout::full(words, d_model);
        // The teacher's bins have other boundaries than the student's.
        let teacher = teacher_of(tokens, &bins(&[(100, 3), (264, 2), (236, 1)], 3), 0.7, 2.0);
        let wide_head = FrozenHead {
            layout: TableLayout::full(words, 3),
            table: widened(&teacher.head.layout, &teacher.head.table).into(),
            bias: teacher.head.bias.clone(),
        };
        let wide_teacher = SoftTargets { head: Arc::new(wide_head), ..teacher.clone() };
        for (soft, wide_soft) in [(None, None), (Some(teacher), Some(wide_teacher))] {
            let run = |layout: &TableLayout, table: &[f32], soft: &Option<SoftTargets>| {
                forward_and_backward(op(tokens, layout, soft.clone(), precision), [&x, table, &b], &[1.0])
            };
            let (loss, [dx, _, db]) = run(&layout, &w, &soft);
            let (expected, [expected_dx, _, expected_db]) = run(&full, &wide, &wide_soft);
            let (loss, expected) = (loss[0], expected[0]);
            assert!((loss / expected - 1.0).abs() < tolerance, "{loss}, expected {expected}");
            for (got, expected) in [(dx, expected_dx), (db, expected_db)] {
                let largest = expected.iter().fold(0.0f32, |max, x| max.max(x.abs()));
                for (got, expected) in got.iter().zip(&expected) {
                    assert!((got - expected).abs() < tolerance * largest, "{got}, expected {expected} of {largest}");
                }
            }
        }
    }
}

/// The table with all rows at full width.
fn widened(layout: &TableLayout, table: &[f32]) -> Vec<f32> {
    let words: usize = layout.bins.iter().map(|bin| bin.words).sum();
    let mut wide = vec![0.0; words * layout.d_model];
    for bin in layout.bins(table) {
        bin.widen(bin.rows, &mut wide[bin.words().start * layout.d_model..bin.words().end * layout.d_model]);
    }
    wide
}

/// Loss and gradients in double precision, from the logits of all words.
fn plain(targets: &[u32], soft: Option<&SoftTargets>, [x, w, b]: [&[f32]; 3]) -> (f64, [Vec<f64>; 3]) {
    let (words, tokens) = (b.len(), targets.len());
    let logits = |x: &[f32], w: &[f32], b: &[f32], t: usize, scale: f64| -> Vec<f64> {
        let width = w.len() / words;
        let dot = |v: usize| (0..width).map(|d| f64::from(x[t * width + d]) * f64::from(w[v * width + d])).sum::<f64>();
        (0..words).map(|v| (f64::from(b[v]) + dot(v)) * scale).collect()
    };
    let softmax = |logits: &[f64]| -> (Vec<f64>, f64) {
        let normalizer = logits.iter().map(|l| l.exp()).sum::<f64>().ln();
        (logits.iter().map(|l| (l - normalizer).exp()).collect(), normalizer)
    };
    let (mut loss, mut dx) = (0.0, vec![0.0; x.len()]);
    let (mut dw, mut db) = (vec![0.0; w.len()], vec![0.0; b.len()]);
    let width = w.len() / words;
    for t in 0..tokens {
        let hard_logits = logits(x, w, b, t, 1.0);
        let (p, normalizer) = softmax(&hard_logits);
        let target = targets[t] as usize;
        let mut dlogits: Vec<f64> = p.clone();
        dlogits[target] -= 1.0;
        let mut token_loss = normalizer - hard_logits[target];
        if let Some(soft) = soft {
            let (tau, alpha) = (f64::from(soft.temperature), f64::from(soft.alpha));
            let (q, q_normalizer) = softmax(&logits(x, w, b, t, 1.0 / tau));
            let teacher = logits(&soft.hidden, &soft.head.table, &soft.head.bias, t, 1.0 / tau);
            let (r, r_normalizer) = softmax(&teacher);
            let divergence: f64 =
                (0..words).map(|v| r[v] * (teacher[v] - r_normalizer - hard_logits[v] / tau + q_normalizer)).sum();
            token_loss = alpha * tau * tau * divergence + (1.0 - alpha) * token_loss;
            for v in 0..words {
                dlogits[v] = alpha * tau * (q[v] - r[v]) + (1.0 - alpha) * dlogits[v];
            }
        }
        loss += token_loss;
        for (v, dlogit) in dlogits.iter().enumerate() {
            db[v] += dlogit / tokens as f64;
            for d in 0..width {
                dx[t * width + d] += dlogit * f64::from(w[v * width + d]) / tokens as f64;
                dw[v * width + d] += dlogit * f64::from(x[t * width + d]) / tokens as f64;
            }
        }
    }
    (loss / tokens as f64, [dx, dw, db])
}

#[test]
fn the_loss_of_given_logits_is_the_same() {
    let (tokens, words, width) = (5, 11, 4);
    let [x, w, b] = [values(width * tokens, 1), values(width * words, 2), values(words, 3)];
    let soft = teacher(tokens, words, 0.7, 2.0);
    let logits = |head: Head, hidden: &[f32]| {
        let mut logits = vec![0.0; tokens * words];
        head.logits(hidden, &mut logits);
        logits
    };
    let layout = TableLayout::full(words, width);
    let [student, wanted] = [logits(Head::new(&layout, &w, &b), &x), logits(soft.head.view(), &soft.hidden)];
    let targets: Vec<u32> = targets(tokens, words).iter().copied().collect();
    let (expected, gradient) = distillation_loss(&student, &wanted, &targets, 2.0, 0.7).unwrap();
    let op = op(tokens, &layout, Some(soft), Precision::Float32);
    let (loss, [_, _, db]) = forward_and_backward(op, [&x, &w, &b], &[1.0]);
    assert!((f64::from(loss[0]) / expected - 1.0).abs() < 1e-5, "{loss:?}, expected {expected}");
    for (word, db) in db.iter().enumerate() {
        let expected: f32 = gradient.chunks(words).map(|row| row[word]).sum();
        assert!((db - expected).abs() < 1e-6, "{word}: {db}, expected {expected}");
    }
}

/// Numbers that are exact in bf16.
fn rounded(n: usize, salt: u32) -> Vec<f32> {
    values(n, salt).iter().map(|x| f32::from_bits(x.to_bits() & 0xffff_0000)).collect()
}

/// Compares with the plain loss and gradients. Tolerances are relative; a gradient's, to at least
/// one token's share.
fn check_against_plain(precision: Precision, loss_tolerance: f64, gradient_tolerance: f64) {
    for (tokens, words, width) in
        [(1, 11, 4), (31, 33, 32), (255, 511, 4), (256, 512, 40), (257, 513, 64), (300, 1100, 33)]
    {
        let inputs = [rounded(width * tokens, 1), rounded(width * words, 2), values(words, 3)];
        let temperatures = [1.0, 2.0, 3.0, 4.0, 2.5].map(|tau| Some(teacher(tokens, words, 0.7, tau)));
        for soft in std::iter::once(None).chain(temperatures) {
            compare_with_plain(&inputs, soft, precision, loss_tolerance, gradient_tolerance);
        }
    }
}

fn compare_with_plain(
    [x, w, b]: &[Vec<f32>; 3],
    soft: Option<SoftTargets>,
    precision: Precision,
    loss_tolerance: f64,
    gradient_tolerance: f64,
) {
    let words = b.len();
    let width = w.len() / words;
    let tokens = x.len() / width;
    let inputs: [&[f32]; 3] = [x, w, b];
    let (expected, gradients) = plain(&targets(tokens, words), soft.as_ref(), inputs);
    let op = op(tokens, &TableLayout::full(words, width), soft, precision);
    let (loss, got) = forward_and_backward(op, inputs, &[1.0]);
    let loss = f64::from(loss[0]);
    assert!(
        (loss - expected).abs() < loss_tolerance * expected,
        "{tokens} x {words} x {width}: {loss}, expected {expected}"
    );
    for (got, expected) in got.iter().flatten().zip(gradients.iter().flatten()) {
        // A word that is the target of many tokens has the sum of their gradients and errors.
        let share = expected.abs().max(1.0 / tokens as f64);
        let error = (f64::from(*got) - expected).abs() / share;
        assert!(error < gradient_tolerance, "{tokens} x {words} x {width}: {got}, expected {expected}");
    }
}

#[test]
fn the_largest_logit_may_come_late_or_early() {
    check_largest_logit(Precision::Float32, 1e-4);
}

#[test]
#[cfg_attr(not(has_amx), ignore = "needs AMX")]
fn the_largest_logit_may_come_late_or_early_in_bf16() {
    check_largest_logit(bf16(), 2.0 / 256.0);
}

fn check_largest_logit(precision: Precision, gradient_tolerance: f64) {
    let (words, width) = (1100, 4);
    // A range of over 200; half precision covers 26.
    let rising: Vec<f32> = (0..words).map(|word| word as f32 / 5.0 - 110.0).collect();
    let falling: Vec<f32> = rising.iter().rev().copied().collect();
    for (bias, teacher_bias) in [(&rising, &falling), (&falling, &rising), (&rising, &rising)] {
        for (tokens, temperature) in [(40, 1.0), (300, 2.0), (40, 2.5), (40, 4.0)] {
            let inputs = [rounded(width * tokens, 1), rounded(width * words, 2), bias.clone()];
            let mut soft = teacher(tokens, words, 0.7, temperature);
            Arc::make_mut(&mut soft.head).bias = teacher_bias.clone().into();
            compare_with_plain(&inputs, None, precision, 1e-5, gradient_tolerance);
            compare_with_plain(&inputs, Some(soft), precision, 1e-5, gradient_tolerance);
        }
    }
}

#[test]
fn float32_tiles_and_threads_equal_the_plain_losses_and_gradients() {
    // Sums over a thousand words in single precision, compared with double precision.
    check_against_plain(Precision::Float32, 1e-5, 1e-5);
}

#[test]
#[cfg_attr(not(has_amx), ignore = "needs AMX")]
fn bf16_tiles_equal_the_plain_losses_and_round_gradients() {
    // The factors of the logits are exact. Their gradients sum to 1 per token and are rounded to 8
    // bits.
    check_against_plain(bf16(), 1e-5, 2.0 / 256.0);
}

#[test]
fn a_student_equal_to_its_teacher_has_no_soft_loss() {
    check_equal_teacher(Precision::Float32);
}

#[test]
#[cfg_attr(not(has_amx), ignore = "needs AMX")]
fn a_student_equal_to_its_teacher_has_no_soft_loss_in_bf16() {
    check_equal_teacher(bf16());
}

fn check_equal_teacher(precision: Precision) {
    let words = 11;
    let mut soft = teacher(6, words, 1.0, 2.0);
    soft.hidden = values(24, 1).into();
    let layout = TableLayout::full(words, 4);
    soft.head = Arc::new(FrozenHead {
        layout: layout.clone(),
        table: values(4 * words, 2).into(),
        bias: values(words, 3).into(),
    });
    let op = op(6, &layout, Some(soft), precision);
    let inputs = [&values(24, 1)[..], &values(4 * words, 2), &values(words, 3)];
    let (loss, gradients) = forward_and_backward(op, inputs, &[1.0]);
    assert!(loss[0].abs() < 1e-6, "{loss:?}");
    assert!(gradients.iter().flatten().all(|g| g.abs() < 1e-6));
}

#[test]
fn likelihoods_equal_those_of_the_float32_head() {
    // Factors have 16 of float32's 24 bits; logits are a few units.
    const ABSOLUTE: f32 = 1e-4;
    let layouts = [TableLayout::full(11, 4), TableLayout::full(513, 64), bins(&[(100, 33), (1000, 5)], 33)];
    for (tokens, layout) in [1, 33, 300].into_iter().zip(layouts) {
        let words: usize = layout.bins.iter().map(|bin| bin.words).sum();
        let (x, w, b) = (values(layout.d_model * tokens, 1), values(layout.len(), 2), values(words, 3));
        let targets = targets(tokens, words);
        let head = Head::new(&layout, &w, &b);
        let expected = head.negative_log_likelihoods(&x, &targets);
        for (got, expected) in host::negative_log_likelihoods(&x, &targets, &head).iter().zip(&expected) {
            assert!((got - expected).abs() < ABSOLUTE, "{tokens} tokens, {layout:?}: {got}, expected {expected}");
        }
    }
}
