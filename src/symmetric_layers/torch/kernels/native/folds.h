// Folding: sums and differences of mirrored places, once for all filters.

#pragma once
#include "pictures.h"

namespace {

template <int N> struct FoldAll {
    const Fold &fold;
    const float *from;
    float *to;
    template <class T> void run(int64_t i) const {
        T v[N];
        for (int j = 0; j < N; j++) v[j] = get(from + fold.from[j] + i, (T *)nullptr);
        butterfly<N>(v);
        for (int j = 0; j < N; j++) put(to + fold.to[j] + i, v[j]);
    }
};

// Only one result; the compiler leaves out what the others would need.
template <int N, int C> struct FoldOne {
    const Fold &fold;
    const float *from;
    float *to;
    template <class T> void run(int64_t i) const {
        T v[N];
        for (int j = 0; j < N; j++) v[j] = get(from + fold.from[j] + i, (T *)nullptr);
        butterfly<N>(v);
        put(to + fold.to[0] + i, v[C]);
    }
};

inline void run_fold(const Fold &f, const float *from, float *to, int64_t count) {
    switch (f.count * 16 + f.character) {
    case 31: return sweep(count, FoldAll<2>{f, from, to});
    case 63: return sweep(count, FoldAll<4>{f, from, to});
    case 127: return sweep(count, FoldAll<8>{f, from, to});
    case 32: return sweep(count, FoldOne<2, 0>{f, from, to});
    case 33: return sweep(count, FoldOne<2, 1>{f, from, to});
    case 64: return sweep(count, FoldOne<4, 0>{f, from, to});
    case 65: return sweep(count, FoldOne<4, 1>{f, from, to});
    case 66: return sweep(count, FoldOne<4, 2>{f, from, to});
    case 67: return sweep(count, FoldOne<4, 3>{f, from, to});
    case 128: return sweep(count, FoldOne<8, 0>{f, from, to});
    case 129: return sweep(count, FoldOne<8, 1>{f, from, to});
    case 130: return sweep(count, FoldOne<8, 2>{f, from, to});
    case 131: return sweep(count, FoldOne<8, 3>{f, from, to});
    case 132: return sweep(count, FoldOne<8, 4>{f, from, to});
    case 133: return sweep(count, FoldOne<8, 5>{f, from, to});
    case 134: return sweep(count, FoldOne<8, 6>{f, from, to});
    case 135: return sweep(count, FoldOne<8, 7>{f, from, to});
    }
}

enum { NEAR = 256 };  // floats of a row that are folded in one go

inline void fold_region(const Program &p, const float *region, float *planes) {
    int64_t step[3];
    for (int a = 0; a < 3; a++) step[a] = (p.folded[a] ? p.task.stride[a] : 1) * p.region_pitch[a];
    bool runs = step[2] == p.task.inputs;  // pixels side by side are folded together, as many as the first cache holds
    int64_t together = runs ? least(most(NEAR / p.task.inputs, 1), p.plane[2]) : 1;
    for (int64_t z = 0; z < p.plane[0]; z++)
        for (int64_t y = 0; y < p.plane[1]; y++)
            for (int64_t x = 0; x < p.plane[2]; x += together) {
                const float *from = region + z * step[0] + y * step[1] + x * step[2];
                float *to = planes + z * p.plane_pitch[0] + y * p.plane_pitch[1] + x * p.plane_pitch[2];
                int64_t floats = least(together, p.plane[2] - x) * p.task.inputs;
                for (int f = 0; f < p.fold_count; f++) run_fold(p.folds[f], from, to, floats);
            }
}

// A tile: the same box of some pictures, in the scratch of a thread.
struct Tile {
    float *regions, *planes;
    int32_t *region_at, *plane_at;  // where every pixel begins
    int64_t pixels, first_picture, pictures, first[3], extent[3];
};

// Pixels of a tile, from one up to another.
struct Run {
    int64_t from, to;
};

inline Run both(Run a, Run b) {
    int64_t from = most(a.from, b.from);
    return {from, most(least(a.to, b.to), from)};
}

// The pixels for which a tap lies inside the picture: where it reads padding, there is nothing to add.
inline Run inside(const Program &p, const Tile &tile, const Slot &slot) {
    if (p.folded[1] || tile.pictures > 1 || tile.extent[0] > 1) return {0, tile.pixels};
    int64_t stride = p.task.stride[1], first = tile.first[1] * stride + slot.row;
    int64_t from = most(0, up(-least(first, 0), stride));
    int64_t to = least(tile.extent[1], up(most(p.task.size[1] - first, 0), stride));
    return from < to ? Run{from * tile.extent[2], to * tile.extent[2]} : Run{0, 0};
}

// Which box of which pictures a tile is.
inline void place_box(const Program &p, int64_t number, Tile &tile) {
    for (int a = 2; a >= 0; a--) {
        tile.first[a] = number % p.boxes[a] * p.box[a];
        tile.extent[a] = least(p.box[a], p.task.answer[a] - tile.first[a]);
        number /= p.boxes[a];
    }
    tile.first_picture = number * p.pictures;
    tile.pictures = least(p.pictures, p.task.batch - tile.first_picture);
}

// Where a pixel of a box begins to read: in the regions, and in the planes.
struct Place {
    int64_t region, plane;
};

inline Place place_of(const Program &p, int64_t picture, int64_t z, int64_t y, int64_t x) {
    Place place = {picture * p.region_floats(), picture * p.planes * p.plane_floats};
    int64_t at[3] = {z, y, x};
    for (int a = 0; a < 3; a++) {
        place.region += at[a] * p.task.stride[a] * p.region_pitch[a];
        place.plane += at[a] * (p.folded[a] ? 1 : p.task.stride[a]) * p.plane_pitch[a];
    }
    return place;
}

inline void place_pixels(const Program &p, Tile &tile) {
    int64_t pixel = 0;
    for (int64_t n = 0; n < tile.pictures; n++)
        for (int64_t z = 0; z < tile.extent[0]; z++)
            for (int64_t y = 0; y < tile.extent[1]; y++)
                for (int64_t x = 0; x < tile.extent[2]; x++, pixel++) {
                    Place place = place_of(p, n, z, y, x);
                    tile.region_at[pixel] = (int32_t)place.region;
                    tile.plane_at[pixel] = (int32_t)place.plane;
                }
    tile.pixels = pixel;
}

inline Picture picture_of(const Program &p, const float *x) {
    const Task &t = p.task;
    Picture picture = {x, t.in_channel, {}, {}, p.in_order, p.in_members, p.in_laced, t.inputs, t.inputs};
    for (int a = 0; a < 3; a++) picture.position[a] = t.in_position[a], picture.size[a] = t.size[a];
    return picture;
}

inline void fill_tile(const Program &p, const float *x, Tile &tile) {
    const Task &t = p.task;
    Picture picture = picture_of(p, x);
    int64_t corner[3];
    for (int a = 0; a < 3; a++) corner[a] = tile.first[a] * t.stride[a] - t.padding[a];
    for (int64_t n = 0; n < tile.pictures; n++) {
        float *region = tile.regions + n * p.region_floats();
        picture.from = x + (tile.first_picture + n) * t.in_batch;
        bring_in(picture, corner, p.region, region, p.region_pitch, p.member_pitch);
        if (t.mode == 2) butterfly_all(region, p.members, p.member_pitch, p.member_pitch);
        fold_region(p, region, tile.planes + n * p.planes * p.plane_floats);
    }
}

}  // namespace
