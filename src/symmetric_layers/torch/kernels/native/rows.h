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

// Places a stride apart are put side by side: those of one phase after those of another.
inline void part_row(const Across &a, int64_t stride, int64_t width, const float *from, float *to) {
    int64_t x = 0;
    if (stride == 2)
        for (; x + 2 * LANES <= width; x += 2 * LANES) {
            Vector first = load(from + x), second = load(from + x + LANES);
            store(to + x / 2, even(first, second));
            store(to + a.phase + x / 2, odd(first, second));
        }
    for (; x < width; x++) to[x % stride * a.phase + x / stride] = from[x];
}

// All strips of one row; `strips` is where those of the first input have it. Whole vectors are written: what they hold
// beyond the row is overwritten by the next one.
inline void spread_row(const Program &p, const Across &a, int64_t inputs, const float *row, float *strips) {
    int64_t width = p.box[2], pitch = a.strips * a.strip;
    for (int f = 0; f < a.spread_count; f++) {
        const Spread &s = a.spreads[f];
        const float *here = row + s.from[0], *there = row + s.from[1];
        float *sum = strips + s.to[0] * a.strip, *difference = strips + s.to[s.wanted < 0] * a.strip;
        for (int64_t k = 0; k < inputs; k++, here += a.parted, there += a.parted, sum += pitch, difference += pitch)
            for (int64_t x = 0; x < width; x += LANES) {
                Vector one = load(here + x), other = s.count == 1 ? Vector{} : load(there + x);
                if (s.count == 1)
                    store(sum + x, one);
                else {
                    if (s.wanted != 1) store(sum + x, one + other);
                    if (s.wanted != 0) store(difference + x, one - other);
                }
            }
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
    bool strided = p.task.stride[2] > 1;
    float *parted = strided ? row + p.in_members * own : row;
    if (inside < p.region[2]) memset(row, 0, sizeof(float) * p.in_members * own);
    for (int64_t z = 0; z < p.region[0]; z++)
        for (int64_t y = 0; y < p.region[1]; y++) {
            int64_t down = corner[0] + z, along = corner[1] + y;
            float *to = strips + z * a.plane + y * a.line;
            if (down < 0 || along < 0 || down >= s.size[0] || along >= s.size[1] || !inside) {
                clear_row(p, a, s.channels, to);
                continue;
            }
            if (inside < p.region[2] && p.task.mode == 2) memset(row, 0, sizeof(float) * p.in_members * own);
            const float *from = s.from + down * s.position[0] + along * s.position[1];
            bring_row_across(s, a.place, a.row, from + (corner[2] + before) * s.position[2], inside, row + before);
            if (p.task.mode == 2) butterfly_all(row, p.members, own, own);
            if (strided)
                for (int64_t i = 0; i < p.in_members * a.piece; i++)
                    part_row(a, p.task.stride[2], p.region[2], row + i * a.row, parted + i * a.parted);
            spread_row(p, a, s.channels, parted, to);
        }
}

}  // namespace
