// The same product with pixels in the lanes of the vectors: for few representatives, which would leave lanes empty.
//
// Everything is kept channel by channel: the region, and for every slot a dense plane of the tile's pixels. Inputs come
// piece by piece, which leaves room for larger tiles: their edges are brought in less often. The order in which a
// pixel's products are summed is the same everywhere, as it is with representatives in the lanes.

#pragma once
#include "weights.h"
#include "folds.h"

namespace {

enum { STREAMS = 4, ABREAST = 3 };  // representatives times vectors of pixels, summed in registers

// A fold, or a copy where nothing mirrors the tap, into the planes of slots.
struct Spread {
    int count, character;
    int64_t from[MEMBERS];
    int to[MEMBERS];  // slots
};

struct Across {
    int64_t row, plane, channel, member;  // of the region: distances in floats
    int64_t pixels, padded;               // of a tile; whole vectors
    int64_t piece;                        // inputs that are folded in one go
    int32_t *place;                       // of every input channel of a piece: member * piece + input
    Spread *spreads;
    int spread_count;
    int64_t region_floats(const Program &p) const { return p.in_members * member; }
    int64_t plane_floats(const Program &p) const { return p.slot_count * piece * padded; }
    int64_t sum_pitch(const Program &p) const { return p.task.outputs * padded; }  // from group to group
};

// Measured: with half of the lanes empty always, with one vector of representatives where runs of inputs are short.
inline bool suits_across(const Program &p) {
    const Task &t = p.task;
    bool few = t.outputs <= LANES / 2 || (t.outputs <= LANES && t.inputs <= 2 * LANES);
    return few && t.stride[2] == 1 && t.answer[2] >= LANES;
}

inline int64_t across_offset(const Program &p, const Across &a, const int64_t *q) {
    const int64_t *d = p.task.dilation;
    return q[0] * d[0] * a.plane + q[1] * d[1] * a.row + q[2] * d[2];
}

inline void add_spread(const Program &p, Across &a, const int64_t *q, const Class &c, const Recipe &r, int wanted) {
    Spread &s = a.spreads[a.spread_count++];
    s.count = c.count;
    s.character = wanted;
    for (int i = 0; i < c.count; i++) {
        int64_t at[3];
        reflect(p, c.mirror[i], q, at);
        int member = p.deep ? c.mirror[i] : wanted < 0 ? 0 : c.mirror[wanted];
        s.from[i] = member * a.member + across_offset(p, a, at);
        s.to[i] = r.slot[i];
    }
    if (wanted >= 0) s.to[0] = r.slot[wanted];
}

// Boxes are as before, but for how much a pixel takes.
inline bool prepare_across(Program &p, Across &a) {
    const Task &t = p.task;
    a.piece = p.in_laced ? least(most(LANES / p.in_members, 1), t.inputs) : t.inputs;
    cut_boxes(p, p.slot_count * a.piece + 3 * p.in_members * a.piece + p.groups * t.outputs);
    p.pictures = 1;
    p.tiles = t.batch * p.boxes[0] * p.boxes[1] * p.boxes[2];
    lay_out(p);
    a.row = p.region[2];
    a.plane = p.region[1] * a.row;
    a.channel = staggered(p.region[0] * a.plane);
    a.member = a.piece * a.channel;
    a.pixels = p.box_pixels();
    a.padded = staggered(up(a.pixels, LANES) * LANES);
    a.spread_count = 0;
    a.spreads = (Spread *)malloc(sizeof(Spread) * p.taps * MEMBERS);
    a.place = (int32_t *)malloc(sizeof(int32_t) * p.in_members * a.piece);
    if (!a.spreads || !a.place) return false;
    for (int64_t g = 0; g < p.in_members; g++)
        for (int64_t i = 0; i < a.piece; i++) a.place[p.in_order[g * t.inputs + i]] = (int32_t)(g * a.piece + i);
    for_each_class(p, [&](const int64_t *q, const Class &c) {
        const Recipe &r = p.recipes[tap_at(p, q)];
        if (t.mode < 2) return add_spread(p, a, q, c, r, -1);
        for (int i = 0; i < c.count; i++) add_spread(p, a, q, c, r, i);
    });
    return true;
}

inline void dismiss(Across &a) {
    free(a.spreads);
    free(a.place);
}

// LANES channels of a row of pixels that stand side by side, to the rows of these channels.
inline void turn_pixels(const Picture &s, const Across &a, const float *row, int64_t channel, int64_t count, float *to) {
    float *rows[LANES];
    for (int r = 0; r < LANES; r++) rows[r] = to + a.place[channel + r] * a.channel;
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

inline void bring_row_across(const Picture &s, const Across &a, const float *row, int64_t count, float *to) {
    int64_t channels = s.members * s.channels, channel = 0;
    if (s.channel == 1)
        for (; channel + LANES <= channels; channel += LANES) turn_pixels(s, a, row, channel, count, to);
    for (; channel < channels; channel++) {
        float *own = to + a.place[channel] * a.channel;
        const float *from = row + channel * s.channel;
        if (s.position[2] == 1)
            memcpy(own, from, sizeof(float) * count);
        else
            for (int64_t x = 0; x < count; x++) own[x] = from[x * s.position[2]];
    }
}

inline void bring_in_across(const Program &p, const Across &a, const Picture &s, const int64_t *corner, float *to) {
    int64_t before = least(most(-corner[2], 0), p.region[2]);
    int64_t inside = most(least(s.size[2] - corner[2], p.region[2]) - before, 0);
    bool whole = inside == p.region[2] && corner[0] >= 0 && corner[1] >= 0 && corner[0] + p.region[0] <= s.size[0] &&
                 corner[1] + p.region[1] <= s.size[1];
    if (!whole) memset(to, 0, sizeof(float) * a.region_floats(p));
    for (int64_t z = 0; z < p.region[0]; z++)
        for (int64_t y = 0; y < p.region[1]; y++) {
            int64_t down = corner[0] + z, along = corner[1] + y;
            if (down < 0 || along < 0 || down >= s.size[0] || along >= s.size[1] || !inside) continue;
            const float *row = s.from + down * s.position[0] + along * s.position[1];
            bring_row_across(s, a, row + (corner[2] + before) * s.position[2], inside,
                             to + z * a.plane + y * a.row + before);
        }
}

template <int N> struct SpreadAll {
    const float *from;
    const int64_t *places;
    float *const *to;
    template <class T> void run(int64_t i) const {
        T v[N];
        for (int j = 0; j < N; j++) v[j] = get(from + places[j] + i, (T *)nullptr);
        butterfly<N>(v);
        for (int j = 0; j < N; j++) put(to[j] + i, v[j]);
    }
};

template <int N> inline void spread_row(const Spread &s, const float *from, float *const *to, int64_t count) {
    if (s.character < 0) return sweep(count, SpreadAll<N>{from, s.from, to});
    for (int64_t i = 0; i < count; i++) {  // one result of the butterfly
        float v[N];
        for (int j = 0; j < N; j++) v[j] = from[s.from[j] + i];
        butterfly<N>(v);
        to[0][i] = v[s.character];
    }
}

inline void spread_box(const Program &p, const Across &a, const Tile &tile, int64_t inputs, const float *region,
                       float *planes) {
    int64_t pixel = 0;
    for (int64_t z = 0; z < tile.extent[0]; z++)
        for (int64_t y = 0; y < tile.extent[1]; y++, pixel += tile.extent[2])
            for (int f = 0; f < a.spread_count; f++) {
                const Spread &s = a.spreads[f];
                const float *from = region + z * p.task.stride[0] * a.plane + y * p.task.stride[1] * a.row;
                for (int64_t c = 0; c < inputs; c++, from += a.channel) {
                    float *to[MEMBERS];
                    for (int j = 0; j < (s.character < 0 ? s.count : 1); j++)
                        to[j] = planes + (s.to[j] * a.piece + c) * a.padded + pixel;
                    if (s.count == 1) memcpy(to[0], from + s.from[0], sizeof(float) * tile.extent[2]);
                    if (s.count == 2) spread_row<2>(s, from, to, tile.extent[2]);
                    if (s.count == 4) spread_row<4>(s, from, to, tile.extent[2]);
                    if (s.count == 8) spread_row<8>(s, from, to, tile.extent[2]);
                }
            }
}

// The slots of a group, for the inputs of a piece.
struct Flow {
    const float *planes, *weights;
    int slots;
    int64_t inputs, plane_pitch, weight_pitch, padded;  // from slot to slot; from input to input
    bool fresh;                                         // nothing was summed before
};

template <int R, int C> __attribute__((noinline)) void stream(const Flow &f, int64_t at, float *sums) {
    Vector sum[R][C];
    for (int r = 0; r < R; r++)
        for (int c = 0; c < C; c++) sum[r][c] = f.fresh ? Vector{} : load(sums + r * f.padded + c * LANES);
    for (int s = 0; s < f.slots; s++) {
        const float *planes = f.planes + s * f.plane_pitch + at, *weights = f.weights + s * f.weight_pitch;
        for (int64_t k = 0; k < f.inputs; k++, planes += f.padded, weights += WIDTH) {
            Vector x[C];
            for (int c = 0; c < C; c++) x[c] = load(planes + c * LANES);
            for (int r = 0; r < R; r++) {
                Vector w = splat(weights[r]);
                for (int c = 0; c < C; c++) sum[r][c] += x[c] * w;
            }
        }
    }
    for (int r = 0; r < R; r++)
        for (int c = 0; c < C; c++) store(sums + r * f.padded + c * LANES, sum[r][c]);
}

template <int R> inline void stream_some(int64_t vectors, const Flow &f, int64_t at, float *sums) {
    if (vectors == 1) stream<R, 1>(f, at, sums + at);
    if (vectors == 2) stream<R, 2>(f, at, sums + at);
    if (vectors == 3) stream<R, 3>(f, at, sums + at);
}

// Adds to the sums of a group: [representative][pixel], for STREAMS representatives from `first` on.
inline void stream_group(const Program &p, const Flow &f, int64_t first, int64_t pixels, float *sums) {
    int64_t vectors = up(pixels, LANES), at = 0;
    for (int64_t groups = up(vectors, ABREAST); groups > 0; groups--) {
        int64_t here = up(vectors, groups);
        vectors -= here;
        switch (least(STREAMS, p.task.outputs - first)) {
        case 1: stream_some<1>(here, f, at, sums); break;
        case 2: stream_some<2>(here, f, at, sums); break;
        case 3: stream_some<3>(here, f, at, sums); break;
        default: stream_some<STREAMS>(here, f, at, sums);
        }
        at += here * LANES;
    }
}

// All sums of a tile, [group][representative][pixel], for the inputs of a piece.
inline void stream_piece(const Program &p, const Across &a, int64_t input, int64_t inputs, int64_t pixels,
                         const float *planes, const float *packed, float *sums) {
    for (int64_t first = 0; first < p.task.outputs; first += STREAMS)
        for (int group = 0; group < p.groups; group++) {
            int slot = p.start[group];
            const float *weights = packed + (slot * p.task.inputs + input) * WIDTH + first;
            Flow f = {planes + slot * a.piece * a.padded, weights, p.start[group + 1] - slot, inputs,
                      a.piece * a.padded, p.task.inputs * WIDTH, a.padded, input == 0};
            stream_group(p, f, first, pixels, sums + group * a.sum_pitch(p) + first * a.padded);
        }
}

// LANES pixels of the members of STREAMS representatives, channel after channel.
template <int M>
inline void mirror_streams(const Program &p, const Across &a, const float *sums, const float *bias, int64_t count,
                           int64_t pixel, Vector *channels) {
    for (int64_t o = 0; o < count; o++) {
        Vector *v = channels + o * M;
        for (int g = 0; g < M; g++) v[g] = load(sums + g * a.sum_pitch(p) + o * a.padded + pixel);
        v[0] += splat(bias ? bias[o] : 0.0f);  // at least zero is added: no sum is a negative zero
        for (int g = 1; g < M; g++) v[g] += Vector{};
        butterfly<M>(v);
    }
}

template <int M>
inline void store_streams(const Program &p, const Across &a, const float *sums, const float *bias, int64_t first,
                          int64_t pixels, float *y) {
    const Task &t = p.task;
    int64_t count = least(STREAMS, t.outputs - first), step = t.out_position[2];
    bool side_by_side = t.out_channel == 1 && p.out_laced;
    for (int64_t pixel = 0; pixel < pixels; pixel += LANES) {
        Vector channels[STREAMS * M + LANES];
        mirror_streams<M>(p, a, sums, bias ? bias + first : nullptr, count, pixel, channels);
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

struct AcrossDesk {
    float *region, *planes, *sums;
    static int64_t floats(const Program &p, const Across &a) {
        return a.region_floats(p) + a.plane_floats(p) + p.groups * a.sum_pitch(p) + 64;
    }
    void set(const Program &p, const Across &a, float *at) {
        region = at;
        planes = region + up(a.region_floats(p), 16) * 16;
        sums = planes + a.plane_floats(p);
    }
};

inline void answer_across(const Program &p, const Across &a, int64_t number, const float *x, const float *packed,
                          const float *bias, float *y, const AcrossDesk &desk) {
    const Task &t = p.task;
    Tile tile;
    place_box(p, number, tile);
    int64_t pixels = tile.extent[0] * tile.extent[1] * tile.extent[2], corner[3];
    for (int axis = 0; axis < 3; axis++) corner[axis] = tile.first[axis] * t.stride[axis] - t.padding[axis];
    for (int64_t input = 0; input < t.inputs; input += a.piece) {
        int64_t inputs = least(a.piece, t.inputs - input);
        Picture picture = picture_of(p, x + tile.first_picture * t.in_batch + p.in_order[input] * t.in_channel);
        picture.channels = inputs;
        bring_in_across(p, a, picture, corner, desk.region);
        if (t.mode == 2) butterfly_all(desk.region, p.members, a.member, a.member);
        spread_box(p, a, tile, inputs, desk.region, desk.planes);
        stream_piece(p, a, input, inputs, pixels, desk.planes, packed, desk.sums);
    }
    int64_t begin = (tile.first[0] * t.answer[1] + tile.first[1]) * t.answer[2] + tile.first[2];
    float *to = y + tile.first_picture * t.out_batch + begin * t.out_position[2];
    for (int64_t first = 0; first < t.outputs; first += STREAMS) {
        const float *sums = desk.sums + first * a.padded;
        if (p.out_members == 1) store_streams<1>(p, a, sums, bias, first, pixels, to);
        if (p.out_members == 2) store_streams<2>(p, a, sums, bias, first, pixels, to);
        if (p.out_members == 4) store_streams<4>(p, a, sums, bias, first, pixels, to);
        if (p.out_members == 8) store_streams<8>(p, a, sums, bias, first, pixels, to);
    }
}

}  // namespace
