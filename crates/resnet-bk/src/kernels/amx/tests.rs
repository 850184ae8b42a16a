use super::*;

/// The unit of a machine that has one: elsewhere, the tests that need it are ignored.
fn session() -> Session {
    Amx::detect().expect("this machine has AMX").session()
}

/// Numbers that bf16 holds exactly.
fn values(n: usize, salt: usize) -> Vec<f32> {
    (0..n).map(|i| ((i * 7919 + salt * 104_729) % 255) as f32 / 64.0 - 2.0).collect()
}

#[test]
#[cfg_attr(not(has_amx), ignore = "needs AMX")]
fn products_of_every_layout_equal_the_definition() {
    let session = session();
    for (m, k, n) in [(1, 1, 1), (31, 33, 5), (32, 32, 32), (20, 64, 32), (32, 100, 7)] {
        let (a, b) = (values(m * k, 1), values(k * n, 2));
        let transposed = |x: &[f32], rows: usize| -> Vec<f32> {
            let columns = x.len() / rows;
            (0..x.len()).map(|i| x[i % rows * columns + i / rows]).collect()
        };
        let (at, bt) = (transposed(&a, m), transposed(&b, k));
        let pack = |source: &[f32], width: usize, layout: Layout, along_rows: bool| -> Vec<Operand> {
            (0..k.div_ceil(BLOCK))
                .map(|step| {
                    let mut operand = Operand::ZERO;
                    let corner = if along_rows { (step * BLOCK, 0) } else { (0, step * BLOCK) };
                    operand.pack(Source { values: source, width, scale: 1.0, part: Part::High }, corner, layout);
                    operand
                })
                .collect()
        };
        for left in [pack(&a, k, Layout::Left, false), pack(&at, m, Layout::LeftTransposed, true)] {
            for right in [pack(&b, n, Layout::Right, true), pack(&bt, k, Layout::RightTransposed, false)] {
                let mut out = Block::ZERO;
                session.multiply(&mut out, Write::Overwrite, &left, &right);
                session.multiply(&mut out, Write::Accumulate, &left, &right);
                for i in 0..BLOCK {
                    for j in 0..BLOCK {
                        let inside = i < m && j < n;
                        let expected: f32 =
                            if inside { (0..k).map(|x| a[i * k + x] * b[x * n + j]).sum() } else { 0.0 };
                        assert_eq!(out.0[i][j], 2.0 * expected, "{m} x {k} x {n} at {i}, {j}");
                    }
                }
            }
        }
    }
}

#[test]
#[cfg_attr(not(has_amx), ignore = "needs AMX")]
fn products_one_by_one_and_each_with_one_side_are_equal() {
    let session = session();
    for depth in [1, 2, 3] {
        for count in [0, 1, 2, 5] {
            let operands = |n: usize, salt: usize, layout: Layout| -> Vec<Operand> {
                (0..n)
                    .map(|i| {
                        let mut operand = Operand::ZERO;
                        let source = values(BLOCK * BLOCK, salt + i);
                        let source = Source { values: &source, width: BLOCK, scale: 1.0, part: Part::High };
                        operand.pack(source, (0, 0), layout);
                        operand
                    })
                    .collect()
            };
            let (left, right) = (operands(count * depth, 1, Layout::Left), operands(depth, 100, Layout::Right));
            let mut each = vec![Block::ZERO; count];
            session.multiply_each(&mut each, &left, &right);
            for (each, left) in each.iter().zip(left.chunks(depth)) {
                let mut one = Block::ZERO;
                session.multiply(&mut one, Write::Overwrite, left, &right);
                assert_eq!(each.0, one.0, "depth {depth}, {count} blocks");
            }
        }
    }
}

#[test]
fn stored_blocks_fill_what_fits() {
    let mut block = Block::ZERO;
    for (i, x) in block.0.as_flattened_mut().iter_mut().enumerate() {
        *x = i as f32;
    }
    let (rows, width) = (35, 40);
    for corner in [(0, 0), (10, 32)] {
        let (mut straight, mut turned) = (vec![-1.0; rows * width], vec![-1.0; rows * width]);
        block.store(&mut straight, width, corner);
        block.store_transposed(&mut turned, width, corner, 2.0);
        for i in 0..rows * width {
            let (r, c) = ((i / width).wrapping_sub(corner.0), (i % width).wrapping_sub(corner.1));
            let inside = r < BLOCK && c < BLOCK;
            assert_eq!(straight[i], if inside { block.0[r][c] } else { -1.0 });
            assert_eq!(turned[i], if inside { 2.0 * block.0[c][r] } else { -1.0 });
        }
    }
}

/// A block's `[word][token]` logits that span some units, and its words' bias.
fn logits(salt: usize, span: f32) -> (Block, Lanes) {
    let mut block = Block::ZERO;
    let flat = block.0.as_flattened_mut();
    flat.iter_mut().zip(values(BLOCK * BLOCK, salt)).for_each(|(out, x)| *out = x * span);
    let mut bias = [0.0; BLOCK];
    bias.iter_mut().zip(values(BLOCK, salt + 1)).for_each(|(out, x)| *out = x * span);
    (block, bias)
}

#[test]
#[cfg_attr(not(has_amx), ignore = "needs AMX")]
fn sums_and_gradients_of_blocks_equal_those_in_double_precision() {
    let session = session();
    // Two blocks of words of a student, and of its teacher: the second one's logits are larger.
    let [student, teacher] = [1, 11].map(|salt| [logits(salt, 1.0), logits(salt + 2, 9.0)]);
    let all = |blocks: &[(Block, Lanes); 2], token: usize| -> Vec<f64> {
        let of_block = |(block, bias): &(Block, Lanes)| {
            (0..BLOCK).map(|word| f64::from(block.0[word][token] + bias[word])).collect::<Vec<_>>()
        };
        blocks.iter().flat_map(of_block).collect()
    };
    let sum = |logits: &[f64], tau: f64| logits.iter().map(|l| (l / tau).exp()).sum::<f64>();
    for tau in [1.0f32, 2.0, 2.5, 3.0, 4.0] {
        let planes = MixedSums::planes(tau);
        let mut sums = MixedSums::EMPTY;
        let mut kept = vec![Exponentials::ZERO; 2 * planes];
        for (index, kept) in kept.chunks_mut(planes).enumerate() {
            let (student, teacher) = (&student[index], &teacher[index]);
            session.extend_mixed((&student.0, &student.1), (&teacher.0, &teacher.1), tau, &mut sums, kept);
        }
        let temperature = f64::from(tau);
        let mut normalizers = TokenNormalizers { hard: [0.0; BLOCK], student: [0.0; BLOCK], teacher: [0.0; BLOCK] };
        for token in 0..BLOCK {
            let (l, t) = (all(&student, token), all(&teacher, token));
            let relative = |sum: f32, largest: f32, tau: f64, lift: f32| {
                f64::from(sum) * (f64::from(largest) / tau).exp() * f64::from(-lift).exp2()
            };
            let difference: f64 = t.iter().zip(&l).map(|(t, l)| (t / temperature).exp() * (t - l)).sum();
            let found = [
                (relative(sums.hard[token], sums.largest[token], 1.0, MixedSums::lift(tau)), sum(&l, 1.0)),
                (relative(sums.soft[token], sums.largest[token], temperature, LIFT), sum(&l, temperature)),
                (relative(sums.teacher[token], sums.teacher_largest[token], temperature, LIFT), sum(&t, temperature)),
                (relative(sums.difference[token], sums.teacher_largest[token], temperature, LIFT), difference),
            ];
            for (got, expected) in found {
                assert!((got / expected - 1.0).abs() < 2e-5, "tau {tau}, token {token}: {got}, expected {expected}");
            }
            normalizers.hard[token] = sum(&l, 1.0).log2() as f32;
            normalizers.student[token] = sum(&l, temperature).log2() as f32;
            normalizers.teacher[token] = sum(&t, temperature).log2() as f32;
        }
        let mixture = Mixture { temperature: tau, soft_weight: 0.6, hard_weight: 0.4 };
        for (index, kept) in kept.chunks(planes).enumerate() {
            let (mut left, mut right) = (Operand::ZERO, Operand::ZERO);
            let mut bias = [[0.0; 16]; BLOCK];
            let mut out = GradientBlock { left: &mut left, right: &mut right, bias: &mut bias };
            session.mixed_gradient(kept, mixture, &normalizers, &mut out);
            for word in 0..BLOCK {
                let mut total = 0.0;
                for token in 0..BLOCK {
                    let (l, t) = (all(&student, token), all(&teacher, token));
                    let p = |logits: &[f64], tau: f64| (logits[index * BLOCK + word] / tau).exp() / sum(logits, tau);
                    let expected = 0.6 * (p(&l, temperature) - p(&t, temperature)) + 0.4 * p(&l, 1.0);
                    total += expected;
                    let got = f64::from(f32::from_bits(u32::from(left.0[word * BLOCK + token]) << 16));
                    // Half a unit of bf16, half-precision probabilities, and those that it does not
                    // hold.
                    let probability = p(&l, temperature).max(p(&t, temperature));
                    let tolerance = expected.abs() / 256.0 + probability / 1024.0 + 1e-10;
                    assert!((got - expected).abs() < tolerance, "tau {tau}: {got}, expected {expected}");
                    let twin = right.0[word / 2 * 2 * BLOCK + 2 * token + word % 2];
                    assert_eq!(left.0[word * BLOCK + token], twin);
                }
                let got: f32 = bias[word].iter().sum();
                assert!((f64::from(got) - total).abs() < 1e-3, "tau {tau}, word {word}: {got}, expected {total}");
            }
        }
    }
}

#[test]
#[cfg_attr(not(has_amx), ignore = "needs AMX")]
fn a_plain_sum_is_the_same_with_and_without_keeping() {
    let session = session();
    let mut kept = Exponentials::ZERO;
    let (mut with, mut without) = (PlainSums::EMPTY, PlainSums::EMPTY);
    for salt in [1, 5] {
        let (block, bias) = logits(salt, salt as f32);
        session.extend_and_keep(&block, &bias, &mut with, &mut kept);
        session.extend(&block, &bias, &mut without);
    }
    assert_eq!(with.largest, without.largest);
    assert_eq!(with.sum, without.sum);
}
