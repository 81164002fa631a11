// What a thread works on, and how many threads there are.

#pragma once
#include "dots.h"
#include "products.h"
#include "stores.h"
#ifdef _OPENMP
#include <omp.h>
#include <unistd.h>
#endif

namespace {

thread_local Scratch own, shared;

// How many threads may be used: those of OpenMP do not live on in a forked process.
inline int threads_now(int64_t wanted) {
#ifdef _OPENMP
    static int64_t home = 0;
    int64_t here = getpid();
    if (!__sync_bool_compare_and_swap(&home, 0, here) && home != here) return 1;
    return (int)most(wanted, 1);
#else
    return 1;
#endif
}

inline int64_t rounded(int64_t floats) { return up(floats, 16) * 16; }

// The scratch of one thread, cut into what a tile needs.
struct Desk {
    Tile tile;
    float *sums, *gradients, *filters;
};

inline int64_t planes_floats(const Program &p) {
    return p.late ? p.folded_late * p.plane_pitch[2] : p.pictures * p.plane_room;
}

inline int64_t sum_floats(const Program &p) {
    return (p.late ? p.blocks : 1) * p.groups * p.group_pitch();
}

// Filters that are read in one go.
inline int64_t filter_floats(const Program &p) { return TOGETHER * MEMBERS * most(p.taps, p.stored_taps) * WIDTH; }

inline int64_t desk_floats(const Program &p, int64_t padded) {
    int64_t pixels = p.tile_pixels();
    return rounded(p.pictures * p.region_floats()) + rounded(planes_floats(p)) +
           2 * rounded(pixels) + rounded(sum_floats(p)) + rounded(p.groups * pixels * padded) +
           rounded(filter_floats(p)) + (p.stem ? STEM_ROWS * STEM_STEP : 0);  // read beyond the last row
}

inline bool set_desk(const Program &p, int64_t padded, Desk &desk) {
    float *at = own.reserve(desk_floats(p, padded));
    int64_t pixels = p.tile_pixels();
    if (!at) return false;
    auto take = [&](int64_t floats) {
        float *piece = at;
        at += rounded(floats);
        return piece;
    };
    desk.tile.regions = take(p.pictures * p.region_floats());
    desk.tile.planes = take(planes_floats(p));
    desk.tile.region_at = (int32_t *)take(pixels);
    desk.tile.plane_at = (int32_t *)take(pixels);
    desk.sums = take(sum_floats(p));
    desk.gradients = take(p.groups * pixels * padded);
    desk.filters = take(filter_floats(p));
    return true;
}

inline bool set_streams(const Program &p, const Across &across, AcrossDesk &desk, float *&filters) {
    int64_t room = rounded(AcrossDesk::floats(p, across));
    float *at = own.reserve(room + filter_floats(p));
    if (!at) return false;
    desk.set(p, across, at);
    filters = at + room;
    return true;
}

}  // namespace
