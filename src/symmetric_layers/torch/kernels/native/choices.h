// What lies in the lanes of the vectors, pixels or orbits, and where what is folded waits: all of it was measured.
//
// `cost.py` knows these rules, too.

#pragma once
#include "boxes.h"

namespace {

// Sums that stay in registers: characters of the letters folded there, times representatives, times vectors of pixels.
#if defined(__AVX512F__)
enum { SUMS = 16 };
#else
enum { SUMS = 8 };
#endif

enum { LARGE_PLANE = 48 * 48, PLANE = 28 * 28, WIDE_KERNEL = 49 };

// Measured: where channels lie apart, but for small pictures; where they lie side by side, for strides with very few
// inputs, whose planes are folded number by number, and for filters with many taps and two letters, which make many planes.
// Short vectors keep the multipliers waiting if there is one only, and have less to gain if there are more.
enum { MOST_APART = LANES == 8 ? 8 : BRIEF };
inline bool is_brief_across(const Program &p) {
    const Task &t = p.task;
    bool apart = t.out_channel != 1;
    int64_t plane = t.answer[1] * t.answer[2];
    if (t.mode == 1) return apart && plane >= PLANE;
    if (LANES == 8 && t.outputs <= LANES && t.stride[2] == 1 && t.inputs <= 2 * LANES && (apart || p.bits == 1)) return true;
    if (apart) return plane >= (t.inputs <= FEW ? PLANE : LARGE_PLANE) && t.inputs <= MOST_APART;
    return (t.stride[2] > 1 && t.inputs <= FEW) || (p.bits > 1 && p.taps >= WIDE_KERNEL && t.outputs <= 2 * LANES);
}

// Measured, with few registers: what several streams would fold again and again in them is folded ahead.
inline bool suits_ahead(const Program &p) {
    const Task &t = p.task;
    return SUMS == 8 && p.bits - p.folded[2] == 2 && t.mode < 2 && t.outputs > SUMS / 4 && t.outputs <= LANES;
}

enum { SHORT_RUN = LANES < 16 ? 2 * LANES : LANES - 1 };

// Measured: with half of the lanes empty always, with a quarter in lifting layers of few inputs; in others with one vector
// of representatives for two letters and short runs of inputs: longer ones share vectors. Memory formats have no say
// there: both get the same bits.
inline bool suits_across(const Program &p) {
    const Task &t = p.task;
    int64_t lanes = up(t.outputs, LANES) * LANES;
    if (p.spaced) return false;
    if (t.answer[2] * (t.stride[1] == 1 ? t.answer[1] : 2) < LANES) return false;
    if (t.outputs <= LANES / 2 || suits_ahead(p)) return true;
    if (is_brief(p)) return (t.mode == 0 && 3 * lanes >= 4 * t.outputs) || is_brief_across(p);
    return t.mode > 0 && t.outputs <= LANES && t.inputs <= SHORT_RUN && p.bits == 2;
}

// Measured: gradients of filters have more to gain from representatives in the lanes.
inline bool suits_dots(const Program &p) {
    return suits_across(p) && p.task.mode < 2 && p.task.outputs <= LANES / 2;
}

}  // namespace
