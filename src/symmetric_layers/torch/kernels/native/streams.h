// Strips multiplied and summed in registers, for vectors of pixels; answers stored from them.

#pragma once
#include "rows.h"

namespace {

// The terms of a pass, for the inputs of a piece.
struct Flow {
    const Term *terms;
    int count;
    int64_t inputs, strip_pitch;    // from input to input
    const float *strips, *weights;  // weights: [slot][input][representative]
    int64_t slot_pitch;
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

// One term of a tap: mirrored strips are folded, and every result is multiplied by its weights.
template <int G, int MOVING, int WANTED, int R, int C>
inline __attribute__((always_inline)) void add_term(Vector (&sum)[G][R][C], const Flow &f, const Term &t, int64_t at) {
    constexpr int N = MOVING == 0 ? 1 : MOVING == 3 ? 4 : 2, RESULTS = WANTED < 0 ? N : 1;
    const float *from[N], *weights[RESULTS];
    for (int j = 0; j < N; j++) from[j] = f.strips + t.from[j] + at;
    for (int j = 0; j < RESULTS; j++) weights[j] = f.weights + t.slot[j] * f.slot_pitch;
#pragma GCC unroll 4
    for (int64_t k = 0; k < f.inputs; k++) {
        Vector v[C][N];
        for (int c = 0; c < C; c++) {
            for (int j = 0; j < N; j++) v[c][j] = load(from[j] + c * LANES);
            butterfly<N>(v[c]);
        }
        for (int j = 0; j < RESULTS; j++)
            for (int r = 0; r < R; r++) {
                Vector w = splat(weights[j][k * R + r]);
                for (int c = 0; c < C; c++)
                    sum[WANTED < 0 ? spread_bits(j, MOVING) : 0][r][c] += v[c][WANTED < 0 ? j : WANTED] * w;
            }
        for (int j = 0; j < N; j++) from[j] += f.strip_pitch;
    }
}

template <int G, int R, int C>
inline __attribute__((always_inline)) void add_folded(Vector (&sum)[G][R][C], const Flow &f, const Term &t, int64_t at) {
    if (t.moving == 0) return add_term<G, 0, -1, R, C>(sum, f, t, at);
    if constexpr (G > 1)
        if (t.moving == 1) return add_term<G, 1, -1, R, C>(sum, f, t, at);
    if constexpr (G > 2) {
        if (t.moving == 2) return add_term<G, 2, -1, R, C>(sum, f, t, at);
        add_term<G, 3, -1, R, C>(sum, f, t, at);
    }
}

// Gradients of pictures want one result of every butterfly, and have one sum.
template <int R, int C>
inline __attribute__((always_inline)) void add_wanted(Vector (&sum)[1][R][C], const Flow &f, const Term &t, int64_t at) {
    switch (t.moving == 3 ? 4 + t.wanted : t.moving ? 2 + t.wanted : 0) {
    case 0: return add_term<1, 0, 0, R, C>(sum, f, t, at);
    case 2: return add_term<1, 1, 0, R, C>(sum, f, t, at);
    case 3: return add_term<1, 1, 1, R, C>(sum, f, t, at);
    case 4: return add_term<1, 3, 0, R, C>(sum, f, t, at);
    case 5: return add_term<1, 3, 1, R, C>(sum, f, t, at);
    case 6: return add_term<1, 3, 2, R, C>(sum, f, t, at);
    case 7: return add_term<1, 3, 3, R, C>(sum, f, t, at);
    }
}

template <int G, bool WANTED, int R, int C>
__attribute__((noinline)) void stream(const Flow &f, int64_t at, float *sums) {
    Vector sum[G][R][C];
    for (int g = 0; g < G; g++)
        for (int r = 0; r < R; r++)
            for (int c = 0; c < C; c++)
                sum[g][r][c] = f.fresh ? Vector{} : load(sums + g * f.group_pitch + r * f.padded + c * LANES);
    for (int t = 0; t < f.count; t++)
        if constexpr (WANTED)
            add_wanted<R, C>(sum, f, f.terms[t], at);
        else
            add_folded<G, R, C>(sum, f, f.terms[t], at);
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

// [representatives that are summed together][slot][input][representative], from [slot][input][WIDTH].
inline void gather_weights(const Program &p, const Across &a, const float *packed, float *to) {
    int64_t all = p.slot_count * p.task.inputs;
    for_each_stream(p, a, [&](int64_t first, int64_t count) {
        for (int64_t i = 0; i < all; i++)
            for (int64_t r = 0; r < count; r++) to[first * all + i * count + r] = packed[i * WIDTH + first + r];
    });
}

inline void stream_tile(const Program &p, const Across &a, const Flow &f, const Streams &s, float *sums) {
    int64_t vectors = up(a.run, LANES);
    for (int64_t z = 0; z < p.box[0]; z++)
        for (int64_t row = 0; row < a.rows; row++, sums += vectors * LANES) {
            int64_t from = z * p.task.stride[0] * a.plane + row * p.task.stride[1] * a.line, at = 0;
            for (; at + s.abreast <= vectors; at += s.abreast) s.many(f, from + at * LANES, sums + at * LANES);
            for (; at < vectors; at++) s.one(f, from + at * LANES, sums + at * LANES);
        }
}

// Adds the products of some inputs to all sums of a tile, [character][representative][pixel].
inline void stream_inputs(const Program &p, const Across &a, int64_t input, int64_t inputs, const float *strips,
                          const float *weights, float *sums) {
    int64_t all = p.task.inputs, pitch = a.sum_pitch(p);
    for_each_stream(p, a, [&](int64_t first, int64_t count) {
        Streams streams = streams_for(p, a, count);
        for (int pass = 0; pass < a.passes; pass++) {
            Flow f = {a.terms + a.start[pass], a.start[pass + 1] - a.start[pass], inputs, a.strips * a.strip, strips,
                      weights + first * p.slot_count * all + input * count, all * count, a.passes * pitch, a.padded,
                      input == 0};
            stream_tile(p, a, f, streams, sums + pass * pitch + first * a.padded);
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

template <int M>
inline void store_streams(const Program &p, const Across &a, const float *sums, const float *bias, int64_t first,
                          int64_t pixels, float *y) {
    const Task &t = p.task;
    int64_t count = least(MOST_STREAMS, t.outputs - first), step = t.out_position[2];
    bool side_by_side = t.out_channel == 1 && p.out_laced;
    for (int64_t pixel = 0; pixel < pixels; pixel += LANES) {
        Vector channels[MOST_STREAMS * M + LANES];
        mirror_streams<M>(a, sums + pixel, a.sum_pitch(p), bias ? bias + first : nullptr, count, channels);
        int64_t here = least(pixels - pixel, LANES), c = 0;
        for (; side_by_side && c + LANES <= count * M; c += LANES) {
            lace<LANES>(channels + c);
            for (int64_t x = 0; x < here; x++)
                keep(y + (pixel + x) * step + first * M + c, channels[c + x], t.add);
        }
        for (; c < count * M; c++) {
            int32_t channel = p.out_order[c % M * t.outputs + first + c / M];
            float *to = y + channel * t.out_channel + pixel * step;
            if (step == 1 && here == LANES)
                keep(to, channels[c], t.add);
            else
                for (int64_t x = 0; x < here; x++) keep(to + x * step, channels[c][x], t.add);
        }
    }
}

// A run of pixels lies one after the other in the answer, too.
inline void store_run(const Program &p, const Across &a, const float *sums, const float *bias, int64_t pixels, float *y) {
    for (int64_t first = 0; first < p.task.outputs; first += MOST_STREAMS) {
        const float *from = sums + first * a.padded;
        if (p.out_members == 1) store_streams<1>(p, a, from, bias, first, pixels, y);
        if (p.out_members == 2) store_streams<2>(p, a, from, bias, first, pixels, y);
        if (p.out_members == 4) store_streams<4>(p, a, from, bias, first, pixels, y);
        if (p.out_members == 8) store_streams<8>(p, a, from, bias, first, pixels, y);
    }
}

struct AcrossDesk {
    float *row, *strips, *sums;
    static int64_t floats(const Program &p, const Across &a) {
        return a.row_floats(p) + a.strip_floats() + p.groups * a.sum_pitch(p) + 64;
    }
    void set(const Program &p, const Across &a, float *at) {
        row = at;
        strips = row + up(a.row_floats(p), 16) * 16;
        sums = strips + a.strip_floats();
    }
};

// The strips that a tile reads, of the inputs of a piece; how many these are.
inline int64_t bring_piece(const Program &p, const Across &a, const Tile &tile, int64_t input, const float *x,
                           const AcrossDesk &desk) {
    const Task &t = p.task;
    int64_t corner[3];
    for (int axis = 0; axis < 3; axis++) corner[axis] = tile.first[axis] * t.stride[axis] - t.padding[axis];
    Picture picture = picture_of(p, x + tile.first_picture * t.in_batch + p.in_order[input] * t.in_channel);
    picture.channels = least(a.piece, t.inputs - input);
    fill_strips(p, a, picture, corner, desk.row, desk.strips);
    return picture.channels;
}

inline void answer_across(const Program &p, const Across &a, int64_t number, const float *x, const float *weights,
                          const float *bias, float *y, const AcrossDesk &desk) {
    const Task &t = p.task;
    Tile tile;
    place_box(p, number, tile);
    for (int64_t input = 0; input < t.inputs; input += a.piece) {
        int64_t inputs = bring_piece(p, a, tile, input, x, desk);
        stream_inputs(p, a, input, inputs, desk.strips, weights, desk.sums);
    }
    bool flat = a.rows == 1;
    int64_t pixels = (flat ? tile.extent[1] : 1) * tile.extent[2];
    for (int64_t z = 0; z < tile.extent[0]; z++)
        for (int64_t row = 0; row < (flat ? 1 : tile.extent[1]); row++) {
            int64_t at = ((tile.first[0] + z) * t.answer[1] + tile.first[1] + row) * t.answer[2] + tile.first[2];
            const float *sums = desk.sums + (z * a.rows + row) * up(a.run, LANES) * LANES;
            store_run(p, a, sums, bias, pixels, y + tile.first_picture * t.out_batch + at * t.out_position[2]);
        }
}

}  // namespace
