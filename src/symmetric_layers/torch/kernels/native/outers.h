// Gradients of the weights: sums over the pixels of a tile.

#pragma once
#include "products.h"

namespace {

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
            Vector pair = splat_some<2>(x + 2 * r);
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
    for (int group = 0; group < p.groups; group++)
        for (int s = p.span_start[group]; s < p.span_start[group + 1]; s++) {
            const Span &span = p.spans[s];
            const float *from = (span.direct ? tile.regions : tile.planes) + span.offset;
            const int32_t *at = span.direct ? tile.region_at : tile.plane_at;
            Run run = inside(p, tile, span.row);
            for (int64_t block = 0; block < p.blocks; block++) {
                Outer o = {from, at + run.from, run.to - run.from,
                           gradients + group * group_pitch + run.from * padded + block * WIDTH, padded};
                bool paired = p.share(block) == 2;
                auto work = paired ? outer_pairs : p.is_narrow(block) ? outer_rows<1> : outer_rows<2>;
                int64_t inputs = paired ? 2 : 1;
                each_group(span.floats / inputs, ROWS, [&](int64_t k, int64_t rows) {
                    o.from = from + k * inputs;
                    work(rows, o, sums + (span.first + k * inputs) * padded + block * WIDTH);
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
