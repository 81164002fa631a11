// Strips multiplied and summed in registers, for vectors of pixels; answers stored from them.

#pragma once
#include "rows.h"

namespace {

// The terms of a pass, for the inputs of a piece.
struct Flow {
    const Bunch *bunches, *end;
    const int32_t *places;
    int64_t inputs, strip_pitch;    // from input to input
    const float *strips, *weights;  // weights: [bunch][as listed][result][representative]
    int64_t first, all;             // of these and of all inputs
    int64_t group_pitch, padded;    // of the sums: from character to character, from representative to representative
    bool fresh;                     // nothing was summed before
};

// Terms of one sort: mirrored strips are folded, and every result is multiplied by its weights.
template <int G, int MOVING, int WANTED, int R, int C>
inline __attribute__((always_inline)) void add_bunch(Vector (&sum)[G][R][C], const Flow &f, const Bunch &b, int64_t at) {
    constexpr int N = MOVING == 0 ? 1 : MOVING == 3 ? 4 : 2, RESULTS = WANTED < 0 ? N : 1;
    const float *strips = f.strips + at, *weights = f.weights + (b.slots * f.all + f.first * b.count * RESULTS) * R;
    for (int64_t k = 0; k < f.inputs; k += b.inputs, strips += b.inputs * f.strip_pitch) {
        const int32_t *from = f.places + b.places, *end = from + least(b.inputs, f.inputs - k) * b.count * N;
        for (; from != end; from += N, weights += RESULTS * R) {
            Vector v[C][N];
            for (int c = 0; c < C; c++) {
                for (int j = 0; j < N; j++) v[c][j] = load(strips + from[j] + c * LANES);
                butterfly<N>(v[c]);
            }
            for (int j = 0; j < RESULTS; j++)
                for (int r = 0; r < R; r++) {
                    Vector w = splat(weights[j * R + r]);
                    for (int c = 0; c < C; c++)
                        sum[WANTED < 0 ? spread_bits(j, MOVING) : 0][r][c] += v[c][WANTED < 0 ? j : WANTED] * w;
                }
        }
    }
}

template <int G, int R, int C>
inline __attribute__((always_inline)) void add_folded(Vector (&sum)[G][R][C], const Flow &f, const Bunch &b, int64_t at) {
    if (b.sort == 0) return add_bunch<G, 0, -1, R, C>(sum, f, b, at);
    if constexpr (G > 1)
        if (b.sort == 1) return add_bunch<G, 1, -1, R, C>(sum, f, b, at);
    if constexpr (G > 2) {
        if (b.sort == 2) return add_bunch<G, 2, -1, R, C>(sum, f, b, at);
        add_bunch<G, 3, -1, R, C>(sum, f, b, at);
    }
}

// Gradients of pictures want one result of every butterfly, and have one sum.
template <int R, int C>
inline __attribute__((always_inline)) void add_wanted(Vector (&sum)[1][R][C], const Flow &f, const Bunch &b, int64_t at) {
    switch (b.sort) {
    case 0: return add_bunch<1, 0, 0, R, C>(sum, f, b, at);
    case 1: return add_bunch<1, 1, 0, R, C>(sum, f, b, at);
    case 2: return add_bunch<1, 1, 1, R, C>(sum, f, b, at);
    case 3: return add_bunch<1, 3, 0, R, C>(sum, f, b, at);
    case 4: return add_bunch<1, 3, 1, R, C>(sum, f, b, at);
    case 5: return add_bunch<1, 3, 2, R, C>(sum, f, b, at);
    case 6: return add_bunch<1, 3, 3, R, C>(sum, f, b, at);
    }
}

template <int G, bool WANTED, int R, int C>
__attribute__((noinline)) void stream(const Flow &f, int64_t at, float *sums) {
    Vector sum[G][R][C];
    for (int g = 0; g < G; g++)
        for (int r = 0; r < R; r++)
            for (int c = 0; c < C; c++) sum[g][r][c] = Vector{};
    for (const Bunch *b = f.bunches; b < f.end; b++)
        if constexpr (WANTED)
            add_wanted<R, C>(sum, f, *b, at);
        else
            add_folded<G, R, C>(sum, f, *b, at);
    for (int g = 0; g < G; g++)
        for (int r = 0; r < R; r++)
            for (int c = 0; c < C; c++) {
                float *to = sums + g * f.group_pitch + r * f.padded + c * LANES;
                store(to, f.fresh ? sum[g][r][c] : load(to) + sum[g][r][c]);
            }
}

typedef void Stream(const Flow &f, int64_t at, float *sums);

// For every number of vectors of pixels, up to as many as fit into registers.
struct Streams {
    int abreast;
    Stream *of[MOST_ABREAST];
};

inline constexpr int least_of(int a, int b) { return a < b ? a : b; }
template <int G, bool WANTED, int R> inline Streams streams_for() {
    constexpr int C = abreast_of(G / 2, R);
    return {C, {stream<G, WANTED, R, 1>, stream<G, WANTED, R, least_of(2, C)>, stream<G, WANTED, R, least_of(3, C)>,
                stream<G, WANTED, R, C>}};
}

template <int G, bool WANTED> inline Streams streams_for(int64_t representatives) {
    if constexpr (streams_of(G / 2) > 4)
        if (representatives == 8) return streams_for<G, WANTED, 8>();
    if constexpr (streams_of(G / 2) > 2)
        if (representatives == 4) return streams_for<G, WANTED, 4>();
    return representatives == 2 ? streams_for<G, WANTED, 2>() : streams_for<G, WANTED, 1>();
}

inline Streams streams_for(const Program &p, const Across &a, int64_t representatives) {
    if (p.task.mode == 2) return streams_for<1, true>(representatives);
    if (a.letters == 0) return streams_for<1, false>(representatives);
    return a.letters == 1 ? streams_for<2, false>(representatives) : streams_for<4, false>(representatives);
}

// Calls `visit(first, count)` for representatives that are summed together: as many as fit, then half as many.
template <class Visit> inline void for_each_few(int64_t representatives, int64_t count, Visit visit) {
    for (int64_t first = 0; first < representatives; first += count) {
        while (count > representatives - first) count /= 2;
        visit(first, count);
    }
}

template <class Visit> inline void for_each_stream(const Program &p, const Across &a, Visit visit) {
    for_each_few(p.task.outputs, streams_of(p.task.mode == 2 ? 0 : a.letters), visit);
}

// The weights of an input where `add_bunch` reads them, representatives that are summed together after one another;
// from [block][slot][input][WIDTH].
inline void gather_weights(const Program &p, const Across &a, const float *packed, int64_t input, float *to) {
    int64_t all = p.task.inputs;
    for_each_stream(p, a, [&](int64_t first, int64_t count) {
        const float *block = packed + first / WIDTH * p.slot_count * all * WIDTH + first % WIDTH;
        for (const Bunch *b = a.bunches; b < a.bunches + a.start[a.passes]; b++)
            for (int i = 0; i < b->count; i++) {
                const Term &term = a.terms[b->first + i];
                int64_t place = b->slots * all + listed(a, *b, input, i, all) * term.results();
                float *own = to + first * p.slot_count * all + place * count;
                for (int j = 0; j < term.results(); j++)
                    for (int64_t r = 0; r < count; r++) *own++ = block[(term.slot[j] * all + input) * WIDTH + r];
            }
    });
}

}  // namespace
