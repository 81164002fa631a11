// Answers with pixels in the lanes: mirrored and stored as soon as their last products are summed.

#pragma once
#include "ahead.h"

namespace {

// Bytes of a cache line: parts of lines must not be written past the caches; and lines that are worth it.
enum { LINE = 64, FEWEST_LINES = 2 };

// Sums of some representatives, [character][representative][pixel], and where their answers go.
struct Sums {
    const float *from;
    int64_t pitch, padded;  // from character to character, from representative to representative
    const float *bias;      // may be null
    int64_t first, count;   // representatives
    int64_t pixels;
    float *to;              // of the first pixel
};

// LANES pixels of the members of some representatives, channel after channel.
template <int M>
inline __attribute__((always_inline)) void mirror_streams(const Sums &s, int64_t pixel, int64_t o, int64_t end, Vector *channels) {
    for (; o < end; o++, channels += M) {
        for (int g = 0; g < M; g++) channels[g] = load(s.from + g * s.pitch + o * s.padded + pixel);
        channels[0] += splat(s.bias ? s.bias[s.first + o] : 0.0f);  // at least zero is added: no sum is a negative zero
        for (int g = 1; g < M; g++) channels[g] += Vector{};
        butterfly<M>(channels);
    }
}

// Channels that lie side by side: a vector of them, pixel after pixel.
template <int M> inline void store_pixels(const Program &p, const Sums &s, int64_t pixel) {
    constexpr int FILLING = M < LANES ? LANES / M : 1;  // representatives whose members fill a vector
    int64_t here = least(s.pixels - pixel, LANES), step = p.task.out_position[2];
    Keeping keeping = p.keeping == PASSING && s.count * M * 4 < LINE ? WRITING : p.keeping;
    for (int64_t o = 0; o < s.count; o += FILLING) {
        int64_t end = least(o + FILLING, s.count), wanted = (end - o) * M;
        Vector square[M < LANES ? LANES : M];
        if (end - o < FILLING)
            for (Vector &empty : square) empty = Vector{};
        mirror_streams<M>(s, pixel, o, end, square);
        float *to = s.to + pixel * step + (s.first + o) * M;
        for (int64_t c = 0; c < wanted; c += LANES) {
            lace<LANES>(square + c);
            for (int64_t x = 0; x < here; x++)
                if (wanted - c >= LANES)
                    keep(to + x * step + c, square[c + x], keeping);
                else
                    keep_some(to + x * step + c, square[c + x], wanted - c, keeping);
        }
    }
}

// Channels that lie apart: one representative after the other, so that few places are written at a time.
template <int M> inline void store_channels(const Program &p, const Sums &s, int64_t o) {
    const Task &t = p.task;
    int64_t step = t.out_position[2];
    Keeping keeping = p.keeping == PASSING && s.pixels * 4 < FEWEST_LINES * LINE ? WRITING : p.keeping;
    float *to[M];
    for (int g = 0; g < M; g++) to[g] = s.to + p.out_order[g * t.outputs + s.first + o] * t.out_channel;
    int64_t pixel = 0;
    Vector v[M];
    for (; step == 1 && pixel + LANES <= s.pixels; pixel += LANES) {
        mirror_streams<M>(s, pixel, o, o + 1, v);
#pragma GCC unroll 8
        for (int g = 0; g < M; g++) keep(to[g] + pixel, v[g], keeping);
    }
    for (; pixel < s.pixels; pixel += LANES) {
        mirror_streams<M>(s, pixel, o, o + 1, v);
        for (int g = 0; g < M; g++)
            for (int64_t x = 0; x < least(s.pixels - pixel, LANES); x++) keep(to[g] + (pixel + x) * step, v[g][x], keeping);
    }
}

template <int M> __attribute__((noinline)) void store_sums(const Program &p, const Sums &s) {
    if (p.task.out_channel == 1 && p.out_laced)
        for (int64_t pixel = 0; pixel < s.pixels; pixel += LANES) store_pixels<M>(p, s, pixel);
    else
        for (int64_t o = 0; o < s.count; o++) store_channels<M>(p, s, o);
}

inline void store_sums(const Program &p, const Sums &s) {
    if (p.out_members == 1) store_sums<1>(p, s);
    if (p.out_members == 2) store_sums<2>(p, s);
    if (p.out_members == 4) store_sums<4>(p, s);
    if (p.out_members == 8) store_sums<8>(p, s);
}

// Some inputs' products for one plane of a tile. Sums wait for the other inputs, or are stored.
struct Slab {
    const Program &p;
    const Across &a;
    const int32_t *places;
    int64_t input, inputs;
    const float *strips, *weights, *bias;
    float *folded, *sums;

    bool last() const { return input + inputs == p.task.inputs; }
};

// Some vectors of pixels that lie side by side, of some representatives: `from` in strips, `at` among kept sums.
inline void answer_vectors(const Slab &s, int64_t first, int64_t count, int64_t vectors, int64_t from, int64_t at,
                           int64_t pixels, float *to) {
    const Across &a = s.a;
    int64_t all = s.p.task.inputs, padded = a.kept ? a.padded : vectors * LANES;
    int64_t pitch = a.kept ? a.sum_pitch(s.p) : count * padded;
    float *sums = a.kept ? s.sums + first * padded + at : s.sums;
    Streams streams = streams_for(s.p, a, count);
    for (int pass = 0; pass < a.passes; pass++) {
        Flow f = {a.bunches + a.start[pass], a.bunches + a.start[pass + 1], s.places, s.inputs, a.strips * a.strip, s.strips,
                  s.weights + first * s.p.slot_count * all, s.input, all, a.passes * pitch, padded, s.input == 0};
        each_group(vectors, streams.abreast, [&](int64_t vector, int64_t abreast) {
            streams.of[abreast - 1](f, from + vector * LANES, sums + pass * pitch + vector * LANES);
        });
    }
    if (s.last() && pixels > 0) store_sums(s.p, {sums, pitch, padded, s.bias, first, count, pixels, to});
}

// The same for all representatives, folded ahead.
template <int C> inline void answer_ahead(const Slab &s, int64_t from, int64_t at, int64_t pixels, float *to) {
    const Across &a = s.a;
    int64_t all = s.p.task.outputs, padded = a.kept ? a.padded : C * LANES, pitch = a.kept ? a.sum_pitch(s.p) : all * padded;
    float *sums = a.kept ? s.sums + at : s.sums;
    for (int64_t k = 0; k < s.inputs; k += a.chunk)
        sum_ahead<C>(s.p, a, s.places, chunk_at(a, k, s.inputs), s.strips + k * a.strips * a.strip + from, s.weights,
                     s.input + k, s.folded, sums, pitch, padded);
    if (s.last() && pixels > 0) store_sums(s.p, {sums, pitch, padded, s.bias, 0, all, pixels, to});
}

inline void answer_run_ahead(const Slab &s, int64_t from, int64_t at, int64_t pixels, float *to) {
    int64_t step = s.p.task.out_position[2];
    each_group(up(s.a.run, LANES), ABREAST, [&](int64_t vector, int64_t vectors) {
        int64_t pixel = vector * LANES, here = least(vectors * LANES, pixels - pixel);
        auto answer = vectors == 3 ? answer_ahead<3> : vectors == 2 ? answer_ahead<2> : answer_ahead<1>;
        answer(s, from + pixel, at + pixel, here, to + pixel * step);
    });
}

inline void answer_run(const Slab &s, int64_t from, int64_t at, int64_t pixels, float *to) {
    if (s.a.ahead) return answer_run_ahead(s, from, at, pixels, to);
    int64_t end = up(s.a.run, LANES), step = s.p.task.out_position[2];
    for_each_stream(s.p, s.a, [&](int64_t first, int64_t count) {
        for (int64_t vector = 0; vector < end; vector += TOGETHER_STORED) {
            int64_t pixel = vector * LANES, vectors = least(end - vector, TOGETHER_STORED), here = least(vectors * LANES, pixels - pixel);
            answer_vectors(s, first, count, vectors, from + pixel, at + pixel, here, to + pixel * step);
        }
    });
}

inline void answer_slab(const Slab &s, const Tile &tile, int64_t z, float *y) {
    const Task &t = s.p.task;
    bool flat = s.a.rows == 1;
    int64_t pixels = (flat ? tile.extent[1] : 1) * tile.extent[2], run = up(s.a.run, LANES) * LANES;
    for (int64_t row = 0; row < (flat ? 1 : tile.extent[1]); row++) {
        int64_t at = ((tile.first[0] + z) * t.answer[1] + tile.first[1] + row) * t.answer[2] + tile.first[2];
        float *to = y + tile.first_picture * t.out_batch + at * t.out_position[2];
        answer_run(s, row * t.stride[1] * s.a.line, z * s.a.slab + row * run, pixels, to);
    }
}

inline void answer_across(const Program &p, const Across &a, int64_t number, const float *x, const float *weights,
                          const float *bias, float *y, const AcrossDesk &desk) {
    Tile tile;
    place_box(p, number, tile);
    for (int64_t input = 0; input < p.task.inputs; input += a.piece)
        for_each_slab(p, a, tile, input, x, desk, [&](int64_t z, const int32_t *places, int64_t inputs) {
            answer_slab({p, a, places, input, inputs, desk.strips, weights, bias, desk.folded, desk.sums}, tile, z, y);
        });
}

}  // namespace
