// Strips multiplied and summed in registers, for vectors of pixels; answers stored from them.

#pragma once
#include "rows.h"

namespace {

// The terms of a pass, for the inputs of a piece.
struct Flow {
    const Bunch *bunches, *end;
    const int32_t *places;
    int64_t inputs, strip_pitch;    // from input to input
    const float *strips, *weights;  // weights: [bunch][input][term][result][representative]
    int64_t first, all;             // of these and of all inputs
    int64_t group_pitch, padded;    // of the sums: from character to character, from representative to representative
    bool fresh;                     // nothing was summed before
};

// The character that is result j of a butterfly of the letters in MOVING.
inline constexpr int spread_bits(int j, int moving) {
    int result = 0;
    for (int bit = 0; bit < 2; bit++)
        if (moving >> bit & 1) result |= (j & 1) << bit, j >>= 1;
    return result;
}

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
            for (int c = 0; c < C; c++)
                sum[g][r][c] = f.fresh ? Vector{} : load(sums + g * f.group_pitch + r * f.padded + c * LANES);
    for (const Bunch *b = f.bunches; b < f.end; b++)
        if constexpr (WANTED)
            add_wanted<R, C>(sum, f, *b, at);
        else
            add_folded<G, R, C>(sum, f, *b, at);
    for (int g = 0; g < G; g++)
        for (int r = 0; r < R; r++)
            for (int c = 0; c < C; c++) store(sums + g * f.group_pitch + r * f.padded + c * LANES, sum[g][r][c]);
}

typedef void Stream(const Flow &f, int64_t at, float *sums);

// For as many vectors of pixels as fit into registers, and for one.
struct Streams {
    int abreast;
    Stream *many, *one;
};

template <int G, bool WANTED, int R> inline Streams streams_for() {
    constexpr int C = abreast_of(G / 2, R);
    return {C, stream<G, WANTED, R, C>, stream<G, WANTED, R, 1>};
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
template <class Visit> inline void for_each_stream(const Program &p, const Across &a, Visit visit) {
    int64_t count = streams_of(p.task.mode == 2 ? 0 : a.letters);
    for (int64_t first = 0; first < p.task.outputs; first += count) {
        while (count > p.task.outputs - first) count /= 2;
        visit(first, count);
    }
}

// The weights of an input where `add_bunch` reads them, representatives that are summed together after one another;
// from [slot][input][WIDTH].
inline void gather_weights(const Program &p, const Across &a, const float *packed, int64_t input, float *to) {
    int64_t all = p.task.inputs;
    for_each_stream(p, a, [&](int64_t first, int64_t count) {
        for (const Bunch *b = a.bunches; b < a.bunches + a.start[a.passes]; b++) {
            int results = a.terms[b->first].results();
            float *own = to + first * p.slot_count * all + (b->slots * all + input * b->count * results) * count;
            for (const Term *term = a.terms + b->first; term < a.terms + b->first + b->count; term++)
                for (int j = 0; j < results; j++)
                    for (int64_t r = 0; r < count; r++) *own++ = packed[(term->slot[j] * all + input) * WIDTH + first + r];
        }
    });
}

inline void stream_slab(const Program &p, const Across &a, const Flow &f, const Streams &s, float *sums) {
    int64_t vectors = up(a.run, LANES);
    for (int64_t row = 0; row < a.rows; row++, sums += vectors * LANES) {
        int64_t from = row * p.task.stride[1] * a.line, at = 0;
        for (; at + s.abreast <= vectors; at += s.abreast) s.many(f, from + at * LANES, sums + at * LANES);
        for (; at < vectors; at++) s.one(f, from + at * LANES, sums + at * LANES);
    }
}

// Adds the products of some inputs to all sums of a plane, [character][representative][pixel].
inline void stream_inputs(const Program &p, const Across &a, const int32_t *places, int64_t input, int64_t inputs,
                          const float *strips, const float *weights, float *sums) {
    int64_t all = p.task.inputs, pitch = a.sum_pitch(p);
    for_each_stream(p, a, [&](int64_t first, int64_t count) {
        Streams streams = streams_for(p, a, count);
        for (int pass = 0; pass < a.passes; pass++) {
            Flow f = {a.bunches + a.start[pass], a.bunches + a.start[pass + 1], places, inputs, a.strips * a.strip, strips,
                      weights + first * p.slot_count * all, input, all, a.passes * pitch, a.padded, input == 0};
            stream_slab(p, a, f, streams, sums + pass * pitch + first * a.padded);
        }
    });
}

// LANES pixels of the members of some representatives, channel after channel.
template <int M>
inline void mirror_streams(const Across &a, const float *sums, int64_t pitch, const float *bias, int64_t count,
                           Vector *channels) {
    for (int64_t o = 0; o < count; o++) {
        Vector *v = channels + o * M;
        for (int g = 0; g < M; g++) v[g] = load(sums + g * pitch + o * a.padded);
        v[0] += splat(bias ? bias[o] : 0.0f);  // at least zero is added: no sum is a negative zero
        for (int g = 1; g < M; g++) v[g] += Vector{};
        butterfly<M>(v);
    }
}

// Channels that lie side by side: pixel after pixel, all representatives together.
template <int M>
inline void store_pixels(const Program &p, const Across &a, const float *sums, const float *bias, int64_t first,
                         int64_t pixels, float *y) {
    const Task &t = p.task;
    int64_t count = least(MOST_STREAMS, t.outputs - first), step = t.out_position[2];
    for (int64_t pixel = 0; pixel < pixels; pixel += LANES) {
        Vector channels[MOST_STREAMS * M + LANES];
        mirror_streams<M>(a, sums + pixel, a.sum_pitch(p), bias ? bias + first : nullptr, count, channels);
        int64_t here = least(pixels - pixel, LANES), c = 0;
        for (; c + LANES <= count * M; c += LANES) {
            lace<LANES>(channels + c);
            for (int64_t x = 0; x < here; x++)
                keep(y + (pixel + x) * step + first * M + c, channels[c + x], t.add);
        }
        for (; c < count * M; c++)
            for (int64_t x = 0; x < here; x++) keep(y + (pixel + x) * step + first * M + c, channels[c][x], t.add);
    }
}

// Channels that lie apart: one representative after the other, so that few places are written at a time.
template <int M>
inline void store_channels(const Program &p, const Across &a, const float *sums, const float *bias, int64_t first,
                           int64_t pixels, float *y) {
    const Task &t = p.task;
    int64_t step = t.out_position[2];
    float *to[M];
    for (int g = 0; g < M; g++) to[g] = y + p.out_order[g * t.outputs + first] * t.out_channel;
    for (int64_t pixel = 0; pixel < pixels; pixel += LANES) {
        Vector v[M];
        mirror_streams<M>(a, sums + pixel, a.sum_pitch(p), bias ? bias + first : nullptr, 1, v);
        int64_t here = least(pixels - pixel, LANES);
        for (int g = 0; g < M; g++)
            if (step == 1 && here == LANES)
                keep(to[g] + pixel, v[g], t.add);
            else
                for (int64_t x = 0; x < here; x++) keep(to[g] + (pixel + x) * step, v[g][x], t.add);
    }
}

// A run of pixels lies one after the other in the answer, too.
template <int M>
inline void store_run(const Program &p, const Across &a, const float *sums, const float *bias, int64_t pixels, float *y) {
    bool side_by_side = p.task.out_channel == 1 && p.out_laced;
    for (int64_t first = 0; first < p.task.outputs; first += side_by_side ? MOST_STREAMS : 1)
        side_by_side ? store_pixels<M>(p, a, sums + first * a.padded, bias, first, pixels, y)
                     : store_channels<M>(p, a, sums + first * a.padded, bias, first, pixels, y);
}

// One plane of a tile.
inline void store_slab(const Program &p, const Across &a, const Tile &tile, int64_t z, const float *sums, const float *bias,
                       float *y) {
    const Task &t = p.task;
    bool flat = a.rows == 1;
    int64_t pixels = (flat ? tile.extent[1] : 1) * tile.extent[2];
    for (int64_t row = 0; row < (flat ? 1 : tile.extent[1]); row++, sums += up(a.run, LANES) * LANES) {
        int64_t at = ((tile.first[0] + z) * t.answer[1] + tile.first[1] + row) * t.answer[2] + tile.first[2];
        float *to = y + tile.first_picture * t.out_batch + at * t.out_position[2];
        if (p.out_members == 1) store_run<1>(p, a, sums, bias, pixels, to);
        if (p.out_members == 2) store_run<2>(p, a, sums, bias, pixels, to);
        if (p.out_members == 4) store_run<4>(p, a, sums, bias, pixels, to);
        if (p.out_members == 8) store_run<8>(p, a, sums, bias, pixels, to);
    }
}

inline void answer_across(const Program &p, const Across &a, int64_t number, const float *x, const float *weights,
                          const float *bias, float *y, const AcrossDesk &desk) {
    Tile tile;
    place_box(p, number, tile);
    for (int64_t input = 0; input < p.task.inputs; input += a.piece)
        for_each_slab(p, a, tile, input, x, desk, [&](int64_t z, const int32_t *places, int64_t inputs) {
            float *sums = desk.sums + (a.kept > 1 ? z * a.slab : 0);
            stream_inputs(p, a, places, input, inputs, desk.strips, weights, sums);
            if (input + inputs == p.task.inputs) store_slab(p, a, tile, z, sums, bias, y);
        });
}

}  // namespace
