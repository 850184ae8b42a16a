// The propagator; equations in mod.rs. What does not depend on the position before is computed
// first, for all elements at once; then one thread goes along a chain, a head of a sequence.

// s = sigmoid(hopping) and a = 1 + s^2 + softplus(barrier).
KERNEL propagator_coefficients(const float* hopping, const float* barrier, float* s, float* a, u32 n) {
    u32 i = thread_index();
    if (i >= n) return;
    float x = sigmoid_(hopping[i]);
    s[i] = x;
    a[i] = 1.0f + x * x + softplus_(barrier[i]);
}

KERNEL propagator_forward(
    const float* s, const float* a, const float* source, const float* eta, float* waves, float* ratios, u32 chains,
    u32 heads, u32 length) {
    u32 index = thread_index();
    if (index >= chains) return;
    Chain chain(index, heads, length);
    float shift = eta[chain.head];
    Complex g = {0.0f, 0.0f}, psi = {0.0f, 0.0f};
    #pragma unroll 8
    for (u32 t = 0; t < length; t++) {
        float st = s[chain.narrow(t)], s2 = st * st;
        Complex u = chain.at(source, t);
        g = reciprocal(a[chain.narrow(t)] - s2 * g.re, -shift - s2 * g.im);
        psi = times(g, {(1.0f - st) * u.re + st * psi.re, (1.0f - st) * u.im + st * psi.im});
        chain.put(waves, t, psi);
        chain.put(ratios, t, g);
    }
}

// `dbarrier` and `dhopping` still lack the derivatives of their nonlinearities.
KERNEL propagator_backward(
    const float* s, const float* source, const float* waves, const float* ratios, const float* gradient,
    float* dhopping, float* dbarrier, float* dsource, float* deta, u32 chains, u32 heads, u32 length) {
    u32 index = thread_index();
    if (index >= chains) return;
    Chain chain(index, heads, length);
    float eta_sum = 0.0f;
    Complex psi_back = {0.0f, 0.0f}, g_back = {0.0f, 0.0f};
    Complex g = chain.at(ratios, length - 1);
    #pragma unroll 4
    for (u32 t = length; t-- > 0;) {
        Complex zero = {0.0f, 0.0f};
        Complex g_before = t > 0 ? chain.at(ratios, t - 1) : zero, psi_before = t > 0 ? chain.at(waves, t - 1) : zero;
        Complex u = chain.at(source, t), dwave = chain.at(gradient, t);
        float st = s[chain.narrow(t)], s2 = st * st;
        Complex q = {(1.0f - st) * u.re + st * psi_before.re, (1.0f - st) * u.im + st * psi_before.im};
        Complex dpsi = {dwave.re + psi_back.re, dwave.im + psi_back.im};
        Complex dq = conjugate_times(g, dpsi), dg = conjugate_times(q, dpsi);
        dg = {dg.re + g_back.re, dg.im + g_back.im};
        Complex dd = conjugate_times(times(g, g), dg);
        dd = {-dd.re, -dd.im};
        float ds = psi_before.re * dq.re + psi_before.im * dq.im;
        ds -= 2.0f * st * (g_before.re * dd.re + g_before.im * dd.im);
        ds += 2.0f * st * dd.re;
        ds -= u.re * dq.re + u.im * dq.im;
        eta_sum -= dd.im;
        dhopping[chain.narrow(t)] = st * (1.0f - st) * ds;
        dbarrier[chain.narrow(t)] = dd.re;
        chain.put(dsource, t, {(1.0f - st) * dq.re, (1.0f - st) * dq.im});
        psi_back = {st * dq.re, st * dq.im};
        g_back = {-s2 * dd.re, -s2 * dd.im};
        g = g_before;
    }
    deta[index] = eta_sum;
}

// dbarrier *= sigmoid(barrier)
KERNEL propagator_barrier(const float* barrier, float* dbarrier, u32 n) {
    u32 i = thread_index();
    if (i < n) dbarrier[i] = sigmoid_(barrier[i]) * dbarrier[i];
}
