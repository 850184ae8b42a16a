// Norm of all gradients, AdamW, and averages; formulas in adamw.rs and average.rs.

#define SEGMENTS 56
// Elements of a block.
#define SEGMENT_CHUNK 4096u

// A parameter and its gradient; the layout of Segment in cuda.rs.
struct Segment {
    float *values, *first, *second;
    const float* gradient;
    const unsigned char* mask;
    float* steps;
    // Null while nothing is averaged.
    float* average;
    u32 len, flags;
};
#define DECAYS 1u
// A gradient of zeros counts as none.
#define MAY_BE_UNUSED 2u

struct Segments {
    Segment of[SEGMENTS];
    // Blocks up to the end of each segment.
    u32 ends[SEGMENTS];
    // Number of segments, index of the first one, first block among those of all launches.
    u32 count, base, first_block;

    __device__ u32 find(u32 block) const {
        u32 segment = 0;
        while (block >= ends[segment]) segment++;
        return segment;
    }
};

// What the kernels of an optimizer step tell each other.
struct OptimizerState {
    float clip;
    // Set for good when a loss or a norm is not finite: parameters do not change any more.
    u32 failed;
};

KERNEL gradient_squares(const __grid_constant__ Segments segments, double* partial, u32* nonzero) {
    u32 index = segments.find(blockIdx.x);
    const Segment& segment = segments.of[index];
    u32 begin = (blockIdx.x - (index ? segments.ends[index - 1] : 0)) * SEGMENT_CHUNK;
    u32 end = min(segment.len, begin + SEGMENT_CHUNK);
    double sum = 0.0;
    for (u32 i = begin + threadIdx.x; i < end; i += blockDim.x) {
        float g = segment.gradient[i];
        sum += (double)g * (double)g;
    }
    sum = block_sum_double(sum);
    if (threadIdx.x == 0) {
        partial[segments.first_block + blockIdx.x] = sum;
        if (sum != 0.0) atomicOr(&nonzero[segments.base + index], 1u);
    }
}

// One block. Logs loss and norm in the step's slot.
KERNEL gradient_norm(
    const double* partial, u32 blocks, const float* loss, float clip, OptimizerState* state, float* log,
    const StepNumbers* step) {
    double total = 0.0;
    for (u32 block = threadIdx.x; block < blocks; block += blockDim.x) total += partial[block];
    double norm = sqrt(block_sum_double(total));
    if (threadIdx.x > 0) return;
    state->clip = (float)fmin((double)clip / (norm + 1e-6), 1.0);
    if (!(norm <= 1.7e308) || !(fabsf(loss[0]) <= 3.4e38f)) state->failed = 1;
    log[2 * step->slot] = loss[0];
    log[2 * step->slot + 1] = (float)norm;
}

// Moves an average toward a weight.
__device__ __forceinline__ void average(const Segment& segment, u32 i, float w, float share) {
    if (segment.average) segment.average[i] += share * (w - segment.average[i]);
}

KERNEL adamw(
    const __grid_constant__ Segments segments, const u32* nonzero, const OptimizerState* state, const StepNumbers* step, double beta1,
    double beta2, double decay) {
    __shared__ float shared_rate, shared_second_scale, shared_shrink;
    u32 index = segments.find(blockIdx.x);
    const Segment& segment = segments.of[index];
    if (state->failed) return;
    u32 begin = (blockIdx.x - (index ? segments.ends[index - 1] : 0)) * SEGMENT_CHUNK;
    u32 end = min(segment.len, begin + SEGMENT_CHUNK);
    float share = step->average;
    if ((segment.flags & MAY_BE_UNUSED) && !nonzero[segments.base + index]) {
        for (u32 i = begin + threadIdx.x; i < end; i += blockDim.x) average(segment, i, segment.values[i], share);
        return;
    }
    if (threadIdx.x == 0) {
        double t = (double)segment.steps[0] + 1.0;
        shared_rate = (float)(step->rate / (1.0 - pow(beta1, t)));
        shared_second_scale = (float)(1.0 / (1.0 - pow(beta2, t)));
        shared_shrink = 1.0f - (float)(step->rate * ((segment.flags & DECAYS) ? decay : 0.0));
    }
    __syncthreads();
    float rate = shared_rate, second_scale = shared_second_scale, shrink = shared_shrink, clip = state->clip;
    float b1 = (float)beta1, b2 = (float)beta2;
    for (u32 i = begin + threadIdx.x; i < end; i += blockDim.x) {
        float g = segment.gradient[i] * clip;
        float m = b1 * segment.first[i] + (1.0f - b1) * g;
        float v = b2 * segment.second[i] + (1.0f - b2) * g * g;
        float w = segment.values[i] * shrink - rate * m / (sqrtf(v * second_scale) + 1e-8f);
        if (segment.mask && !segment.mask[i]) w = 0.0f;
        segment.first[i] = m;
        segment.second[i] = v;
        segment.values[i] = w;
        average(segment, i, w, share);
    }
}

// Counts the step of every segment that was updated. One block of SEGMENTS threads.
KERNEL count_steps(const __grid_constant__ Segments segments, u32* nonzero, const OptimizerState* state) {
    u32 index = threadIdx.x;
    if (index >= segments.count) return;
    const Segment& segment = segments.of[index];
    u32* used = &nonzero[segments.base + index];
    if (!state->failed && (!(segment.flags & MAY_BE_UNUSED) || *used)) segment.steps[0] += 1.0f;
    *used = 0;
}
