//! A student that begins with its teacher's table, bias and, where the sizes are equal, blocks.
//!
//! ```text
//! teacher's rows   E [V, D]        weight of word i: its count in the training text, at least 1
//! narrower model   P = E W         W [D, D']: principal directions of E; W = 1 if D' = D
//! bin b            R = P_b Q       Q [D', d_b]: principal directions of the bin's rows
//!                  rows            R / c        c: root mean square of a column of R over TIED_STD
//!                  projection      diag(c) Q^T
//! bias             curve           least squares, weighted like the rows
//!                  bias of a word  the teacher's less the curve
//! ```
//!
//! A student wider than its teacher keeps the further columns of its random rows.

use super::distill::matching_block;
use super::principal_directions::{energy, principal_directions};
use crate::checkpoint::ModelState;
use crate::parameters::{Parameter, Parameters, TIED_STD};
use nalgebra::{DMatrix, DVector};
use resnet_bk_runtime::internal::architecture::Architecture;
use resnet_bk_runtime::internal::embedding::EmbeddingBin;
use resnet_bk_runtime::internal::rank_curve::{KnotPosition, rank_curve};
use resnet_bk_runtime::internal::tensor_id::{ModelTensor, NormPart, TensorId};
use std::cmp::Ordering;

/// A column of rows with less than this share of the largest column's size is only rounding error.
const NO_COLUMN: f64 = 1e-6;
/// Added to the diagonal of the curve's normal equations, as a share of their trace. A knot without
/// words nearby has no equation of its own.
const RIDGE: f64 = 1e-9;

/// What a student has from its teacher.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FromTeacher {
    /// Share of the energy of the teacher's rows that the student's rows keep, each word weighted
    /// by its count.
    pub energy: f64,
    /// Number of the student's blocks that are copies of the teacher's.
    pub blocks: usize,
}

/// A table of a model. A model with tied embeddings has one table for both.
#[derive(Clone, Copy, PartialEq)]
enum Table {
    Input,
    Head,
}

/// Replaces the initial values of a new student's table and bias, and those of its blocks, its last
/// norm and its positions where the sizes are equal. `tokens` are the training text. A table for
/// input and head begins with the rows of the teacher's head.
///
/// # Panics
/// If the vocabularies have different sizes, or a token is in neither.
pub fn init_from_teacher(student: &mut ModelState, teacher: &ModelState, tokens: &[u32]) -> FromTeacher {
    let (teacher, student) = (&teacher.parameters, &mut student.parameters);
    let words = teacher.architecture().vocab_size;
    assert_eq!(words, student.architecture().vocab_size, "words of teacher and student");
    let mut counts = vec![0.0f64; words];
    tokens.iter().for_each(|&token| counts[token as usize] += 1.0);
    counts.iter_mut().for_each(|count| *count = count.max(1.0));

    let tables: &[Table] =
        if student.architecture().tied_embeddings { &[Table::Head] } else { &[Table::Input, Table::Head] };
    let (mut kept, mut all) = (0.0, 0.0);
    for &table in tables {
        let rows = full_rows(teacher, table);
        all += energy(&rows, &counts);
        kept += set_rows(student, table, rows, &counts);
    }
    set_bias(student, &head_bias(teacher), &counts);
    for tensor in [ModelTensor::Norm(NormPart::Gamma), ModelTensor::Norm(NormPart::Beta), ModelTensor::Positions] {
        copy(student, teacher, &[(tensor, tensor)]);
    }
    let (layers, of) = (student.architecture().n_layers(), teacher.architecture().n_layers());
    let blocks = (0..layers).filter(|&block| copy_block(student, block, teacher, matching_block(block, layers, of)));
    FromTeacher { blocks: blocks.count(), energy: if all > 0.0 { kept / all } else { 1.0 } }
}

/// Whether a model's rows of this table are in bins or in a table that both uses share.
fn is_shared(architecture: &Architecture, table: Table) -> bool {
    table == Table::Input || architecture.tied_embeddings
}

/// A table as rows of the model's width, `[V, D]`.
fn full_rows(parameters: &Parameters, table: Table) -> DMatrix<f64> {
    let architecture = parameters.architecture();
    let matrix = |tensor: ModelTensor| {
        let parameter = parameters.get(tensor)?;
        let values = parameters.rounded(parameter).into_iter().map(f64::from);
        Some(DMatrix::from_row_iterator(parameter.spec.shape[0], parameter.spec.shape[1], values))
    };
    let tensor = if is_shared(architecture, table) { ModelTensor::Embedding } else { ModelTensor::Head };
    if let Some(rows) = matrix(tensor) {
        return rows;
    }
    let mut all = DMatrix::zeros(architecture.vocab_size, architecture.d_model);
    let mut first = 0;
    for (index, bin) in architecture.embedding_bins.iter().enumerate() {
        let rows = matrix(ModelTensor::BinRows(index)).expect("rows of every bin");
        let rows = match matrix(ModelTensor::BinProjection(index)) {
            Some(projection) => rows * projection,
            None => rows,
        };
        all.rows_mut(first, bin.words).copy_from(&rows);
        first += bin.words;
    }
    all
}

/// Sets a table of the student. Returns the energy that it keeps of the teacher's rows `[V, D]`.
fn set_rows(student: &mut Parameters, table: Table, rows: DMatrix<f64>, counts: &[f64]) -> f64 {
    let width = student.architecture().d_model;
    // Columns of the student that come from the teacher.
    let shared = width.min(rows.ncols());
    let wanted = match width.cmp(&rows.ncols()) {
        Ordering::Less => {
            let directions = principal_directions(&rows, counts, width);
            rows * directions
        }
        Ordering::Equal => rows,
        Ordering::Greater => {
            let mut wider = full_rows(student, table);
            wider.columns_mut(0, shared).copy_from(&rows);
            wider
        }
    };
    let bins = match is_shared(student.architecture(), table) {
        true => student.architecture().embedding_bins.clone(),
        false => Vec::new(),
    };
    let mut first = 0;
    for (index, bin) in bins.iter().enumerate() {
        set_bin(student, index, *bin, &wanted.rows(first, bin.words).into_owned(), &counts[first..][..bin.words]);
        first += bin.words;
    }
    if bins.is_empty() {
        let tensor = if is_shared(student.architecture(), table) { ModelTensor::Embedding } else { ModelTensor::Head };
        set(student, tensor, &wanted);
    }
    let wanted = wanted.columns(0, shared).into_owned();
    let error = full_rows(student, table).columns(0, shared) - &wanted;
    energy(&wanted, counts) - energy(&error, counts)
}

/// Sets a bin to the best rows of its width.
fn set_bin(student: &mut Parameters, index: usize, bin: EmbeddingBin, wanted: &DMatrix<f64>, counts: &[f64]) {
    if !bin.is_projected(wanted.ncols()) {
        set(student, ModelTensor::BinRows(index), wanted);
        return;
    }
    let directions = principal_directions(wanted, counts, bin.width);
    let mut rows = wanted * &directions;
    let mut projection = directions.transpose();
    let sizes: Vec<f64> = rows.column_iter().map(|column| (column.norm_squared() / bin.words as f64).sqrt()).collect();
    let largest = sizes.iter().copied().fold(0.0, f64::max);
    let random = student.get(ModelTensor::BinRows(index)).expect("rows of every bin").values.to_vec();
    for (column, &size) in sizes.iter().enumerate() {
        let scale = size / f64::from(TIED_STD);
        if size > NO_COLUMN * largest {
            rows.column_mut(column).scale_mut(1.0 / scale);
            projection.row_mut(column).scale_mut(scale);
        } else {
            // With rows and projection of zero, neither would have a gradient.
            rows.column_mut(column)
                .iter_mut()
                .enumerate()
                .for_each(|(word, value)| *value = f64::from(random[word * bin.width + column]));
            projection.row_mut(column).fill(0.0);
        }
    }
    set(student, ModelTensor::BinRows(index), &rows);
    set(student, ModelTensor::BinProjection(index), &projection);
}

/// The bias of the head with its curve, `[V]`.
fn head_bias(parameters: &Parameters) -> Vec<f32> {
    let values = |tensor: ModelTensor| parameters.get(tensor).map(|parameter| parameters.rounded(parameter));
    let mut bias = values(ModelTensor::HeadBias).expect("every head has a bias");
    let words = bias.len();
    if let Some(knots) = values(ModelTensor::HeadCurve) {
        bias.iter_mut().zip(rank_curve(&knots, words)).for_each(|(bias, curve)| *bias += curve);
    }
    bias
}

/// Sets the bias of the head, and its curve if there is one.
fn set_bias(student: &mut Parameters, bias: &[f32], counts: &[f64]) {
    let mut own = bias.to_vec();
    if let Some(curve) = student.get_mut(ModelTensor::HeadCurve) {
        let knots = fitted_knots(bias, counts, curve.values.len());
        own.iter_mut().zip(rank_curve(&knots, bias.len())).for_each(|(own, curve)| *own -= curve);
        curve.values = knots.into();
    }
    student.get_mut(ModelTensor::HeadBias).expect("every head has a bias").values = own.into();
}

/// Knots of the curve nearest to a bias: weighted least squares by the normal equations.
fn fitted_knots(bias: &[f32], counts: &[f64], knots: usize) -> Vec<f32> {
    let mut matrix = DMatrix::<f64>::zeros(knots, knots);
    let mut right = DVector::<f64>::zeros(knots);
    for (word, (&value, &count)) in bias.iter().zip(counts).enumerate() {
        let KnotPosition { knot, fraction } = KnotPosition::of(word, bias.len(), knots);
        let parts = [(knot, 1.0 - f64::from(fraction)), (knot + 1, f64::from(fraction))];
        for (a, of_a) in parts {
            right[a] += count * of_a * f64::from(value);
            for (b, of_b) in parts {
                matrix[(a, b)] += count * of_a * of_b;
            }
        }
    }
    let ridge = RIDGE * matrix.trace();
    let equations = (matrix + DMatrix::identity(knots, knots) * ridge).cholesky();
    equations.expect("a sum of squares and a ridge").solve(&right).iter().map(|&knot| knot as f32).collect()
}

/// Copies a block if all of its tensors have the sizes of the teacher's.
fn copy_block(student: &mut Parameters, block: usize, teacher: &Parameters, from: usize) -> bool {
    let pair = |id: TensorId| match id {
        TensorId::Values(ModelTensor::Block(of, tensor)) if of == block => {
            Some((ModelTensor::Block(block, tensor), ModelTensor::Block(from, tensor)))
        }
        _ => None,
    };
    let pairs: Vec<_> = student.iter().filter_map(|parameter| pair(parameter.spec.id)).collect();
    copy(student, teacher, &pairs)
}

/// Copies tensors, `(student's, teacher's)`, if all of them are there and have equal shapes.
fn copy(student: &mut Parameters, teacher: &Parameters, pairs: &[(ModelTensor, ModelTensor)]) -> bool {
    let shape = |parameters: &Parameters, tensor| parameters.get(tensor).map(|one: &Parameter| one.spec.shape.clone());
    let fits =
        pairs.iter().all(|&(to, from)| shape(student, to).is_some() && shape(student, to) == shape(teacher, from));
    if fits {
        for &(to, from) in pairs {
            let values = teacher.rounded(teacher.get(from).expect("found above"));
            student.get_mut(to).expect("found above").values = values.into();
        }
    }
    fits
}

/// Sets a matrix.
fn set(student: &mut Parameters, tensor: ModelTensor, values: &DMatrix<f64>) {
    // Transposed, because nalgebra stores columns.
    let values: Vec<f32> = values.transpose().iter().map(|&value| value as f32).collect();
    let parameter = student.get_mut(tensor).expect("a tensor of the student");
    assert_eq!(values.len(), parameter.values.len(), "values of {tensor}");
    parameter.values = values.into();
}
