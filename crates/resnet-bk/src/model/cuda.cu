// Quantizers of parameters; equations in quantizer_gradient.rs, and quantization.rs of the runtime.

__device__ __forceinline__ float learned_scale(float log_scale) {
    return round_to_half(fminf(exp_(log_scale), 65504.0f));
}

// Rounds with one learned scale a column.
KERNEL round_learned(const float* x, const float* log_scales, float* out, float qmax, u32 columns, u32 n) {
    u32 i = thread_index();
    if (i >= n) return;
    float scale = learned_scale(log_scales[i % columns]);
    out[i] = nearest_code(x[i], scale, qmax) * scale + 0.0f;
}

// Rounds with the largest magnitude of each group over qmax as its scale. A warp a group.
KERNEL round_abs_max(const float* x, float* out, float qmax, u32 group, u32 n) {
    u32 first = thread_index() / 32 * group, lane = threadIdx.x % 32;
    if (first >= n) return;
    u32 end = min(n, first + group);
    float largest = 0.0f;
    for (u32 i = first + lane; i < end; i += 32) largest = fmaxf(largest, fabsf(x[i]));
    float scale = round_to_half(fminf(warp_max(largest) / qmax, 65504.0f));
    for (u32 i = first + lane; i < end; i += 32) out[i] = nearest_code(x[i], scale, qmax) * scale + 0.0f;
}

// Adds to the number of codes of each magnitude, 0 to qmax. Integers: the order does not matter.
#define LOCAL_CODES 512
KERNEL count_codes(const float* x, const float* log_scales, u32* counts, float qmax, u32 columns, u32 n) {
    __shared__ u32 local[LOCAL_CODES];
    u32 levels = (u32)qmax + 1;
    bool is_local = levels <= LOCAL_CODES;
    if (is_local) {
        for (u32 level = threadIdx.x; level < levels; level += blockDim.x) local[level] = 0;
        __syncthreads();
    }
    for (u32 i = thread_index(); i < n; i += gridDim.x * blockDim.x) {
        u32 level = (u32)fabsf(nearest_code(x[i], learned_scale(log_scales[i % columns]), qmax));
        atomicAdd(is_local ? &local[level] : &counts[level], 1u);
    }
    if (is_local) {
        __syncthreads();
        for (u32 level = threadIdx.x; level < levels; level += blockDim.x) {
            if (local[level]) atomicAdd(&counts[level], local[level]);
        }
    }
}

// lambda times the difference in bits between level k + 1 and level k.
KERNEL rate_slopes(const u32* counts, float* slopes, const StepNumbers* step, u32 levels, u32 n) {
    u32 k = thread_index();
    if (k >= levels) return;
    float total = (float)n + 0.5f * (float)levels, slope = 0.0f;
    if (k + 1 < levels) {
        float here = (k > 0 ? 1.0f : 0.0f) - log2f(((float)counts[k] + 0.5f) / total);
        float next = 1.0f - log2f(((float)counts[k + 1] + 0.5f) / total);
        slope = next - here;
    }
    slopes[k] = step->lambda * slope;
}

// From the gradient of the rounded values to those of the values and of the log scales.
KERNEL quantizer_backward(
    const float* x, const float* log_scales, const float* slopes, const float* gradient, float* dx,
    float* dlog_scales, float qmax, u32 rows, u32 columns, float* partial, u32* counters) {
    float* const results[1] = {dlog_scales};
    sum_columns<1>(
        [=](u32, u32 row, u32 column, float (&sums)[1]) {
            size_t i = (size_t)row * columns + column;
            float scale = learned_scale(log_scales[column]), y = gradient[i];
            float v = divide_by_scale(x[i], scale), q = nearest_code(x[i], scale, qmax);
            bool inside = fabsf(v) <= qmax;
            sums[0] += y * scale * (inside ? q - v : q);
            y = inside ? y : 0.0f;
            float slope = slopes[(u32)fminf(fabsf(v), qmax)];
            if (slope != 0.0f && v != 0.0f) {
                y += slope * (v > 0.0f ? 1.0f : -1.0f) / scale;
                sums[0] -= slope * fabsf(v);
            }
            dx[i] = y;
        },
        rows, columns, 0, partial, counters, results);
}
