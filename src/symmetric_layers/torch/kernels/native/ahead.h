// Pixels in the lanes, folded ahead: what a few vectors of pixels need of some inputs is folded into the first cache, and
// all representatives read it there.
//
// Folding in registers is done again for every few representatives. With few registers these are so few that loading and
// folding takes longer than multiplying.

#pragma once
#include "streams.h"

namespace {

enum { AHEAD_TOGETHER = 4 };  // representatives, times ABREAST vectors of pixels: sums that stay in registers

// Inputs that are folded together: of those of a piece, from `first` on.
inline int64_t chunk_at(const Across &a, int64_t first, int64_t inputs) { return least(inputs - first, a.chunk); }

// Terms of one sort, of the inputs of a chunk; `to` says where those of every character go.
template <int MOVING, int C>
inline __attribute__((always_inline)) void fold_bunch(const Across &a, const Ahead &ahead, const Bunch &b, const int32_t *places,
                                                      int64_t inputs, const float *strips, float *const *to) {
    constexpr int N = MOVING == 0 ? 1 : MOVING == 3 ? 4 : 2;
    const int32_t *end = places + b.places + b.count * N;
    for (int64_t k = 0; k < inputs; k++, strips += a.strips * a.strip) {
        float *own[N];
        for (int j = 0; j < N; j++) own[j] = to[spread_bits(j, MOVING)] + k * ahead.count[spread_bits(j, MOVING)] * C * LANES;
        for (const int32_t *from = places + b.places; from != end; from += N) {
            const float *at[N];
            for (int j = 0; j < N; j++) at[j] = strips + from[j];
            for (int c = 0; c < C; c++) {
                Vector v[N];
                for (int j = 0; j < N; j++) v[j] = load(at[j] + c * LANES);
                butterfly<N>(v);
                for (int j = 0; j < N; j++) store(own[j] + c * LANES, v[j]);
            }
            for (int j = 0; j < N; j++) own[j] += C * LANES;
        }
    }
}

// [character][input][as listed][C vectors] of the inputs of a chunk.
template <int C>
__attribute__((noinline)) void fold_ahead(const Across &a, int pass, const int32_t *places, int64_t inputs, const float *strips,
                                          float *folded) {
    const Ahead &ahead = a.seen[pass];
    float *to[LETTERS_AHEAD];
    for (int c = 0; c < LETTERS_AHEAD; c++) to[c] = folded + inputs * ahead.before[c] * C * LANES;
    for (const Bunch *b = a.bunches + a.start[pass]; b < a.bunches + a.start[pass + 1]; b++) {
        if (b->sort == 0) fold_bunch<0, C>(a, ahead, *b, places, inputs, strips, to);
        if (b->sort == 1) fold_bunch<1, C>(a, ahead, *b, places, inputs, strips, to);
        if (b->sort == 2) fold_bunch<2, C>(a, ahead, *b, places, inputs, strips, to);
        if (b->sort == 3) fold_bunch<3, C>(a, ahead, *b, places, inputs, strips, to);
        int64_t step = b->count * C * LANES;
        for (int j = 0; j < a.terms[b->first].results(); j++) to[spread_bits(j, b->sort)] += step;
    }
}

// All products of one character of a chunk.
template <int R, int C>
__attribute__((noinline)) void multiply_ahead(const float *folded, const float *weights, int64_t count, float *sums,
                                              int64_t padded, bool fresh) {
    Vector sum[R][C];
    for (int r = 0; r < R; r++)
        for (int c = 0; c < C; c++) sum[r][c] = fresh ? Vector{} : load(sums + r * padded + c * LANES);
    for (const float *end = weights + count * R; weights != end; weights += R, folded += C * LANES) {
        Vector v[C];
        for (int c = 0; c < C; c++) v[c] = load(folded + c * LANES);
        for (int r = 0; r < R; r++) {
            Vector w = splat(weights[r]);
            for (int c = 0; c < C; c++) sum[r][c] += v[c] * w;
        }
    }
    for (int r = 0; r < R; r++)
        for (int c = 0; c < C; c++) store(sums + r * padded + c * LANES, sum[r][c]);
}

template <int C>
inline void multiply_ahead(int64_t representatives, const float *folded, const float *weights, int64_t count, float *sums,
                           int64_t padded, bool fresh) {
    if (representatives == 4) return multiply_ahead<4, C>(folded, weights, count, sums, padded, fresh);
    if (representatives == 2) return multiply_ahead<2, C>(folded, weights, count, sums, padded, fresh);
    multiply_ahead<1, C>(folded, weights, count, sums, padded, fresh);
}

// Where the weights of an input begin, counted from those of its chunk and pass: [character][input][as listed].
inline int64_t weights_ahead(const Ahead &ahead, int character, int64_t inputs, int64_t k) {
    return inputs * ahead.before[character] + k * ahead.count[character];
}

// The weights of an input, from [block][slot][input][WIDTH].
inline void gather_ahead(const Program &p, const Across &a, const float *packed, int64_t input, float *to) {
    int64_t all = p.task.inputs, piece = input / a.piece * a.piece, within = (input - piece) / a.chunk * a.chunk;
    int64_t inputs = chunk_at(a, within, least(a.piece, all - piece)), first_input = piece + within;
    for_each_few(p.task.outputs, AHEAD_TOGETHER, [&](int64_t first, int64_t count) {
        const float *block = packed + first / WIDTH * p.slot_count * all * WIDTH + first % WIDTH;
        float *own = to + (first * all + first_input * count) * p.slot_count;
        for (int pass = 0; pass < a.passes; pass++) {
            const Ahead &ahead = a.seen[pass];
            int64_t listed[LETTERS_AHEAD] = {};
            for (const Bunch *b = a.bunches + a.start[pass]; b < a.bunches + a.start[pass + 1]; b++)
                for (int i = 0; i < b->count; i++) {
                    const Term &term = a.terms[b->first + i];
                    for (int j = 0; j < term.results(); j++) {
                        int character = spread_bits(j, b->sort);
                        int64_t at = weights_ahead(ahead, character, inputs, input - first_input) + listed[character]++;
                        for (int64_t r = 0; r < count; r++)
                            own[at * count + r] = block[(term.slot[j] * all + input) * WIDTH + r];
                    }
                }
            own += inputs * ahead.all * count;
        }
    });
}

// Some inputs of a piece, of which `from` reads strips: all characters of all representatives are summed.
template <int C>
inline void sum_ahead(const Program &p, const Across &a, const int32_t *places, int64_t inputs, const float *strips,
                      const float *weights, int64_t first_input, float *folded, float *sums, int64_t pitch, int64_t padded) {
    int64_t all = p.task.inputs, passed = 0;
    for (int pass = 0; pass < a.passes; pass++) {
        const Ahead &ahead = a.seen[pass];
        fold_ahead<C>(a, pass, places, inputs, strips, folded);
        for_each_few(p.task.outputs, AHEAD_TOGETHER, [&](int64_t first, int64_t count) {
            const float *own = weights + (first * all + first_input * count) * p.slot_count + inputs * passed * count;
            for (int c = 0; c < 1 << a.letters; c++)
                multiply_ahead<C>(count, folded + inputs * ahead.before[c] * C * LANES, own + inputs * ahead.before[c] * count,
                                  inputs * ahead.count[c], sums + (c * a.passes + pass) * pitch + first * padded, padded,
                                  first_input == 0);
        });
        passed += ahead.all;
    }
}

}  // namespace
