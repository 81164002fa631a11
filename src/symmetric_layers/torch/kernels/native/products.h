// Multiplying and adding: sums of a few pixels and representatives that stay in registers.

#pragma once
#include "folds.h"

namespace {

enum { CHUNK = 512 };  // inputs times taps that are multiplied in one go: their weights come from the second cache in order

struct Operands {
    const Slot *slots;
    int count;
    int64_t first, inputs;  // of every slot
    const float *weights;
    bool fresh;             // nothing was summed before
};

// K: how many inputs there are, if few and fresh, so that all of a slot is known beforehand; otherwise 0.
template <int R, int C, int K = 0>
__attribute__((noinline)) void multiply(const Operands &o, const Tile &tile, int64_t pixel, float *sums) {
    Vector sum[R][C];
    for (int r = 0; r < R; r++)
        for (int c = 0; c < C; c++) sum[r][c] = K || o.fresh ? Vector{} : load(sums + r * WIDTH + c * LANES);
    const float *weights = o.weights;
    for (int s = 0; s < o.count; s++) {
        const Slot &slot = o.slots[s];
        const float *base = (slot.direct ? tile.regions : tile.planes) + slot.offset + o.first;
        const int32_t *at = (slot.direct ? tile.region_at : tile.plane_at) + pixel;
        const float *from[R];
        for (int r = 0; r < R; r++) from[r] = base + at[r];
#pragma GCC unroll 4
        for (int64_t k = 0; k < (K ? K : o.inputs); k++, weights += WIDTH) {
            Vector w[C];
            for (int c = 0; c < C; c++) w[c] = load(weights + c * LANES);
            for (int r = 0; r < R; r++) {
                Vector x = splat(from[r][k]);
                for (int c = 0; c < C; c++) sum[r][c] += w[c] * x;
            }
        }
    }
    for (int r = 0; r < R; r++)
        for (int c = 0; c < C; c++) store(sums + r * WIDTH + c * LANES, sum[r][c]);
}

// One vector of representatives leaves room for more pixels, which the multipliers need to stay busy.
const int NARROW_ROWS = 8;

template <int R, int C> inline void multiply_few(const Operands &o, const Tile &tile, int64_t pixel, float *sums) {
    switch (o.inputs) {
    case 1: return multiply<R, C, 1>(o, tile, pixel, sums);
    case 2: return multiply<R, C, 2>(o, tile, pixel, sums);
    case 3: return multiply<R, C, 3>(o, tile, pixel, sums);
    default: return multiply<R, C, FEW>(o, tile, pixel, sums);
    }
}

template <int C> inline void multiply_rows(int64_t rows, const Operands &o, const Tile &tile, int64_t pixel, float *sums) {
    const int MOST = C == 1 ? NARROW_ROWS : (int)ROWS;
    if (rows == MOST && o.inputs <= FEW && o.fresh) return multiply_few<MOST, C>(o, tile, pixel, sums);
    switch (rows) {
    case 1: return multiply<1, C>(o, tile, pixel, sums);
    case 2: return multiply<2, C>(o, tile, pixel, sums);
    case 3: return multiply<3, C>(o, tile, pixel, sums);
    case 4: return multiply<4, C>(o, tile, pixel, sums);
    case 5: return multiply<5, C>(o, tile, pixel, sums);
    case 6: return multiply<6, C>(o, tile, pixel, sums);
    case 7: return multiply<7, C>(o, tile, pixel, sums);
    default: return multiply<MOST, C>(o, tile, pixel, sums);
    }
}

// Some pixels of a tile, one block of outputs, the slots of one group; piece by piece, in the same order everywhere.
inline void multiply_group(const Program &p, const Tile &tile, Run pixels, int group, int64_t block, const float *packed,
                           float *sums) {
    const Task &t = p.task;
    const float *weights = packed + block * p.slot_count * t.inputs * WIDTH;
    bool narrow = t.outputs - block * WIDTH <= LANES;
    int64_t piece = up(t.inputs, up(t.inputs, CHUNK)), together = most(CHUNK / t.inputs, 1);
    Operands o = {nullptr, 0, 0, 0, nullptr, true};
    if (p.start[group] == p.start[group + 1])  // filters of one tap are even: nothing is odd
        memset(sums, 0, sizeof(float) * (pixels.to - pixels.from) * WIDTH);
    for (int s = p.start[group]; s < p.start[group + 1]; s += o.count) {
        o.slots = p.slots + s;
        o.count = (int)least(together, p.start[group + 1] - s);
        for (o.first = 0; o.first < t.inputs; o.first += piece, o.fresh = false) {
            o.inputs = least(piece, t.inputs - o.first);
            o.weights = weights + (s * t.inputs + o.first) * WIDTH;
            Run run = o.fresh || o.count > 1 ? pixels : both(pixels, inside(p, tile, *o.slots));
            each_group(run.to - run.from, narrow ? NARROW_ROWS : (int)ROWS, [&](int64_t at, int64_t rows) {
                float *own = sums + (run.from + at - pixels.from) * WIDTH;
                narrow ? multiply_rows<1>(rows, o, tile, run.from + at, own)
                       : multiply_rows<2>(rows, o, tile, run.from + at, own);
            });
        }
    }
}

// --- Gradients of the weights: sums over the pixels of a tile ---------------------------------------------------------

template <int R, int C>
__attribute__((noinline)) void outer(const float *from, const int32_t *at, int64_t pixels, const float *gradients, int64_t padded, float *sums) {
    Vector sum[R][C];
    for (int r = 0; r < R; r++)
        for (int c = 0; c < C; c++) sum[r][c] = load(sums + r * padded + c * LANES);
    for (int64_t pixel = 0; pixel < pixels; pixel++, gradients += padded) {
        const float *x = from + at[pixel];
        Vector g[C];
        for (int c = 0; c < C; c++) g[c] = load(gradients + c * LANES);
        for (int r = 0; r < R; r++) {
            Vector one = splat(x[r]);
            for (int c = 0; c < C; c++) sum[r][c] += g[c] * one;
        }
    }
    for (int r = 0; r < R; r++)
        for (int c = 0; c < C; c++) store(sums + r * padded + c * LANES, sum[r][c]);
}

template <int C>
inline void outer_rows(int64_t rows, const float *from, const int32_t *at, int64_t pixels, const float *gradients,
                       int64_t padded, float *sums) {
    switch (rows) {
    case 1: return outer<1, C>(from, at, pixels, gradients, padded, sums);
    case 2: return outer<2, C>(from, at, pixels, gradients, padded, sums);
    case 3: return outer<3, C>(from, at, pixels, gradients, padded, sums);
    case 4: return outer<4, C>(from, at, pixels, gradients, padded, sums);
    case 5: return outer<5, C>(from, at, pixels, gradients, padded, sums);
    case 6: return outer<6, C>(from, at, pixels, gradients, padded, sums);
    default: return outer<ROWS, C>(from, at, pixels, gradients, padded, sums);
    }
}

// Adds the products of a tile's planes and gradients [group][pixel][padded] to sums [slot][input][padded].
inline void outer_products(const Program &p, const Tile &tile, const float *gradients, int64_t group_pitch,
                           int64_t padded, float *sums) {
    const Task &t = p.task;
    for (int group = 0; group < p.groups; group++)
        for (int s = p.start[group]; s < p.start[group + 1]; s++) {
            const Slot &slot = p.slots[s];
            const float *from = (slot.direct ? tile.regions : tile.planes) + slot.offset;
            const int32_t *at = slot.direct ? tile.region_at : tile.plane_at;
            Run run = inside(p, tile, slot);
            int64_t pixels = run.to - run.from;
            for (int64_t n = 0; n < padded; n += WIDTH)
                each_group(t.inputs, ROWS, [&](int64_t k, int64_t rows) {
                    const float *g = gradients + group * group_pitch + run.from * padded + n;
                    float *to = sums + (s * t.inputs + k) * padded + n;
                    padded - n <= LANES ? outer_rows<1>(rows, from + k, at + run.from, pixels, g, padded, to)
                                        : outer_rows<2>(rows, from + k, at + run.from, pixels, g, padded, to);
                });
        }
}

}  // namespace
