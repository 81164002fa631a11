// Few inputs, and answers whose channels lie side by side: lifting layers, and deep ones of one tap. All characters of a few
// pixels are summed in registers, mirrored there and stored at once, so that multiplying goes on while memory takes what is
// stored.

#pragma once
#include "desk.h"

namespace {

// Sums that stay in registers.
enum { HELD = LANES == 16 ? 24 : 12 };

// A row of pixels of a tile, and where its answers go.
struct StemRow {
    const float *region, *plane;          // of the first pixel
    int64_t region_pitch, plane_pitch;    // from pixel to pixel
    int64_t pixels;
    float *to;
};

// Weights, biases and answers of V vectors of representatives.
struct Stem {
    const Program &p;
    const float *weights, *bias;          // bias may be null
    int64_t channel, count;               // the first channel of the answer; representatives
};

// All products of one character, K inputs or (0) any number of them, in the order in which `multiply` sums them.
template <int R, int V, int K>
inline __attribute__((always_inline)) void sum_stem(const Stem &s, int group, const float *region, const float *plane,
                                                    const StemRow &row, Vector (&sum)[R][V]) {
    for (int r = 0; r < R; r++)
        for (int v = 0; v < V; v++) sum[r][v] = Vector{};
    const float *weights = s.weights + s.p.start[group] * s.p.task.inputs * WIDTH;
    for (const Slot *slot = s.p.slots + s.p.start[group]; slot < s.p.slots + s.p.start[group + 1]; slot++) {
        const float *from = (slot->direct ? region : plane) + slot->offset;
        int64_t pitch = slot->direct ? row.region_pitch : row.plane_pitch;
        for (int64_t k = 0; k < (K ? K : s.p.task.inputs); k++, weights += WIDTH) {
            Vector w[V];
            for (int v = 0; v < V; v++) w[v] = load(weights + v * LANES);
#pragma GCC unroll 8
            for (int r = 0; r < R; r++) {
                Vector x = splat(from[r * pitch + k]);
                for (int v = 0; v < V; v++) sum[r][v] += w[v] * x;
            }
        }
    }
}

template <int M, int V, int K> __attribute__((noinline)) void answer_stem(const Stem &s, const StemRow &row) {
    constexpr int MOST = HELD / (M * V), R = MOST < 1 ? 1 : MOST > STEM_ROWS ? (int)STEM_ROWS : MOST;
    int64_t step = s.p.task.out_position[2];
    each_group(row.pixels, R, [&](int64_t at, int64_t pixels) {  // pixels beyond the last one are summed, too, but not stored
        Vector sum[M][R][V];
#pragma GCC unroll 8
        for (int g = 0; g < M; g++)
            sum_stem<R, V, K>(s, g, row.region + at * row.region_pitch, row.plane + at * row.plane_pitch, row, sum[g]);
#pragma GCC unroll 8
        for (int r = 0; r < R; r++)
            for (int v = 0; v < V; v++) {
                if (r >= pixels) return;
                Vector mirrors[M];
                for (int g = 0; g < M; g++) mirrors[g] = sum[g][r][v];
                mirror_characters<M>(s.bias ? load(s.bias + v * LANES) : Vector{}, mirrors);
                store_laced<M>(s.p, mirrors, row.to + (at + r) * step + s.channel + v * LANES * M, s.count - v * LANES);
            }
    });
}

template <int M, int V> inline void answer_stem(const Stem &s, const StemRow &row) {
    switch (s.p.task.inputs) {
    case 1: return answer_stem<M, V, 1>(s, row);
    case 2: return answer_stem<M, V, 2>(s, row);
    case 3: return answer_stem<M, V, 3>(s, row);
    case 4: return answer_stem<M, V, 4>(s, row);
    default: return answer_stem<M, V, 0>(s, row);
    }
}

// All representatives of a row.
template <int M> inline void answer_stem_row(const Program &p, const float *packed, const float *bias, const StemRow &row) {
    const Task &t = p.task;
    constexpr int V = M == 2 ? COLUMNS : 1;
    for (int64_t first = 0; first < t.outputs; first += V * LANES) {
        const float *weights = packed + first / WIDTH * p.slot_count * t.inputs * WIDTH + first % WIDTH;
        Stem s = {p, weights, bias ? bias + first : nullptr, first * M, t.outputs - first};
        V == 1 || s.count <= LANES ? answer_stem<M, 1>(s, row) : answer_stem<M, V>(s, row);
    }
}

inline void answer_stem_tile(const Program &p, const Tile &tile, const float *packed, const float *bias, float *y) {
    const Task &t = p.task;
    int64_t rows = tile.extent[0] * tile.extent[1];
    int64_t first = (tile.first[0] * t.answer[1] + tile.first[1]) * t.answer[2] + tile.first[2];
    StemRow row = {nullptr, nullptr, t.stride[2] * p.region_pitch[2], (p.own[2] ? 1 : t.stride[2]) * p.plane_pitch[2],
                   tile.extent[2], nullptr};
    for (int64_t i = 0; i < tile.pictures * rows; i++) {
        Place place = place_of(p, i / rows, i % rows / tile.extent[1], i % tile.extent[1], 0);
        row.region = tile.regions + place.region;
        row.plane = tile.planes + place.plane;
        row.to = y + (tile.first_picture + i / rows) * t.out_batch + (first + i % rows * row.pixels) * t.out_position[2];
        if (p.out_members == 2) answer_stem_row<2>(p, packed, bias, row);
        if (p.out_members == 4) answer_stem_row<4>(p, packed, bias, row);
        if (p.out_members == 8) answer_stem_row<8>(p, packed, bias, row);
    }
}

}  // namespace
