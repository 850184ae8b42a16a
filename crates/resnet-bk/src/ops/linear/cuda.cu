// Affine maps with small weights, and their gradients; equations in mod.rs. cuBLAS is made for larger
// products: it takes several kernels for one of these.

// Rows of a block, and numbers of a weight and of its input rows that fit into shared memory.
#define AFFINE_ROWS 16u
#define AFFINE_WEIGHTS 1024u
#define AFFINE_INPUTS 4096u

// y = x W + b for several matrices, some elements apart; W is [input, output], or [output, input] if
// it is transposed. `bias` may be null. Blocks of 256 threads, each with 16 rows and all of W in
// shared memory. Grid: [rows / 16, 1, matrices].
KERNEL affine_rows(
    const float* x, u32 x_stride, const float* weight, const float* bias, u32 w_stride, float* y, u32 rows, u32 input,
    u32 output, u32 transposed) {
    __shared__ float ws[AFFINE_WEIGHTS], xs[AFFINE_INPUTS];
    u32 first = blockIdx.x * AFFINE_ROWS, count = min(AFFINE_ROWS, rows - first);
    weight += (size_t)blockIdx.z * w_stride;
    x += (size_t)blockIdx.z * x_stride + (size_t)first * input;
    y += ((size_t)blockIdx.z * rows + first) * output;
    for (u32 e = threadIdx.x; e < input * output; e += 256) {
        ws[e] = transposed ? weight[e % output * input + e / output] : weight[e];
    }
    // [input, 16], so that a thread reads the numbers of its rows together.
    for (u32 e = threadIdx.x; e < AFFINE_ROWS * input; e += 256) {
        u32 row = e / input, k = e % input;
        xs[k * AFFINE_ROWS + row] = row < count ? x[e] : 0.0f;
    }
    __syncthreads();
    // A thread has a column and four rows.
    for (u32 e = threadIdx.x; e < output * (AFFINE_ROWS / 4); e += 256) {
        u32 column = e % output, row = e / output * 4;
        float b = bias ? bias[(size_t)blockIdx.z * w_stride + column] : 0.0f;
        float sums[4] = {b, b, b, b};
        #pragma unroll 4
        for (u32 k = 0; k < input; k++) {
            float w = ws[k * output + column];
            for (u32 i = 0; i < 4; i++) sums[i] = fmaf(xs[k * AFFINE_ROWS + row + i], w, sums[i]);
        }
        for (u32 i = 0; i < 4; i++) {
            if (row + i < count) y[(size_t)(row + i) * output + column] = sums[i];
        }
    }
}

#define TILE 64u
#define TILE_ROWS 16u

// Parts of dW = x^T dy and db = sum dy for several matrices, `x_stride` and `dy_stride` elements
// apart. Grid: [tiles of dW, parts of the rows, matrices], blocks of 128 threads. A thread has 8 x 4
// elements of a tile, and fetches the next rows while it works on these. `partial` has room for
// TILE x (TILE + 1) numbers of each block.
KERNEL weight_gradients(
    const float* x, u32 x_stride, const float* dy, u32 dy_stride, u32 rows, u32 input, u32 output, float* partial) {
    __shared__ __align__(16) float xs[TILE_ROWS][TILE], ys[TILE_ROWS][TILE];
    u32 across = (output + TILE - 1) / TILE;
    u32 first_in = blockIdx.x / across * TILE, first_out = blockIdx.x % across * TILE;
    u32 per_part = (rows + gridDim.y - 1) / gridDim.y;
    u32 begin = blockIdx.y * per_part, end = min(rows, begin + per_part);
    u32 row_of = threadIdx.x / TILE, column = threadIdx.x % TILE;
    x += (size_t)blockIdx.z * x_stride + first_in + column;
    dy += (size_t)blockIdx.z * dy_stride + first_out + column;
    bool has_x = first_in + column < input, has_y = first_out + column < output;
    float next_x[TILE_ROWS / 2], next_y[TILE_ROWS / 2];
    auto fetch = [&](u32 row) {
        #pragma unroll
        for (u32 i = 0; i < TILE_ROWS / 2; i++) {
            u32 r = row + row_of + 2 * i;
            next_x[i] = has_x && r < end ? x[(size_t)r * input] : 0.0f;
            next_y[i] = has_y && r < end ? dy[(size_t)r * output] : 0.0f;
        }
    };
    u32 ty = threadIdx.x / 16 * 8, tx = threadIdx.x % 16 * 4;
    float sums[8][4] = {}, bias[4] = {};
    fetch(begin);
    for (u32 row = begin; row < end; row += TILE_ROWS) {
        #pragma unroll
        for (u32 i = 0; i < TILE_ROWS / 2; i++) {
            xs[row_of + 2 * i][column] = next_x[i];
            ys[row_of + 2 * i][column] = next_y[i];
        }
        __syncthreads();
        if (row + TILE_ROWS < end) fetch(row + TILE_ROWS);
        #pragma unroll 4
        for (u32 r = 0; r < TILE_ROWS; r++) {
            float4 a0 = *(const float4*)&xs[r][ty], a1 = *(const float4*)&xs[r][ty + 4];
            float4 b4 = *(const float4*)&ys[r][tx];
            float a[8] = {a0.x, a0.y, a0.z, a0.w, a1.x, a1.y, a1.z, a1.w}, b[4] = {b4.x, b4.y, b4.z, b4.w};
            #pragma unroll
            for (u32 j = 0; j < 4; j++) {
                bias[j] += b[j];
                #pragma unroll
                for (u32 i = 0; i < 8; i++) sums[i][j] = fmaf(a[i], b[j], sums[i][j]);
            }
        }
        __syncthreads();
    }
    u32 tile = blockIdx.z * gridDim.x + blockIdx.x;
    float* own = partial + ((size_t)tile * gridDim.y + blockIdx.y) * TILE * (TILE + 1);
    #pragma unroll
    for (u32 i = 0; i < 8; i++) {
        *(float4*)&own[(ty + i) * TILE + tx] = make_float4(sums[i][0], sums[i][1], sums[i][2], sums[i][3]);
    }
    if (ty == 0) *(float4*)&own[TILE * TILE + tx] = make_float4(bias[0], bias[1], bias[2], bias[3]);
}

// Adds the parts in their order. A thread an element of a tile, TILE x (TILE + 1) of them.
KERNEL collect_weight_gradients(
    const float* partial, float* dw, float* db, u32 out_stride, u32 parts, u32 tiles, u32 input, u32 output) {
    const u32 size = TILE * (TILE + 1);
    u32 e = thread_index(), tile = blockIdx.y % tiles;
    if (e >= size) return;
    u32 across = (output + TILE - 1) / TILE, r = e / TILE, column = tile % across * TILE + e % TILE;
    u32 row = tile / across * TILE + r;
    bool is_bias = r == TILE;
    if (column >= output || (is_bias ? tile >= across : row >= input)) return;
    const float* own = partial + (size_t)blockIdx.y * parts * size + e;
    float total = 0.0f;
    #pragma unroll 8
    for (u32 part = 0; part < parts; part++) total += own[(size_t)part * size];
    size_t matrix = (size_t)(blockIdx.y / tiles) * out_stride;
    if (is_bias) {
        db[matrix + column] = total;
    } else {
        dw[matrix + (size_t)row * output + column] = total;
    }
}
