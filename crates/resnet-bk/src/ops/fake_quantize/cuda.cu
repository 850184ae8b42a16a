// Fake quantization of activations; equations in mod.rs. `channels` scales, repeated over the rows.

KERNEL quantize_activation_forward(
    const float* x, const float* scales, float* y, float qmax, u32 channels, u32 n) {
    u32 i = thread_index();
    if (i >= n) return;
    float scale = scales[i % channels];
    y[i] = nearest_code(x[i], scale, qmax) * scale + 0.0f;
}

KERNEL quantize_activation_backward(
    const float* x, const float* scales, const float* dy, float* dx, float qmax, u32 channels, u32 n) {
    u32 i = thread_index();
    if (i < n) dx[i] = fabsf(x[i]) <= (qmax + 0.5f) * scales[i % channels] ? dy[i] : 0.0f;
}
