// How large boxes are, and how what they read and what is folded lies in the scratch; and all of a program.

#pragma once
#include "slots.h"

namespace {

// Pixels of a tile: fewer would not be worth loading the weights, or their gradients, which are stored as well.
enum { FEWEST = 4 * ROWS, ENOUGH = 64 };
// Bytes: tiles of stems stay in the first cache. Pixels of a row that are summed together at most, and how far apart they are.
enum { STEM_BUDGET = 16 * 1024, STEM_ROWS = 8, STEM_STEP = 512 };

// How far a box reaches along an axis of the input.
inline int64_t reach_of(const Program &p, int a) {
    return (p.box[a] - 1) * p.task.stride[a] + p.task.dilation[a] * (p.task.kernel[a] - 1) + 1;
}

// A box is as many rows (of as many planes, of as many pictures) as fill the budget, split evenly.
inline void cut_boxes(Program &p, int64_t floats_per_pixel) {
    const Task &t = p.task;
    int64_t all = t.batch * t.answer[0] * t.answer[1] * t.answer[2];
    int64_t budget = p.stem ? least(t.budget, STEM_BUDGET) : t.budget;
    int64_t left = least(budget / 4 / floats_per_pixel, up(all, t.threads * 2));
    left = most(left, FEWEST);
    for (int a = 2; a >= 0; a--) {
        p.boxes[a] = up(t.answer[a], most(left, 1));
        p.box[a] = up(t.answer[a], p.boxes[a]);
        p.boxes[a] = up(t.answer[a], p.box[a]);
        left = p.boxes[a] > 1 ? 1 : (left + p.box[a] / 2) / p.box[a];
    }
    if (p.late)  // what small boxes read is mostly around them
        left = least(left, budget / 4 / (p.in_members * t.inputs * reach_of(p, 0) * reach_of(p, 1) * reach_of(p, 2)));
    p.pictures = up(t.batch, up(t.batch, most(left, 1)));
    p.tiles = up(t.batch, p.pictures) * p.boxes[0] * p.boxes[1] * p.boxes[2];
}

// Floats: what stays in the first cache beside the weights; weights that the second cache has ready.
enum { LATE = 24 * 1024 / 4, LATE_WEIGHTS = 512 * 1024 / 4, STRETCH_STORED = 16 * ROWS };

// Every pixel has planes of its own, so that nothing is folded twice. Channels that lie apart are better written block after
// block where there are many.
inline bool is_late(const Program &p) {
    bool near = p.task.out_channel == 1 || p.blocks <= 2;
    return p.close && p.own[0] && p.own[1] && p.own[2] && near && p.packed_floats() <= LATE_WEIGHTS;
}

// Sums stay in the first cache until they are stored, but where many pixels of a channel are to be written in one run.
inline void cut_stretches(Program &p) {
    int64_t stretch = p.tile_pixels(), floats = most(p.planes * p.task.inputs, 1);
    p.folded_late = most(LATE / floats / ROWS, 1) * ROWS;
    if (p.late && p.task.out_channel == 1)
        stretch = p.folded_late;
    else if (p.late || p.slot_count * p.task.inputs * WIDTH <= LIGHT)
        stretch = STRETCH_STORED;
    p.stretch = least(stretch, p.tile_pixels());
}

// An odd number of cache lines: what stands at the same place of many planes must not fall into one set of the cache.
inline int64_t staggered(int64_t floats) {
    int64_t lines = up(floats, 16);
    return (lines + 1 - lines % 2) * 16;
}

inline void lay_out(Program &p) {
    const Task &t = p.task;
    for (int a = 0; a < 3; a++) {
        p.region[a] = reach_of(p, a);
        p.plane[a] = p.own[a] ? p.box[a] : p.region[a];
    }
    p.region_pitch[2] = t.inputs;
    p.plane_pitch[2] = p.close ? staggered(p.planes * t.inputs) : t.inputs;
    for (int a = 1; a >= 0; a--) {
        p.region_pitch[a] = p.region[a + 1] * p.region_pitch[a + 1];
        p.plane_pitch[a] = p.plane[a + 1] * p.plane_pitch[a + 1];
    }
    p.member_pitch = staggered(p.region[0] * p.region_pitch[0]);
    int64_t positions = p.plane[0] * p.plane_pitch[0];
    p.plane_floats = p.close ? t.inputs : staggered(positions);
    p.plane_room = p.close ? positions : p.planes * p.plane_floats;
}

inline bool is_laced(const int32_t *order, int members, int64_t orbits) {
    for (int64_t i = 0; i < orbits; i++)
        for (int g = 0; g < members; g++)
            if (order[g * orbits + i] != members * i + g) return false;
    return true;
}

inline void letters_of(Program &p) {
    p.bits = 0;
    for (int letter = 0; letter < 3; letter++) {
        p.folded[2 - letter] = p.task.kind >> letter & 1;
        if (p.folded[2 - letter]) p.axis[p.bits++] = 2 - letter;
    }
    p.members = 1 << p.bits;
    p.groups = p.out_members = p.task.mode == 2 ? 1 : p.members;
    p.in_members = p.task.mode == 0 ? 1 : p.members;
    p.deep = p.task.mode == 1;
}

// Lifting layers of few inputs, and deep ones of one tap: both ways of filling lanes sum a pixel's products in the same
// order, so that either may be taken.
inline bool is_brief(const Program &p) {
    const Task &t = p.task;
    return t.mode == 0 ? t.inputs <= BRIEF : t.mode == 1 && p.taps == 1 && t.inputs <= BRIEF_TAP;
}

// Measured: very few inputs; with long vectors more, where a block's weights stay in the first cache beside what they are
// multiplied with.
inline bool is_stem(const Program &p) {
    const Task &t = p.task;
    int64_t slots = p.taps * (p.deep ? p.members : 1);
    bool light = t.inputs <= FEW || (LANES == 16 && slots * t.inputs * least(t.outputs, WIDTH) <= LIGHT);
    bool near = t.stride[2] * t.inputs <= STEM_STEP;
    return is_brief(p) && p.bits && light && near && t.out_channel == 1 && p.out_laced && !p.spaced;
}

enum { CLOSE_INPUTS = LANES == 4 ? 8 : (int)LANES, CLOSE_PIXEL = 128 };  // inputs; numbers of all planes

// Measured: long runs keep the multipliers busy; short ones are folded faster plane by plane. One letter of pictures makes
// few planes, and what it does not move is a third of what is read.
inline bool is_close(const Program &p) {
    int64_t inputs = p.task.inputs;
    if (p.stem || inputs < CLOSE_INPUTS) return false;
    return p.deep || (p.taps > 1 && (p.bits > 1 || p.task.mode == 2) && p.taps * inputs >= CLOSE_PIXEL);
}

// Whether members of the answer are exchanged channels, other places, or both.
inline void space(Program &p) {
    const Task &t = p.task;
    p.spaced = t.spacing[0] * t.spacing[1] * t.spacing[2] > 1;
    p.apart = false;
    p.alike = p.deep && p.spaced;
    for (int g = 0; g < (p.spaced ? p.out_members : 0); g++) {
        const int32_t *order = p.out_order + g * t.outputs;
        int bits = p.exchanged[g] = order[0] < least(least(LANES, MEMBERS), t.outputs) ? order[0] : -1;
        for (int64_t n = 0; n < t.outputs; n++)
            if (order[n] != (n ^ bits) || (n ^ bits) >= t.outputs) p.exchanged[g] = -1;
        for (int a = 0; a < 3; a++) p.apart = p.apart || t.phase[g][a] != t.phase[0][a];
        p.alike = p.alike && p.exchanged[g] == 0;
    }
}

// `gradients`: of a pixel, for every character. False where there is no memory.
inline bool prepare(Program &p, const Task &task, const int32_t *in_order, const int32_t *out_order, int64_t gradients) {
    p.task = task;
    p.in_order = in_order;
    p.out_order = out_order;
    letters_of(p);
    p.in_laced = is_laced(in_order, p.in_members, task.inputs);
    p.out_laced = is_laced(out_order, p.out_members, task.outputs);
    space(p);
    p.taps = task.kernel[0] * task.kernel[1] * task.kernel[2];
    p.stored_taps = task.stored[0] * task.stored[1] * task.stored[2];
    p.stem = !gradients && is_stem(p);
    p.blocks = up(task.outputs, WIDTH);
    for (int a = 0; a < 3; a++) p.own[a] = p.folded[a] || task.kernel[a] == 1;
    p.close = !gradients && is_close(p);
    p.classes = (Class *)malloc(sizeof(Class) * (p.taps + 1));
    p.folds = (Fold *)malloc(sizeof(Fold) * p.taps * MEMBERS);
    p.slots = (Slot *)malloc(sizeof(Slot) * p.taps * MEMBERS);
    p.spans = (Span *)malloc(sizeof(Span) * p.taps * MEMBERS * up(task.inputs, CHUNK));
    p.recipes = (Recipe *)calloc(p.taps, sizeof(Recipe));
    int64_t *made = (int64_t *)malloc(sizeof(int64_t) * p.taps * MEMBERS);
    bool ready = p.classes && p.folds && p.slots && p.spans && p.recipes && made;
    if (ready) {
        plan_classes(p);
        number_planes(p, made);
        p.slot_count = (int)(p.deep ? p.taps * p.members : p.taps);
        p.late = is_late(p);
        cut_boxes(p, p.pixel_floats(task.inputs, gradients));
        cut_stretches(p);
        lay_out(p);
        plan_folds(p, made);
        plan_slots(p, made);
        plan_spans(p);
        plan_recipes(p);
    }
    free(made);
    return ready;
}

// Inputs side by side share vectors, at most so many: their products are summed apart, and a block is full of them.
inline void let_share(Program &p, int most_inputs) {
    int64_t outputs = p.task.outputs - (p.blocks - 1) * WIDTH;
    p.last_share = 1;
    while (2 * p.last_share <= most_inputs && outputs * 2 * p.last_share <= WIDTH && p.task.inputs % (2 * p.last_share) == 0)
        p.last_share *= 2;
}

inline void dismiss(Program &p) {
    free(p.classes);
    free(p.folds);
    free(p.slots);
    free(p.spans);
    free(p.recipes);
}

}  // namespace
