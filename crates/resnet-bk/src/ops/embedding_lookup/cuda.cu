// Embedding lookup; equations in mod.rs. `order` lists the positions of the batch sorted by word.

// A table in frequency bins; the layout of Bins in cuda.rs. Offsets count elements of the packed
// table. A bin without projection has rows of full width.
struct Bins {
    u32 count, width_of_model;
    u32 end[16], width[16], rows[16], projection[16];

    __device__ u32 of(u32 word) const {
        u32 bin = 0;
        while (word >= end[bin]) bin++;
        return bin;
    }
    __device__ u32 first(u32 bin) const { return bin ? end[bin - 1] : 0; }
    __device__ bool is_projected(u32 bin) const { return width[bin] < width_of_model; }
    // First element of a word's row.
    __device__ size_t row(u32 bin, u32 word) const { return rows[bin] + (size_t)(word - first(bin)) * width[bin]; }
};

// A dropout mask over the vocabulary; the layout of WordMask in cuda.rs. Without one, threshold is 0.
struct WordMask {
    u64 draw;
    u32 threshold;
    float keep;

    __device__ float of(u32 word, const StepNumbers* step) const {
        return threshold > 0 ? dropout(stream_word(step->seed, draw), threshold, keep, word) : 1.0f;
    }
};

// A block a token. `positions` may be null.
KERNEL embed_forward(
    const u32* words, const float* table, const float* positions, float* y, Bins bins, u32 length,
    const StepNumbers* step, WordMask mask, u64 draw, u32 threshold, float keep, u64 first_token) {
    u32 token = blockIdx.x, word = words[token], bin = bins.of(word), width = bins.width_of_model;
    const float* row = table + bins.row(bin, word);
    float factor = mask.of(word, step);
    u64 key = stream_word(step->seed, draw);
    for (u32 d = threadIdx.x; d < width; d += blockDim.x) {
        float x = 0.0f;
        if (bins.is_projected(bin)) {
            const float* projection = table + bins.projection[bin] + d;
            for (u32 k = 0; k < bins.width[bin]; k++) x = fmaf(row[k], projection[(size_t)k * width], x);
        } else {
            x = row[d];
        }
        x *= factor;
        if (positions) x += positions[(size_t)(token % length) * width + d];
        if (threshold > 0) x *= dropout(key, threshold, keep, (first_token + token) * width + d);
        y[(size_t)token * width + d] = x;
    }
}

// Rows of the table's gradient. The block of a word's first place in `order` adds all its tokens;
// the others have nothing to do. At most 2048 columns.
KERNEL embed_rows_backward(
    const u32* words, const u32* order, const float* table, const float* g, float* dtable, Bins bins,
    const StepNumbers* step, WordMask mask, u32 tokens) {
    __shared__ float sums[2048];
    u32 place = blockIdx.x, word = words[order[place]], width = bins.width_of_model;
    if (place > 0 && words[order[place - 1]] == word) return;
    float factor = mask.of(word, step);
    u32 end = place + 1;
    while (end < tokens && words[order[end]] == word) end++;
    for (u32 d = threadIdx.x; d < width; d += blockDim.x) {
        float sum = 0.0f;
        #pragma unroll 4
        for (u32 i = place; i < end; i++) sum += g[(size_t)order[i] * width + d];
        sums[d] = factor * sum;
    }
    __syncthreads();
    u32 bin = bins.of(word), narrow = bins.width[bin];
    float* out = dtable + bins.row(bin, word);
    if (!bins.is_projected(bin)) {
        for (u32 d = threadIdx.x; d < width; d += blockDim.x) out[d] = sums[d];
        return;
    }
    for (u32 k = threadIdx.x / 32; k < narrow; k += blockDim.x / 32) {
        const float* projection = table + bins.projection[bin] + (size_t)k * width;
        float sum = 0.0f;
        for (u32 d = threadIdx.x % 32; d < width; d += 32) sum = fmaf(sums[d], projection[d], sum);
        sum = warp_sum(sum);
        if (threadIdx.x % 32 == 0) out[k] = sum;
    }
}

// The rows of a bin's tokens under the mask of words, and zeros for the other tokens: [n, d].
KERNEL embed_gather(
    const u32* words, const float* table, float* rows, Bins bins, u32 bin, const StepNumbers* step, WordMask mask,
    u32 n) {
    u32 i = thread_index(), width = bins.width[bin];
    if (i >= n) return;
    u32 word = words[i / width];
    bool inside = word < bins.end[bin] && word >= bins.first(bin);
    rows[i] = inside ? mask.of(word, step) * table[bins.row(bin, word) + i % width] : 0.0f;
}

// Sum over the sequences, [T, D]; zeros for later positions.
KERNEL embed_positions_backward(const float* g, float* dpositions, u32 sequences, u32 length, u32 width, u32 n) {
    u32 i = thread_index();
    if (i >= n) return;
    float sum = 0.0f;
    if (i < length * width) {
        for (u32 s = 0; s < sequences; s++) sum += g[(size_t)s * length * width + i];
    }
    dpositions[i] = sum;
}
