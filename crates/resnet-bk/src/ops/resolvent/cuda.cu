// The resolvent's diagonal; equations in mod.rs. A chain is a head of a stretch of a sequence.
//
// A step along a chain is a Moebius map of the ratio before, and backward an affine map of the carry
// from later positions. So the stretches of a long sequence run beside each other: their maps are
// composed first, then a scan over the maps gives the state at the begin (or end) of each.

// The map of a stretch: g -> (n_g g + n_1) / (d_g g + d_1), up to a common factor.
struct Moebius {
    Complex n_g, n_1, d_g, d_1;

    __device__ void step(Complex a, float s2) {
        Complex g = plus(times(a, d_g), scaled(-s2, n_g)), one = plus(times(a, d_1), scaled(-s2, n_1));
        n_g = d_g;
        n_1 = d_1;
        d_g = g;
        d_1 = one;
    }
    __device__ void rescale() {
        float most = fmaxf(fmaxf(fabsf(d_g.re), fabsf(d_g.im)), fmaxf(fabsf(d_1.re), fabsf(d_1.im)));
        most = fmaxf(most, fmaxf(fmaxf(fabsf(n_g.re), fabsf(n_g.im)), fmaxf(fabsf(n_1.re), fabsf(n_1.im))));
        float factor = most > 0.0f ? 1.0f / most : 1.0f;
        n_g = scaled(factor, n_g);
        n_1 = scaled(factor, n_1);
        d_g = scaled(factor, d_g);
        d_1 = scaled(factor, d_1);
    }
    // In double precision: numerator and denominator can nearly cancel.
    __device__ Complex apply(Complex g) const {
        double n_re = (double)n_g.re * g.re - (double)n_g.im * g.im + n_1.re;
        double n_im = (double)n_g.re * g.im + (double)n_g.im * g.re + n_1.im;
        double d_re = (double)d_g.re * g.re - (double)d_g.im * g.im + d_1.re;
        double d_im = (double)d_g.re * g.im + (double)d_g.im * g.re + d_1.im;
        double size = fmax(d_re * d_re + d_im * d_im, 2.2e-308);
        return {(float)((n_re * d_re + n_im * d_im) / size), (float)((n_im * d_re - n_re * d_im) / size)};
    }
};

#define IDENTITY_MAP {{1.0f, 0.0f}, {0.0f, 0.0f}, {0.0f, 0.0f}, {1.0f, 0.0f}}
#define RESCALE_STEPS 4

// A thread a chain.
KERNEL resolvent_compose(
    const float* v, const float* diagonal, const float* hopping, const float* eta, Moebius* maps, u32 chains,
    u32 heads, Cut cut) {
    u32 index = thread_index();
    if (index >= chains) return;
    u32 head = index % heads;
    Stretch stretch(index / heads, cut);
    Chain chain(stretch.token, head, heads);
    float a0 = diagonal[head], s2 = hopping[head] * hopping[head], shift = eta[head];
    Moebius map = IDENTITY_MAP;
    #pragma unroll 4
    for (u32 t = 0; t < stretch.length; t++) {
        map.step({a0 + v[chain.narrow(t)], -shift}, s2);
        if (t % RESCALE_STEPS == RESCALE_STEPS - 1) map.rescale();
    }
    maps[index] = map;
}

// The ratio before each stretch: [sequences, stretches, 2 H]. `before` has those before the sequences,
// [sequences, 2 H]; if it is null, they are zero. A thread a head of a sequence.
KERNEL moebius_scan(
    const Moebius* maps, const float* before, float* states, u32 chains, u32 heads, u32 count) {
    u32 index = thread_index();
    if (index >= chains) return;
    u32 first = index / heads * count;
    Complex g = {0.0f, 0.0f};
    if (before) g = Chain(index / heads, index % heads, heads).at(before, 0);
    for (u32 stretch = 0; stretch < count; stretch++) {
        Chain(first + stretch, index % heads, heads).put(states, 0, g);
        g = maps[(first + stretch) * heads + index % heads].apply(g);
    }
}

// `states` may be null: sequences of one stretch then begin with zero. `after` gets the last ratios,
// [sequences, 2 H], unless it is null.
KERNEL resolvent_causal_forward(
    const float* v, const float* diagonal, const float* hopping, const float* eta, const float* states,
    float* features, float* after, u32 heads, Cut cut) {
    Stretch stretch(blockIdx.y, cut);
    u32 own = min(blockIdx.x * 32 + threadIdx.x % 32, heads - 1);
    float a0 = diagonal[own], s2 = hopping[own] * hopping[own], shift = eta[own];
    Complex g = {0.0f, 0.0f};
    if (states) g = Chain(blockIdx.y, own, heads).at(states, 0);
    along_chains<1, 2, 16>(
        heads, stretch.length, false,
        [=](u32 t, u32 head, float (&x)[1]) { x[0] = v[Chain(stretch.token, head, heads).narrow(t)]; },
        [&](const float (&x)[1], float (&y)[2]) {
            g = reciprocal(a0 + x[0] - s2 * g.re, -shift - s2 * g.im);
            y[0] = g.re;
            y[1] = g.im;
        },
        [=](u32 t, u32 head, const float (&y)[2]) { Chain(stretch.token, head, heads).put(features, t, {y[0], y[1]}); });
    if (after && stretch.ends_sequence(cut) && threadIdx.x < 32 && blockIdx.x * 32 + threadIdx.x < heads) {
        Chain(blockIdx.y / cut.count, own, heads).put(after, 0, g);
    }
}

// The map of a stretch: carry -> slope carry + constant.
struct Affine {
    Complex slope, constant;
};

// A thread a chain.
KERNEL resolvent_compose_backward(
    const float* hopping, const float* features, const float* gradient, Affine* maps, u32 chains, u32 heads, Cut cut) {
    u32 index = thread_index();
    if (index >= chains) return;
    u32 head = index % heads;
    Stretch stretch(index / heads, cut);
    Chain chain(stretch.token, head, heads);
    float s2 = hopping[head] * hopping[head];
    Complex slope = {1.0f, 0.0f}, constant = {0.0f, 0.0f};
    #pragma unroll 4
    for (u32 t = stretch.length; t-- > 0;) {
        Complex g = chain.at(features, t), u = chain.at(gradient, t), square = scaled(s2, times(g, g));
        constant = times({u.re + constant.re, constant.im - u.im}, square);
        slope = times(slope, square);
    }
    maps[index] = {slope, constant};
}

// The carry before each stretch, or after it if the maps lead backward: [sequences, stretches, 2 H].
// `before` as for moebius_scan. A thread a head of a sequence.
KERNEL affine_scan(
    const Affine* maps, const float* before, float* carries, u32 chains, u32 heads, u32 count, u32 backward) {
    u32 index = thread_index();
    if (index >= chains) return;
    u32 first = index / heads * count;
    Complex carry = {0.0f, 0.0f};
    if (before) carry = Chain(index / heads, index % heads, heads).at(before, 0);
    for (u32 i = 0; i < count; i++) {
        u32 stretch = first + (backward ? count - 1 - i : i);
        Chain(stretch, index % heads, heads).put(carries, 0, carry);
        Affine map = maps[stretch * heads + index % heads];
        carry = plus(times(map.slope, carry), map.constant);
    }
}

// `carries` may be null.
KERNEL resolvent_causal_backward(
    const float* hopping, const float* features, const float* gradient, const float* carries, float* dv, float* deta,
    u32 heads, Cut cut) {
    Stretch stretch(blockIdx.y, cut);
    u32 own = min(blockIdx.x * 32 + threadIdx.x % 32, heads - 1);
    float s2 = hopping[own] * hopping[own], eta_sum = 0.0f;
    Complex carry = {0.0f, 0.0f};
    if (carries) carry = Chain(blockIdx.y, own, heads).at(carries, 0);
    along_chains<4, 1, 16>(
        heads, stretch.length, true,
        [=](u32 t, u32 head, float (&x)[4]) {
            Chain chain(stretch.token, head, heads);
            Complex g = chain.at(features, t), u = chain.at(gradient, t);
            x[0] = g.re;
            x[1] = g.im;
            x[2] = u.re;
            x[3] = u.im;
        },
        [&](const float (&x)[4], float (&y)[1]) {
            Complex g = {x[0], x[1]}, m = times({x[2] + carry.re, carry.im - x[3]}, times(g, g));
            y[0] = -m.re;
            eta_sum -= m.im;
            carry = scaled(s2, m);
        },
        [=](u32 t, u32 head, const float (&y)[1]) { dv[Chain(stretch.token, head, heads).narrow(t)] = y[0]; });
    if (threadIdx.x < 32 && blockIdx.x * 32 + threadIdx.x < heads) deta[blockIdx.y * heads + own] = eta_sum;
}

// The bidirectional form: a thread a head of a sequence. `right` is scratch for the right ratios,
// [B, T, 2H].
KERNEL resolvent_whole_forward(
    const float* v, const float* diagonal, const float* hopping, const float* eta, float* right, float* features,
    u32 chains, u32 heads, u32 length) {
    u32 index = thread_index();
    if (index >= chains) return;
    Chain chain(index / heads * length, index % heads, heads);
    float a0 = diagonal[index % heads], s2 = hopping[index % heads] * hopping[index % heads], shift = eta[index % heads];
    Complex h = {0.0f, 0.0f};
    for (u32 t = length; t-- > 0;) {
        h = reciprocal(a0 + v[chain.narrow(t)] - s2 * h.re, -shift - s2 * h.im);
        chain.put(right, t, h);
    }
    Complex g = {0.0f, 0.0f};
    for (u32 t = 0; t < length; t++) {
        float a = a0 + v[chain.narrow(t)];
        Complex next = t + 1 < length ? chain.at(right, t + 1) : Complex{0.0f, 0.0f};
        Complex both = {g.re + next.re, g.im + next.im};
        chain.put(features, t, reciprocal(a - s2 * both.re, -shift - s2 * both.im));
        g = reciprocal(a - s2 * g.re, -shift - s2 * g.im);
    }
}

// `left` and `right` are scratch for the ratios, [B, T, 2H].
KERNEL resolvent_whole_backward(
    const float* v, const float* diagonal, const float* hopping, const float* eta, const float* features,
    const float* gradient, float* left, float* right, float* dv, float* deta, u32 chains, u32 heads, u32 length) {
    u32 index = thread_index();
    if (index >= chains) return;
    Chain chain(index / heads * length, index % heads, heads);
    float a0 = diagonal[index % heads], s2 = hopping[index % heads] * hopping[index % heads], shift = eta[index % heads];
    Complex ratio = {0.0f, 0.0f};
    for (u32 t = length; t-- > 0;) {
        ratio = reciprocal(a0 + v[chain.narrow(t)] - s2 * ratio.re, -shift - s2 * ratio.im);
        chain.put(right, t, ratio);
    }
    ratio = {0.0f, 0.0f};
    for (u32 t = 0; t < length; t++) {
        ratio = reciprocal(a0 + v[chain.narrow(t)] - s2 * ratio.re, -shift - s2 * ratio.im);
        chain.put(left, t, ratio);
    }
    float eta_sum = 0.0f;
    Complex sent = {0.0f, 0.0f};
    for (u32 t = 0; t < length; t++) {
        dv[chain.narrow(t)] = -sent.re;
        eta_sum -= sent.im;
        Complex g = chain.at(features, t), u = chain.at(gradient, t);
        Complex w = times({u.re, -u.im}, times(g, g));
        if (t + 1 < length) {
            Complex next = chain.at(right, t + 1);
            Complex x = times(times(next, next), {w.re + sent.re, w.im + sent.im});
            sent = {s2 * x.re, s2 * x.im};
        }
    }
    Complex b = {0.0f, 0.0f};
    for (u32 t = length; t-- > 0;) {
        Complex g = chain.at(features, t), u = chain.at(gradient, t), own = chain.at(left, t);
        Complex w = times({u.re, -u.im}, times(g, g)), x = times(times(own, own), b);
        b = {w.re + s2 * x.re, w.im + s2 * x.im};
        dv[chain.narrow(t)] -= b.re;
        eta_sum -= b.im;
    }
    deta[index] = eta_sum;
}

// One thread a number of dv.
KERNEL resolvent_blended_backward(
    const float* features, const float* gradient, float* dv, float blend, u32 n, u32 heads) {
    u32 i = thread_index();
    if (i >= n) return;
    size_t wide = (size_t)(i / heads) * 2 * heads + i % heads;
    Complex g = {features[wide], features[wide + heads]}, u = {gradient[wide], gradient[wide + heads]};
    Complex square = times(g, g);
    float size = square.re * square.re + square.im * square.im;
    Complex inverse = {square.re / size, -square.im / size};
    dv[i] = -(1.0f - blend) * times(u, square).re - blend * times(u, inverse).re;
}
