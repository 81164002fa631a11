// The same product with pixels in the lanes of the vectors: planned here, done in `rows.h` and `streams.h`.
//
// Everything is kept channel by channel. Rows of the input are folded about their own axis when they are brought in: a
// **strip** is such a row, for one tap along it. The other axes are folded in registers, right before multiplying, so
// that what is written stays small. Inputs come piece by piece. The order in which a pixel's products are summed is the
// same everywhere, as it is with representatives in the lanes.

#pragma once
#include "weights.h"

namespace {

// Sums that stay in registers: characters of the letters folded there, times representatives, times vectors of pixels.
#if defined(__AVX512F__)
enum { SUMS = 16 };
#else
enum { SUMS = 8 };
#endif
enum { MOST_STREAMS = SUMS / 2, MOST_ABREAST = 4 };
inline constexpr int streams_of(int letters) { return letters < 2 ? MOST_STREAMS : SUMS >> letters; }
inline constexpr int abreast_of(int letters, int streams) {
    int vectors = (SUMS >> letters) / streams;
    return vectors < MOST_ABREAST ? vectors : MOST_ABREAST;
}

// A row folded about its own axis, or copied, into strips.
struct Spread {
    int count, wanted;   // places: 1 or 2; the one result that is wanted, or -1 for both
    int64_t from[2];
    int to[2];           // strips
};

// Mirrors of a tap along the other axes: strips that are folded in registers.
struct Term {
    int moving;          // letters that move it, and
    int wanted;          // the one result that is wanted, or -1 for all
    int64_t from[4];
    int slot[4];
};

struct Across {
    int letters, passes;           // folded in registers; characters along a row
    int64_t row;                   // of the rows that are brought in: distance in floats, of channels
    int64_t parted, phase;         // the same once places a stride apart stand side by side; of places that do not
    int64_t piece;                 // inputs that are brought in in one go
    int64_t strip, line, plane;    // distances in floats: of strips, of rows, of planes of rows
    int64_t strips;                // of an input
    int64_t run, rows;             // pixels that lie one after the other in all strips; such runs of a plane
    int64_t padded;                // pixels of a tile, in whole vectors
    int32_t *place;                // of every input channel of a piece: member * piece + input
    int32_t *out_place;            // of every channel of the answer: member * outputs + output
    Spread *spreads;
    Term *terms;
    int spread_count, start[3];    // terms of a pass stand side by side
    int *strip_of;                 // [tap along the row][member][character]
    int64_t row_floats(const Program &p) const {
        return p.in_members * piece * (row + (p.task.stride[2] == 1 ? 0 : parted));
    }
    int64_t strip_floats() const { return piece * strips * strip; }
    int64_t sum_pitch(const Program &p) const { return p.task.outputs * padded; }  // from group to group
};

// Measured: with half of the lanes empty always, with one vector of representatives where runs of inputs are short.
inline bool suits_across(const Program &p) {
    const Task &t = p.task;
    bool few = t.outputs <= LANES / 2 || (t.outputs <= LANES && t.inputs <= 2 * LANES);
    return few && t.answer[2] * (t.stride[1] == 1 ? t.answer[1] : 2) >= LANES;
}

// Measured: gradients of filters have more to gain from representatives in the lanes.
inline bool suits_dots(const Program &p) {
    return suits_across(p) && p.task.mode < 2 && p.task.outputs <= LANES / 2;
}

inline int &strip_at(const Across &a, int64_t tap, int member, int character) {
    return a.strip_of[(tap * MEMBERS + member) * 2 + character];
}

// Where a tap begins to read a row.
inline int64_t column(const Program &p, const Across &a, int64_t q) {
    int64_t x = q * p.task.dilation[2], stride = p.task.stride[2];
    return x % stride * a.phase + x / stride;
}

inline void add_spread(Across &a, int count, int wanted, int64_t here, int64_t there) {
    Spread &s = a.spreads[a.spread_count++];
    s = {count, wanted, {here, there}, {}};
    for (int i = 0; i < (wanted < 0 ? count : 1); i++) s.to[i] = (int)a.strips++;
}

inline void plan_spreads(const Program &p, Across &a) {
    a.spread_count = 0;
    a.strips = 0;
    int64_t last = p.task.kernel[2] - 1, member = a.piece * a.parted;
    for (int64_t q = 0; q <= last; q++)
        for (int m = 0; m < p.in_members; m++) {
            bool paired = p.folded[2] && (p.deep || q != last - q);
            bool second = p.folded[2] && (p.deep || !paired) && m & 1;  // done, or odd, which one tap never is
            if (second || (paired && !p.deep && q > last - q)) continue;
            int64_t here = m * member + column(p, a, q);
            int64_t there = (p.deep ? m | 1 : m) * member + column(p, a, last - q);
            int wanted = !paired ? 0 : p.task.mode == 2 ? m & 1 : -1;
            for (int i = wanted < 0 ? 0 : wanted; i <= (wanted < 0 ? 1 : wanted); i++)
                strip_at(a, q, m, i) = (int)a.strips + (wanted < 0 ? i : 0);
            add_spread(a, paired ? 2 : 1, wanted, here, there);
        }
}

// Where a strip stands for a tap, as one of the mirrors along the other axes sees it.
inline int64_t strip_offset(const Program &p, const Across &a, int strip, int mirror, const int64_t *q) {
    int64_t at[3];
    reflect(p, mirror, q, at);
    return strip * a.strip + at[0] * p.task.dilation[0] * a.plane + at[1] * p.task.dilation[1] * a.line;
}

// All mirrors of a class with one character along the row become one term; in gradients of pictures, of a character each.
inline void add_terms(const Program &p, const Across &a, const int64_t *q, const Class &c, int pass, int &count) {
    int along = p.folded[2];  // the letter of a row is the lowest
    bool each = p.task.mode == 2;
    for (int i = 0; i < c.count; i++) {
        if (!each && (c.mirror[i] & along) != pass) continue;
        Term &term = a.terms[count++];
        term = {0, each ? 0 : -1, {}, {}};
        int places = 0;
        for (int j = 0; j < c.count; j++) {
            if ((c.mirror[j] & along) != (each ? 0 : pass)) continue;
            int member = each ? c.mirror[i] : p.deep ? c.mirror[j] & ~along : 0;
            term.from[places] = strip_offset(p, a, strip_at(a, q[2], member, c.mirror[each ? i : j] & along), c.mirror[j], q);
            if (each && c.mirror[j] >> along == c.mirror[i] >> along) term.wanted = places;
            term.moving |= c.mirror[j] >> along;
            term.slot[places++] = p.recipes[tap_at(p, q)].slot[each ? i : j];
        }
        if (!each) return;
        term.slot[0] = p.recipes[tap_at(p, q)].slot[i];
    }
}

inline void plan_terms(const Program &p, Across &a) {
    int count = 0;
    for (int pass = 0; pass < a.passes; pass++) {
        a.start[pass] = count;
        for_each_class(p, [&](const int64_t *q, const Class &c) { add_terms(p, a, q, c, pass, count); });
    }
    a.start[a.passes] = count;
}

// Rows of a box that are read, for so many rows of so many planes of the answer.
inline int64_t rows_read(const Task &t, int64_t planes, int64_t rows) {
    int64_t read = 1, box[2] = {planes, rows};
    for (int axis = 0; axis < 2; axis++)
        read *= (box[axis] - 1) * t.stride[axis] + t.dilation[axis] * (t.kernel[axis] - 1) + 1;
    return read;
}

enum { BRING = 12 };  // products that take as long as bringing one number in and folding it along its row

// Boxes are whole rows. Of those that fill the budget at most, the ones that are done first.
inline void cut_rows(Program &p, const Across &a) {
    const Task &t = p.task;
    int64_t best = INT64_MAX, sums = p.groups * t.outputs, strips = a.piece * a.strips, room = t.budget / 4;
    p.box[2] = least(t.answer[2], most(room / (sums + strips * rows_read(t, 1, 1)), LANES));
    p.boxes[2] = up(t.answer[2], p.box[2]);
    p.box[2] = up(up(t.answer[2], p.boxes[2]), LANES) * LANES;
    p.box[2] = least(p.box[2], t.answer[2]);
    p.boxes[2] = up(t.answer[2], p.box[2]);
    int64_t width = p.box[2];
    p.box[0] = p.box[1] = 1;
    bool fits = p.boxes[2] == 1;
    for (int64_t planes = 1; fits && planes <= t.answer[0]; planes++) {
        fits = false;
        for (int64_t cuts = 1; cuts <= t.answer[1]; cuts++) {
            int64_t rows = up(t.answer[1], cuts), read = rows_read(t, planes, rows);
            if (width * (planes * rows * sums + read * strips) > room && planes * rows > 1) continue;
            fits = true;
            int64_t tiles = t.batch * cuts * up(t.answer[0], planes);
            int64_t one = width * (planes * rows * p.slot_count * t.outputs + read * p.in_members * BRING);
            int64_t all = up(tiles, t.threads) * one;
            if (all < best) best = all, p.box[0] = planes, p.box[1] = rows;
            if (tiles > 4 * t.threads) break;
        }
    }
    for (int axis = 0; axis < 2; axis++) p.boxes[axis] = up(t.answer[axis], p.box[axis]);
    p.pictures = 1;
    p.tiles = t.batch * p.boxes[0] * p.boxes[1] * p.boxes[2];
}

inline void lay_out_across(const Program &p, Across &a) {
    a.line = p.box[2];
    a.plane = p.region[1] * a.line;
    a.strip = staggered(p.region[0] * a.plane + LANES);
    bool flat = p.task.stride[1] == 1;  // rows of the answer follow one another as those of strips do
    a.run = (flat ? p.box[1] : 1) * p.box[2];
    a.rows = flat ? 1 : p.box[1];
    a.padded = staggered(p.box[0] * a.rows * up(a.run, LANES) * LANES);
}

inline bool prepare_across(Program &p, Across &a) {
    const Task &t = p.task;
    a.piece = p.in_laced ? least(most((p.deep ? 2 : 1) * LANES / p.in_members, 1), t.inputs) : t.inputs;
    a.passes = p.folded[2] && t.mode < 2 ? 2 : 1;
    a.letters = p.bits - p.folded[2];
    a.spreads = (Spread *)malloc(sizeof(Spread) * t.kernel[2] * MEMBERS);
    a.terms = (Term *)malloc(sizeof(Term) * p.taps * MEMBERS);
    a.strip_of = (int *)malloc(sizeof(int) * t.kernel[2] * MEMBERS * 2);
    a.place = (int32_t *)malloc(sizeof(int32_t) * p.in_members * a.piece);
    a.out_place = (int32_t *)malloc(sizeof(int32_t) * p.out_members * t.outputs);
    if (!a.spreads || !a.terms || !a.strip_of || !a.place || !a.out_place) return false;
    for (int64_t i = 0; i < p.out_members * t.outputs; i++) a.out_place[p.out_order[i]] = (int32_t)i;
    for (int64_t g = 0; g < p.in_members; g++)
        for (int64_t i = 0; i < a.piece; i++) a.place[p.in_order[g * t.inputs + i]] = (int32_t)(g * a.piece + i);
    plan_spreads(p, a);  // counts the strips, which say how large a box can be
    cut_rows(p, a);
    lay_out(p);
    a.row = staggered(p.region[2] + LANES);
    a.phase = up(p.region[2], t.stride[2]);
    a.parted = t.stride[2] == 1 ? a.row : staggered(t.stride[2] * a.phase + LANES);
    plan_spreads(p, a);
    lay_out_across(p, a);
    plan_terms(p, a);
    return true;
}

inline void dismiss(Across &a) {
    free(a.spreads);
    free(a.terms);
    free(a.strip_of);
    free(a.place);
    free(a.out_place);
}

}  // namespace
