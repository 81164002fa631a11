// Rows of the input, channel by channel, folded about their own axis into strips.

#pragma once
#include "across.h"
#include "folds.h"

namespace {

// LANES channels of a row of pixels that stand side by side, to the rows of these channels.
inline void turn_pixels(const Picture &s, const int32_t *place, int64_t pitch, const float *row, int64_t channel,
                        int64_t count, float *to) {
    float *rows[LANES];
    for (int r = 0; r < LANES; r++) rows[r] = to + place[channel + r] * pitch;
    int64_t x = 0;
    for (; x + LANES <= count; x += LANES) {
        Vector square[LANES];
        for (int r = 0; r < LANES; r++) square[r] = load(row + (x + r) * s.position[2] + channel);
        lace<LANES>(square);
        for (int r = 0; r < LANES; r++) store(rows[r] + x, square[r]);
    }
    for (; x < count; x++)
        for (int r = 0; r < LANES; r++) rows[r][x] = row[x * s.position[2] + channel + r];
}

// A row of pixels, channel by channel; `place` says where every channel goes, in rows a distance apart.
inline void bring_row_across(const Picture &s, const int32_t *place, int64_t pitch, const float *row, int64_t count,
                             float *to) {
    int64_t channels = s.members * s.channels, channel = 0;
    if (s.channel == 1)
        for (; channel + LANES <= channels; channel += LANES) turn_pixels(s, place, pitch, row, channel, count, to);
    for (; channel < channels; channel++) {
        float *own = to + place[channel] * pitch;
        const float *from = row + channel * s.channel;
        if (s.position[2] == 1)
            memcpy(own, from, sizeof(float) * count);
        else
            for (int64_t x = 0; x < count; x++) own[x] = from[x * s.position[2]];
    }
}

struct FoldPair {
    const float *here, *there;
    float *sum, *difference;
    template <class T> void run(int64_t i) const {
        T a = get(here + i, (T *)nullptr), b = get(there + i, (T *)nullptr);
        if (sum) put(sum + i, a + b);
        if (difference) put(difference + i, a - b);
    }
};

// All strips of one row; `strips` is where those of the first input have it.
inline void spread_row(const Program &p, const Across &a, int64_t inputs, const float *row, float *strips) {
    int64_t width = p.box[2], pitch = a.strips * a.strip;
    for (int f = 0; f < a.spread_count; f++) {
        const Spread &s = a.spreads[f];
        const float *here = row + s.from[0], *there = row + s.from[1];
        float *to[2] = {strips + s.to[0] * a.strip, strips + s.to[s.wanted < 0] * a.strip};
        for (int64_t k = 0; k < inputs; k++, here += a.row, there += a.row, to[0] += pitch, to[1] += pitch)
            if (s.count == 1)
                memcpy(to[0], here, sizeof(float) * width);
            else
                sweep(width, FoldPair{here, there, s.wanted == 1 ? nullptr : to[0], s.wanted == 0 ? nullptr : to[1]});
    }
}

inline void clear_row(const Program &p, const Across &a, int64_t inputs, float *strips) {
    for (int64_t i = 0; i < inputs * a.strips; i++) memset(strips + i * a.strip, 0, sizeof(float) * p.box[2]);
}

// All rows that a box reads. `row` is room for one, of all channels of a piece.
inline void fill_strips(const Program &p, const Across &a, const Picture &s, const int64_t *corner, float *row,
                        float *strips) {
    int64_t before = least(most(-corner[2], 0), p.region[2]), own = a.piece * a.row;
    int64_t inside = most(least(s.size[2] - corner[2], p.region[2]) - before, 0);
    if (inside < p.region[2]) memset(row, 0, sizeof(float) * a.row_floats(p));
    for (int64_t z = 0; z < p.region[0]; z++)
        for (int64_t y = 0; y < p.region[1]; y++) {
            int64_t down = corner[0] + z, along = corner[1] + y;
            float *to = strips + z * a.plane + y * a.line;
            if (down < 0 || along < 0 || down >= s.size[0] || along >= s.size[1] || !inside) {
                clear_row(p, a, s.channels, to);
                continue;
            }
            if (inside < p.region[2] && p.task.mode == 2) memset(row, 0, sizeof(float) * a.row_floats(p));
            const float *from = s.from + down * s.position[0] + along * s.position[1];
            bring_row_across(s, a.place, a.row, from + (corner[2] + before) * s.position[2], inside, row + before);
            if (p.task.mode == 2) butterfly_all(row, p.members, own, own);
            spread_row(p, a, s.channels, row, to);
        }
}

}  // namespace
