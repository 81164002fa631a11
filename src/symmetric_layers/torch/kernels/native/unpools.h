// Gradients of max pooling on the mirrored grid: they go to the largest number of every window.

#pragma once
#include "pools.h"

namespace {

// The offset of the largest number of a window, the first one as the host goes through it, row by row; -1 where the window
// is empty. `read(offset)` gives numbers of type T.
template <class T, class N, class Read> inline N place_of(const Pool &p, const Taps &down, const Taps &along, const Taps &across, Read read) {
    T best = lowest((T *)nullptr);
    N at = N{} - 1;
    bool is_first = true;
    for (int64_t z = 0; z < down.count; z++)
        for (int64_t y = 0; y < along.count; y++) {
            int64_t offset = (down.at + z * down.step) * p.in_position[0] + (along.at + y * along.step) * p.in_position[1] +
                             across.at * p.in_position[2];
            for (int64_t x = 0; x < across.count; x++, offset += across.step * p.in_position[2]) {
                N here = N{} + (int32_t)offset;
                T next = read(offset);
                auto taken = takes(best, next);
                best = taken ? next : best;
                at = is_first ? here : taken ? here : at;
                is_first = false;
            }
        }
    return at;
}

inline int32_t place_of(const Pool &p, const Taps &down, const Taps &along, const Taps &across, const float *x) {
    return place_of<float, int32_t>(p, down, along, across, [&](int64_t offset) { return x[offset]; });
}

// Some windows' taps, worked out once: [class][place].
inline void all_taps(const Pool &p, int axis, Taps *taps) {
    for (int64_t kind = 0; kind < p.classes; kind++)
        for (int64_t i = 0; i < p.answer[axis]; i++) taps[kind * p.answer[axis] + i] = taps_of(p, kind, axis, i);
}

// The last place along an axis that the windows of any class see.
inline int64_t seen_by(const Pool &p, int axis, int64_t window) {
    int64_t first = p.first[0][axis];
    for (int64_t kind = 1; kind < p.classes; kind++) first = most(first, p.first[kind][axis]);
    return most(least(first + window * p.stride[axis] + (p.kernel[axis] - 1) * p.dilation[axis], p.size[axis] - 1), 0);
}

// Some channels of the rows of a picture, from one up to another, are set to zero.
inline void clear_rows(const Pool &p, int64_t from, int64_t end, int64_t channels, float *to) {
    for (int64_t row = from; row < end; row++)
        for (int64_t x = 0; x < p.size[2]; x++)
            memset(to + row / p.size[1] * p.in_position[0] + row % p.size[1] * p.in_position[1] + x * p.in_position[2], 0,
                   sizeof(float) * channels);
}

// Where LANES channels of a pixel's windows have their largest numbers, as many as there are.
inline void places_of(const Pool &p, const int32_t *kinds, int64_t count, const Taps *down, const Taps *along, const Taps *across,
                      const float *x, int32_t *at) {
    if (count < LANES) {
        for (int64_t c = 0; c < count; c++)
            at[c] = place_of(p, down[kinds[c]], along[kinds[c]], across[kinds[c] * p.answer[2]], x + c);
        return;
    }
    Numbers mine = *(const LooseNumbers *)kinds, found = {};
    for (int64_t kind = 0; kind < p.classes; kind++) {
        auto read = [&](int64_t offset) { return load(x + offset); };
        Numbers here = place_of<Vector, Numbers>(p, down[kind], along[kind], across[kind * p.answer[2]], read);
        found = mine == (int32_t)kind ? here : found;
    }
    memcpy(at, &found, sizeof found);
}

// Some channels of a picture, side by side. `across`: the taps of all columns. Rows are cleared right before they are
// written to: they are still in the cache.
inline void unpool_pixels(const Pool &p, const int32_t *kinds, int64_t channels, const float *x, const float *g, float *to, const Taps *across) {
    int64_t cleared = 0;
    for (int64_t z = 0; z < p.answer[0]; z++)
        for (int64_t y = 0; y < p.answer[1]; y++) {
            Taps down[8], along[8];
            for (int64_t kind = 0; kind < p.classes; kind++) down[kind] = taps_of(p, kind, 0, z), along[kind] = taps_of(p, kind, 1, y);
            int64_t needed = most(seen_by(p, 0, z) * p.size[1] + seen_by(p, 1, y) + 1, cleared);
            clear_rows(p, cleared, needed, channels, to);
            cleared = needed;
            const float *own = g + z * p.out_position[0] + y * p.out_position[1];
            for (int64_t pixel = 0; pixel < p.answer[2]; pixel++, own += p.out_position[2])
                for (int64_t c = 0; c < channels; c += LANES) {
                    int64_t count = least(channels - c, LANES);
                    int32_t at[LANES];
                    places_of(p, kinds + c, count, down, along, across + pixel, x + c, at);
                    for (int64_t i = 0; i < count; i++)
                        if (at[i] >= 0) to[at[i] + c + i] += own[c + i];
                }
        }
    clear_rows(p, cleared, p.size[0] * p.size[1], channels, to);
}

// A channel of a picture, pixels side by side: vectors of windows, where they lie inside.
inline void unpool_channel(const Pool &p, int64_t kind, const float *x, const float *g, float *to, const Taps *across) {
    for (int64_t z = 0; z < p.size[0]; z++)
        for (int64_t y = 0; y < p.size[1]; y++)
            memset(to + z * p.in_position[0] + y * p.in_position[1], 0, sizeof(float) * p.size[2]);
    int64_t stride = p.stride[2], before = -p.first[kind][2], reach = (p.kernel[2] - 1) * p.dilation[2];
    int64_t begin = up(most(before, 0), stride), room = p.size[2] + before - reach - LANES * stride;
    int64_t end = room < 0 ? -1 : least(room / stride, p.answer[2] - LANES);  // where the last vector may begin
    across += kind * p.answer[2];
    for (int64_t z = 0; z < p.answer[0]; z++)
        for (int64_t y = 0; y < p.answer[1]; y++) {
            Taps down = taps_of(p, kind, 0, z), along = taps_of(p, kind, 1, y);
            const float *row = g + z * p.out_position[0] + y * p.out_position[1];
            for (int64_t pixel = 0; pixel < p.answer[2];) {
                int64_t here = least(pixel, end);
                if (here < begin || here + LANES <= pixel) {
                    int32_t at = place_of(p, down, along, across[pixel], x);
                    if (at >= 0) to[at] += row[pixel];
                    pixel++;
                    continue;
                }
                auto read = [&](int64_t offset) { return apart(x + offset, stride); };
                Numbers found = place_of<Vector, Numbers>(p, down, along, across[here], read);
                int32_t at[LANES];
                memcpy(at, &found, sizeof at);
                for (int64_t i = pixel - here; i < LANES; i++)
                    if (at[i] >= 0) to[at[i] + i * stride] += row[here + i];
                pixel = here + LANES;
            }
        }
}

}  // namespace
