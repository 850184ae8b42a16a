// Two recurrences over n x n blocks and their exact gradients, one thread for each chain, for blocks.py. With nvcc
// they run on a GPU, with a C++ compiler (-x c++) on the CPU. Arrays are [batch, time, heads, ...], contiguous.

#ifdef __CUDACC__
#define EVERYWHERE __host__ __device__
template <class F> __global__ void run(long count, F body) {
    long i = blockIdx.x * (long)blockDim.x + threadIdx.x;
    if (i < count) body(i);
}
template <class F> void each(long count, void *stream, F body) {
    run<<<(count + 63) / 64, 64, 0, (cudaStream_t)stream>>>(count, body);
}
#else
#define EVERYWHERE
template <class F> void each(long count, void *, F body) {
    for (long i = 0; i < count; i++) body(i);
}
#endif

// The place of (batch, t, head) of chain i = (batch, head).
EVERYWHERE inline long place(long i, long t, long steps, long heads) { return (i / heads * steps + t) * heads + i % heads; }

// G_t = (A_t - s2_t G_{t-1})^-1, G_0 = 0. A_t is symmetric and positive: no pivots are needed.
template <int n, class Real>
void riccati_forward(long chains, long steps, long heads, const Real *A, const Real *s2, Real *G, void *stream) {
    each(chains, stream, [=] EVERYWHERE(long chain) {
        Real P[n][n] = {};
        for (long t = 0; t < steps; t++) {
            long at = place(chain, t, steps, heads);
            for (int i = 0; i < n; i++)
                for (int j = 0; j < n; j++) P[i][j] = A[at * n * n + i * n + j] - s2[at] * P[i][j];
            for (int c = 0; c < n; c++) { // Gauss and Jordan, in place
                Real r = 1 / P[c][c];
                P[c][c] = 1;
                for (int j = 0; j < n; j++) P[c][j] *= r;
                for (int i = 0; i < n; i++) {
                    if (i == c) continue;
                    Real f = P[i][c];
                    P[i][c] = 0;
                    for (int j = 0; j < n; j++) P[i][j] -= f * P[c][j];
                }
            }
            for (int i = 0; i < n * n; i++) G[at * n * n + i] = P[i / n][i % n];
        }
    });
}

// Given dL/dG: M_t = dL/dG_t - s2_{t+1} dL/dA_{t+1};  dL/dA_t = -G_t M_t G_t;  dL/ds2_t = -<dL/dA_t, G_{t-1}>.
template <int n, class Real>
void riccati_backward(long chains, long steps, long heads, const Real *s2, const Real *G, const Real *dG, Real *dA, Real *ds2,
                      void *stream) {
    each(chains, stream, [=] EVERYWHERE(long chain) {
        Real M[n][n], W[n][n], D[n][n] = {}, next = 0;
        for (long t = steps - 1; t >= 0; t--) {
            long at = place(chain, t, steps, heads);
            const Real *g = G + at * n * n, *before = t ? G + place(chain, t - 1, steps, heads) * n * n : nullptr;
            for (int i = 0; i < n; i++)
                for (int j = 0; j < n; j++) M[i][j] = dG[at * n * n + i * n + j] - next * D[i][j];
            for (int i = 0; i < n; i++)
                for (int j = 0; j < n; j++) {
                    W[i][j] = 0;
                    for (int k = 0; k < n; k++) W[i][j] += g[i * n + k] * M[k][j];
                }
            Real sum = 0;
            for (int i = 0; i < n; i++)
                for (int j = 0; j < n; j++) {
                    D[i][j] = 0;
                    for (int k = 0; k < n; k++) D[i][j] -= W[i][k] * g[k * n + j];
                    dA[at * n * n + i * n + j] = D[i][j];
                    if (before) sum -= D[i][j] * before[i * n + j];
                }
            ds2[at] = sum;
            next = s2[at];
        }
    });
}

// x_t = C_t x_{t-1} + d_t, C_t n x n.
template <int n, class Real>
void scan_forward(long chains, long steps, long heads, const Real *C, const Real *d, Real *x, void *stream) {
    each(chains, stream, [=] EVERYWHERE(long chain) {
        Real last[n] = {}, sum[n];
        for (long t = 0; t < steps; t++) {
            long at = place(chain, t, steps, heads);
            for (int i = 0; i < n; i++) {
                sum[i] = d[at * n + i];
                for (int j = 0; j < n; j++) sum[i] += C[at * n * n + i * n + j] * last[j];
            }
            for (int i = 0; i < n; i++) x[at * n + i] = last[i] = sum[i];
        }
    });
}

// Given dL/dx: dL/dd_t = dL/dx_t + C_{t+1}' dL/dd_{t+1};  dL/dC_t = dL/dd_t x_{t-1}'.
template <int n, class Real>
void scan_backward(long chains, long steps, long heads, const Real *C, const Real *x, const Real *dx, Real *dC, Real *dd,
                   void *stream) {
    each(chains, stream, [=] EVERYWHERE(long chain) {
        Real l[n] = {}, pulled[n];
        for (long t = steps - 1; t >= 0; t--) {
            long at = place(chain, t, steps, heads), next = t + 1 < steps ? place(chain, t + 1, steps, heads) : -1;
            for (int j = 0; j < n; j++) {
                pulled[j] = dx[at * n + j];
                if (next >= 0)
                    for (int i = 0; i < n; i++) pulled[j] += C[next * n * n + i * n + j] * l[i];
            }
            for (int i = 0; i < n; i++) {
                dd[at * n + i] = l[i] = pulled[i];
                for (int j = 0; j < n; j++)
                    dC[at * n * n + i * n + j] = t ? l[i] * x[place(chain, t - 1, steps, heads) * n + j] : 0;
            }
        }
    });
}

#define EXPORT(n, Real, name)                                                                                                    \
    extern "C" void riccati_forward_##n##name(long c, long t, long h, const Real *A, const Real *s, Real *G, void *q) {          \
        riccati_forward<n>(c, t, h, A, s, G, q);                                                                                 \
    }                                                                                                                            \
    extern "C" void riccati_backward_##n##name(long c, long t, long h, const Real *s, const Real *G, const Real *dG, Real *dA,   \
                                               Real *ds, void *q) {                                                              \
        riccati_backward<n>(c, t, h, s, G, dG, dA, ds, q);                                                                       \
    }                                                                                                                            \
    extern "C" void scan_forward_##n##name(long c, long t, long h, const Real *C, const Real *d, Real *x, void *q) {             \
        scan_forward<n>(c, t, h, C, d, x, q);                                                                                    \
    }                                                                                                                            \
    extern "C" void scan_backward_##n##name(long c, long t, long h, const Real *C, const Real *x, const Real *dx, Real *dC,      \
                                            Real *dd, void *q) {                                                                 \
        scan_backward<n>(c, t, h, C, x, dx, dC, dd, q);                                                                          \
    }
EXPORT(1, float, f)
EXPORT(4, float, f)
EXPORT(8, float, f)
EXPORT(1, double, d)
EXPORT(4, double, d)
EXPORT(8, double, d)
