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

// Gradients of rows and of the parameters. A block of 256 threads takes every gridDim.x-th row of
// its warps and adds the parameters' gradients of these rows; the last block adds those of all
// blocks. `partial` has room for 2 x width numbers of each block; width is at most 2048. RMS norm: means are 0, no dbeta.
#define NORM_COLUMNS 16
template <bool HAS_MEAN>
__device__ __forceinline__ void norm_backward(
    const float* x, const float* gamma, const float* moments, const float* dy, float* dx, float* dgamma,
    float* dbeta, u32 rows, u32 width, float* partial, u32* counter) {
    __shared__ float sums_of[2 * 2048];
    u32 lane = threadIdx.x % 32, warps = blockDim.x / 32;
    for (u32 c = threadIdx.x; c < 2 * width; c += blockDim.x) sums_of[c] = 0.0f;
    for (u32 start = 0; start < width; start += 32 * NORM_COLUMNS) {
        float gammas[NORM_COLUMNS] = {}, betas[NORM_COLUMNS] = {};
        for (u32 row = blockIdx.x * warps + threadIdx.x / 32; row < rows; row += gridDim.x * warps) {
            size_t first = (size_t)row * width;
            float mean = HAS_MEAN ? moments[2 * row] : 0.0f, scale = HAS_MEAN ? moments[2 * row + 1] : moments[row];
            if (start == 0) {
                float sum = 0.0f, product = 0.0f;
                for (u32 c = lane; c < width; c += 32) {
                    float u = dy[first + c] * gamma[c];
                    sum += u;
                    product += u * ((x[first + c] - mean) * scale);
                }
                sum = HAS_MEAN ? warp_sum(sum) / (float)width : 0.0f;
                product = warp_sum(product) / (float)width;
                for (u32 c = lane; c < width; c += 32) {
                    float u = dy[first + c] * gamma[c];
                    dx[first + c] = scale * (u - sum - (x[first + c] - mean) * scale * product);
                }
            }
            #pragma unroll
            for (u32 k = 0; k < NORM_COLUMNS; k++) {
                u32 c = start + k * 32 + lane;
                if (c >= width) break;
                gammas[k] += (x[first + c] - mean) * scale * dy[first + c];
                betas[k] += dy[first + c];
            }
        }
        // The warps one after another, so that the order of the sums is fixed.
        for (u32 warp = 0; warp < warps; warp++) {
            __syncthreads();
            if (threadIdx.x / 32 != warp) continue;
            #pragma unroll
            for (u32 k = 0; k < NORM_COLUMNS; k++) {
                u32 c = start + k * 32 + lane;
                if (c >= width) break;
                sums_of[c] += gammas[k];
                sums_of[width + c] += betas[k];
            }
        }
    }
    __syncthreads();
    for (u32 c = threadIdx.x; c < 2 * width; c += blockDim.x) partial[blockIdx.x * 2 * width + c] = sums_of[c];
    if (!is_last_block(counter, gridDim.x)) return;
    for (u32 c = threadIdx.x; c < (HAS_MEAN ? 2 : 1) * width; c += blockDim.x) {
        float total = 0.0f;
        #pragma unroll 8
        for (u32 block = 0; block < gridDim.x; block++) total += __ldcg(&partial[block * 2 * width + c]);
        if (c < width) {
            dgamma[c] = total;
        } else {
            dbeta[c - width] = total;
        }
    }
}

KERNEL layer_norm_backward(
    const float* x, const float* gamma, const float* moments, const float* dy, float* dx, float* dgamma, float* dbeta,
    u32 rows, u32 width, float* partial, u32* counter) {
    norm_backward<true>(x, gamma, moments, dy, dx, dgamma, dbeta, rows, width, partial, counter);
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
    const float* x, const float* gamma, const float* scales, const float* dy, float* dx, float* dgamma, u32 rows,
    u32 width, float* partial, u32* counter) {
    norm_backward<false>(x, gamma, scales, dy, dx, dgamma, nullptr, rows, width, partial, counter);
}
