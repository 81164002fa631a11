// Gradients of the filters of few representatives: strips and gradients multiplied pixel by pixel, with pixels in the
// lanes. Every product of a weight has a vector of sums of its own; its lanes are added up at the very end.

#pragma once
#include "streams.h"

namespace {

// Some pixels that lie one after the other in all strips.
struct Stretch {
    const float *strips, *gradients;  // gradients: [character][representative][pixel]
    const int32_t *places;
    int64_t vectors, tail;            // whole ones, and the pixels after them
    int64_t strip_pitch, group_pitch, padded;
    float *sums;                      // [slot][input][representative][lane]
    int64_t slot_pitch, outputs;
};

typedef int32_t Lanes __attribute__((vector_size(LANES * 4)));

// What lies behind the last pixel is none of its business, be it finite or not.
inline Vector only(Vector value, int64_t count) {
    Lanes mask;
    for (int i = 0; i < LANES; i++) mask[i] = i < count ? -1 : 0;
    return (Vector)((Lanes)value & mask);
}

template <int MOVING, int R, int K> struct Dots {
    static constexpr int N = MOVING == 0 ? 1 : MOVING == 3 ? 4 : 2;
    Vector sum[N][K][R];

    inline __attribute__((always_inline)) void add(const Stretch &s, const float *const *from, const float *const *gradients, int64_t at, int64_t count) {
        for (int k = 0; k < K; k++) {
            Vector v[N];
            for (int j = 0; j < N; j++) v[j] = load(from[j] + k * s.strip_pitch + at);
            butterfly<N>(v);
            for (int j = 0; j < N; j++) {
                if (count < LANES) v[j] = only(v[j], count);
                for (int r = 0; r < R; r++) sum[j][k][r] += v[j] * load(gradients[j] + r * s.padded + at);
            }
        }
    }
};

// A term, and where its strips stand.
struct Dot {
    const Term &term;
    const int32_t *places;
};

template <int MOVING, int R, int K>
__attribute__((noinline)) void dot(const Stretch &s, const Dot &d, int64_t input, int64_t first) {
    typedef Dots<MOVING, R, K> Own;
    const float *from[Own::N], *gradients[Own::N];
    float *sums[Own::N];
    Own own;
    for (int j = 0; j < Own::N; j++) {
        from[j] = s.strips + d.places[j] + input * s.strip_pitch;
        gradients[j] = s.gradients + spread_bits(j, MOVING) * s.group_pitch + first * s.padded;
        sums[j] = s.sums + d.term.slot[j] * s.slot_pitch + (input * s.outputs + first) * LANES;
        for (int k = 0; k < K; k++)
            for (int r = 0; r < R; r++) own.sum[j][k][r] = load(sums[j] + (k * s.outputs + r) * LANES);
    }
    for (int64_t i = 0; i < s.vectors; i++) own.add(s, from, gradients, i * LANES, LANES);
    if (s.tail) own.add(s, from, gradients, s.vectors * LANES, s.tail);
    for (int j = 0; j < Own::N; j++)
        for (int k = 0; k < K; k++)
            for (int r = 0; r < R; r++) store(sums[j] + (k * s.outputs + r) * LANES, own.sum[j][k][r]);
}

// Inputs are taken together such that all sums stay in registers.
template <int MOVING, int R> inline void dot_inputs(const Stretch &s, const Dot &d, int64_t input, int64_t end, int64_t first) {
    constexpr int K = SUMS / (Dots<MOVING, 1, 1>::N * (SUMS >> 2));
    for (; input + K <= end; input += K) dot<MOVING, R, K>(s, d, input, first);
    for (; input < end; input++) dot<MOVING, R, 1>(s, d, input, first);
}

template <int R> inline void dot_term(const Stretch &s, const Dot &d, int64_t input, int64_t end, int64_t first) {
    if (d.term.moving == 0) dot_inputs<0, R>(s, d, input, end, first);
    if (d.term.moving == 1) dot_inputs<1, R>(s, d, input, end, first);
    if (d.term.moving == 2) dot_inputs<2, R>(s, d, input, end, first);
    if (d.term.moving == 3) dot_inputs<3, R>(s, d, input, end, first);
}

// One bunch, for some inputs and all representatives.
inline void dot_bunch(const Across &a, const Bunch &b, const Stretch &s, int64_t input, int64_t end) {
    for (int i = 0; i < b.count; i++) {
        const Term &term = a.terms[b.first + i];
        Dot d = {term, s.places + b.places + i * term.places()};
        for (int64_t first = 0, many = SUMS >> 2; first < s.outputs; first += many) {
            while (many > s.outputs - first) many /= 2;
            if (many == 4) dot_term<4>(s, d, input, end, first);
            if (many == 2) dot_term<2>(s, d, input, end, first);
            if (many == 1) dot_term<1>(s, d, input, end, first);
        }
    }
}

enum { CLOSE = 4 };     // inputs whose strips are multiplied by all gradients while both are in the first cache
enum { STRETCH = 16 };  // vectors of pixels, likewise

inline void dot_stretch(const Program &p, const Across &a, Stretch s, int64_t inputs) {
    const float *gradients = s.gradients;
    for (int pass = 0; pass < a.passes; pass++) {
        s.gradients = gradients + pass * a.sum_pitch(p);
        for (int64_t input = 0; input < inputs; input += CLOSE)
            for (int bunch = a.start[pass]; bunch < a.start[pass + 1]; bunch++)
                dot_bunch(a, a.bunches[bunch], s, input, least(input + CLOSE, inputs));
    }
}

// The products of some inputs and of the gradients of one plane of a tile.
inline void dot_slab(const Program &p, const Across &a, const Tile &tile, const int32_t *places, int64_t input,
                     int64_t inputs, const float *strips, const float *gradients, float *sums) {
    const Task &t = p.task;
    int64_t pixels = (a.rows == 1 ? tile.extent[1] : 1) * tile.extent[2], rows = a.rows == 1 ? 1 : tile.extent[1];
    Stretch s = {nullptr, nullptr, places, 0, 0, a.strips * a.strip, a.passes * a.sum_pitch(p), a.padded,
                 sums + input * t.outputs * LANES, t.inputs * t.outputs * LANES, t.outputs};
    for (int64_t row = 0; row < rows; row++)
        for (int64_t at = 0; at < pixels; at += STRETCH * LANES) {
            int64_t here = least(STRETCH * LANES, pixels - at);
            s.strips = strips + row * t.stride[1] * a.line + at;
            s.gradients = gradients + row * up(a.run, LANES) * LANES + at;
            s.vectors = here / LANES;
            s.tail = here % LANES;
            dot_stretch(p, a, s, inputs);
        }
}

// The gradients of one plane of a tile's answers, as characters: [character][representative][pixel], zeros between runs.
inline void bring_gradients_across(const Program &p, const Across &a, const Tile &tile, int64_t z, const float *g, float *to) {
    const Task &t = p.task;
    int64_t run = up(a.run, LANES) * LANES, all = p.groups * t.outputs;
    Picture picture = {g, t.out_channel, {}, {}, p.out_order, p.out_members, p.out_laced, t.outputs, t.outputs};
    for (int axis = 0; axis < 3; axis++) picture.position[axis] = t.out_position[axis];
    for (int64_t i = 0; i < all; i++) memset(to + i * a.padded, 0, sizeof(float) * a.slab);
    for (int64_t y = 0; y < tile.extent[1]; y++) {
        int64_t at = ((tile.first[0] + z) * t.out_position[0] + (tile.first[1] + y) * t.out_position[1] +
                      tile.first[2] * t.out_position[2]);
        float *row = to + y * (a.rows == 1 ? a.line : run);
        bring_row_across(picture, a.out_place, a.padded, g + tile.first_picture * t.out_batch + at, tile.extent[2], row);
    }
    for (int64_t i = 0; i < t.outputs; i++) butterfly_all(to + i * a.padded, p.groups, a.slab, a.sum_pitch(p));
}

inline void learn_across(const Program &p, const Across &a, int64_t number, const float *x, const float *g,
                         const AcrossDesk &desk, float *sums) {
    Tile tile;
    place_box(p, number, tile);
    for (int64_t input = 0; input < p.task.inputs; input += a.piece)
        for_each_slab(p, a, tile, input, x, desk, [&](int64_t z, const int32_t *places, int64_t inputs) {
            float *gradients = desk.sums + (a.kept > 1 ? z * a.slab : 0);
            if (input == 0 || a.kept == 1) bring_gradients_across(p, a, tile, z, g, gradients);
            dot_slab(p, a, tile, places, input, inputs, desk.strips, gradients, sums);
        });
}

inline float total(Vector v) {
    for (int lanes = LANES; lanes > 1; lanes /= 2) v = even(v, v) + odd(v, v);
    return v[0];
}

// The same for sums of lanes, in the same order always, too: [slot][input][padded].
inline void add_lanes(const Program &p, const float *sums, int threads, int64_t floats, int64_t padded, int64_t i, float *to) {
    for (int64_t r = 0; r < p.task.outputs; r++) {
        const float *from = sums + (i * p.task.outputs + r) * LANES;
        Vector sum = load(from);
        for (int thread = 1; thread < threads; thread++) sum += load(from + thread * floats);
        to[i * padded + r] = total(sum);
    }
}

}  // namespace
