// The head's bias; equations in mod.rs.

// Knot before a word and weight of the next one; see rank_curve.rs of the runtime.
__device__ __forceinline__ void knot_position(u32 word, u32 words, u32 knots, u32* knot, float* fraction) {
    double x = log((double)(word + 1)) / log((double)(words > 2 ? words : 2)) * (double)(knots - 1);
    x = round(x * 4096.0) / 4096.0;
    *knot = min((u32)x, knots - 2);
    *fraction = (float)(x - (double)*knot);
}

KERNEL head_bias_forward(const float* words, const float* knots, float* bias, u32 count, u32 knot_count) {
    u32 word = thread_index();
    if (word >= count) return;
    u32 knot;
    float f;
    knot_position(word, count, knot_count, &knot, &f);
    bias[word] = words[word] + ((1.0f - f) * knots[knot] + f * knots[knot + 1]);
}

// One block a knot.
KERNEL head_bias_backward(const float* dbias, float* dknots, u32 count, u32 knot_count) {
    float sum = 0.0f;
    for (u32 word = threadIdx.x; word < count; word += blockDim.x) {
        u32 knot;
        float f;
        knot_position(word, count, knot_count, &knot, &f);
        if (knot == blockIdx.x) sum += (1.0f - f) * dbias[word];
        if (knot + 1 == blockIdx.x) sum += f * dbias[word];
    }
    sum = block_sum(sum);
    if (threadIdx.x == 0) dknots[blockIdx.x] = sum;
}
