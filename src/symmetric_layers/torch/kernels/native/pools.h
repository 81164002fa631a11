// Max pooling on the mirrored grid: every channel's windows begin where those of its mirror end.

#pragma once
#include "vectors.h"

extern "C" {

// What a call has to do. `pools.py` fills it in; both must agree on every field. Axes are counted z, y, x.
struct Pool {
    int64_t batch, channels, classes;  // channels that are mirrored along the same letters are a class
    int64_t size[3], answer[3], kernel[3], stride[3], dilation[3];
    int64_t first[8][3];               // where a class has its first window
    int64_t backward[8][3];            // whether it goes through the axis backwards: of equal numbers the first one counts
    int64_t in_batch, in_channel, in_position[3];
    int64_t out_batch, out_channel, out_position[3];
    int64_t threads;
};

}

namespace {

typedef int32_t Numbers __attribute__((vector_size(LANES * 4)));
typedef int32_t LooseNumbers __attribute__((vector_size(LANES * 4), aligned(4), may_alias));

// Whether a number takes the place of the best one so far: the larger one; the earlier one of equal ones; no number if one is
// none.
template <class T> inline auto takes(T best, T next) { return (next > best) | (next != next); }
template <class T> inline T larger(T best, T next) { return takes(best, next) ? next : best; }
template <class T> inline T lowest(T *) { return T{} - __builtin_inff(); }

// The taps of a window that lie inside the picture, along one axis, in the order in which they are gone through.
struct Taps {
    int64_t at, step, count;  // in pixels
};

inline Taps taps_of(const Pool &p, int64_t kind, int axis, int64_t position) {
    int64_t start = p.first[kind][axis] + position * p.stride[axis], d = p.dilation[axis];
    int64_t low = start < 0 ? up(-start, d) : 0, high = p.kernel[axis];
    if (start + (high - 1) * d >= p.size[axis]) high = up(most(p.size[axis] - start, 0), d);
    if (p.backward[kind][axis]) return {start + (high - 1) * d, -d, most(high - low, 0)};
    return {start + low * d, d, most(high - low, 0)};
}

// The largest number of a column of a window.
template <class T> inline T largest(const Pool &p, const Taps &down, const Taps &along, const float *x) {
    T best = lowest((T *)nullptr);
    for (int64_t z = 0; z < down.count; z++)
        for (int64_t y = 0; y < along.count; y++)
            best = larger(best, get(x + (down.at + z * down.step) * p.in_position[0] + (along.at + y * along.step) * p.in_position[1],
                                    (T *)nullptr));
    return best;
}

template <class T> inline T pooled(const Pool &p, const Taps *taps, const float *x) {
    T best = lowest((T *)nullptr);
    for (int64_t i = 0; i < taps[2].count; i++)
        best = larger(best, largest<T>(p, taps[0], taps[1], x + (taps[2].at + i * taps[2].step) * p.in_position[2]));
    return best;
}

// A row of the answer, channels side by side: all classes are pooled, and every lane keeps its own.
inline void pool_pixels(const Pool &p, const int32_t *kinds, int64_t z, int64_t y, const float *x, float *to) {
    Taps taps[8][3];
    for (int64_t kind = 0; kind < p.classes; kind++) taps[kind][0] = taps_of(p, kind, 0, z), taps[kind][1] = taps_of(p, kind, 1, y);
    for (int64_t pixel = 0; pixel < p.answer[2]; pixel++, to += p.out_position[2]) {
        for (int64_t kind = 0; kind < p.classes; kind++) taps[kind][2] = taps_of(p, kind, 2, pixel);
        int64_t c = 0;
        for (; c + LANES <= p.channels; c += LANES) {
            Numbers own = *(const LooseNumbers *)(kinds + c);
            Vector best = pooled<Vector>(p, taps[0], x + c);
            for (int64_t kind = 1; kind < p.classes; kind++) best = own == (int32_t)kind ? pooled<Vector>(p, taps[kind], x + c) : best;
            store(to + c, best);
        }
        for (; c < p.channels; c++) to[c] = pooled<float>(p, taps[kinds[c]], x + c);
    }
}

struct Columns {
    const Pool &p;
    const Taps &down, &along;
    const float *x;
    float *to;
    template <class T> void run(int64_t i) const { put(to + i, largest<T>(p, down, along, x + i)); }
};

// Numbers a stride apart.
inline Vector apart(const float *from, int64_t stride) {
    if (stride == 1) return load(from);
    if (stride == 2) return even(load(from), load(from + LANES));
    Vector found;
    for (int i = 0; i < LANES; i++) found[i] = from[i * stride];
    return found;
}

// Numbers that the windows of a row begin with, and those that the last vector of windows reads besides.
inline int64_t row_floats(const Pool &p) {
    return (up(p.answer[2], LANES) + 1) * LANES * p.stride[2] + p.kernel[2] * p.dilation[2] + p.size[2];
}

// A channel, pixels side by side: columns first, from where the first window begins, then along the row.
inline void pool_channel(const Pool &p, int64_t kind, const float *x, float *to, float *columns) {
    int64_t first = p.first[kind][2], taps = p.kernel[2], room = row_floats(p), before = most(-first, 0);
    for (int64_t i = 0; i < room; i++) columns[i] = lowest((float *)nullptr);
    for (int64_t z = 0; z < p.answer[0]; z++)
        for (int64_t y = 0; y < p.answer[1]; y++) {
            Taps down = taps_of(p, kind, 0, z), along = taps_of(p, kind, 1, y);
            int64_t from = most(first, 0);
            sweep(p.size[2] - from, Columns{p, down, along, x + from, columns + before});
            float *row = to + z * p.out_position[0] + y * p.out_position[1];
            for (int64_t pixel = 0; pixel < p.answer[2]; pixel += LANES) {
                Vector best = lowest((Vector *)nullptr);
                for (int64_t q = 0; q < taps; q++) {
                    int64_t tap = p.backward[kind][2] ? taps - 1 - q : q;
                    best = larger(best, apart(columns + pixel * p.stride[2] + tap * p.dilation[2], p.stride[2]));
                }
                if (pixel + LANES <= p.answer[2]) {
                    store(row + pixel, best);
                    continue;
                }
                for (int64_t i = 0; pixel + i < p.answer[2]; i++) row[pixel + i] = best[i];
            }
        }
}

}  // namespace
