// Loss terms besides the head's; equations in mod.rs.

// E f_e, from the numbers of routed tokens.
__device__ __forceinline__ float usage_share(const float* usage, u32 experts, u32 e) {
    float routed = 0.0f;
    for (u32 other = 0; other < experts; other++) routed += usage[other];
    return (float)experts * usage[e] / routed;
}

__device__ __forceinline__ void softmax_moments(const float* row, u32 experts, float* largest, float* total) {
    *largest = -INFINITY_F;
    *total = 0.0f;
    for (u32 e = 0; e < experts; e++) *largest = fmaxf(*largest, row[e]);
    for (u32 e = 0; e < experts; e++) *total += expf(row[e] - *largest);
}

// One block. Experts are taken eight at a time.
KERNEL load_balancing_forward(const float* logits, const float* usage, float* loss, u32 tokens, u32 experts) {
    float sum = 0.0f;
    for (u32 first = 0; first < experts; first += 8) {
        float means[8] = {};
        for (u32 token = threadIdx.x; token < tokens; token += blockDim.x) {
            const float* row = logits + (size_t)token * experts;
            float largest, total;
            softmax_moments(row, experts, &largest, &total);
            #pragma unroll
            for (u32 e = 0; e < 8; e++) {
                if (first + e < experts) means[e] += expf(row[first + e] - largest) / total;
            }
        }
        #pragma unroll
        for (u32 e = 0; e < 8; e++) {
            if (first + e >= experts) break;
            sum += block_sum(means[e]) / (float)tokens * usage_share(usage, experts, first + e);
        }
    }
    if (threadIdx.x == 0) loss[0] = sum;
}

KERNEL load_balancing_backward(
    const float* logits, const float* usage, const float* dloss, float* dlogits, u32 tokens, u32 experts) {
    u32 token = thread_index();
    if (token >= tokens) return;
    const float* row = logits + (size_t)token * experts;
    float largest, total, mean = 0.0f, scale = dloss[0] / (float)tokens;
    softmax_moments(row, experts, &largest, &total);
    for (u32 e = 0; e < experts; e++) {
        mean += expf(row[e] - largest) / total * (scale * usage_share(usage, experts, e));
    }
    for (u32 e = 0; e < experts; e++) {
        float p = expf(row[e] - largest) / total;
        dlogits[(size_t)token * experts + e] = p * (scale * usage_share(usage, experts, e) - mean);
    }
}

// Keeps the feature distance finite if the target is zero.
#define FEATURE_EPSILON 1e-8f

KERNEL mean_square(const float* target, float* mean, u32 n, double* partial, u32* counter) {
    sum_all([=](u32 i) { return target[i] * target[i]; }, n, partial, counter,
        [=](double total) { mean[0] = (float)(total / n); });
}

KERNEL feature_distance_forward(
    const float* x, const float* target, const float* mean_square, float* loss, u32 n, double* partial, u32* counter) {
    sum_all([=](u32 i) { return (x[i] - target[i]) * (x[i] - target[i]); }, n, partial, counter,
        [=](double total) { loss[0] = (float)total / (float)n / (mean_square[0] + FEATURE_EPSILON); });
}

KERNEL feature_distance_backward(
    const float* x, const float* target, const float* mean_square, const float* dloss, float* dx, u32 n) {
    u32 i = thread_index();
    if (i < n) dx[i] = 2.0f * dloss[0] / ((mean_square[0] + FEATURE_EPSILON) * (float)n) * (x[i] - target[i]);
}

// One thread.
KERNEL add_penalty_forward(const float* loss, const float* penalty, float weight, float* sum) {
    sum[0] = loss[0] + penalty[0] * weight;
}

KERNEL add_penalty_backward(const float* dsum, float weight, float* dpenalty) { dpenalty[0] = dsum[0] * weight; }
