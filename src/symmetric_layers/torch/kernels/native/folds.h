// Folding: sums and differences of mirrored places, once for all filters.

#pragma once
#include "pictures.h"

namespace {

template <int N> struct FoldAll {
    const float *from[N];
    float *to[N];
    FoldAll(const Fold &f, const float *first, float *into) {
        for (int j = 0; j < N; j++) from[j] = first + f.from[j], to[j] = into + f.to[j];
    }
    template <class T> inline __attribute__((always_inline)) void run(int64_t i, int64_t at) const {
        T v[N];
        for (int j = 0; j < N; j++) v[j] = get(from[j] + i, (T *)nullptr);
        butterfly<N>(v);
        for (int j = 0; j < N; j++) put(to[j] + at, v[j]);
    }
};

// Only one result; the compiler leaves out what the others would need.
template <int N, int C> struct FoldOne {
    const float *from[N];
    float *to;
    FoldOne(const Fold &f, const float *first, float *into) : to(into + f.to[0]) {
        for (int j = 0; j < N; j++) from[j] = first + f.from[j];
    }
    template <class T> inline __attribute__((always_inline)) void run(int64_t i, int64_t at) const {
        T v[N];
        for (int j = 0; j < N; j++) v[j] = get(from[j] + i, (T *)nullptr);
        butterfly<N>(v);
        put(to + at, v[C]);
    }
};

// Pixels of a row that are folded in one go: runs of so many numbers, so far apart.
struct Pixels {
    int64_t count, floats, from, to;
};

// A fold at a place of its own: what is read and what is written are apart.
template <class Work> struct Moved {
    const Work &work;
    int64_t from, to;
    template <class T> inline __attribute__((always_inline)) void run(int64_t i) const { work.template run<T>(from + i, to + i); }
};

// Whole vectors of all pixels first, so that all places stay in registers.
template <class Work>
__attribute__((noinline)) void fold_pixels(const Fold &f, const float *first, float *into, const Pixels &p) {
    Work work(f, first, into);
    int64_t whole = p.floats / LANES * LANES, from = 0, to = 0;
    for (int64_t i = 0; i < p.count; i++, from += p.from, to += p.to)
        for (int64_t k = 0; k < whole; k += LANES) work.template run<Vector>(from + k, to + k);
    if (whole == p.floats) return;
    for (int64_t i = 0; i < p.count; i++)
        sweep(p.floats - whole, Moved<Work>{work, i * p.from + whole, i * p.to + whole});
}

inline void run_fold(const Fold &f, const float *from, float *to, const Pixels &p) {
    switch (f.count * 16 + f.character) {
    case 15: case 16: return fold_pixels<FoldAll<1>>(f, from, to, p);
    case 31: return fold_pixels<FoldAll<2>>(f, from, to, p);
    case 63: return fold_pixels<FoldAll<4>>(f, from, to, p);
    case 127: return fold_pixels<FoldAll<8>>(f, from, to, p);
    case 32: return fold_pixels<FoldOne<2, 0>>(f, from, to, p);
    case 33: return fold_pixels<FoldOne<2, 1>>(f, from, to, p);
    case 64: return fold_pixels<FoldOne<4, 0>>(f, from, to, p);
    case 65: return fold_pixels<FoldOne<4, 1>>(f, from, to, p);
    case 66: return fold_pixels<FoldOne<4, 2>>(f, from, to, p);
    case 67: return fold_pixels<FoldOne<4, 3>>(f, from, to, p);
    case 128: return fold_pixels<FoldOne<8, 0>>(f, from, to, p);
    case 129: return fold_pixels<FoldOne<8, 1>>(f, from, to, p);
    case 130: return fold_pixels<FoldOne<8, 2>>(f, from, to, p);
    case 131: return fold_pixels<FoldOne<8, 3>>(f, from, to, p);
    case 132: return fold_pixels<FoldOne<8, 4>>(f, from, to, p);
    case 133: return fold_pixels<FoldOne<8, 5>>(f, from, to, p);
    case 134: return fold_pixels<FoldOne<8, 6>>(f, from, to, p);
    case 135: return fold_pixels<FoldOne<8, 7>>(f, from, to, p);
    }
}

enum { NEAR = 256 };  // floats of a row that are folded in one go, as many as the first cache holds

// Some positions of a row.
inline void fold_row(const Program &p, const float *from, float *to, int64_t count) {
    int64_t inputs = p.task.inputs, step = (p.own[2] ? p.task.stride[2] : 1) * p.region_pitch[2], pitch = p.plane_pitch[2];
    bool gapless = step == inputs && pitch == inputs;  // pixels side by side are one run
    int64_t together = least(most(NEAR / inputs, 1), count);
    for (int64_t x = 0; x < count; x += together) {
        int64_t here = least(together, count - x);
        Pixels pixels = {here, inputs, step, pitch};
        if (gapless) pixels = {1, here * inputs, 0, 0};
        for (int f = 0; f < p.fold_count; f++) run_fold(p.folds[f], from + x * step, to + x * pitch, pixels);
    }
}

inline void fold_region(const Program &p, const float *region, float *planes) {
    int64_t step[2];
    for (int a = 0; a < 2; a++) step[a] = (p.own[a] ? p.task.stride[a] : 1) * p.region_pitch[a];
    for (int64_t z = 0; z < p.plane[0]; z++)
        for (int64_t y = 0; y < p.plane[1]; y++)
            fold_row(p, region + z * step[0] + y * step[1], planes + z * p.plane_pitch[0] + y * p.plane_pitch[1], p.plane[2]);
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
inline Run inside(const Program &p, const Tile &tile, int64_t row) {
    if (p.folded[1] || tile.pictures > 1 || tile.extent[0] > 1) return {0, tile.pixels};
    int64_t stride = p.task.stride[1], first = tile.first[1] * stride + row;
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
    Place place = {picture * p.region_floats(), picture * p.plane_room};
    int64_t at[3] = {z, y, x};
    for (int a = 0; a < 3; a++) {
        place.region += at[a] * p.task.stride[a] * p.region_pitch[a];
        place.plane += at[a] * (p.own[a] ? 1 : p.task.stride[a]) * p.plane_pitch[a];
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
                    tile.plane_at[pixel] = (int32_t)(p.late ? pixel * p.plane_pitch[2] : place.plane);
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
        if (!p.late) fold_region(p, region, tile.planes + n * p.plane_room);
    }
}

// Some pixels of a tile, row after row.
inline void fold_late(const Program &p, const Tile &tile, Run pixels) {
    int64_t step = p.task.stride[2] * p.region_pitch[2];
    for (int64_t at = pixels.from, end; at < pixels.to; at = end) {
        for (end = at + 1; end < pixels.to && tile.region_at[end] == tile.region_at[end - 1] + step;) end++;
        fold_row(p, tile.regions + tile.region_at[at], tile.planes + (at - pixels.from) * p.plane_pitch[2], end - at);
    }
}

}  // namespace
