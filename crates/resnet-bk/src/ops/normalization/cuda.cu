// Normalization of rows; equations in mod.rs. A warp works on a row, four rows a block.

#define NORM_EPSILON 1e-5f

__device__ __forceinline__ u32 warp_row() { return blockIdx.x * 4 + threadIdx.x / 32; }

// Mean and 1 / sqrt(var + eps) of a row.
__device__ __forceinline__ void row_moments(const float* x, u32 width, float* mean, float* scale) {
    float sum = 0.0f, squares = 0.0f;
    for (u32 c = threadIdx.x % 32; c < width; c += 32) sum += x[c];
    *mean = warp_sum(sum) / (float)width;
    for (u32 c = threadIdx.x % 32; c < width; c += 32) squares += (x[c] - *mean) * (x[c] - *mean);
    *scale = 1.0f / sqrtf(warp_sum(squares) / (float)width + NORM_EPSILON);
}

__device__ __forceinline__ float row_inverse_rms(const float* x, u32 width) {
    float squares = 0.0f;
    for (u32 c = threadIdx.x % 32; c < width; c += 32) squares += x[c] * x[c];
    return 1.0f / sqrtf(warp_sum(squares) / (float)width + NORM_EPSILON);
}

KERNEL layer_norm_forward(
    const float* x, const float* gamma, const float* beta, float* y, float* moments, u32 rows, u32 width) {
    u32 row = warp_row();
    if (row >= rows) return;
    const float* in = x + (size_t)row * width;
    float mean, scale;
    row_moments(in, width, &mean, &scale);
    if (threadIdx.x % 32 == 0) {
        moments[2 * row] = mean;
        moments[2 * row + 1] = scale;
    }
    for (u32 c = threadIdx.x % 32; c < width; c += 32) {
        y[(size_t)row * width + c] = (in[c] - mean) * scale * gamma[c] + beta[c];
    }
}

KERNEL layer_norm_backward(
    const float* x, const float* gamma, const float* moments, const float* dy, float* dx, u32 rows, u32 width) {
    u32 row = warp_row();
    if (row >= rows) return;
    size_t first = (size_t)row * width;
    float mean = moments[2 * row], scale = moments[2 * row + 1];
    float sum = 0.0f, product = 0.0f;
    for (u32 c = threadIdx.x % 32; c < width; c += 32) {
        float u = dy[first + c] * gamma[c];
        sum += u;
        product += u * ((x[first + c] - mean) * scale);
    }
    sum = warp_sum(sum) / (float)width;
    product = warp_sum(product) / (float)width;
    for (u32 c = threadIdx.x % 32; c < width; c += 32) {
        float u = dy[first + c] * gamma[c];
        dx[first + c] = scale * (u - sum - (x[first + c] - mean) * scale * product);
    }
}

KERNEL layer_norm_parameters(
    const float* x, const float* moments, const float* dy, float* dgamma, float* dbeta, u32 rows, u32 width,
    float* partial, u32* counters) {
    float* const results[2] = {dgamma, dbeta};
    sum_columns<2>(
        [=](u32, u32 row, u32 column, float (&sums)[2]) {
            size_t i = (size_t)row * width + column;
            sums[0] += (x[i] - moments[2 * row]) * moments[2 * row + 1] * dy[i];
            sums[1] += dy[i];
        },
        rows, width, 0, partial, counters, results);
}

KERNEL rms_norm_forward(const float* x, const float* gamma, float* y, float* scales, u32 rows, u32 width) {
    u32 row = warp_row();
    if (row >= rows) return;
    const float* in = x + (size_t)row * width;
    float scale = row_inverse_rms(in, width);
    if (threadIdx.x % 32 == 0) scales[row] = scale;
    for (u32 c = threadIdx.x % 32; c < width; c += 32) y[(size_t)row * width + c] = in[c] * scale * gamma[c];
}

KERNEL rms_norm_backward(
    const float* x, const float* gamma, const float* scales, const float* dy, float* dx, u32 rows, u32 width) {
    u32 row = warp_row();
    if (row >= rows) return;
    size_t first = (size_t)row * width;
    float scale = scales[row], product = 0.0f;
    for (u32 c = threadIdx.x % 32; c < width; c += 32) product += dy[first + c] * gamma[c] * (x[first + c] * scale);
    product = warp_sum(product) / (float)width;
    for (u32 c = threadIdx.x % 32; c < width; c += 32) {
        dx[first + c] = scale * (dy[first + c] * gamma[c] - x[first + c] * scale * product);
    }
}

KERNEL rms_norm_parameters(
    const float* x, const float* scales, const float* dy, float* dgamma, u32 rows, u32 width, float* partial,
    u32* counters) {
    float* const results[1] = {dgamma};
    sum_columns<1>(
        [=](u32, u32 row, u32 column, float (&sums)[1]) {
            size_t i = (size_t)row * width + column;
            sums[0] += x[i] * scales[row] * dy[i];
        },
        rows, width, 0, partial, counters, results);
}
