// The head's loss with hard targets in bf16, without logits in memory: tiles of logits are computed
// by the tensor cores, used, and computed again when they are needed again. Equations in mod.rs.
//
//     head_sums      l = h W^T + b, tile by tile; a running sum of 2^(l log2 e) a token
//     head_hidden    p = softmax(l);  dh = (p - onehot) W
//     head_table     p^T;             dW = (p - onehot)^T h,  db = sum (p - onehot)
//
// A block of four warps keeps 64 or 128 rows of one matrix in registers (tokens, or words in
// head_table), 16 M a warp, and runs over tiles of 64 rows of the other, which are fetched while the
// tile before is used. D is the width, padded with zeros. (The scheme of FlashAttention, Dao, arXiv
// 2307.08691.)

#define LOG2_E 1.44269504088896340736f

#if __CUDA_ARCH__ >= 800

// 16 bytes from global to shared memory, or zeros.
__device__ __forceinline__ void fetch16(u16* to, const u16* from, bool inside) {
    u32 address = (u32)__cvta_generic_to_shared(to);
    int bytes = inside ? 16 : 0;
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(address), "l"(from), "r"(bytes));
}
__device__ __forceinline__ void fetch_commit() { asm volatile("cp.async.commit_group;"); }
template <int N> __device__ __forceinline__ void fetch_wait() { asm volatile("cp.async.wait_group %0;" ::"n"(N)); }

__device__ __forceinline__ void load_matrices(u32 (&r)[4], const u16* p) {
    u32 address = (u32)__cvta_generic_to_shared(p);
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
        : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3]) : "r"(address));
}
__device__ __forceinline__ void load_matrices_transposed(u32 (&r)[4], const u16* p) {
    u32 address = (u32)__cvta_generic_to_shared(p);
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
        : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3]) : "r"(address));
}

// c += a b for a 16 x 16 and b 16 x 8.
__device__ __forceinline__ void multiply_add(float (&c)[4], const u32 (&a)[4], u32 b0, u32 b1) {
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
        "{%0, %1, %2, %3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

__device__ __forceinline__ u32 pack_bf16(float low, float high) {
    u32 pair;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
    return pair;
}

__device__ __forceinline__ float exp2_fast(float x) {
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

#define ROWS 64
#define LANES_OF_ROW (D + 8)

// Rows `first` to `first + 63` of x [rows, D] into shared memory.
template <int D>
__device__ __forceinline__ void fetch_tile(u16* to, const u16* x, u32 first, u32 rows) {
    for (u32 chunk = threadIdx.x; chunk < ROWS * D / 8; chunk += 128) {
        u32 row = chunk / (D / 8), column = chunk % (D / 8) * 8;
        bool inside = first + row < rows;
        fetch16(to + row * LANES_OF_ROW + column, x + (size_t)(inside ? first + row : 0) * D + column, inside);
    }
}

// Rows of a block, and blocks of 16 rows of a warp.
#define OWN_ROWS (64 * M)

// This warp's rows, as left factors.
template <int D, int M>
__device__ __forceinline__ void load_rows(u32 (&q)[M][D / 16][4], const u16* tile) {
    u32 lane = threadIdx.x % 32;
    for (int m = 0; m < M; m++) {
        u32 row = (threadIdx.x / 32 * M + m) * 16 + lane % 16;
        for (int k = 0; k < D / 16; k++) load_matrices(q[m][k], tile + row * LANES_OF_ROW + k * 16 + lane / 16 * 8);
    }
}

// Products of this warp's rows with the 64 rows of a tile: c[m][j] holds columns 8 j to 8 j + 7.
template <int D, int M>
__device__ __forceinline__ void multiply_tile(float (&c)[M][8][4], const u32 (&q)[M][D / 16][4], const u16* tile) {
    u32 lane = threadIdx.x % 32, group = lane / 8;
    #pragma unroll
    for (int m = 0; m < M; m++) for (int j = 0; j < 8; j++) for (int i = 0; i < 4; i++) c[m][j][i] = 0.0f;
    #pragma unroll
    for (int k = 0; k < D / 16; k++) {
        #pragma unroll
        for (int j = 0; j < 8; j += 2) {
            u32 b[4];
            load_matrices(b, tile + (j * 8 + group / 2 * 8 + lane % 8) * LANES_OF_ROW + k * 16 + group % 2 * 8);
            #pragma unroll
            for (int m = 0; m < M; m++) {
                multiply_add(c[m][j], q[m][k], b[0], b[1]);
                multiply_add(c[m][j + 1], q[m][k], b[2], b[3]);
            }
        }
    }
}

// o += c tile, with c rounded to bf16.
template <int D, int M>
__device__ __forceinline__ void multiply_back(float (&o)[M][D / 8][4], const float (&c)[M][8][4], const u16* tile) {
    u32 lane = threadIdx.x % 32, group = lane / 8;
    #pragma unroll
    for (int k = 0; k < 4; k++) {
        u32 a[M][4];
        #pragma unroll
        for (int m = 0; m < M; m++) {
            for (int i = 0; i < 4; i++) {
                const float* pair = &c[m][2 * k + i / 2][i % 2 * 2];
                a[m][i] = pack_bf16(pair[0], pair[1]);
            }
        }
        #pragma unroll
        for (int j = 0; j < D / 8; j += 2) {
            u32 b[4];
            load_matrices_transposed(
                b, tile + (k * 16 + group % 2 * 8 + lane % 8) * LANES_OF_ROW + j * 8 + group / 2 * 8);
            #pragma unroll
            for (int m = 0; m < M; m++) {
                multiply_add(o[m][j], a[m], b[0], b[1]);
                multiply_add(o[m][j + 1], a[m], b[2], b[3]);
            }
        }
    }
}

// Calls use(tile in shared memory, its first row) for the tiles of x from `begin` to `end`, and
// before them take(rows in shared memory) for this block's rows of `own`.
template <int D, int M, class Take, class Use>
__device__ __forceinline__ void over_tiles(
    const u16* own, u32 own_rows, const u16* x, u32 rows, u32 begin, u32 end, Take take, Use use) {
    __shared__ __align__(16) u16 tiles[2][ROWS * LANES_OF_ROW];
    for (int m = 0; m < M; m++) fetch_tile<D>(tiles[m], own, blockIdx.x * OWN_ROWS + m * ROWS, own_rows);
    fetch_commit();
    fetch_wait<0>();
    __syncthreads();
    take(tiles[0]);
    __syncthreads();
    if (begin < end) fetch_tile<D>(tiles[0], x, begin * ROWS, rows);
    fetch_commit();
    for (u32 tile = begin; tile < end; tile++) {
        u32 now = (tile - begin) % 2;
        if (tile + 1 < end) fetch_tile<D>(tiles[1 - now], x, (tile + 1) * ROWS, rows);
        fetch_commit();
        fetch_wait<1>();
        __syncthreads();
        use(tiles[now], tile * ROWS);
        __syncthreads();
    }
}

// Row `r` (0 to 2 M - 1) of this thread: it has two of each 16.
#define OWN_ROW(r) (blockIdx.x * OWN_ROWS + (threadIdx.x / 32 * M + (r) / 2) * 16 + threadIdx.x % 32 / 4 + (r) % 2 * 8)

// Sizes of a bin's part of the work.
struct HeadTiles {
    u32 tokens, words;
    // First word of the bin, and tiles of words of a block.
    u32 first_word, tiles_of_block;
};

#define TILES_BEGIN(t) (blockIdx.y * (t).tiles_of_block)
#define TILES_END(t) min(((t).words + ROWS - 1) / ROWS, (blockIdx.y + 1) * (t).tiles_of_block)
#define NO_TARGET 0xffffffffu
// Exponents that vanish.
#define FAR 1e30f

// Biases of this thread's columns of a tile, in units of log2.
__device__ __forceinline__ void load_biases(float (&b)[16], const float* bias, u32 first, u32 words) {
    #pragma unroll
    for (int j = 0; j < 16; j++) {
        u32 word = first + j / 2 * 8 + threadIdx.x % 4 * 2 + j % 2;
        b[j] = word < words ? bias[word] * LOG2_E : -FAR;
    }
}

// Largest exponent and sum of each token over a block's words, and the target's logit.
template <int D, int M>
__device__ __forceinline__ void head_sums(
    const u16* hidden, const u16* table, const float* bias, const u32* targets, float2* sums, float* target_logits,
    HeadTiles t) {
    u32 q[M][D / 16][4], target[2 * M];
    float largest[2 * M], sum[2 * M];
    for (int r = 0; r < 2 * M; r++) {
        target[r] = OWN_ROW(r) < t.tokens ? targets[OWN_ROW(r)] - t.first_word : NO_TARGET;
        largest[r] = -FAR;
        sum[r] = 0.0f;
    }
    over_tiles<D, M>(
        hidden, t.tokens, table, t.words, TILES_BEGIN(t), TILES_END(t),
        [&](const u16* tile) { load_rows<D, M>(q, tile); },
        [&](const u16* tile, u32 first) {
            float c[M][8][4], b[16];
            load_biases(b, bias, first, t.words);
            multiply_tile<D, M>(c, q, tile);
            #pragma unroll
            for (int r = 0; r < 2 * M; r++) {
                float x[16], most = largest[r], total = 0.0f;
                #pragma unroll
                for (int j = 0; j < 16; j++) {
                    x[j] = fmaf(c[r / 2][j / 2][r % 2 * 2 + j % 2], LOG2_E, b[j]);
                    most = fmaxf(most, x[j]);
                }
                if (target[r] - first < ROWS) {
                    for (int j = 0; j < 16; j++) {
                        u32 word = first + j / 2 * 8 + threadIdx.x % 4 * 2 + j % 2;
                        if (word == target[r]) target_logits[OWN_ROW(r)] = x[j];
                    }
                }
                #pragma unroll
                for (int j = 0; j < 16; j++) total += exp2_fast(x[j] - most);
                sum[r] = fmaf(sum[r], exp2_fast(largest[r] - most), total);
                largest[r] = most;
            }
        });
    for (int r = 0; r < 2 * M; r++) {
        for (int other = 1; other < 4; other <<= 1) {
            float most = __shfl_xor_sync(0xffffffffu, largest[r], other);
            float total = __shfl_xor_sync(0xffffffffu, sum[r], other), both = fmaxf(most, largest[r]);
            sum[r] = sum[r] * exp2_fast(largest[r] - both) + total * exp2_fast(most - both);
            largest[r] = both;
        }
        if (threadIdx.x % 4 == 0 && OWN_ROW(r) < t.tokens) {
            sums[(size_t)blockIdx.y * t.tokens + OWN_ROW(r)] = make_float2(largest[r], sum[r]);
        }
    }
}

// Parts of the gradients of hidden states, [blocks, n, D].
template <int D, int M>
__device__ __forceinline__ void head_hidden(
    const u16* hidden, const u16* table, const float* bias, const u32* targets, const float* normalizers,
    float* gradients, HeadTiles t) {
    u32 q[M][D / 16][4], target[2 * M];
    float normalizer[2 * M], o[M][D / 8][4] = {};
    for (int r = 0; r < 2 * M; r++) {
        bool inside = OWN_ROW(r) < t.tokens;
        target[r] = inside ? targets[OWN_ROW(r)] - t.first_word : NO_TARGET;
        normalizer[r] = inside ? normalizers[OWN_ROW(r)] : FAR;
    }
    over_tiles<D, M>(
        hidden, t.tokens, table, t.words, TILES_BEGIN(t), TILES_END(t),
        [&](const u16* tile) { load_rows<D, M>(q, tile); },
        [&](const u16* tile, u32 first) {
            float c[M][8][4], b[16];
            load_biases(b, bias, first, t.words);
            multiply_tile<D, M>(c, q, tile);
            #pragma unroll
            for (int r = 0; r < 2 * M; r++) {
                #pragma unroll
                for (int j = 0; j < 16; j++) {
                    float& x = c[r / 2][j / 2][r % 2 * 2 + j % 2];
                    x = exp2_fast(fmaf(x, LOG2_E, b[j] - normalizer[r]));
                }
                if (target[r] - first < ROWS) {
                    #pragma unroll
                    for (int j = 0; j < 16; j++) {
                        u32 word = first + j / 2 * 8 + threadIdx.x % 4 * 2 + j % 2;
                        if (word == target[r]) c[r / 2][j / 2][r % 2 * 2 + j % 2] -= 1.0f;
                    }
                }
            }
            multiply_back<D, M>(o, c, tile);
        });
    #pragma unroll
    for (int r = 0; r < 2 * M; r++) {
        if (OWN_ROW(r) >= t.tokens) continue;
        float* out = gradients + ((size_t)blockIdx.y * t.tokens + OWN_ROW(r)) * D + threadIdx.x % 4 * 2;
        #pragma unroll
        for (int j = 0; j < D / 8; j++) {
            out[j * 8] = o[r / 2][j][r % 2 * 2];
            out[j * 8 + 1] = o[r / 2][j][r % 2 * 2 + 1];
        }
    }
}

// Gradients of a bin's rows [words, width] and biases.
template <int D, int M>
__device__ __forceinline__ void head_table(
    const u16* hidden, const u16* table, const float* bias, const u32* targets, const float* normalizers,
    float* dtable, float* dbias, u32 width, HeadTiles t) {
    __shared__ float normalizers_of[ROWS];
    __shared__ u32 targets_of[ROWS];
    u32 q[M][D / 16][4];
    float b[2 * M], sum[2 * M], o[M][D / 8][4] = {};
    for (int r = 0; r < 2 * M; r++) {
        b[r] = OWN_ROW(r) < t.words ? bias[OWN_ROW(r)] * LOG2_E : -FAR;
        sum[r] = 0.0f;
    }
    over_tiles<D, M>(
        table, t.words, hidden, t.tokens, 0, (t.tokens + ROWS - 1) / ROWS,
        [&](const u16* tile) { load_rows<D, M>(q, tile); },
        [&](const u16* tile, u32 first) {
            u32 target = NO_TARGET;
            if (threadIdx.x < ROWS) {
                u32 token = first + threadIdx.x;
                bool inside = token < t.tokens;
                target = inside ? targets[token] - t.first_word : NO_TARGET;
                normalizers_of[threadIdx.x] = inside ? normalizers[token] : FAR;
                targets_of[threadIdx.x] = target;
            }
            bool any = __syncthreads_or(target - blockIdx.x * OWN_ROWS < OWN_ROWS);
            float c[M][8][4];
            multiply_tile<D, M>(c, q, tile);
            #pragma unroll
            for (int j = 0; j < 16; j++) {
                float normalizer = normalizers_of[j / 2 * 8 + threadIdx.x % 4 * 2 + j % 2];
                #pragma unroll
                for (int r = 0; r < 2 * M; r++) {
                    float& x = c[r / 2][j / 2][r % 2 * 2 + j % 2];
                    x = exp2_fast(fmaf(x, LOG2_E, b[r] - normalizer));
                }
            }
            if (any) {
                #pragma unroll
                for (int j = 0; j < 16; j++) {
                    u32 word = targets_of[j / 2 * 8 + threadIdx.x % 4 * 2 + j % 2];
                    #pragma unroll
                    for (int r = 0; r < 2 * M; r++) {
                        if (word == OWN_ROW(r)) c[r / 2][j / 2][r % 2 * 2 + j % 2] -= 1.0f;
                    }
                }
            }
            #pragma unroll
            for (int r = 0; r < 2 * M; r++) {
                #pragma unroll
                for (int j = 0; j < 16; j++) sum[r] += c[r / 2][j / 2][r % 2 * 2 + j % 2];
            }
            multiply_back<D, M>(o, c, tile);
        });
    float scale = 1.0f / (float)t.tokens;
    #pragma unroll
    for (int r = 0; r < 2 * M; r++) {
        for (int other = 1; other < 4; other <<= 1) sum[r] += __shfl_xor_sync(0xffffffffu, sum[r], other);
        u32 row = OWN_ROW(r);
        if (row >= t.words) continue;
        if (threadIdx.x % 4 == 0) dbias[row] = sum[r] * scale;
        #pragma unroll
        for (int j = 0; j < D / 4; j++) {
            u32 column = j / 2 * 8 + threadIdx.x % 4 * 2 + j % 2;
            if (column < width) dtable[(size_t)row * width + column] = o[r / 2][j / 2][r % 2 * 2 + j % 2] * scale;
        }
    }
}

#else

// Devices without bf16 in hardware take the other kernels.
struct HeadTiles {
    u32 tokens, words, first_word, tiles_of_block;
};
template <int D, int M, class... A> __device__ __forceinline__ void head_sums(A...) {}
template <int D, int M, class... A> __device__ __forceinline__ void head_hidden(A...) {}
template <int D, int M, class... A> __device__ __forceinline__ void head_table(A...) {}

#endif

KERNEL head_sums_16(
    const u16* h, const u16* w, const float* b, const u32* y, float2* sums, float* logits, HeadTiles t) {
    head_sums<16, 2>(h, w, b, y, sums, logits, t);
}
KERNEL head_sums_32(
    const u16* h, const u16* w, const float* b, const u32* y, float2* sums, float* logits, HeadTiles t) {
    head_sums<32, 2>(h, w, b, y, sums, logits, t);
}
KERNEL head_sums_64(
    const u16* h, const u16* w, const float* b, const u32* y, float2* sums, float* logits, HeadTiles t) {
    head_sums<64, 2>(h, w, b, y, sums, logits, t);
}
KERNEL head_sums_128(
    const u16* h, const u16* w, const float* b, const u32* y, float2* sums, float* logits, HeadTiles t) {
    head_sums<128, 1>(h, w, b, y, sums, logits, t);
}
KERNEL head_hidden_16(
    const u16* h, const u16* w, const float* b, const u32* y, const float* z, float* dh, HeadTiles t) {
    head_hidden<16, 2>(h, w, b, y, z, dh, t);
}
KERNEL head_hidden_32(
    const u16* h, const u16* w, const float* b, const u32* y, const float* z, float* dh, HeadTiles t) {
    head_hidden<32, 2>(h, w, b, y, z, dh, t);
}
KERNEL head_hidden_64(
    const u16* h, const u16* w, const float* b, const u32* y, const float* z, float* dh, HeadTiles t) {
    head_hidden<64, 2>(h, w, b, y, z, dh, t);
}
KERNEL head_hidden_128(
    const u16* h, const u16* w, const float* b, const u32* y, const float* z, float* dh, HeadTiles t) {
    head_hidden<128, 1>(h, w, b, y, z, dh, t);
}
KERNEL head_table_16(
    const u16* h, const u16* w, const float* b, const u32* y, const float* z, float* dw, float* db, u32 width,
    HeadTiles t) {
    head_table<16, 2>(h, w, b, y, z, dw, db, width, t);
}
KERNEL head_table_32(
    const u16* h, const u16* w, const float* b, const u32* y, const float* z, float* dw, float* db, u32 width,
    HeadTiles t) {
    head_table<32, 2>(h, w, b, y, z, dw, db, width, t);
}
KERNEL head_table_64(
    const u16* h, const u16* w, const float* b, const u32* y, const float* z, float* dw, float* db, u32 width,
    HeadTiles t) {
    head_table<64, 2>(h, w, b, y, z, dw, db, width, t);
}
KERNEL head_table_128(
    const u16* h, const u16* w, const float* b, const u32* y, const float* z, float* dw, float* db, u32 width,
    HeadTiles t) {
    head_table<128, 1>(h, w, b, y, z, dw, db, width, t);
}

// Normalizer and loss of a token, from the sums of all blocks. Normalizer and target's logit are in
// units of log2.
KERNEL head_merge(
    const float2* sums, const float* target_logits, float* normalizers, float* losses, u32 tokens, u32 parts) {
    u32 token = thread_index();
    if (token >= tokens) return;
    Normalizer all = {-1e30f, 0.0f};
    for (u32 part = 0; part < parts; part++) {
        float2 own = sums[(size_t)part * tokens + token];
        float most = fmaxf(all.largest, own.x);
        all.sum = all.sum * exp2f(all.largest - most) + own.y * exp2f(own.x - most);
        all.largest = most;
    }
    float normalizer = all.largest + log2f(all.sum);
    normalizers[token] = normalizer;
    losses[token] = (normalizer - target_logits[token]) * 0.69314718055994530942f;
}

// The parts [parts, tokens, padded] of a gradient, added and divided by n: [tokens, width].
KERNEL head_collect(const float* parts_of, float* out, u32 parts, u32 tokens, u32 width, u32 padded) {
    u32 i = thread_index();
    if (i >= tokens * width) return;
    u32 token = i / width, column = i % width;
    float sum = 0.0f;
    for (u32 part = 0; part < parts; part++) sum += parts_of[((size_t)part * tokens + token) * padded + column];
    out[i] = sum / (float)tokens;
}
