// The head's loss; equations in mod.rs. cuBLAS multiplies; these kernels turn a row of logits into
// the token's loss and the logits' gradients.

// e^x by the special function unit; relative error below 4e-6 for |x| < 40.
__device__ __forceinline__ float fast_exp(float x) {
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x * 1.44269504088896340736f));
    return y;
}

__device__ __forceinline__ void store(float* out, float x) { *out = x; }
__device__ __forceinline__ void store(u16* out, float x) { *out = to_bf16(x); }

// x [n, width] with a column of `next`, and zeros up to `padded` columns.
template <class T>
__device__ __forceinline__ void extend_rows(const float* x, T* out, float next, u32 width, u32 padded, u32 n) {
    u32 i = thread_index();
    if (i >= n) return;
    u32 row = i / padded, column = i % padded;
    store(out + i, column < width ? x[(size_t)row * width + column] : column == width ? next : 0.0f);
}
KERNEL extend_rows_float32(const float* x, float* out, float next, u32 width, u32 padded, u32 n) {
    extend_rows(x, out, next, width, padded, n);
}
KERNEL extend_rows_bf16(const float* x, u16* out, float next, u32 width, u32 padded, u32 n) {
    extend_rows(x, out, next, width, padded, n);
}

// Splits [words, padded] into the gradients of rows and biases.
KERNEL split_extended(const float* extended, float* drows, float* dbias, u32 width, u32 padded, u32 n) {
    u32 i = thread_index();
    if (i >= n) return;
    u32 word = i / (width + 1), column = i % (width + 1);
    float x = extended[(size_t)word * padded + column];
    if (column < width) {
        drows[(size_t)word * width + column] = x;
    } else {
        dbias[word] = x;
    }
}

// A running sum of exponentials: the largest exponent so far, and the sum of e^(x - largest).
struct Normalizer {
    float largest, sum;

    __device__ void merge(float other_largest, float other_sum) {
        float most = fmaxf(largest, other_largest);
        sum = sum * fast_exp(largest - most) + other_sum * fast_exp(other_largest - most);
        largest = most;
    }
};

#define LOWEST -3.0e38f

// Normalizer over the threads of a block.
__device__ __forceinline__ Normalizer block_merge(Normalizer own) {
    __shared__ Normalizer parts[32];
    for (int lane = 16; lane; lane >>= 1) {
        float largest = __shfl_xor_sync(0xffffffffu, own.largest, lane);
        float sum = __shfl_xor_sync(0xffffffffu, own.sum, lane);
        own.merge(largest, sum);
    }
    __syncthreads();
    if (threadIdx.x % 32 == 0) parts[threadIdx.x / 32] = own;
    __syncthreads();
    Normalizer all = parts[0];
    for (u32 warp = 1; warp < blockDim.x / 32; warp++) all.merge(parts[warp].largest, parts[warp].sum);
    return all;
}

#define GROUP 8

// Adds `scale` times a group of logits.
__device__ __forceinline__ void add_group(Normalizer& own, const float (&logits)[GROUP], float scale) {
    float x[GROUP], largest = own.largest;
    for (u32 j = 0; j < GROUP; j++) {
        x[j] = logits[j] == LOWEST ? LOWEST : scale * logits[j];
        largest = fmaxf(largest, x[j]);
    }
    float sum = own.sum * fast_exp(own.largest - largest);
    for (u32 j = 0; j < GROUP; j++) sum += fast_exp(x[j] - largest);
    own = {largest, sum};
}

// Normalizers of `scale (row + bias)`, for several scales.
template <int K>
__device__ __forceinline__ void row_normalizers(
    const float* row, const float* bias, const float (&scales)[K], u32 words, Normalizer (&all)[K]) {
    for (int k = 0; k < K; k++) all[k] = {LOWEST, 0.0f};
    for (u32 start = threadIdx.x; start < words; start += GROUP * blockDim.x) {
        float logits[GROUP];
        for (u32 j = 0; j < GROUP; j++) {
            u32 word = start + j * blockDim.x;
            logits[j] = word < words ? row[word] + bias[word] : LOWEST;
        }
        for (int k = 0; k < K; k++) add_group(all[k], logits, scales[k]);
    }
    for (int k = 0; k < K; k++) all[k] = block_merge(all[k]);
}

__device__ __forceinline__ Normalizer row_normalizer(const float* row, const float* bias, float scale, u32 words) {
    const float scales[1] = {scale};
    Normalizer all[1];
    row_normalizers(row, bias, scales, words, all);
    return all[0];
}

// -ln p(target) of a token, given its logits before the biases. One block a token.
KERNEL head_likelihood(
    const float* logits, const float* bias, const u32* targets, float* losses, u32 words, u32 row_length) {
    const float* row = logits + (size_t)blockIdx.x * row_length;
    Normalizer all = row_normalizer(row, bias, 1.0f, words);
    u32 target = targets[blockIdx.x];
    if (threadIdx.x == 0) losses[blockIdx.x] = all.largest + logf(all.sum) - (row[target] + bias[target]);
}

// Loss and gradients of the hard targets. `scale` is 1 / n.
template <class T>
__device__ __forceinline__ void hard_rows(
    const float* logits, const float* bias, const u32* targets, T* gradients, float* losses, u32 words,
    u32 row_length, float scale) {
    const float* row = logits + (size_t)blockIdx.x * row_length;
    T* out = gradients + (size_t)blockIdx.x * row_length;
    Normalizer all = row_normalizer(row, bias, 1.0f, words);
    u32 target = targets[blockIdx.x];
    float normalizer = all.largest + logf(all.sum);
    if (threadIdx.x == 0) losses[blockIdx.x] = normalizer - (row[target] + bias[target]);
    #pragma unroll 4
    for (u32 word = threadIdx.x; word < words; word += blockDim.x) {
        float p = fast_exp(row[word] + bias[word] - normalizer);
        store(out + word, scale * (word == target ? p - 1.0f : p));
    }
}
KERNEL head_hard_float32(
    const float* logits, const float* bias, const u32* targets, float* gradients, float* losses, u32 words,
    u32 row_length, float scale) {
    hard_rows(logits, bias, targets, gradients, losses, words, row_length, scale);
}
KERNEL head_hard_bf16(
    const float* logits, const float* bias, const u32* targets, u16* gradients, float* losses, u32 words,
    u32 row_length, float scale) {
    hard_rows(logits, bias, targets, gradients, losses, words, row_length, scale);
}

// Constants of a mixed loss; the layout of Mixed in cuda.rs.
struct Mixed {
    float temperature, alpha, scale;
};

// Loss and gradients of soft and hard targets.
template <class T>
__device__ __forceinline__ void mixed_rows(
    const float* logits, const float* bias, const float* teacher_logits, const float* teacher_bias,
    const u32* targets, T* gradients, float* losses, u32 words, u32 row_length, Mixed mixed) {
    const float* row = logits + (size_t)blockIdx.x * row_length;
    const float* teacher = teacher_logits + (size_t)blockIdx.x * row_length;
    T* out = gradients + (size_t)blockIdx.x * row_length;
    float inverse = 1.0f / mixed.temperature;
    float hard = 0.0f, soft = 0.0f, taught = 0.0f, difference = 0.0f;
    const float scales[2] = {1.0f, inverse};
    Normalizer of_student[2];
    row_normalizers(row, bias, scales, words, of_student);
    Normalizer of_hard = of_student[0], of_soft = of_student[1];
    Normalizer of_teacher = row_normalizer(teacher, teacher_bias, inverse, words);
    hard = of_hard.largest + logf(of_hard.sum);
    soft = of_soft.largest + logf(of_soft.sum);
    taught = of_teacher.largest + logf(of_teacher.sum);
    u32 target = targets[blockIdx.x];
    float soft_weight = mixed.alpha * mixed.temperature * mixed.scale, hard_weight = (1.0f - mixed.alpha) * mixed.scale;
    #pragma unroll 4
    for (u32 word = threadIdx.x; word < words; word += blockDim.x) {
        float x = row[word] + bias[word], t = teacher[word] + teacher_bias[word];
        float q = fast_exp(t * inverse - taught), p = fast_exp(x * inverse - soft);
        difference += q * (inverse * (t - x));
        float g = soft_weight * (p - q) + hard_weight * fast_exp(x - hard);
        store(out + word, word == target ? g - hard_weight : g);
    }
    difference = block_sum(difference);
    if (threadIdx.x == 0) {
        float divergence = difference - (taught - soft);
        float of_target = hard - (row[target] + bias[target]);
        losses[blockIdx.x] =
            mixed.alpha * mixed.temperature * mixed.temperature * divergence + (1.0f - mixed.alpha) * of_target;
    }
}
KERNEL head_mixed_float32(
    const float* logits, const float* bias, const float* teacher_logits, const float* teacher_bias,
    const u32* targets, float* gradients, float* losses, u32 words, u32 row_length, Mixed mixed) {
    mixed_rows(
        logits, bias, teacher_logits, teacher_bias, targets, gradients, losses, words, row_length, mixed);
}
KERNEL head_mixed_bf16(
    const float* logits, const float* bias, const float* teacher_logits, const float* teacher_bias,
    const u32* targets, u16* gradients, float* losses, u32 words, u32 row_length, Mixed mixed) {
    mixed_rows(
        logits, bias, teacher_logits, teacher_bias, targets, gradients, losses, words, row_length, mixed);
}

// Mean of the tokens' losses.
KERNEL mean_loss(const float* losses, float* loss, u32 n, double* partial, u32* counter) {
    sum_all([=](u32 i) { return losses[i]; }, n, partial, counter, [=](double total) { loss[0] = (float)(total / n); });
}

// x *= factor[0]. The factor is 1 unless the loss has a weight, and then nothing is read.
KERNEL scale_by(float* x, const float* factor, u32 n) {
    float by = factor[0];
    if (by == 1.0f) return;
    for (u32 i = thread_index(); i < n; i += gridDim.x * blockDim.x) x[i] *= by;
}
