// The output of a diagonal block; equations in mod.rs. `mixed` is c W + b.

KERNEL mix_features_forward(
    const float* x, const float* ffn, const float* mixed, const float* scale, float* y, u32 n) {
    u32 i = thread_index();
    if (i < n) y[i] = x[i] + (ffn[i] + mixed[i] * scale[0]);
}

// dy scaled, and the gradient of the scale.
KERNEL mix_features_backward(
    const float* dy, const float* mixed, const float* scale, float* scaled, float* dscale, u32 n, double* partial,
    u32* counter) {
    sum_all(
        [=](u32 i) {
            scaled[i] = dy[i] * scale[0];
            return mixed[i] * dy[i];
        },
        n, partial, counter, [=](double total) { dscale[0] = (float)total; });
}
