// What the kernels share. Compiled by NVRTC without any header, and without fused products and
// sums, as the host's code: functions here give the bits of their host twins.

typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;

// Numbers of a training step; the layout of StepNumbers in device/cuda/mod.rs.
struct StepNumbers {
    u64 seed;
    double rate;
    float lambda;
    u32 slot;
    float average;
};

#define INFINITY_F __int_as_float(0x7f800000)
#define KERNEL extern "C" __global__ void

// Index of this thread in a grid of one dimension.
__device__ __forceinline__ u32 thread_index() { return blockIdx.x * blockDim.x + threadIdx.x; }

// e^x, with the polynomial of the host.
__device__ __forceinline__ float exp_(float x) {
    const float ROUND = 12582912.0f;
    x = fminf(fmaxf(x, -87.0f), 88.0f);
    float rounded = x * 1.44269504088896340736f + ROUND;
    float n = rounded - ROUND;
    float r = x - n * 0.6933594f - n * -2.1219444e-4f;
    float p = 1.9875691e-4f;
    p = p * r + 1.3981999e-3f;
    p = p * r + 8.333452e-3f;
    p = p * r + 4.1665796e-2f;
    p = p * r + 1.6666665e-1f;
    p = p * r + 0.5f;
    p = p * (r * r) + r + 1.0f;
    u32 exponent = __float_as_uint(rounded) - __float_as_uint(ROUND) + 127u;
    return p * __uint_as_float(exponent << 23);
}

__device__ __forceinline__ float sigmoid_(float x) { return 1.0f / (1.0f + exp_(-x)); }

// ln(1 + y) for 0 <= y <= 1.
__device__ __forceinline__ float ln_1p_(float y) {
    float z = y / (2.0f + y);
    float z2 = z * z;
    float p = 1.0f / 13.0f;
    p = p * z2 + 1.0f / 11.0f;
    p = p * z2 + 1.0f / 9.0f;
    p = p * z2 + 1.0f / 7.0f;
    p = p * z2 + 1.0f / 5.0f;
    p = p * z2 + 1.0f / 3.0f;
    return 2.0f * z * (p * z2 + 1.0f);
}

__device__ __forceinline__ float softplus_(float x) { return fmaxf(x, 0.0f) + ln_1p_(exp_(-fabsf(x))); }

struct Complex {
    float re, im;
};

__device__ __forceinline__ Complex plus(Complex a, Complex b) { return {a.re + b.re, a.im + b.im}; }
__device__ __forceinline__ Complex scaled(float s, Complex a) { return {s * a.re, s * a.im}; }
__device__ __forceinline__ Complex times(Complex a, Complex b) {
    return {a.re * b.re - a.im * b.im, a.re * b.im + a.im * b.re};
}

// a* b
__device__ __forceinline__ Complex conjugate_times(Complex a, Complex b) {
    return {a.re * b.re + a.im * b.im, a.re * b.im - a.im * b.re};
}

__device__ __forceinline__ Complex reciprocal(float re, float im) {
    // The square of a modulus below 1e-19 is zero. Its reciprocal times zero would be NaN.
    float scale = 1.0f / fmaxf(re * re + im * im, 1.17549435e-38f);
    return {re * scale, -im * scale};
}

// A stretch of a sequence. Long sequences are cut into `count` stretches of `stretch` positions, the
// last one shorter, so that there are enough chains; a short sequence is one stretch.
struct Cut {
    u32 length, stretch, count;
};

struct Stretch {
    // Token of its first position, this position in the sequence, and number of positions.
    u32 token, begin, length;

    __device__ Stretch(u32 index, Cut cut)
        : token(index / cut.count * cut.length + index % cut.count * cut.stretch),
          begin(index % cut.count * cut.stretch), length(min(cut.stretch, cut.length - begin)) {}
    __device__ bool ends_sequence(Cut cut) const { return begin + length == cut.length; }
};

// A head of a stretch: where its numbers are, with one or two for each token and head.
struct Chain {
    u32 token, head, heads;

    __device__ Chain(u32 token, u32 head, u32 heads) : token(token), head(head), heads(heads) {}
    __device__ size_t narrow(u32 t) const { return (size_t)(token + t) * heads + head; }
    __device__ size_t wide(u32 t) const { return (size_t)(token + t) * 2 * heads + head; }
    __device__ Complex at(const float* x, u32 t) const { return {x[wide(t)], x[wide(t) + heads]}; }
    __device__ void put(float* x, u32 t, Complex z) const {
        x[wide(t)] = z.re;
        x[wide(t) + heads] = z.im;
    }
};

// A bijection of 64 bits; see random.rs.
__device__ __forceinline__ u64 mix(u64 z) {
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ull;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBull;
    return z ^ (z >> 31);
}

// Number `index` of the random stream of `seed`.
__device__ __forceinline__ u64 stream_word(u64 seed, u64 index) {
    return mix(seed + 0x9E3779B97F4A7C15ull * (index + 1));
}

// Factor of an element under the dropout mask of `key`: 0 or `keep`.
__device__ __forceinline__ float dropout(u64 key, u32 threshold, float keep, u64 element) {
    u32 drawn = (u32)(stream_word(key, element / 4) >> (16 * (element % 4))) & 0xffffu;
    return drawn < threshold ? 0.0f : keep;
}

// float32 to bf16 and back, rounded to nearest even.
__device__ __forceinline__ u16 to_bf16(float x) {
    u32 bits = __float_as_uint(x);
    if ((bits & 0x7fffffffu) > 0x7f800000u) return (u16)((bits >> 16) | 0x40u);
    return (u16)((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}

// float32 rounded to half precision.
__device__ __forceinline__ float round_to_half(float x) {
    u16 half;
    float back;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(half) : "f"(x));
    asm("cvt.f32.f16 %0, %1;" : "=f"(back) : "h"(half));
    return back;
}

// The next larger number of half precision.
__device__ __forceinline__ float next_half(float x) {
    u16 half;
    float next;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(half) : "f"(x));
    asm("cvt.f32.f16 %0, %1;" : "=f"(next) : "h"((u16)(half + 1)));
    return next;
}

// x / scale rounded to the nearest code, ties to even; see kernels/rounding.rs of the runtime.
__device__ __forceinline__ float divide_by_scale(float x, float scale) { return scale == 0.0f ? 0.0f : x / scale; }

__device__ __forceinline__ float nearest_code(float x, float scale, float qmax) {
    return fminf(fmaxf(rintf(divide_by_scale(x, scale)), -qmax), qmax);
}

// Sum over the lanes of a warp; every lane gets it.
__device__ __forceinline__ float warp_sum(float x) {
    for (int lane = 16; lane; lane >>= 1) x += __shfl_xor_sync(0xffffffffu, x, lane);
    return x;
}

__device__ __forceinline__ float warp_max(float x) {
    for (int lane = 16; lane; lane >>= 1) x = fmaxf(x, __shfl_xor_sync(0xffffffffu, x, lane));
    return x;
}

__device__ __forceinline__ double warp_sum_double(double x) {
    for (int lane = 16; lane; lane >>= 1) x += __shfl_xor_sync(0xffffffffu, x, lane);
    return x;
}

// Sum over a block of whole warps; every thread gets it.
__device__ __forceinline__ float block_sum(float x) {
    __shared__ float sums[32];
    x = warp_sum(x);
    __syncthreads();
    if (threadIdx.x % 32 == 0) sums[threadIdx.x / 32] = x;
    __syncthreads();
    float total = 0.0f;
    for (u32 warp = 0; warp < blockDim.x / 32; warp++) total += sums[warp];
    return total;
}

__device__ __forceinline__ double block_sum_double(double x) {
    __shared__ double sums[32];
    x = warp_sum_double(x);
    __syncthreads();
    if (threadIdx.x % 32 == 0) sums[threadIdx.x / 32] = x;
    __syncthreads();
    double total = 0.0;
    for (u32 warp = 0; warp < blockDim.x / 32; warp++) total += sums[warp];
    return total;
}

// Whether this block is the last one of its group to come here. What the other blocks wrote before
// is then visible. `counter` is 0 between kernels.
__device__ __forceinline__ bool is_last_block(u32* counter, u32 blocks) {
    __shared__ bool last;
    __threadfence();
    __syncthreads();
    if (threadIdx.x == 0) last = atomicInc(counter, blocks - 1) == blocks - 1;
    __syncthreads();
    __threadfence();
    return last;
}

// What a block of 256 threads reads of a matrix: a tile of at most 64 columns, and a part of the rows,
// of which each lane takes every `lanes`th.
#define COLUMN_TILE 64u
struct ColumnBlock {
    u32 part, parts, width, lanes, lane, column, begin, end;

    __device__ ColumnBlock(u32 tile, u32 part, u32 parts, u32 rows, u32 columns) : part(part), parts(parts) {
        u32 first = tile * COLUMN_TILE;
        width = min(COLUMN_TILE, columns - first);
        lanes = 256 / width;
        lane = threadIdx.x / width;
        column = first + threadIdx.x % width;
        u32 per_part = (rows + parts - 1) / parts;
        begin = part * per_part;
        end = min(rows, begin + per_part);
    }

    // Calls `value(row)` for the rows of this thread.
    template <class Value>
    __device__ __forceinline__ void each_row(Value value) const {
        if (lane >= lanes) return;
        for (u32 row = begin + lane; row < end; row += lanes) value(row);
    }
};

// Sums of columns in a fixed order. Every thread adds the rows of its lane; the lanes are added in
// order, then the parts, by the last block, which `counter` finds. `partial` has room for matrices x
// parts x columns numbers for each of the K results. `stride` lies from a matrix's result to the next.
template <int K, class Value>
__device__ __forceinline__ void sum_columns_of(
    const ColumnBlock& block, u32 matrix, Value value, u32 columns, u32 stride, float* partial, u32* counter,
    float* const (&results)[K]) {
    __shared__ float lanes_of[K][256];
    float sums[K];
    for (int k = 0; k < K; k++) sums[k] = 0.0f;
    u32 lane = block.lane, lanes = block.lanes, width = block.width, column = block.column, parts = block.parts;
    block.each_row([&](u32 row) { value(matrix, row, column, sums); });
    for (int k = 0; k < K; k++) lanes_of[k][threadIdx.x] = sums[k];
    __syncthreads();
    if (lane == 0) {
        for (int k = 0; k < K; k++) {
            float total = 0.0f;
            for (u32 l = 0; l < lanes; l++) total += lanes_of[k][l * width + threadIdx.x];
            partial[((matrix * parts + block.part) * K + k) * columns + column] = total;
        }
    }
    if (!is_last_block(counter, parts)) return;
    for (int k = 0; k < K; k++) {
        float total = 0.0f;
        if (lane < lanes) {
            #pragma unroll 4
            for (u32 part = lane; part < parts; part += lanes) {
                total += __ldcg(&partial[((matrix * parts + part) * K + k) * columns + column]);
            }
        }
        lanes_of[k][threadIdx.x] = total;
    }
    __syncthreads();
    if (lane == 0) {
        for (int k = 0; k < K; k++) {
            float total = 0.0f;
            for (u32 l = 0; l < lanes; l++) total += lanes_of[k][l * width + threadIdx.x];
            results[k][(size_t)matrix * stride + column] = total;
        }
    }
}

// `sum_columns_of` with the grid [ceil(columns / 64), parts, matrices].
template <int K, class Value>
__device__ __forceinline__ void sum_columns(
    Value value, u32 rows, u32 columns, u32 stride, float* partial, u32* counters, float* const (&results)[K]) {
    ColumnBlock block(blockIdx.x, blockIdx.y, gridDim.y, rows, columns);
    u32* counter = counters + blockIdx.z * gridDim.x + blockIdx.x;
    sum_columns_of<K>(block, blockIdx.z, value, columns, stride, partial, counter, results);
}

// Runs along the chains of up to 32 heads of a stretch, STEPS positions at a time, forward or
// backward: the first warp computes, a lane a head, while the other three fetch the next positions
// and store the results of those before. Launched with the grid [ceil(heads / 32), stretches] and
// blocks of 128 threads.
//
// `fetch(t, head, x)` reads the IN numbers of a position, `advance(x, y)` makes the OUT results of
// them, `put(t, head, y)` writes these.
template <int IN, int OUT, int STEPS, class Fetch, class Advance, class Put>
__device__ __forceinline__ void along_chains(
    u32 heads, u32 length, bool backward, Fetch fetch, Advance advance, Put put) {
    __shared__ float in[2][IN][STEPS][32], out[2][OUT][STEPS][32];
    u32 first = blockIdx.x * 32, width = min(32u, heads - first);
    u32 tiles = (length + STEPS - 1) / STEPS, lane = threadIdx.x;
    auto time = [&](u32 tile, u32 step) {
        u32 position = tile * STEPS + step;
        return backward ? length - 1 - position : position;
    };
    auto load = [&](u32 tile, u32 thread, u32 threads) {
        for (u32 e = thread; e < STEPS * width; e += threads) {
            u32 step = e / width, head = e % width;
            if (tile * STEPS + step >= length) return;
            float x[IN];
            fetch(time(tile, step), first + head, x);
            for (int k = 0; k < IN; k++) in[tile & 1][k][step][head] = x[k];
        }
    };
    load(0, threadIdx.x, blockDim.x);
    __syncthreads();
    for (u32 tile = 0; tile <= tiles; tile++) {
        if (threadIdx.x < 32) {
            for (u32 step = 0; step < STEPS && lane < width && tile * STEPS + step < length; step++) {
                float x[IN], y[OUT];
                for (int k = 0; k < IN; k++) x[k] = in[tile & 1][k][step][lane];
                advance(x, y);
                for (int k = 0; k < OUT; k++) out[tile & 1][k][step][lane] = y[k];
            }
        } else {
            u32 thread = threadIdx.x - 32, threads = blockDim.x - 32;
            if (tile + 1 < tiles) load(tile + 1, thread, threads);
            for (u32 e = thread; tile > 0 && e < STEPS * width; e += threads) {
                u32 step = e / width, head = e % width;
                if ((tile - 1) * STEPS + step >= length) break;
                float y[OUT];
                for (int k = 0; k < OUT; k++) y[k] = out[(tile - 1) & 1][k][step][head];
                put(time(tile - 1, step), first + head, y);
            }
        }
        __syncthreads();
    }
}

// Sum over all elements in a fixed order, by blocks of 256 threads. `partial` has room for a number
// of each block. The result is given to `finish` in one thread of the last block.
template <class Value, class Finish>
__device__ __forceinline__ void sum_all(Value value, u32 n, double* partial, u32* counter, Finish finish) {
    double sum = 0.0;
    for (u32 i = thread_index(); i < n; i += gridDim.x * blockDim.x) sum += (double)value(i);
    sum = block_sum_double(sum);
    if (threadIdx.x == 0) partial[blockIdx.x] = sum;
    if (is_last_block(counter, gridDim.x)) {
        double total = 0.0;
        for (u32 block = threadIdx.x; block < gridDim.x; block += blockDim.x) total += __ldcg(&partial[block]);
        total = block_sum_double(total);
        if (threadIdx.x == 0) finish(total);
    }
}

// The columns of x, [matrices, rows, columns].
KERNEL column_sums(
    const float* x, float* out, u32 rows, u32 columns, u32 stride, float* partial, u32* counters) {
    float* const results[1] = {out};
    sum_columns<1>(
        [=](u32 matrix, u32 row, u32 column, float (&sums)[1]) {
            sums[0] += x[((size_t)matrix * rows + row) * columns + column];
        },
        rows, columns, stride, partial, counters, results);
}

KERNEL fill(float* out, float value, u32 n) {
    u32 i = thread_index();
    if (i < n) out[i] = value;
}

// out = a + b; out may be a.
KERNEL add(const float* a, const float* b, float* out, u32 n) {
    u32 i = thread_index();
    if (i < n) out[i] = a[i] + b[i];
}

// Every row becomes `row`.
KERNEL fill_rows(float* out, const float* row, u32 n, u32 columns) {
    u32 i = thread_index();
    if (i < n) out[i] = row[i % columns];
}
