//! Entropy coding of the codes of a quantized matrix.
//!
//! ```text
//! code = sign * m:   m > 0?  m > 1? ... m > 7?
//!                    m > 7: m - 7 = 2^e + rest,  e > 0?  e > 1? ...  then the bits of rest
//!                    m > 0: negative?
//! ```
//!
//! Magnitudes up to 7 are coded in unary, so every context can shape their distribution. The tail
//! of larger magnitudes is an Elias gamma code. The bits of rest have one adaptive probability
//! each, because few parameters are learned quickly. All other decisions are mixed.
//!
//! Rows of an embedding table are sorted by word frequency, so the size of the codes changes slowly
//! from row to row. It differs between columns throughout. A mixed decision therefore has five
//! contexts:
//!
//! - no context;
//! - the column;
//! - the running mean magnitude of the column;
//! - the running mean magnitude of the codes before, in row-major order;
//! - the codes to the left and above.
//!
//! Input 0 of the mixer is the logit `x_0` without context. The other inputs are the differences
//! from it. Each is weighted by its confidence, which grows with the count `n_i` of its estimate:
//!
//! ```text
//! logit = w_0 x_0 + sum_i w_i (x_i - x_0) n_i / (n_i + 8)
//! ```

use super::adaptive::AdaptiveProbability;
use super::logistic::{MAX_LOGIT, squash};
use super::mixer::Mixer;
use super::range::{BitCoder, CodingError, Decoder};

/// Encodes a row-major matrix of `columns` columns; a vector has one. The last row may be shorter.
/// An empty matrix costs nothing. `encoder` is an encoder or a recorder.
///
/// # Panics
/// If `columns` is 0, `qmax` is below 1 or a code lies outside `±qmax`.
pub fn encode_codes<C: BitCoder>(codes: &[i16], columns: usize, qmax: i16, encoder: &mut C) {
    assert!(codes.iter().all(|code| (-qmax..=qmax).contains(code)), "a code lies outside ±{qmax}");
    code_matrix(&mut codes.to_vec(), columns, qmax, encoder).expect("encoders do not fail");
}

/// Decodes `len` codes that were encoded with the same `columns` and `qmax`. All of them lie within
/// `±qmax`.
///
/// # Errors
/// If the bytes end before the codes do. If they cannot hold so many codes, nothing is allocated.
///
/// # Panics
/// If `columns` is 0 or `qmax` is below 1.
pub fn decode_codes(len: usize, columns: usize, qmax: i16, decoder: &mut Decoder<'_>) -> Result<Vec<i16>, CodingError> {
    decoder.check_decisions(len as u64)?;
    let mut codes = vec![0; len];
    code_matrix(&mut codes, columns, qmax, decoder)?;
    Ok(codes)
}

/// Codes every element and stores the coded value in its place.
fn code_matrix<C: BitCoder>(codes: &mut [i16], columns: usize, qmax: i16, coder: &mut C) -> Result<(), CodingError> {
    assert!(columns > 0 && qmax > 0, "{columns} columns of codes within ±{qmax}");
    let mut model = Model::new(columns.min(codes.len()), qmax);
    let mut column = 0;
    for index in 0..codes.len() {
        let left = if column > 0 { codes[index - 1] } else { 0 };
        let above = if index >= columns { codes[index - columns] } else { 0 };
        codes[index] = model.code(coder, codes[index], column, left, above)?;
        column = if column + 1 < columns { column + 1 } else { 0 };
    }
    Ok(())
}

const CONTEXTS: usize = 5;
/// Numbers of the mixed decisions (nodes): 0 is `m > 0`, `k` is `m > k`, then exponents and the
/// sign.
const ZERO: usize = 0;
const UNARY: usize = 7;
const EXPONENT: usize = UNARY + 1;
const SIGN: usize = EXPONENT + 15;
const NODES: usize = SIGN + 1;

/// Columns that have statistics of their own. Further columns share those of the last one.
const MAX_COLUMNS: usize = 1 << 12;
/// Limit of the counts: about how many decisions an estimate averages over.
const COUNT_LIMIT: u32 = 400;
/// Number of classes of mean magnitudes.
const CLASSES: usize = 24;

struct Model {
    qmax: u32,
    /// For each context and each of its values, one estimate per node.
    probabilities: [Vec<[AdaptiveProbability; NODES]>; CONTEXTS],
    mixer: Mixer<CONTEXTS>,
    /// Low bits of the tail, by exponent `e` and node. Nodes 1 to 7 are the bits so far after a
    /// leading one; nodes from 8 on are positions.
    rest: Vec<[AdaptiveProbability; 32]>,
    columns: Vec<Mean>,
    recent: Mean,
}

impl Model {
    fn new(columns: usize, qmax: i16) -> Self {
        let columns = columns.clamp(1, MAX_COLUMNS);
        let sets = |count| vec![[AdaptiveProbability::NEW; NODES]; count];
        let weight = 1 << 14;
        Self {
            qmax: qmax.unsigned_abs().into(),
            probabilities: [sets(1), sets(columns), sets(CLASSES), sets(CLASSES), sets(36)],
            mixer: Mixer::new(NODES, [1 << 16, weight, weight, weight, weight]),
            rest: vec![[AdaptiveProbability::NEW; 32]; 15],
            columns: vec![Mean::default(); columns],
            recent: Mean::default(),
        }
    }

    fn code<C: BitCoder>(
        &mut self,
        coder: &mut C,
        code: i16,
        column: usize,
        left: i16,
        above: i16,
    ) -> Result<i16, CodingError> {
        let column = column.min(self.columns.len() - 1);
        let column_mean = self.columns[column];
        let near = |code: i16| usize::from(code.unsigned_abs().min(5));
        let contexts = [0, column, column_mean.class(), self.recent.class(), 6 * near(above) + near(left)];
        let magnitude = self.code_magnitude(coder, code.unsigned_abs().into(), &contexts)?;
        let mut negative = false;
        if magnitude > 0 {
            let side = |code: i16| (code.signum() + 1) as usize;
            let contexts = [0, column, column_mean.side(), self.recent.side(), 3 * side(above) + side(left)];
            negative = self.decide(coder, SIGN, code < 0, &contexts)?;
        }
        let code = if negative { -(magnitude as i16) } else { magnitude as i16 };
        self.columns[column].update(code);
        self.recent.update(code);
        Ok(code)
    }

    fn code_magnitude<C: BitCoder>(
        &mut self,
        coder: &mut C,
        magnitude: u32,
        contexts: &[usize; CONTEXTS],
    ) -> Result<u32, CodingError> {
        if !self.decide(coder, ZERO, magnitude > 0, contexts)? {
            return Ok(0);
        }
        for k in 1..=UNARY as u32 {
            if k == self.qmax || !self.decide(coder, ZERO + k as usize, magnitude > k, contexts)? {
                return Ok(k);
            }
        }
        // `left` is from 1 to `most`. Its highest bit is 2^e.
        let (left, most) = (magnitude.saturating_sub(UNARY as u32).max(1), self.qmax - UNARY as u32);
        let mut e = 0;
        while e < most.ilog2() && self.decide(coder, EXPONENT + e as usize, left.ilog2() > e, contexts)? {
            e += 1;
        }
        let mut value = 1;
        for position in (0..e).rev() {
            // A 1 here would exceed qmax, so the bit is 0 and is not coded.
            if (2 * value + 1) << position <= most {
                let node = if value < 8 { value } else { 8 + position };
                let estimate = &mut self.rest[e as usize][node as usize];
                let set = coder.code(left >> position & 1 == 1, estimate.p())?;
                estimate.update(set, COUNT_LIMIT);
                value = 2 * value + u32::from(set);
            } else {
                value *= 2;
            }
        }
        Ok(UNARY as u32 + value)
    }

    fn decide<C: BitCoder>(
        &mut self,
        coder: &mut C,
        node: usize,
        bit: bool,
        contexts: &[usize; CONTEXTS],
    ) -> Result<bool, CodingError> {
        let first = self.probabilities[0][contexts[0]][node].logit();
        let mut logits = [first; CONTEXTS];
        for i in 1..CONTEXTS {
            let estimate = self.probabilities[i][contexts[i]][node];
            let difference = ((estimate.logit() - first) * i32::from(CONFIDENCE[estimate.count() as usize])) >> 8;
            logits[i] = difference.clamp(-MAX_LOGIT, MAX_LOGIT);
        }
        let p = squash(self.mixer.mix(node, &logits));
        let bit = coder.code(bit, p)?;
        self.mixer.update(node, &logits, bit, p, 2);
        for (sets, &context) in self.probabilities.iter_mut().zip(contexts) {
            sets[context][node].update(bit, COUNT_LIMIT);
        }
        Ok(bit)
    }
}

/// Confidence in an estimate of count `n`: `n / (n + 8)` in 1 / 256.
static CONFIDENCE: [u16; COUNT_LIMIT as usize + 1] = {
    let mut table = [0; COUNT_LIMIT as usize + 1];
    let mut n = 0;
    while n < table.len() {
        table[n] = (256 * n / (n + 8)) as u16;
        n += 1;
    }
    table
};

/// Exponential moving averages of codes and of their magnitudes, in 1 / 2^12.
#[derive(Clone, Copy, Default)]
struct Mean {
    code: i32,
    magnitude: i32,
    count: i32,
}

impl Mean {
    fn update(&mut self, code: i16) {
        self.count = (self.count + 1).min(20);
        self.code += ((i32::from(code) << 12) - self.code) / self.count;
        self.magnitude += ((i32::from(code.unsigned_abs()) << 12) - self.magnitude) / self.count;
    }

    /// Class of the mean magnitude: two per octave, starting at 1 / 16.
    fn class(self) -> usize {
        let scaled = (self.magnitude >> 7) as u32;
        if scaled < 2 {
            return 0;
        }
        let octave = scaled.ilog2();
        let half = scaled >> (octave - 1) & 1;
        ((2 * octave + half) as usize - 1).min(CLASSES - 1)
    }

    /// Class of the sign balance, from 0 (mostly negative) to 4 (mostly positive).
    fn side(self) -> usize {
        (2 + (3 * i64::from(self.code) / i64::from(self.magnitude.max(1))).clamp(-2, 2)) as usize
    }
}

#[cfg(test)]
mod tests;
