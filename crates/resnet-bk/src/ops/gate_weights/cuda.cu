// Routing; equations in mod.rs. One thread a token.

// Whether expert a comes before expert b: the larger logit, then the lower index.
__device__ __forceinline__ bool goes_before(float a, u32 i, float b, u32 j) { return a > b || (a == b && i < j); }

KERNEL gate_weights_forward(const float* logits, float* weights, u32 tokens, u32 experts, u32 top_k) {
    u32 token = thread_index();
    if (token >= tokens) return;
    const float* row = logits + (size_t)token * experts;
    float* out = weights + (size_t)token * experts;
    float largest = -INFINITY_F;
    for (u32 e = 0; e < experts; e++) largest = fmaxf(largest, row[e]);
    float total = 0.0f;
    for (u32 e = 0; e < experts; e++) {
        u32 before = 0;
        for (u32 other = 0; other < experts; other++) before += goes_before(row[other], other, row[e], e);
        float p = before < top_k ? exp_(row[e] - largest) : 0.0f;
        out[e] = p;
        total += p;
    }
    for (u32 e = 0; e < experts; e++) out[e] = out[e] / total;
}

KERNEL gate_weights_backward(
    const float* logits, const float* weights, const float* dweights, float* dlogits, u32 tokens, u32 experts,
    u32 top_k) {
    u32 token = thread_index();
    if (token >= tokens) return;
    size_t first = (size_t)token * experts;
    const float *row = logits + first, *p = weights + first, *g = dweights + first;
    float* out = dlogits + first;
    if (top_k == 1) {
        float largest = -INFINITY_F, total = 0.0f;
        u32 chosen = 0;
        for (u32 e = 0; e < experts; e++) {
            largest = fmaxf(largest, row[e]);
            if (p[e] != 0.0f) chosen = e;
        }
        for (u32 e = 0; e < experts; e++) total += exp_(row[e] - largest);
        float q = exp_(row[chosen] - largest) / total;
        for (u32 e = 0; e < experts; e++) {
            out[e] = g[chosen] * q * ((e == chosen ? 1.0f : 0.0f) - exp_(row[e] - largest) / total);
        }
    } else {
        float mean = 0.0f;
        for (u32 e = 0; e < experts; e++) mean += p[e] * g[e];
        for (u32 e = 0; e < experts; e++) out[e] = p[e] * (g[e] - mean);
    }
}

// Number of tokens routed to each expert. One block an expert.
KERNEL count_routed(const float* weights, float* usage, u32 tokens, u32 experts) {
    float count = 0.0f;
    for (u32 token = threadIdx.x; token < tokens; token += blockDim.x) {
        count += weights[(size_t)token * experts + blockIdx.x] != 0.0f ? 1.0f : 0.0f;
    }
    count = block_sum(count);
    if (threadIdx.x == 0) usage[blockIdx.x] = count;
}
