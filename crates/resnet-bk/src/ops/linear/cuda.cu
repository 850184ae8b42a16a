// Gradients of a small weight and its bias; equations in mod.rs. cuBLAS has one block for each tile
// of the result, too few for a small one; here the rows are split too, in a fixed order.

#define TILE 64u
#define TILE_ROWS 16u

// Parts of dW = x^T dy and db = sum dy for several matrices, `x_stride` and `dy_stride` elements
// apart. Grid: [tiles of dW, parts of the rows, matrices], blocks of 256 threads. `partial` has room
// for TILE x (TILE + 1) numbers of each block.
KERNEL weight_gradients(
    const float* x, u32 x_stride, const float* dy, u32 dy_stride, u32 rows, u32 input, u32 output, float* partial) {
    __shared__ float xs[TILE_ROWS][TILE], ys[TILE_ROWS][TILE];
    u32 across = (output + TILE - 1) / TILE;
    u32 first_in = blockIdx.x / across * TILE, first_out = blockIdx.x % across * TILE;
    u32 per_part = (rows + gridDim.y - 1) / gridDim.y;
    u32 begin = blockIdx.y * per_part, end = min(rows, begin + per_part);
    x += (size_t)blockIdx.z * x_stride;
    dy += (size_t)blockIdx.z * dy_stride;
    u32 ty = threadIdx.x / 16, tx = threadIdx.x % 16;
    float sums[4][4] = {}, bias[4] = {};
    for (u32 row = begin; row < end; row += TILE_ROWS) {
        for (u32 e = threadIdx.x; e < TILE_ROWS * TILE; e += 256) {
            u32 r = e / TILE, c = e % TILE;
            bool inside = row + r < end;
            xs[r][c] = inside && first_in + c < input ? x[(size_t)(row + r) * input + first_in + c] : 0.0f;
            ys[r][c] = inside && first_out + c < output ? dy[(size_t)(row + r) * output + first_out + c] : 0.0f;
        }
        __syncthreads();
        #pragma unroll
        for (u32 r = 0; r < TILE_ROWS; r++) {
            float a[4], b[4];
            for (u32 i = 0; i < 4; i++) {
                a[i] = xs[r][ty + 16 * i];
                b[i] = ys[r][tx + 16 * i];
                bias[i] += b[i];
            }
            for (u32 i = 0; i < 4; i++) {
                for (u32 j = 0; j < 4; j++) sums[i][j] = fmaf(a[i], b[j], sums[i][j]);
            }
        }
        __syncthreads();
    }
    const u32 size = TILE * (TILE + 1);
    u32 tile = blockIdx.z * gridDim.x + blockIdx.x;
    float* own = partial + ((size_t)tile * gridDim.y + blockIdx.y) * size;
    for (u32 i = 0; i < 4; i++) {
        for (u32 j = 0; j < 4; j++) own[(ty + 16 * i) * TILE + tx + 16 * j] = sums[i][j];
        if (ty == 0) own[TILE * TILE + tx + 16 * i] = bias[i];
    }
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
