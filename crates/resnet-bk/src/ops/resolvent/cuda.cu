// The resolvent's diagonal; equations in mod.rs. A chain is a head of a sequence. In the
// bidirectional form, a thread runs along a chain.

KERNEL resolvent_causal_forward(
    const float* v, const float* diagonal, const float* hopping, const float* eta, float* features, u32 heads,
    u32 length) {
    u32 own = min(blockIdx.x * 32 + threadIdx.x % 32, heads - 1);
    float a0 = diagonal[own], s2 = hopping[own] * hopping[own], shift = eta[own];
    Complex g = {0.0f, 0.0f};
    along_chains<1, 2, 16>(
        heads, length, false,
        [=](u32 t, u32 head, float (&x)[1]) { x[0] = v[Chain(blockIdx.y, head, heads, length).narrow(t)]; },
        [&](const float (&x)[1], float (&y)[2]) {
            g = reciprocal(a0 + x[0] - s2 * g.re, -shift - s2 * g.im);
            y[0] = g.re;
            y[1] = g.im;
        },
        [=](u32 t, u32 head, const float (&y)[2]) {
            Chain(blockIdx.y, head, heads, length).put(features, t, {y[0], y[1]});
        });
}

KERNEL resolvent_causal_backward(
    const float* hopping, const float* features, const float* gradient, float* dv, float* deta, u32 heads,
    u32 length) {
    u32 own = min(blockIdx.x * 32 + threadIdx.x % 32, heads - 1);
    float s2 = hopping[own] * hopping[own], eta_sum = 0.0f;
    Complex carry = {0.0f, 0.0f};
    along_chains<4, 1, 16>(
        heads, length, true,
        [=](u32 t, u32 head, float (&x)[4]) {
            Chain chain(blockIdx.y, head, heads, length);
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
            carry = {s2 * m.re, s2 * m.im};
        },
        [=](u32 t, u32 head, const float (&y)[1]) { dv[Chain(blockIdx.y, head, heads, length).narrow(t)] = y[0]; });
    if (threadIdx.x < 32 && blockIdx.x * 32 + threadIdx.x < heads) deta[blockIdx.y * heads + own] = eta_sum;
}

// `right` is scratch for the right ratios, [B, T, 2H].
KERNEL resolvent_whole_forward(
    const float* v, const float* diagonal, const float* hopping, const float* eta, float* right, float* features,
    u32 chains, u32 heads, u32 length) {
    u32 index = thread_index();
    if (index >= chains) return;
    Chain chain(index / heads, index % heads, heads, length);
    float a0 = diagonal[chain.head], s2 = hopping[chain.head] * hopping[chain.head], shift = eta[chain.head];
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
    Chain chain(index / heads, index % heads, heads, length);
    float a0 = diagonal[chain.head], s2 = hopping[chain.head] * hopping[chain.head], shift = eta[chain.head];
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
