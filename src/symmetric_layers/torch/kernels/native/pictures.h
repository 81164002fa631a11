// Pieces of pictures brought into the scratch, and answers stored from it; both memory formats, without copies.

#pragma once
#include "boxes.h"

namespace {

struct Picture {
    const float *from;
    int64_t channel, position[3], size[3];
    const int32_t *order;
    int members;
    bool laced;                // members of an orbit side by side, from the first channel on
    int64_t channels, padded;  // of a member, and the places they take in the scratch
};

template <int M> inline void unlace_run(const float *from, int64_t channels, float *to, int64_t pitch) {
    int64_t i = 0;
    for (; i + LANES <= channels; i += LANES) {
        Vector rows[M];
        for (int g = 0; g < M; g++) rows[g] = load(from + i * M + g * LANES);
        unlace<M>(rows);
        for (int g = 0; g < M; g++) store(to + g * pitch + i, rows[g]);
    }
    for (; i < channels; i++)
        for (int g = 0; g < M; g++) to[g * pitch + i] = from[i * M + g];
}

// Pixels without a gap are one run.
inline void bring_channels_last(const Picture &s, const float *row, int64_t count, float *to, int64_t pitch) {
    bool gapless = s.position[2] == s.members * s.channels && s.channels == s.padded;
    int64_t channels = gapless ? count * s.channels : s.channels;
    for (int64_t x = 0; x < (gapless ? 1 : count); x++, row += s.position[2], to += s.padded) {
        if (s.members == 1) memcpy(to, row, sizeof(float) * channels);
        if (s.members == 2) unlace_run<2>(row, channels, to, pitch);
        if (s.members == 4) unlace_run<4>(row, channels, to, pitch);
        if (s.members == 8) unlace_run<8>(row, channels, to, pitch);
    }
}

// LANES channels of a row of contiguous pixels: squares are transposed in registers.
inline void bring_square(const float *const *rows, int64_t count, float *to, int64_t padded) {
    int64_t x = 0;
    for (; x + LANES <= count; x += LANES) {
        Vector square[LANES];
        for (int r = 0; r < LANES; r++) square[r] = load(rows[r] + x);
        lace<LANES>(square);
        for (int r = 0; r < LANES; r++) store(to + (x + r) * padded, square[r]);
    }
    for (; x < count; x++)
        for (int r = 0; r < LANES; r++) to[x * padded + r] = rows[r][x];
}

// All N channels of a member, of a row of contiguous pixels.
template <int N> inline void bring_few(const Picture &s, const float *row, const int32_t *order, int64_t count, float *to) {
    int64_t x = 0;
    for (; x + LANES <= count; x += LANES) {
        Vector rows[N];
        for (int i = 0; i < N; i++) rows[i] = load(row + order[i] * s.channel + x);
        lace<N>(rows);
        for (int i = 0; i < N; i++) store(to + x * N + i * LANES, rows[i]);
    }
    for (; x < count; x++)
        for (int i = 0; i < N; i++) to[x * N + i] = row[order[i] * s.channel + x];
}

inline bool bring_few(const Picture &s, const float *row, const int32_t *order, int64_t count, float *to) {
    if (s.position[2] != 1 || s.padded != s.channels) return false;
    switch (s.channels) {
    case 1: return bring_few<1>(s, row, order, count, to), true;
    case 2: return bring_few<2>(s, row, order, count, to), true;
    case 4: return bring_few<4>(s, row, order, count, to), true;
    case 8: return bring_few<8>(s, row, order, count, to), true;
    }
    return false;
}

// Channels of a member, from one up to another, of a row.
inline void bring_scattered(const Picture &s, int g, int64_t channel, int64_t end, const float *row, int64_t count, float *to) {
    const int32_t *order = s.order + g * s.channels;
    if (end - channel == LANES && s.position[2] == 1) {
        const float *rows[LANES];
        for (int r = 0; r < LANES; r++) rows[r] = row + order[channel + r] * s.channel;
        return bring_square(rows, count, to + channel, s.padded);
    }
    if (end - channel == s.channels && bring_few(s, row, order, count, to)) return;
    for (; channel < end; channel++)
        for (int64_t x = 0; x < count; x++) to[x * s.padded + channel] = row[order[channel] * s.channel + x * s.position[2]];
}

// Calls `work(row of the picture, its place)` for the rows of a region that lie inside.
template <class Work>
inline void each_row(const Picture &s, const int64_t *corner, const int64_t *extent, const int64_t *pitch, float *to, Work work) {
    for (int64_t z = 0; z < extent[0]; z++)
        for (int64_t y = 0; y < extent[1]; y++) {
            int64_t down = corner[0] + z, along = corner[1] + y;
            bool outside = down < 0 || along < 0 || down >= s.size[0] || along >= s.size[1];
            work(outside ? nullptr : s.from + down * s.position[0] + along * s.position[1], to + z * pitch[0] + y * pitch[1]);
        }
}

// [member][z][y][x][channel] of the region that begins at `corner`; zeros outside the picture.
inline void bring_in(const Picture &s, const int64_t *corner, const int64_t *extent, float *to, const int64_t *pitch,
                     int64_t member_pitch) {
    int64_t before = least(most(-corner[2], 0), extent[2]);
    int64_t inside = most(least(s.size[2] - corner[2], extent[2]) - before, 0);
    int64_t after = extent[2] - before - inside, first = (corner[2] + before) * s.position[2];
    bool last = s.channel == 1 && s.laced;
    each_row(s, corner, extent, pitch, to, [&](const float *from, float *row) {
        bool outside = !from || !inside;
        for (int g = 0; g < s.members; g++) {
            float *member = row + g * member_pitch;
            memset(member, 0, sizeof(float) * s.padded * (outside ? extent[2] : before));
            if (!outside) memset(member + (before + inside) * s.padded, 0, sizeof(float) * s.padded * after);
        }
        if (last && !outside) bring_channels_last(s, from + first, inside, row + before * s.padded, member_pitch);
    });
    if (last || !inside) return;
    for (int g = 0; g < s.members; g++)
        for (int64_t channel = 0; channel < s.channels; channel += LANES)
            each_row(s, corner, extent, pitch, to + g * member_pitch, [&](const float *from, float *row) {
                if (from) bring_scattered(s, g, channel, least(channel + LANES, s.channels), from + first, inside, row + before * s.padded);
            });
}

struct Butterfly {
    float *values;
    int64_t pitch;
};
template <int N> struct ButterflyOf : Butterfly {
    template <class T> inline __attribute__((always_inline)) void run(int64_t i) const {
        T v[N];
        for (int g = 0; g < N; g++) v[g] = get(values + g * pitch + i, (T *)nullptr);
        butterfly<N>(v);
        for (int g = 0; g < N; g++) put(values + g * pitch + i, v[g]);
    }
};

// Members become characters, in place.
inline void butterfly_all(float *values, int members, int64_t count, int64_t pitch) {
    if (members == 2) sweep(count, ButterflyOf<2>{{values, pitch}});
    if (members == 4) sweep(count, ButterflyOf<4>{{values, pitch}});
    if (members == 8) sweep(count, ButterflyOf<8>{{values, pitch}});
}

// --- Answers: sums [group][pixel][WIDTH] become channels of pictures --------------------------------------------------

struct Answer {
    float *to;                // of the first pixel
    const float *sums, *bias; // WIDTH of one block; bias may be null
    int64_t group_pitch, pixels, first, count;
};

// Sums of characters become those of members.
template <int M> inline void mirror_characters(Vector bias, Vector *v) {
    v[0] += bias;  // at least zero is added: no sum is a negative zero
    for (int g = 1; g < M; g++) v[g] += Vector{};
    butterfly<M>(v);
}

template <int M> inline void mirror_sums(const Answer &a, int64_t pixel, int64_t lane, Vector *v) {
    for (int g = 0; g < M; g++) v[g] = load(a.sums + g * a.group_pitch + pixel * WIDTH + lane);
    mirror_characters<M>(a.bias ? load(a.bias + lane) : Vector{}, v);
}

// How the answer of a call is written, which begins at `y`.
inline Keeping keeping_for(const Program &p, const float *y) {
    const Task &t = p.task;
    int64_t channels = (p.spaced && p.apart ? 1 : p.out_members) * t.outputs;
    int64_t pixels = t.written[0] * t.written[1] * t.written[2];  // of all phases together, where answers are spaced
    int64_t span = (t.batch - 1) * t.out_batch + (p.spaced ? 0 : channels - 1) * t.out_channel + 1;
    for (int a = 0; a < 3; a++) span += (t.written[a] - 1) * t.out_position[a];
    if (t.add) return ADDING;
    return t.batch * channels * pixels * 4 > t.caches && is_touched(y, span) ? PASSING : WRITING;
}

// The members of LANES representatives, or of `count` if these are fewer, side by side.
template <int M> inline void store_laced(const Program &p, Vector *v, float *to, int64_t count) {
    lace<M>(v);
    int64_t wanted = least(count, LANES) * M;
    for (int g = 0; g < M; g++)
        if (wanted >= (g + 1) * LANES)
            keep(to + g * LANES, v[g], p.keeping);
        else if (wanted > g * LANES)
            keep_some(to + g * LANES, v[g], wanted - g * LANES, p.keeping);
}

template <int M> inline void store_channels_last(const Program &p, const Answer &a) {
    int64_t step = p.task.out_position[2];
    for (int64_t pixel = 0; pixel < a.pixels; pixel++)
        for (int64_t lane = 0; lane < a.count; lane += LANES) {
            Vector v[M];
            mirror_sums<M>(a, pixel, lane, v);
            store_laced<M>(p, v, a.to + pixel * step + (a.first + lane) * M, a.count - lane);
        }
}

enum { MANY = 4 * LANES };  // pixels that are put together

// Channels of LANES representatives, of some pixels: [member][lane][MANY].
template <int M> inline void put_together(const Answer &a, int64_t lane, int64_t pixel, int64_t pixels, float *together) {
    for (int64_t x = 0; x < pixels; x += LANES) {
        Vector v[M][LANES];
        int64_t here = least(pixels - x, LANES);
        for (int g = 0; g < (here < LANES ? M : 0); g++)
            for (Vector &empty : v[g]) empty = Vector{};
        for (int64_t i = 0; i < here; i++) {
            Vector one[M];
            mirror_sums<M>(a, pixel + x + i, lane, one);
            for (int g = 0; g < M; g++) v[g][i] = one[g];
        }
        for (int g = 0; g < M; g++) {
            lace<LANES>(v[g]);
            for (int i = 0; i < LANES; i++) store(together + (g * LANES + i) * MANY + x, v[g][i]);
        }
    }
}

// Many pixels are put together first, so that every channel is written in one run.
template <int M> inline void store_scattered(const Program &p, const Answer &a) {
    const Task &t = p.task;
    float together[M * LANES * MANY] __attribute__((aligned(64)));
    for (int64_t lane = 0; lane < a.count; lane += LANES) {
        int64_t channels = least(a.count - lane, LANES);
        for (int64_t pixel = 0; pixel < a.pixels; pixel += MANY) {
            int64_t pixels = least(a.pixels - pixel, MANY);
            put_together<M>(a, lane, pixel, pixels, together);
            for (int g = 0; g < M; g++)
                for (int64_t i = 0; i < channels; i++) {
                    int32_t channel = p.out_order[g * t.outputs + a.first + lane + i];
                    float *to = a.to + channel * t.out_channel + pixel * t.out_position[2];
                    const float *from = together + (g * LANES + i) * MANY;
                    int64_t x = 0;
                    if (t.out_position[2] == 1) {
                        for (; x + LANES <= pixels; x += LANES) keep(to + x, load(from + x), p.keeping);
                        if (x < pixels) keep_some(to + x, load(from + x), pixels - x, p.keeping);
                    } else
                        for (; x < pixels; x++) keep(to + x * t.out_position[2], from[x], p.keeping);
                }
        }
    }
}

template <int M> inline void store_members(const Program &p, const Answer &a) {
    if (p.task.out_channel == 1 && p.out_laced)
        store_channels_last<M>(p, a);
    else
        store_scattered<M>(p, a);
}

inline void store_answer(const Program &p, const Answer &a) {
    if (p.out_members == 1) store_members<1>(p, a);
    if (p.out_members == 2) store_members<2>(p, a);
    if (p.out_members == 4) store_members<4>(p, a);
    if (p.out_members == 8) store_members<8>(p, a);
}

}  // namespace
