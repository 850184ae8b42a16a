// Elementwise operations; equations in mod.rs.

KERNEL exp_forward(const float* x, float* y, u32 n) {
    u32 i = thread_index();
    if (i < n) y[i] = exp_(x[i]);
}

KERNEL exp_backward(const float* y, const float* dy, float* dx, u32 n) {
    u32 i = thread_index();
    if (i < n) dx[i] = dy[i] * y[i];
}

KERNEL clamp_forward(const float* x, float* y, float bound, u32 n) {
    u32 i = thread_index();
    if (i < n) y[i] = fminf(fmaxf(x[i], -bound), bound);
}

KERNEL clamp_backward(const float* x, const float* dy, float* dx, float bound, u32 n) {
    u32 i = thread_index();
    if (i < n) dx[i] = fabsf(x[i]) <= bound ? dy[i] : 0.0f;
}

KERNEL gumbel_forward(const float* x, float* y, float scale, const StepNumbers* step, u64 first, u32 n) {
    u32 i = thread_index();
    if (i >= n) return;
    float u = (float)(stream_word(step->seed, first + i) >> 40) / 16777216.0f;
    u = fminf(fmaxf(u, 1e-7f), 1.0f - 1e-7f);
    y[i] = x[i] + -logf(-logf(u)) * scale;
}

KERNEL silu_gate_forward(const float* y, const float* gate, float* z, u32 n) {
    u32 i = thread_index();
    if (i < n) z[i] = y[i] * (gate[i] * sigmoid_(gate[i]));
}

KERNEL silu_gate_backward(
    const float* y, const float* gate, const float* dz, float* dy, float* dgate, u32 n) {
    u32 i = thread_index();
    if (i >= n) return;
    float g = dz[i], x = gate[i], s = sigmoid_(x);
    dy[i] = g * x * s;
    dgate[i] = g * y[i] * (s + x * s * (1.0f - s));
}
