// Dropout, alone and in a residual connection; equations in mod.rs. Without a mask, threshold is 0 and keep 1.

KERNEL add_dropped_forward(
    const float* x, const float* y, float* z, const StepNumbers* step, u64 draw, u32 threshold, float keep, u64 first,
    u32 n) {
    u32 i = thread_index();
    if (i < n) z[i] = y[i] * dropout(stream_word(step->seed, draw), threshold, keep, first + i) + x[i];
}

KERNEL drop(
    const float* x, float* y, const StepNumbers* step, u64 draw, u32 threshold, float keep, u64 first, u32 n) {
    u32 i = thread_index();
    if (i < n) y[i] = x[i] * dropout(stream_word(step->seed, draw), threshold, keep, first + i);
}
