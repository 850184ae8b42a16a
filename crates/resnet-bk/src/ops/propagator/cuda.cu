// The propagator; equations in mod.rs. What does not depend on the position before is computed
// first, for all elements at once. Stretches of long sequences run
// beside each other, as those of the resolvent.

// s = sigmoid(hopping) and a = 1 + s^2 + softplus(barrier).
KERNEL propagator_coefficients(const float* hopping, const float* barrier, float* s, float* a, u32 n) {
    u32 i = thread_index();
    if (i >= n) return;
    float x = sigmoid_(hopping[i]);
    s[i] = x;
    a[i] = 1.0f + x * x + softplus_(barrier[i]);
}

// The Moebius map of a chain's ratios; see the resolvent. A thread a chain.
KERNEL propagator_compose(const float* s, const float* a, const float* eta, Moebius* maps, u32 chains, u32 heads, Cut cut) {
    u32 index = thread_index();
    if (index >= chains) return;
    Stretch stretch(index / heads, cut);
    Chain chain(stretch.token, index % heads, heads);
    float shift = eta[index % heads];
    Moebius map = IDENTITY_MAP;
    #pragma unroll 4
    for (u32 t = 0; t < stretch.length; t++) {
        float st = s[chain.narrow(t)];
        map.step({a[chain.narrow(t)], -shift}, st * st);
        if (t % RESCALE_STEPS == RESCALE_STEPS - 1) map.rescale();
    }
    maps[index] = map;
}

// The affine map of a chain's waves, from the ratio before it. A thread a chain.
KERNEL propagator_compose_waves(
    const float* s, const float* a, const float* source, const float* eta, const float* states, Affine* maps,
    u32 chains, u32 heads, Cut cut) {
    u32 index = thread_index();
    if (index >= chains) return;
    Stretch stretch(index / heads, cut);
    Chain chain(stretch.token, index % heads, heads);
    float shift = eta[index % heads];
    Complex g = Chain(index / heads, index % heads, heads).at(states, 0);
    Complex slope = {1.0f, 0.0f}, constant = {0.0f, 0.0f};
    #pragma unroll 4
    for (u32 t = 0; t < stretch.length; t++) {
        float st = s[chain.narrow(t)], s2 = st * st;
        g = reciprocal(a[chain.narrow(t)] - s2 * g.re, -shift - s2 * g.im);
        constant = times(g, plus(scaled(1.0f - st, chain.at(source, t)), scaled(st, constant)));
        slope = times(g, scaled(st, slope));
    }
    maps[index] = {slope, constant};
}

// `states` and `wave_states` may be null: sequences of one stretch then begin with zero.
// `waves_after` and `ratios_after` get the last values, [sequences, 2 H], unless they are null.
KERNEL propagator_forward(
    const float* s, const float* a, const float* source, const float* eta, const float* states,
    const float* wave_states, float* waves, float* ratios, float* waves_after, float* ratios_after, u32 heads,
    Cut cut) {
    Stretch stretch(blockIdx.y, cut);
    u32 own = min(blockIdx.x * 32 + threadIdx.x % 32, heads - 1);
    float shift = eta[own];
    Complex g = {0.0f, 0.0f}, psi = {0.0f, 0.0f};
    if (states) {
        g = Chain(blockIdx.y, own, heads).at(states, 0);
        psi = Chain(blockIdx.y, own, heads).at(wave_states, 0);
    }
    along_chains<4, 4, 16>(
        heads, stretch.length, false,
        [=](u32 t, u32 head, float (&x)[4]) {
            Chain chain(stretch.token, head, heads);
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
            Chain chain(stretch.token, head, heads);
            chain.put(waves, t, {y[0], y[1]});
            chain.put(ratios, t, {y[2], y[3]});
        });
    if (waves_after && stretch.ends_sequence(cut) && threadIdx.x < 32 && blockIdx.x * 32 + threadIdx.x < heads) {
        Chain after(blockIdx.y / cut.count, own, heads);
        after.put(waves_after, 0, psi);
        after.put(ratios_after, 0, g);
    }
}

// The map of a stretch for both carries: psi -> psi_slope psi + psi_constant, and
// g -> g_slope g + cross psi + g_constant.
struct BackwardMap {
    Complex psi_slope, psi_constant, g_slope, cross, g_constant;
};

// A thread a chain. Nothing reads the map of a sequence's first stretch, so the state before it does not
// matter.
KERNEL propagator_compose_backward(
    const float* s, const float* source, const float* waves, const float* ratios, const float* gradient,
    BackwardMap* maps, u32 chains, u32 heads, Cut cut) {
    u32 index = thread_index();
    if (index >= chains) return;
    Stretch stretch(index / heads, cut);
    Chain chain(stretch.token, index % heads, heads);
    Complex zero = {0.0f, 0.0f}, one = {1.0f, 0.0f};
    BackwardMap map = {one, zero, one, zero, zero};
    #pragma unroll 2
    for (u32 t = stretch.length; t-- > 0;) {
        Complex g = chain.at(ratios, t);
        Complex psi_before = stretch.begin + t > 0 ? chain.at(waves, t - 1) : zero;
        float st = s[chain.narrow(t)];
        Complex q = plus(scaled(1.0f - st, chain.at(source, t)), scaled(st, psi_before));
        Complex dpsi = plus(chain.at(gradient, t), map.psi_constant), square = scaled(st * st, times(g, g));
        map.g_constant = conjugate_times(square, plus(conjugate_times(q, dpsi), map.g_constant));
        map.cross = conjugate_times(square, plus(conjugate_times(q, map.psi_slope), map.cross));
        map.g_slope = conjugate_times(square, map.g_slope);
        map.psi_constant = scaled(st, conjugate_times(g, dpsi));
        map.psi_slope = scaled(st, conjugate_times(g, map.psi_slope));
    }
    maps[index] = map;
}

// The carries after each stretch. A thread a head of a sequence.
KERNEL propagator_scan_backward(
    const BackwardMap* maps, float* psi_carries, float* g_carries, u32 chains, u32 heads, u32 count) {
    u32 index = thread_index();
    if (index >= chains) return;
    u32 first = index / heads * count;
    Complex psi = {0.0f, 0.0f}, g = {0.0f, 0.0f};
    for (u32 stretch = first + count; stretch-- > first;) {
        Chain chain(stretch, index % heads, heads);
        chain.put(psi_carries, 0, psi);
        chain.put(g_carries, 0, g);
        BackwardMap map = maps[stretch * heads + index % heads];
        g = plus(plus(times(map.g_slope, g), times(map.cross, psi)), map.g_constant);
        psi = plus(times(map.psi_slope, psi), map.psi_constant);
    }
}

// `dbarrier` still lacks the derivative of its nonlinearity. The carries may be null, and so may
// `waves_before` and `ratios_before`: sequences then begin with zero.
KERNEL propagator_backward(
    const float* s, const float* source, const float* waves, const float* ratios, const float* gradient,
    const float* psi_carries, const float* g_carries, const float* waves_before, const float* ratios_before,
    float* dhopping, float* dbarrier, float* dsource, float* deta, u32 heads, Cut cut) {
    Stretch stretch(blockIdx.y, cut);
    float eta_sum = 0.0f;
    Complex psi_back = {0.0f, 0.0f}, g_back = {0.0f, 0.0f};
    if (psi_carries) {
        Chain chain(blockIdx.y, min(blockIdx.x * 32 + threadIdx.x % 32, heads - 1), heads);
        psi_back = chain.at(psi_carries, 0);
        g_back = chain.at(g_carries, 0);
    }
    along_chains<11, 4, 8>(
        heads, stretch.length, true,
        [=](u32 t, u32 head, float (&x)[11]) {
            Chain chain(stretch.token, head, heads);
            Complex u = chain.at(source, t), d = chain.at(gradient, t), g = chain.at(ratios, t);
            Complex psi_before = {0.0f, 0.0f}, g_before = {0.0f, 0.0f};
            if (stretch.begin + t > 0) {
                psi_before = chain.at(waves, t - 1);
                g_before = chain.at(ratios, t - 1);
            } else if (waves_before) {
                Chain before(blockIdx.y / cut.count, head, heads);
                psi_before = before.at(waves_before, 0);
                g_before = before.at(ratios_before, 0);
            }
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
            Complex dq = conjugate_times(g, dpsi), dg = plus(conjugate_times(q, dpsi), g_back);
            Complex dd = scaled(-1.0f, conjugate_times(times(g, g), dg));
            float ds = psi_before.re * dq.re + psi_before.im * dq.im;
            ds -= 2.0f * st * (g_before.re * dd.re + g_before.im * dd.im);
            ds += 2.0f * st * dd.re;
            ds -= u.re * dq.re + u.im * dq.im;
            eta_sum -= dd.im;
            y[0] = st * (1.0f - st) * ds;
            y[1] = dd.re;
            y[2] = (1.0f - st) * dq.re;
            y[3] = (1.0f - st) * dq.im;
            psi_back = scaled(st, dq);
            g_back = scaled(-s2, dd);
        },
        [=](u32 t, u32 head, const float (&y)[4]) {
            Chain chain(stretch.token, head, heads);
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
