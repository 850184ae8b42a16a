// Quantizers of parameters; equations in quantizer_gradient.rs, and quantization.rs of the runtime.

__device__ __forceinline__ float learned_scale(float log_scale) {
    return round_to_half(fminf(exp_(log_scale), 65504.0f));
}

// Parameters that a launch copies or rounds; the layout of Leaf and Leaves in cuda.rs.
#define LEAVES 80
#define LEAF_CHUNK 2048u
struct Leaf {
    const float* x;
    // Null for a copy.
    const float* log_scales;
    float* out;
    float qmax;
    u32 columns, len;
};
struct Leaves {
    Leaf of[LEAVES];
    // Blocks up to the end of each.
    u32 ends[LEAVES];
    u32 count;
};

// Copies, or rounds with one learned scale a column.
KERNEL leaf_values(const __grid_constant__ Leaves leaves) {
    u32 index = 0;
    while (blockIdx.x >= leaves.ends[index]) index++;
    const Leaf& leaf = leaves.of[index];
    u32 begin = (blockIdx.x - (index ? leaves.ends[index - 1] : 0)) * LEAF_CHUNK;
    u32 end = min(leaf.len, begin + LEAF_CHUNK);
    for (u32 i = begin + threadIdx.x; i < end; i += blockDim.x) {
        float x = leaf.x[i];
        if (leaf.log_scales) {
            float scale = learned_scale(leaf.log_scales[i % leaf.columns]);
            x = nearest_code(x, scale, leaf.qmax) * scale + 0.0f;
        }
        leaf.out[i] = x;
    }
}

// Rounds with the largest magnitude of each group over qmax as its scale, see `group_scale` of the
// runtime. A warp a group.
KERNEL round_abs_max(const float* x, float* out, float qmax, u32 group, u32 n) {
    u32 first = thread_index() / 32 * group, lane = threadIdx.x % 32;
    if (first >= n) return;
    u32 end = min(n, first + group);
    float largest = 0.0f;
    for (u32 i = first + lane; i < end; i += 32) largest = fmaxf(largest, fabsf(x[i]));
    largest = warp_max(largest);
    float scale = round_to_half(fminf(largest / qmax, 65504.0f));
    if (largest > (qmax + 0.5f) * scale && scale < 65504.0f) scale = next_half(scale);
    for (u32 i = first + lane; i < end; i += 32) out[i] = nearest_code(x[i], scale, qmax) * scale + 0.0f;
}

// Parameters with learned scales whose gradients a launch computes; the layout of Quantized and
// Quantizers in cuda.rs. A block is a tile of columns and a part of the rows.
#define QUANTIZERS 44
struct Quantized {
    const float *x, *log_scales, *gradient;
    float *dx, *dlog_scales, *partial;
    float qmax;
    u32 rows, columns, parts;
    // Index of its first level among those of all, and of its first tile.
    u32 first_level, first_tile;

    __device__ u32 tiles() const { return (columns + COLUMN_TILE - 1) / COLUMN_TILE; }
    __device__ u32 levels() const { return (u32)qmax + 1; }
};
struct Quantizers {
    Quantized of[QUANTIZERS];
    // Blocks up to the end of each.
    u32 ends[QUANTIZERS];
    u32 count;

    // Index of a block's parameter; `block` becomes that among the parameter's.
    __device__ u32 find(u32& block) const {
        u32 index = 0;
        while (block >= ends[index]) index++;
        if (index) block -= ends[index - 1];
        return index;
    }
};

// Adds to the number of codes of each magnitude, 0 to qmax. Integers: the order does not matter.
#define LOCAL_CODES 512
KERNEL count_codes(const __grid_constant__ Quantizers quantizers, u32* counts) {
    __shared__ u32 local[LOCAL_CODES];
    u32 index = blockIdx.x;
    const Quantized& of = quantizers.of[quantizers.find(index)];
    ColumnBlock block(index % of.tiles(), index / of.tiles(), of.parts, of.rows, of.columns);
    counts += of.first_level;
    u32 levels = of.levels();
    bool is_local = levels <= LOCAL_CODES;
    if (is_local) {
        for (u32 level = threadIdx.x; level < levels; level += blockDim.x) local[level] = 0;
        __syncthreads();
    }
    block.each_row([&](u32 row) {
        float x = of.x[(size_t)row * of.columns + block.column];
        u32 level = (u32)fabsf(nearest_code(x, learned_scale(of.log_scales[block.column]), of.qmax));
        atomicAdd(is_local ? &local[level] : &counts[level], 1u);
    });
    if (is_local) {
        __syncthreads();
        for (u32 level = threadIdx.x; level < levels; level += blockDim.x) {
            if (local[level]) atomicAdd(&counts[level], local[level]);
        }
    }
}

// lambda times the difference in bits between level k + 1 and level k. A block a parameter.
KERNEL rate_slopes(
    const __grid_constant__ Quantizers quantizers, const u32* counts, float* slopes, const StepNumbers* step) {
    const Quantized& of = quantizers.of[blockIdx.x];
    counts += of.first_level;
    u32 levels = of.levels();
    float total = (float)(of.rows * of.columns) + 0.5f * (float)levels;
    for (u32 k = threadIdx.x; k < levels; k += blockDim.x) {
        float slope = 0.0f;
        if (k + 1 < levels) {
            float here = (k > 0 ? 1.0f : 0.0f) - log2f(((float)counts[k] + 0.5f) / total);
            float next = 1.0f - log2f(((float)counts[k + 1] + 0.5f) / total);
            slope = next - here;
        }
        slopes[of.first_level + k] = step->lambda * slope;
    }
}

// From the gradients of the rounded values to those of the values and of the log scales.
KERNEL quantizer_backward(const __grid_constant__ Quantizers quantizers, const float* slopes, u32* counters) {
    u32 index = blockIdx.x;
    const Quantized& of = quantizers.of[quantizers.find(index)];
    u32 tile = index % of.tiles();
    ColumnBlock block(tile, index / of.tiles(), of.parts, of.rows, of.columns);
    slopes += of.first_level;
    float* const results[1] = {of.dlog_scales};
    float scale = learned_scale(of.log_scales[block.column]), qmax = of.qmax;
    sum_columns_of<1>(
        block, 0,
        [&](u32, u32 row, u32 column, float (&sums)[1]) {
            size_t i = (size_t)row * of.columns + column;
            float y = of.gradient[i], v = divide_by_scale(of.x[i], scale), q = nearest_code(of.x[i], scale, qmax);
            bool inside = fabsf(v) <= qmax;
            sums[0] += y * scale * (inside ? q - v : q);
            y = inside ? y : 0.0f;
            float slope = slopes[(u32)fminf(fabsf(v), qmax)];
            if (slope != 0.0f && v != 0.0f) {
                y += slope * (v > 0.0f ? 1.0f : -1.0f) / scale;
                sums[0] -= slope * fabsf(v);
            }
            of.dx[i] = y;
        },
        of.columns, 0, of.partial, counters + of.first_tile + tile, results);
}
