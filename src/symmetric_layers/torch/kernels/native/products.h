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

// K: how many inputs there are, if few and fresh, so that all of a slot is known beforehand; otherwise 0. PAIRED: two
// inputs share the vectors.
template <int R, int C, int K = 0, bool PAIRED = false>
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
        for (int64_t k = 0; k < (K ? K : o.inputs); k += PAIRED ? 2 : 1, weights += WIDTH) {
            Vector w[C];
            for (int c = 0; c < C; c++) w[c] = load(weights + c * LANES);
            for (int r = 0; r < R; r++) {
                Vector x = PAIRED ? splat_pair(from[r] + k) : splat(from[r][k]);
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

template <int C, bool PAIRED = false>
inline void multiply_rows(int64_t rows, const Operands &o, const Tile &tile, int64_t pixel, float *sums) {
    const int MOST = C == 1 ? NARROW_ROWS : (int)ROWS;
    if (!PAIRED && rows == MOST && o.inputs <= FEW && o.fresh) return multiply_few<MOST, C>(o, tile, pixel, sums);
    switch (rows) {
    case 1: return multiply<1, C, 0, PAIRED>(o, tile, pixel, sums);
    case 2: return multiply<2, C, 0, PAIRED>(o, tile, pixel, sums);
    case 3: return multiply<3, C, 0, PAIRED>(o, tile, pixel, sums);
    case 4: return multiply<4, C, 0, PAIRED>(o, tile, pixel, sums);
    case 5: return multiply<5, C, 0, PAIRED>(o, tile, pixel, sums);
    case 6: return multiply<6, C, 0, PAIRED>(o, tile, pixel, sums);
    case 7: return multiply<7, C, 0, PAIRED>(o, tile, pixel, sums);
    default: return multiply<MOST, C, 0, PAIRED>(o, tile, pixel, sums);
    }
}

// What was summed apart for paired inputs, for some pixels.
inline void join_pairs(int64_t pixels, float *sums) {
    for (float *end = sums + pixels * WIDTH; sums != end; sums += WIDTH) {
        Vector first = load(sums), second = load(sums + LANES);
        store(sums, even(first, second) + odd(first, second));
    }
}

// Some pixels of a tile, one block of outputs, the slots of one group; piece by piece, in the same order everywhere.
inline void multiply_group(const Program &p, const Tile &tile, Run pixels, int group, int64_t block, const float *packed,
                           float *sums) {
    const Task &t = p.task;
    const float *weights = packed + block * p.slot_count * t.inputs * WIDTH;
    bool paired = p.is_paired(block), narrow = p.is_narrow(block) && !paired;
    auto work = paired ? multiply_rows<COLUMNS, true> : narrow ? multiply_rows<1> : multiply_rows<2>;
    int64_t step = paired ? 2 : 1, together = most(CHUNK / t.inputs, 1);
    int64_t piece = up(up(t.inputs, up(t.inputs, CHUNK)), step) * step;
    Operands o = {nullptr, 0, 0, 0, nullptr, true};
    if (p.start[group] == p.start[group + 1])  // filters of one tap are even: nothing is odd
        memset(sums, 0, sizeof(float) * (pixels.to - pixels.from) * WIDTH);
    for (int s = p.start[group]; s < p.start[group + 1]; s += o.count) {
        o.slots = p.slots + s;
        o.count = (int)least(together, p.start[group + 1] - s);
        for (o.first = 0; o.first < t.inputs; o.first += piece, o.fresh = false) {
            o.inputs = least(piece, t.inputs - o.first);
            o.weights = weights + (s * t.inputs + o.first) * (paired ? WIDTH / 2 : (int)WIDTH);
            Run run = o.fresh || o.count > 1 ? pixels : both(pixels, inside(p, tile, *o.slots));
            each_group(run.to - run.from, narrow ? NARROW_ROWS : (int)ROWS, [&](int64_t at, int64_t rows) {
                work(rows, o, tile, run.from + at, sums + (run.from + at - pixels.from) * WIDTH);
            });
        }
    }
    if (paired) join_pairs(pixels.to - pixels.from, sums);
}

// --- Gradients of the weights: sums over the pixels of a tile ---------------------------------------------------------

// Pictures at some pixels, and characters of gradients there.
struct Outer {
    const float *from;
    const int32_t *at;
    int64_t pixels;
    const float *gradients;
    int64_t padded;
};

template <int R, int C> __attribute__((noinline)) void outer(const Outer &o, float *sums) {
    Vector sum[R][C];
    for (int r = 0; r < R; r++)
        for (int c = 0; c < C; c++) sum[r][c] = load(sums + r * o.padded + c * LANES);
    const float *gradients = o.gradients;
    for (int64_t pixel = 0; pixel < o.pixels; pixel++, gradients += o.padded) {
        const float *x = o.from + o.at[pixel];
        Vector g[C];
        for (int c = 0; c < C; c++) g[c] = load(gradients + c * LANES);
        for (int r = 0; r < R; r++) {
            Vector one = splat(x[r]);
            for (int c = 0; c < C; c++) sum[r][c] += g[c] * one;
        }
    }
    for (int r = 0; r < R; r++)
        for (int c = 0; c < C; c++) store(sums + r * o.padded + c * LANES, sum[r][c]);
}

// One vector of representatives and R pairs of inputs, which share vectors: those of even representatives, then of odd.
template <int R> __attribute__((noinline)) void outer_paired(const Outer &o, float *sums) {
    Vector sum[R][2];
    for (int r = 0; r < R; r++)
        for (int c = 0; c < 2; c++) sum[r][c] = load(sums + (2 * r + c) * o.padded);
    const float *gradients = o.gradients;
    for (int64_t pixel = 0; pixel < o.pixels; pixel++, gradients += o.padded) {
        const float *x = o.from + o.at[pixel];
        Vector even_ones = even_twice(load(gradients)), odd_ones = odd_twice(load(gradients));
        for (int r = 0; r < R; r++) {
            Vector pair = splat_pair(x + 2 * r);
            sum[r][0] += even_ones * pair;
            sum[r][1] += odd_ones * pair;
        }
    }
    for (int r = 0; r < R; r++)
        for (int c = 0; c < 2; c++) store(sums + (2 * r + c) * o.padded, sum[r][c]);
}

template <int C> inline void outer_rows(int64_t rows, const Outer &o, float *sums) {
    switch (rows) {
    case 1: return outer<1, C>(o, sums);
    case 2: return outer<2, C>(o, sums);
    case 3: return outer<3, C>(o, sums);
    case 4: return outer<4, C>(o, sums);
    case 5: return outer<5, C>(o, sums);
    case 6: return outer<6, C>(o, sums);
    default: return outer<ROWS, C>(o, sums);
    }
}

inline void outer_pairs(int64_t pairs, const Outer &o, float *sums) {
    switch (pairs) {
    case 1: return outer_paired<1>(o, sums);
    case 2: return outer_paired<2>(o, sums);
    case 3: return outer_paired<3>(o, sums);
    case 4: return outer_paired<4>(o, sums);
    case 5: return outer_paired<5>(o, sums);
    case 6: return outer_paired<6>(o, sums);
    default: return outer_paired<ROWS>(o, sums);
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
            for (int64_t block = 0; block < p.blocks; block++) {
                Outer o = {from, at + run.from, run.to - run.from,
                           gradients + group * group_pitch + run.from * padded + block * WIDTH, padded};
                bool paired = p.is_paired(block);
                auto work = paired ? outer_pairs : p.is_narrow(block) ? outer_rows<1> : outer_rows<2>;
                int64_t inputs = paired ? 2 : 1;
                each_group(t.inputs / inputs, ROWS, [&](int64_t k, int64_t rows) {
                    o.from = from + k * inputs;
                    work(rows, o, sums + (s * t.inputs + k * inputs) * padded + block * WIDTH);
                });
            }
        }
}

// Sums of two inputs that shared vectors, put apart.
inline void part_pair(float *sums, int64_t padded) {
    Vector even_ones = load(sums), odd_ones = load(sums + padded);
    store(sums, even_of_both(even_ones, odd_ones));
    store(sums + padded, odd_of_both(even_ones, odd_ones));
}

}  // namespace
