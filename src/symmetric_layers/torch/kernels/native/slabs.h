// Boxes of pixels for `across.h`: their planes are done one after the other, so that what one has read serves the next.

#pragma once
#include "across.h"

namespace {

// Rows or planes that are read, for so many of the answer.
inline int64_t extent_read(const Task &t, int axis, int64_t count) {
    return (count - 1) * t.stride[axis] + t.dilation[axis] * (t.kernel[axis] - 1) + 1;
}

// A way to cut: inputs at a time, and a box; how long it takes, in products.
struct Cut {
    int64_t piece, box[3], time;
};

enum { BRING = LANES < 16 ? 12 : 24 };  // products that take as long as bringing one number in and folding it along its row
enum { AGAIN = 4 };        // inputs whose products take as long as loading and storing all sums for another piece
enum { SHORT = 48 };       // pixels whose products take as long as that for another run of pixels, where filters learn
enum { EVEN_SPLIT = 16 };  // one of so many tiles is the time that one thread waits for another at the end

// Planes of a box whose sums wait for other inputs, or whose gradients are multiplied.
inline int64_t planes_kept(const Program &p, const Across &a, int64_t piece, int64_t planes) {
    return piece < p.task.inputs ? planes : a.learning;
}

inline int64_t floats_of(const Program &p, const Across &a, const Cut &c) {
    const Task &t = p.task;
    int64_t kept = planes_kept(p, a, c.piece, c.box[0]), read = extent_read(t, 0, 1) * extent_read(t, 1, c.box[1]);
    return c.box[2] * (kept * c.box[1] * p.groups * t.outputs + c.piece * a.strips * read);
}

inline int64_t tiles_of(const Task &t, const Cut &c) {
    return t.batch * up(t.answer[0], c.box[0]) * up(t.answer[1], c.box[1]) * up(t.answer[2], c.box[2]);
}

inline int64_t time_of(const Program &p, const Across &a, const Cut &c) {
    const Task &t = p.task;
    int64_t all = p.slot_count * t.outputs, brought = p.in_members * BRING;
    int64_t again = a.learning ? all * SHORT / (c.box[1] * c.box[2]) : all * AGAIN / c.piece;
    int64_t products = c.box[0] * c.box[1] * c.box[2] * (all + again);
    for (int axis = 0; axis < 3; axis++) brought *= extent_read(t, axis, c.box[axis]);
    return (EVEN_SPLIT * up(tiles_of(t, c), t.threads) + 1) * (products + brought);
}

// The fastest number of rows for the rest of a cut; more tiles than threads can share are not tried.
inline void cut_rows(const Program &p, const Across &a, Cut c, Cut &best) {
    const Task &t = p.task;
    for (int64_t cuts = 1; cuts <= t.answer[1]; cuts++) {
        c.box[1] = up(t.answer[1], cuts);
        if (floats_of(p, a, c) * 4 > t.budget) continue;
        c.time = time_of(p, a, c);
        if (c.time < best.time) best = c;
        if (tiles_of(t, c) > 4 * t.threads) return;
    }
}

// Of the boxes of whole rows that fit into the budget, that which is done first; where none fits, of parts of rows. Of some
// pieces, the `largest` or the smallest.
inline Cut cut_across(const Program &p, const Across &a, int64_t largest, int64_t smallest) {
    const Task &t = p.task;
    Cut best = {smallest, {1, 1, least(t.answer[2], LANES)}, INT64_MAX};
    for (int64_t parts = 1; best.time == INT64_MAX && parts <= up(t.answer[2], LANES); parts++)
        for (int64_t piece = largest; piece >= smallest; piece = piece > smallest ? smallest : 0)
            for (int64_t segments = 1; segments < 2 * t.answer[0]; segments *= 2) {
                int64_t width = parts == 1 ? t.answer[2] : up(up(t.answer[2], parts), LANES) * LANES;
                cut_rows(p, a, {piece, {up(t.answer[0], segments), 1, width}, 0}, best);
            }
    return best;
}

// The pieces are those that are best for one picture and one thread: they decide in which order products are summed, and
// a picture must have the same answer whoever is answered beside it.
inline void cut_boxes_across(Program &p, Across &a, int64_t smallest) {
    const Task &t = p.task;
    Program alone = p;
    alone.task.batch = alone.task.threads = 1;
    a.piece = cut_across(alone, a, t.inputs, smallest).piece;
    Cut best = cut_across(p, a, a.piece, a.piece);
    for (int axis = 0; axis < 3; axis++) {
        p.box[axis] = best.box[axis];
        p.boxes[axis] = up(t.answer[axis], p.box[axis]);
    }
    p.pictures = 1;
    p.tiles = tiles_of(t, best);
}

// Strips of a row stand side by side, so that what is read together is close together. Where rows are no whole vectors,
// rows of a strip follow one another instead, as those of the answer do, and vectors go across their ends. Learning has
// more to gain from long runs, too.
inline void lay_out_across(const Program &p, Across &a) {
    int64_t whole = up(p.box[2], LANES) * LANES;
    bool flat = p.task.stride[1] == 1 && p.boxes[2] == 1 && (a.learning || a.ahead || (whole - p.box[2]) * 16 > whole);
    a.planes = extent_read(p.task, 0, 1);
    if (flat) {
        a.line = p.box[2];
        a.plane = up(p.region[1] * a.line, LANES) * LANES + LANES;  // the last row may be written beyond its end
        a.strip = staggered(a.planes * a.plane);
    } else {
        a.strip = whole;
        a.line = staggered(a.piece * a.strips * a.strip);
        a.plane = p.region[1] * a.line;
    }
    a.floats = flat ? a.piece * a.strips * a.strip : a.planes * a.plane;
    a.run = flat ? p.box[1] * p.box[2] : p.box[2];
    a.rows = flat ? 1 : p.box[1];
    a.slab = a.rows * up(a.run, LANES) * LANES;
    a.kept = planes_kept(p, a, a.piece, p.box[0]);
    a.padded = staggered(a.kept * a.slab);
}

inline bool plan_places(const Program &p, Across &a) {
    Term *loose = (Term *)malloc(sizeof(Term) * p.taps * MEMBERS);
    if (loose) plan_terms(p, a, loose);
    free(loose);
    a.places = (int32_t *)malloc(sizeof(int32_t) * a.planes * a.places_pitch);
    if (loose && a.places) plan_places(a);
    return loose && a.places;
}

inline void place_channels(const Program &p, Across &a) {
    const Task &t = p.task;
    for (int64_t i = 0; i < p.out_members * t.outputs; i++) a.out_place[p.out_order[i]] = (int32_t)i;
    for (int64_t g = 0; g < p.in_members; g++)
        for (int64_t i = 0; i < a.piece; i++) a.place[p.in_order[g * t.inputs + i]] = (int32_t)(g * a.held + i);
}

inline bool prepare_across(Program &p, Across &a, bool learning) {
    const Task &t = p.task;
    a.learning = learning;
    a.ahead = !learning && suits_ahead(p);
    a.by_term = !learning && !a.ahead && is_brief(p);
    a.passes = p.folded[2] && t.mode < 2 ? 2 : 1;
    a.letters = p.bits - p.folded[2];
    a.spreads = (Spread *)malloc(sizeof(Spread) * t.kernel[2] * MEMBERS);
    a.terms = (Term *)malloc(sizeof(Term) * p.taps * MEMBERS);
    a.strip_of = (int *)malloc(sizeof(int) * t.kernel[2] * MEMBERS * 2);
    a.place = (int32_t *)malloc(sizeof(int32_t) * p.in_members * t.inputs);
    a.out_place = (int32_t *)malloc(sizeof(int32_t) * p.out_members * t.outputs);
    if (!a.spreads || !a.terms || !a.strip_of || !a.place || !a.out_place) return false;
    plan_spreads(p, a);  // counts the strips, which say how large a box can be
    bool whole = a.by_term || !p.in_laced;  // all inputs in one go
    cut_boxes_across(p, a, whole ? t.inputs : least(most((p.deep ? 2 : 1) * LANES / p.in_members, 1), t.inputs));
    lay_out(p);
    a.held = most(a.piece, p.region[1]);
    a.row = staggered(p.region[2] + LANES);
    a.phase = up(p.region[2], t.stride[2]);
    a.parted = t.stride[2] == 1 ? a.row : staggered(t.stride[2] * a.phase + LANES);
    place_channels(p, a);
    plan_spreads(p, a);
    lay_out_across(p, a);
    bool ready = plan_places(p, a);
    if (ready && a.ahead) cut_chunks(a);
    return ready;
}

inline void dismiss(Across &a) {
    free(a.spreads);
    free(a.terms);
    free(a.places);
    free(a.strip_of);
    free(a.place);
    free(a.out_place);
}

}  // namespace
