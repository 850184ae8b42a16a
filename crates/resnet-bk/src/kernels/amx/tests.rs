use super::*;

/// The unit; where there is none, says that the test was skipped.
#[expect(clippy::print_stderr, reason = "a skipped test must say so")]
fn detect() -> Option<Amx> {
    let amx = Amx::detect();
    if amx.is_none() {
        eprintln!("skipped: this processor has no AMX");
    }
    amx
}

/// Numbers that bf16 holds exactly.
fn values(n: usize, salt: usize) -> Vec<f32> {
    (0..n).map(|i| ((i * 7919 + salt * 104_729) % 255) as f32 / 64.0 - 2.0).collect()
}

#[test]
fn products_of_every_layout_equal_the_definition() {
    let Some(amx) = detect() else {
        return;
    };
    let session = amx.session();
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
fn products_one_by_one_and_each_with_one_side_are_equal() {
    let Some(amx) = detect() else {
        return;
    };
    let session = amx.session();
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
