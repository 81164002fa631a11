// The same product with pixels in the lanes of the vectors: planned here, done in `rows.h`, `streams.h` and `stores.h`.
//
// Everything is kept channel by channel. Rows of the input are folded about their own axis when they are brought in: a
// **strip** is such a row, for one tap along it. The other axes are folded in registers, right before multiplying, so
// that what is written stays small. Inputs come piece by piece. The order in which a pixel's products are summed is the
// same for all pixels, and depends on shapes only; where inputs are few, it is that of representatives in the lanes.

#pragma once
#include "choices.h"
#include "weights.h"

namespace {

enum { MOST_STREAMS = SUMS / 2, MOST_ABREAST = 4, ABREAST = 3 };
enum { LETTERS_AHEAD = 4, FOLDED = 6144 };  // characters, and floats that are folded ahead
enum { TOGETHER_STORED = 8 };  // vectors of pixels whose answers are stored together, from the first cache
inline constexpr int streams_of(int letters) { return letters < 2 ? MOST_STREAMS : SUMS >> letters; }
inline constexpr int abreast_of(int letters, int streams) {
    int vectors = (SUMS >> letters) / streams;
    if (SUMS == 8 && letters == 0 && streams == MOST_STREAMS) return ABREAST;  // what is loaded then serves more sums
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
    int64_t from[4];     // in a plane, and
    int64_t down[4];     // the plane, counted from the first one that is read
    int slot[4];
    int places() const { return moving == 3 ? 4 : moving ? 2 : 1; }
    int results() const { return wanted < 0 ? places() : 1; }
};

enum { SORTS = 7, LONG = 32 };
inline int sort_of(const Term &t) { return t.wanted < 0 ? t.moving : t.moving == 3 ? 3 + t.wanted : t.moving ? 1 + t.wanted : 0; }

// Terms of one sort, side by side. Those of some inputs are one list, so that it is long enough to be worth going through.
struct Bunch {
    int sort, first, count;
    int64_t inputs;      // whose terms are one list
    int64_t places;      // where that list stands: [input][term][place], or [term][input][place]
    int64_t slots;       // before it
};

// What an input has of every character of a pass, and of those before it: vectors that are folded ahead.
struct Ahead {
    int64_t count[LETTERS_AHEAD], before[LETTERS_AHEAD], all;
};

struct Across {
    bool learning;                 // gradients of filters are wanted
    bool by_term;                  // lists say all inputs of a term after one another; else all terms of an input
    bool ahead;                    // folded into the first cache, not in registers, so many inputs at a time:
    int64_t chunk, folded;         // and as many floats
    Ahead seen[2];                 // in every pass
    int letters, passes;           // folded besides those of rows; characters along a row
    int64_t row;                   // of the rows that are brought in: distance in floats, of channels
    int64_t parted, phase;         // the same once places a stride apart stand side by side; of places that do not
    int64_t piece, held;           // inputs that are brought in in one go; rows of a member that there is room for
    int64_t strip, line, plane;    // distances in floats: of strips, of rows, of planes of rows
    int64_t strips, floats;        // of an input; of all strips
    int64_t planes;                // that one plane of the answer reads: a ring, in which a new one replaces the oldest
    int64_t run, rows;             // pixels that lie one after the other in all strips; such runs of a plane
    int64_t slab, kept;            // pixels of a plane of the answer, in whole vectors; planes whose sums are kept
    int64_t padded;                // pixels of all of them
    int32_t *place;                // of every input channel of a piece: member * piece + input
    int32_t *out_place;            // of every channel of the answer: member * outputs + output
    Spread *spreads;
    Term *terms;
    Bunch bunches[2 * SORTS];
    int32_t *places;               // of the strips that are folded, for every turn of the ring
    int64_t places_pitch;          // from turn to turn
    int spread_count, start[3];    // bunches of a pass stand side by side
    int *strip_of;                 // [tap along the row][member][character]
    int64_t row_floats(const Program &p) const {
        return p.in_members * held * (row + (p.task.stride[2] == 1 ? 0 : parted));
    }
    int64_t sum_pitch(const Program &p) const { return p.task.outputs * padded; }  // from group to group
};

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
    int64_t last = p.task.kernel[2] - 1, member = a.held * a.parted;
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

// All mirrors of a class with one character along the row become one term; in gradients of pictures, of a character each.
inline void add_terms(const Program &p, const Across &a, const int64_t *q, const Class &c, int pass, Term *terms, int &count) {
    int along = p.folded[2];  // the letter of a row is the lowest
    bool each = p.task.mode == 2;
    for (int i = 0; i < c.count; i++) {
        if (!each && (c.mirror[i] & along) != pass) continue;
        Term &term = terms[count++];
        term = {0, each ? 0 : -1, {}, {}, {}};
        int places = 0;
        for (int j = 0; j < c.count; j++) {
            if ((c.mirror[j] & along) != (each ? 0 : pass)) continue;
            int member = each ? c.mirror[i] : p.deep ? c.mirror[j] & ~along : 0;
            int64_t at[3];
            reflect(p, c.mirror[j], q, at);
            term.from[places] = strip_at(a, q[2], member, c.mirror[each ? i : j] & along) * a.strip +
                                at[1] * p.task.dilation[1] * a.line;
            term.down[places] = at[0] * p.task.dilation[0];
            if (each && c.mirror[j] >> along == c.mirror[i] >> along) term.wanted = places;
            term.moving |= c.mirror[j] >> along;
            term.slot[places++] = p.recipes[tap_at(p, q)].slot[each ? i : j];
        }
        if (!each) return;
        term.slot[0] = p.recipes[tap_at(p, q)].slot[i];
    }
}

// Bunches of some terms, `from` which they are copied in order.
inline int add_bunches(Across &a, const Term *from, int count, int first, int bunch) {
    for (int sort = 0; sort < SORTS; sort++) {
        Bunch &b = a.bunches[bunch] = {sort, first, 0, 0, a.places_pitch, bunch ? a.bunches[bunch - 1].slots : 0};
        if (bunch) b.slots += a.bunches[bunch - 1].count * a.terms[a.bunches[bunch - 1].first].results();
        for (int i = 0; i < count; i++)
            if (sort_of(from[i]) == sort) a.terms[first + b.count++] = from[i];
        if (!b.count) continue;
        b.inputs = a.by_term ? a.piece : least(a.piece, up(LONG, b.count));
        a.places_pitch += b.inputs * b.count * a.terms[first].places();
        first += b.count;
        bunch++;
    }
    return bunch;
}

inline void plan_terms(const Program &p, Across &a, Term *loose) {
    int bunch = 0, first = 0;
    a.places_pitch = 0;
    for (int pass = 0; pass < a.passes; pass++) {
        int count = 0;
        for_each_class(p, [&](const int64_t *q, const Class &c) { add_terms(p, a, q, c, pass, loose, count); });
        a.start[pass] = bunch;
        bunch = add_bunches(a, loose, count, first, bunch);
        first += count;
    }
    a.start[a.passes] = bunch;
}

// The character that is result j of a butterfly of the letters in MOVING.
inline constexpr int spread_bits(int j, int moving) {
    int result = 0;
    for (int bit = 0; bit < 2; bit++)
        if (moving >> bit & 1) result |= (j & 1) << bit, j >>= 1;
    return result;
}

inline Ahead ahead_of(const Across &a, int pass) {
    Ahead found = {};
    for (const Bunch *b = a.bunches + a.start[pass]; b < a.bunches + a.start[pass + 1]; b++)
        for (int j = 0; j < a.terms[b->first].results(); j++) found.count[spread_bits(j, b->sort)] += b->count;
    for (int c = 0; c < LETTERS_AHEAD; c++) {
        found.before[c] = found.all;
        found.all += found.count[c];
    }
    return found;
}

// As many inputs as the first cache has room for.
inline void cut_chunks(Across &a) {
    int64_t most_floats = 0;
    for (int pass = 0; pass < a.passes; pass++) {
        a.seen[pass] = ahead_of(a, pass);
        most_floats = most(most_floats, a.seen[pass].all * ABREAST * LANES);
    }
    a.chunk = least(most(FOLDED / most_floats, 1), a.piece);
    a.folded = a.chunk * most_floats;
}

// Where an input of a term stands in the list of a bunch.
inline int64_t listed(const Across &a, const Bunch &b, int64_t input, int64_t term, int64_t inputs) {
    return a.by_term ? term * inputs + input : input * b.count + term;
}

// Where all strips stand that are folded, whichever plane of the ring is the first.
inline void plan_places(Across &a) {
    for (int64_t turn = 0; turn < a.planes; turn++)
        for (int bunch = 0; bunch < a.start[a.passes]; bunch++) {
            const Bunch &b = a.bunches[bunch];
            for (int64_t k = 0; k < b.inputs; k++)
                for (int i = 0; i < b.count; i++) {
                    const Term &term = a.terms[b.first + i];
                    int32_t *to = a.places + turn * a.places_pitch + b.places + listed(a, b, k, i, b.inputs) * term.places();
                    for (int j = 0; j < term.places(); j++)
                        to[j] = (int32_t)(k * a.strips * a.strip + term.from[j] + (term.down[j] + turn) % a.planes * a.plane);
                }
        }
}

}  // namespace
