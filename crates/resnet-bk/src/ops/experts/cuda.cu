// All experts of a block; equations in mod.rs. Every expert works on all tokens, and what it makes
// of tokens that are routed elsewhere is set to zero: shapes are then fixed. Arrays of experts are
// [E, n, F] or [E, n, D].

// Sizes of a block's experts.
struct ExpertSizes {
    u32 tokens, experts, width, hidden;

    // Numbers of one expert's parameters: U [D, F], a [F], W [F, D], b [D].
    __device__ size_t parameters() const { return 2 * (size_t)width * hidden + hidden + width; }
};

// Biases, relu, dropout.
KERNEL expert_hidden_forward(
    const float* products, const float* weights, const float* packed, float* hidden, ExpertSizes sizes,
    const StepNumbers* step, u64 draw, u32 threshold, float keep, u64 first_token) {
    u32 i = thread_index(), per_expert = sizes.tokens * sizes.hidden;
    if (i >= sizes.experts * per_expert) return;
    u32 expert = i / per_expert, token = i % per_expert / sizes.hidden, j = i % sizes.hidden;
    float h = 0.0f;
    if (weights[(size_t)token * sizes.experts + expert] != 0.0f) {
        const float* bias = packed + expert * sizes.parameters() + (size_t)sizes.width * sizes.hidden;
        h = fmaxf(products[i] + bias[j], 0.0f);
        if (threshold > 0) {
            u64 key = stream_word(stream_word(step->seed, draw), expert);
            u32 row = (sizes.hidden + 3) / 4 * 4;
            h *= dropout(key, threshold, keep, (first_token + token) * row + j);
        }
    }
    hidden[i] = h;
}

__device__ __forceinline__ const float* output_bias(const float* packed, ExpertSizes sizes, u32 expert) {
    return packed + (expert + 1) * sizes.parameters() - sizes.width;
}

KERNEL expert_mix(const float* outputs, const float* weights, const float* packed, float* y, ExpertSizes sizes) {
    u32 i = thread_index();
    if (i >= sizes.tokens * sizes.width) return;
    u32 token = i / sizes.width, d = i % sizes.width;
    float sum = 0.0f;
    for (u32 e = 0; e < sizes.experts; e++) {
        float p = weights[(size_t)token * sizes.experts + e];
        if (p != 0.0f) {
            sum += p * (outputs[(size_t)e * sizes.tokens * sizes.width + i] + output_bias(packed, sizes, e)[d]);
        }
    }
    y[i] = sum;
}

// Gradients of an expert's output and of its weight. A warp for an expert and a token.
KERNEL expert_output_backward(
    const float* outputs, const float* weights, const float* packed, const float* dy, float* doutputs,
    float* dweights, ExpertSizes sizes) {
    u32 warp = thread_index() / 32;
    if (warp >= sizes.experts * sizes.tokens) return;
    u32 expert = warp / sizes.tokens, token = warp % sizes.tokens;
    float p = weights[(size_t)token * sizes.experts + expert], product = 0.0f;
    const float* bias = output_bias(packed, sizes, expert);
    for (u32 d = threadIdx.x % 32; d < sizes.width; d += 32) {
        size_t i = (size_t)warp * sizes.width + d;
        float g = dy[(size_t)token * sizes.width + d];
        product += (outputs[i] + bias[d]) * g;
        doutputs[i] = p * g;
    }
    product = warp_sum(product);
    if (threadIdx.x % 32 == 0) dweights[(size_t)token * sizes.experts + expert] = p != 0.0f ? product : 0.0f;
}

// A hidden state above zero was neither clipped by relu nor dropped.
KERNEL expert_hidden_backward(const float* hidden, const float* dhidden, float* dz, float keep, u32 n) {
    u32 i = thread_index();
    if (i < n) dz[i] = hidden[i] > 0.0f ? dhidden[i] * keep : 0.0f;
}

KERNEL expert_input_backward(const float* dinputs, const float* weights, float* dx, ExpertSizes sizes) {
    u32 i = thread_index();
    if (i >= sizes.tokens * sizes.width) return;
    u32 token = i / sizes.width;
    float sum = 0.0f;
    for (u32 e = 0; e < sizes.experts; e++) {
        if (weights[(size_t)token * sizes.experts + e] != 0.0f) {
            sum += dinputs[(size_t)e * sizes.tokens * sizes.width + i];
        }
    }
    dx[i] = sum;
}
