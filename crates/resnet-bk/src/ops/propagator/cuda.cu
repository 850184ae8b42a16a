// The propagator; equations in mod.rs. What does not depend on the position before is computed
// first, for all elements at once.

// s = sigmoid(hopping) and a = 1 + s^2 + softplus(barrier).
KERNEL propagator_coefficients(const float* hopping, const float* barrier, float* s, float* a, u32 n) {
    u32 i = thread_index();
    if (i >= n) return;
    float x = sigmoid_(hopping[i]);
    s[i] = x;
    a[i] = 1.0f + x * x + softplus_(barrier[i]);
}

KERNEL propagator_forward(
    const float* s, const float* a, const float* source, const float* eta, float* waves, float* ratios, u32 heads,
    u32 length) {
    float shift = eta[min(blockIdx.x * 32 + threadIdx.x % 32, heads - 1)];
    Complex g = {0.0f, 0.0f}, psi = {0.0f, 0.0f};
    along_chains<4, 4, 16>(
        heads, length, false,
        [=](u32 t, u32 head, float (&x)[4]) {
            Chain chain(blockIdx.y, head, heads, length);
            Complex u = chain.at(source, t);
            x[0] = s[chain.narrow(t)];
            x[1] = a[chain.narrow(t)];
            x[2] = u.re;
            x[3] = u.im;
        },
        [&](const float (&x)[4], float (&y)[4]) {
            float st = x[0], s2 = st * st;
            g = reciprocal(x[1] - s2 * g.re, -shift - s2 * g.im);
            psi = times(g, {(1.0f - st) * x[2] + st * psi.re, (1.0f - st) * x[3] + st * psi.im});
            y[0] = psi.re;
            y[1] = psi.im;
            y[2] = g.re;
            y[3] = g.im;
        },
        [=](u32 t, u32 head, const float (&y)[4]) {
            Chain chain(blockIdx.y, head, heads, length);
            chain.put(waves, t, {y[0], y[1]});
            chain.put(ratios, t, {y[2], y[3]});
        });
}

// `dbarrier` still lacks the derivative of its nonlinearity.
KERNEL propagator_backward(
    const float* s, const float* source, const float* waves, const float* ratios, const float* gradient,
    float* dhopping, float* dbarrier, float* dsource, float* deta, u32 heads, u32 length) {
    float eta_sum = 0.0f;
    Complex psi_back = {0.0f, 0.0f}, g_back = {0.0f, 0.0f};
    along_chains<11, 4, 8>(
        heads, length, true,
        [=](u32 t, u32 head, float (&x)[11]) {
            Chain chain(blockIdx.y, head, heads, length);
            Complex zero = {0.0f, 0.0f}, u = chain.at(source, t), d = chain.at(gradient, t), g = chain.at(ratios, t);
            Complex psi_before = t > 0 ? chain.at(waves, t - 1) : zero;
            Complex g_before = t > 0 ? chain.at(ratios, t - 1) : zero;
            x[0] = s[chain.narrow(t)];
            x[1] = u.re;
            x[2] = u.im;
            x[3] = d.re;
            x[4] = d.im;
            x[5] = g.re;
            x[6] = g.im;
            x[7] = psi_before.re;
            x[8] = psi_before.im;
            x[9] = g_before.re;
            x[10] = g_before.im;
        },
        [&](const float (&x)[11], float (&y)[4]) {
            float st = x[0], s2 = st * st;
            Complex u = {x[1], x[2]}, g = {x[5], x[6]}, psi_before = {x[7], x[8]}, g_before = {x[9], x[10]};
            Complex q = {(1.0f - st) * u.re + st * psi_before.re, (1.0f - st) * u.im + st * psi_before.im};
            Complex dpsi = {x[3] + psi_back.re, x[4] + psi_back.im};
            Complex dq = conjugate_times(g, dpsi), dg = conjugate_times(q, dpsi);
            dg = {dg.re + g_back.re, dg.im + g_back.im};
            Complex dd = conjugate_times(times(g, g), dg);
            dd = {-dd.re, -dd.im};
            float ds = psi_before.re * dq.re + psi_before.im * dq.im;
            ds -= 2.0f * st * (g_before.re * dd.re + g_before.im * dd.im);
            ds += 2.0f * st * dd.re;
            ds -= u.re * dq.re + u.im * dq.im;
            eta_sum -= dd.im;
            y[0] = st * (1.0f - st) * ds;
            y[1] = dd.re;
            y[2] = (1.0f - st) * dq.re;
            y[3] = (1.0f - st) * dq.im;
            psi_back = {st * dq.re, st * dq.im};
            g_back = {-s2 * dd.re, -s2 * dd.im};
        },
        [=](u32 t, u32 head, const float (&y)[4]) {
            Chain chain(blockIdx.y, head, heads, length);
            dhopping[chain.narrow(t)] = y[0];
            dbarrier[chain.narrow(t)] = y[1];
            chain.put(dsource, t, {y[2], y[3]});
        });
    u32 own = blockIdx.x * 32 + threadIdx.x;
    if (threadIdx.x < 32 && own < heads) deta[blockIdx.y * heads + own] = eta_sum;
}

// dbarrier *= sigmoid(barrier)
KERNEL propagator_barrier(const float* barrier, float* dbarrier, u32 n) {
    u32 i = thread_index();
    if (i < n) dbarrier[i] = sigmoid_(barrier[i]) * dbarrier[i];
}
