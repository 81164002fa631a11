// Rows of the input, channel by channel, folded about their own axis into strips.

#pragma once
#include "folds.h"
#include "slabs.h"

namespace {

// Some channels of a row of pixels that stand side by side, to the rows of these channels; LANES of them are read.
inline void turn_pixels(const Picture &s, const int32_t *place, int64_t pitch, const float *row, int64_t channels,
                        int64_t count, float *to) {
    float *rows[LANES];
    for (int64_t r = 0; r < channels; r++) rows[r] = to + place[r] * pitch;
    int64_t step = s.position[2], x = 0, beyond = step ? up(LANES - channels, step) : count;  // pixels that are read as well
    for (; x + LANES + beyond <= count; x += LANES) {
        Vector square[LANES];
        for (int r = 0; r < LANES; r++) {
            square[r] = load(row + (x + r) * step);
            __builtin_prefetch(row + (x + r) * step + s.position[1]);  // far caches do not see what comes next by themselves
        }
        lace<LANES>(square);
        for (int64_t r = 0; r < channels; r++) store(rows[r] + x, square[r]);
    }
    for (; x < count; x++)
        for (int64_t r = 0; r < channels; r++) rows[r][x] = row[x * step + r];
}

// Numbers that take turns, to a row of each; N of them.
template <int N> inline void deal(const float *from, int64_t count, float *const *rows) {
    int64_t x = 0;
    for (; x + LANES <= count; x += LANES) {
        Vector v[N];
        for (int i = 0; i < N; i++) v[i] = load(from + x * N + i * LANES);
        unlace<N>(v);
        for (int i = 0; i < N; i++) store(rows[i] + x, v[i]);
    }
    for (; x < count; x++)
        for (int i = 0; i < N; i++) rows[i][x] = from[x * N + i];
}

inline bool deal(int64_t turns, const float *from, int64_t count, float *const *rows) {
    switch (turns) {
    case 2: return deal<2>(from, count, rows), true;
    case 3: return deal<3>(from, count, rows), true;
    case 4: return deal<4>(from, count, rows), true;
    }
    return false;
}

inline bool deal_channels(const Picture &s, const int32_t *place, int64_t pitch, const float *row, int64_t count, float *to) {
    float *rows[FEW];
    int64_t channels = s.members * s.channels;
    if (channels > FEW || s.position[2] != channels) return false;
    for (int64_t channel = 0; channel < channels; channel++) rows[channel] = to + place[channel] * pitch;
    return deal(channels, row, count, rows);
}

// A row of pixels, channel by channel; `place` says where every channel goes, in rows a distance apart.
inline void bring_row_across(const Picture &s, const int32_t *place, int64_t pitch, const float *row, int64_t count,
                             float *to) {
    int64_t channels = s.members * s.channels;
    if (s.channel == 1) {
        if (deal_channels(s, place, pitch, row, count, to)) return;
        for (int64_t channel = 0; channel < channels; channel += LANES) {
            int64_t first = channels < LANES ? 0 : least(channel, channels - LANES);  // the last ones may be turned twice
            turn_pixels(s, place + first, pitch, row + first, least(channels, LANES), count, to);
        }
        return;
    }
    for (int64_t channel = 0; channel < channels; channel++) {
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
    float *rows[FEW];
    int64_t whole = width / stride;
    for (int64_t phase = 0; phase < least(stride, FEW); phase++) rows[phase] = to + phase * a.phase;
    int64_t done = stride <= FEW && deal(stride, from, whole, rows) ? whole : 0;
    for (int64_t phase = 0; phase < stride; phase++) {
        float *own = to + phase * a.phase + done;
        for (int64_t at = done * stride + phase; at < width; at += stride) *own++ = from[at];
    }
}

// All strips of some rows, of inputs or of a plane, that go a `pitch` apart. Whole vectors are written: what they hold
// beyond a row is overwritten by the next one.
inline void spread_rows(const Program &p, const Across &a, int64_t count, const float *row, float *strips, int64_t pitch) {
    int64_t width = p.box[2];
    for (int f = 0; f < a.spread_count; f++) {
        const Spread &s = a.spreads[f];
        const float *here = row + s.from[0], *there = row + s.from[1];
        float *sum = strips + s.to[0] * a.strip, *difference = strips + s.to[s.wanted < 0] * a.strip;
        for (int64_t k = 0; k < count; k++, here += a.parted, there += a.parted, sum += pitch, difference += pitch)
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

// What a box reads of a row: where it begins, and which part of it lies inside the picture.
struct Reach {
    int64_t corner[3], before, inside;
    bool none;
    Reach(const Program &p, const int64_t *from) {
        for (int axis = 0; axis < 3; axis++) corner[axis] = from[axis];
        before = least(most(-corner[2], 0), p.region[2]);
        inside = most(least(p.task.size[2] - corner[2], p.region[2]) - before, 0);
        none = corner[0] < 0 || corner[0] >= p.task.size[0] || !inside;
    }
    bool outside(const Program &p, int64_t y) const { return none || corner[1] + y < 0 || corner[1] + y >= p.task.size[1]; }
    const float *row(const Picture &s, int64_t y) const {
        return s.from + corner[0] * s.position[0] + (corner[1] + y) * s.position[1] + (corner[2] + before) * s.position[2];
    }
};

// The same, from rows as they are brought in: as characters where gradients of pictures are wanted, and in phases.
inline void spread_brought(const Program &p, const Across &a, int64_t count, float *row, float *strips, int64_t pitch) {
    int64_t own = a.held * a.row;
    if (p.task.mode == 2) butterfly_all(row, p.members, count * a.row, own);
    if (p.task.stride[2] == 1) return spread_rows(p, a, count, row, strips, pitch);
    float *parted = row + p.in_members * own;
    for (int64_t g = 0; g < p.in_members; g++)
        for (int64_t i = g * a.held; i < g * a.held + count; i++)
            part_row(a, p.task.stride[2], p.region[2], row + i * a.row, parted + i * a.parted);
    spread_rows(p, a, count, parted, strips, pitch);
}

// All rows of one plane that a box reads, row after row, of all channels of a piece.
inline void fill_by_row(const Program &p, const Across &a, const Picture &s, const Reach &reach, int64_t input, float *row,
                        float *strips) {
    Picture own = s;
    own.from = s.from + (p.in_laced ? p.in_order[input] * s.channel : 0);
    for (int64_t y = 0; y < p.region[1]; y++, strips += a.line) {
        if (reach.outside(p, y)) {
            clear_row(p, a, s.channels, strips);
            continue;
        }
        bring_row_across(own, a.place, a.row, reach.row(own, y), reach.inside, row + reach.before);
        spread_brought(p, a, s.channels, row, strips, a.strips * a.strip);
    }
}

enum { SOON = 4 };  // channels: nothing else fetches rows on pages of their own before they are asked for

// `ahead` is how far away the row lies that is copied soon; 0 for none.
inline void copy_row(const float *from, int64_t count, int64_t ahead, float *to) {
    for (int64_t x = 0; ahead && x < count; x += 16) __builtin_prefetch(from + ahead + x);
    if (count < LANES) return (void)memcpy(to, from, sizeof(float) * count);
    for (int64_t x = 0; x + LANES < count; x += LANES) store(to + x, load(from + x));
    store(to + count - LANES, load(from + count - LANES));
}

// The same channel after channel, where these lie apart: few places are read at a time.
inline void fill_by_channel(const Program &p, const Across &a, const Picture &s, const Reach &reach, int64_t input,
                            float *row, float *strips) {
    for (int64_t i = 0; i < s.channels; i++, strips += a.strips * a.strip) {
        for (int64_t g = 0; g < p.in_members; g++) {
            const int32_t *order = p.in_order + g * p.task.inputs + input;
            const float *channel = reach.row(s, 0) + order[i] * s.channel;
            int64_t ahead = i + SOON < s.channels ? (order[i + SOON] - order[i]) * s.channel : 0;
            float *to = row + g * a.held * a.row + reach.before;
            for (int64_t y = 0; y < p.region[1]; y++, to += a.row)
                if (reach.outside(p, y))
                    memset(to, 0, sizeof(float) * reach.inside);
                else
                    copy_row(channel + y * s.position[1], reach.inside, ahead, to);
        }
        spread_brought(p, a, p.region[1], row, strips, a.line);
    }
}

struct AcrossDesk {
    float *row, *strips, *folded, *sums;
    static int64_t sum_floats(const Program &p, const Across &a) {
        if (a.kept) return p.groups * a.sum_pitch(p);
        return a.ahead ? p.groups * p.task.outputs * ABREAST * LANES : 2 * SUMS * TOGETHER_STORED * LANES;
    }
    static int64_t floats(const Program &p, const Across &a) {
        return a.row_floats(p) + a.floats + a.folded + sum_floats(p, a) + 64;
    }
    void set(const Program &p, const Across &a, float *at) {
        row = at;
        strips = row + up(a.row_floats(p), 16) * 16;
        folded = strips + up(a.floats, 16) * 16;
        sums = folded + a.folded;
    }
};

// Calls `work(z, places, inputs)` for every plane of a tile, when all that it reads of the inputs of a piece is there.
template <class Work>
inline void for_each_slab(const Program &p, const Across &a, const Tile &tile, int64_t input, const float *x,
                          const AcrossDesk &desk, Work work) {
    const Task &t = p.task;
    int64_t corner[3], there = 0;
    for (int axis = 0; axis < 3; axis++) corner[axis] = tile.first[axis] * t.stride[axis] - t.padding[axis];
    Picture picture = picture_of(p, x + tile.first_picture * t.in_batch);
    picture.channels = least(a.piece, t.inputs - input);
    memset(desk.row, 0, sizeof(float) * p.in_members * a.held * a.row);  // padding at both ends of every row
    for (int64_t z = 0; z < tile.extent[0]; z++) {
        int64_t first = z * t.stride[0];
        for (there = most(there, first); there < first + a.planes; there++) {
            int64_t here[3] = {corner[0] + there, corner[1], corner[2]};
            float *plane = desk.strips + there % a.planes * a.plane;
            auto fill = t.in_channel != 1 && t.in_position[2] == 1 ? fill_by_channel : fill_by_row;
            fill(p, a, picture, Reach(p, here), input, desk.row, plane);
        }
        work(z, a.places + first % a.planes * a.places_pitch, picture.channels);
    }
}

}  // namespace
