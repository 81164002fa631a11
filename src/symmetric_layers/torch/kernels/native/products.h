// Multiplying and adding: sums of a few pixels and representatives that stay in registers.

#pragma once
#include "folds.h"

namespace {

struct Operands {
    const Span *spans;
    int count;
    int64_t inputs;
    const float *weights;
    bool fresh, last;       // nothing was summed before, or will be afterwards
};

// What was summed apart for inputs that share vectors.
template <int SHARE> inline Vector add_shared(Vector a, Vector b) {
    Vector sum = even(a, b) + odd(a, b);
    for (int inputs = 2; inputs < SHARE; inputs *= 2) sum = even(sum, sum) + odd(sum, sum);
    return sum;
}

template <int R, int C, int SHARE>
inline __attribute__((always_inline)) void store_sums(const Vector (&sum)[R][C], bool last, float *sums) {
    for (int r = 0; r < R; r++)
        if (SHARE > 1 && last)
            store(sums + r * WIDTH, add_shared<SHARE>(sum[r][0], sum[r][C - 1]));
        else
            for (int c = 0; c < C; c++) store(sums + r * WIDTH + c * LANES, sum[r][c]);
}

// K: how many inputs there are, if few and fresh, so that all of a span is known beforehand; otherwise 0. SHARE: how
// many inputs share the vectors.
template <int R, int C, int K = 0, int SHARE = 1>
__attribute__((noinline)) void multiply(const Operands &o, const Tile &tile, int64_t pixel, float *sums) {
    Vector sum[R][C];
    for (int r = 0; r < R; r++)
        for (int c = 0; c < C; c++) sum[r][c] = K || o.fresh ? Vector{} : load(sums + r * WIDTH + c * LANES);
    const float *weights = o.weights;
    for (int s = 0; s < o.count; s++) {
        const Span &span = o.spans[s];
        const float *base = (span.direct ? tile.regions : tile.planes) + span.offset;
        const int32_t *at = (span.direct ? tile.region_at : tile.plane_at) + pixel;
        const float *from[R];
        for (int r = 0; r < R; r++) from[r] = base + at[r];
#pragma GCC unroll 4
        for (int64_t k = 0; k < (K ? K : span.floats); k += SHARE, weights += WIDTH) {
            Vector w[C];
            for (int c = 0; c < C; c++) w[c] = load(weights + c * LANES);
            for (int r = 0; r < R; r++) {
                Vector x = splat_some<SHARE>(from[r] + k);
                for (int c = 0; c < C; c++) sum[r][c] += w[c] * x;
            }
        }
    }
    store_sums<R, C, SHARE>(sum, o.last, sums);
}

// With 32 registers: pixels that are the same distance apart need few places to be found, so that there may be twice as many.
enum { ROOMY = LANES == 16, EVEN_ROWS = 2 * ROWS };

struct Even {
    const char *first, *tenth;
    int64_t step, three, five, seven;
    inline __attribute__((always_inline)) Even(const float *from, int64_t floats)
        : first((const char *)from), tenth(first + 36 * floats), step(4 * floats), three(3 * step), five(5 * step), seven(7 * step) {
        asm("" : "+r"(three), "+r"(five), "+r"(seven));  // the compiler would find other places for them, and run out
    }
    inline __attribute__((always_inline)) const float *at(int r) const {
        const char *from = r < 9 ? first : tenth;
        switch (r < 9 ? r : r - 9) {
        case 0: return (const float *)from;
        case 3: return (const float *)(from + three);
        case 5: return (const float *)(from + five);
        case 6: return (const float *)(from + 2 * three);
        case 7: return (const float *)(from + seven);
        default: return (const float *)(from + (r < 9 ? r : r - 9) * step);
        }
    }
    inline __attribute__((always_inline)) void move(int64_t floats) { first += 4 * floats, tenth += 4 * floats; }
};

// The same for such pixels.
template <int SHARE>
__attribute__((noinline)) void multiply_even(const Operands &o, const Tile &tile, int64_t pixel, float *sums) {
    Vector sum[EVEN_ROWS][COLUMNS];
    for (int r = 0; r < EVEN_ROWS; r++)
        for (int c = 0; c < COLUMNS; c++) sum[r][c] = o.fresh ? Vector{} : load(sums + r * WIDTH + c * LANES);
    const float *weights = o.weights;
    for (const Span *span = o.spans; span < o.spans + o.count; span++) {
        const float *base = (span->direct ? tile.regions : tile.planes) + span->offset;
        const int32_t *at = (span->direct ? tile.region_at : tile.plane_at) + pixel;
        Even from(base + at[0], at[1] - at[0]);
        for (const float *end = weights + span->floats / SHARE * WIDTH; weights != end; weights += WIDTH, from.move(SHARE)) {
            Vector w[COLUMNS];
            for (int c = 0; c < COLUMNS; c++) w[c] = load(weights + c * LANES);
#pragma GCC unroll 14
            for (int r = 0; r < EVEN_ROWS; r++) {
                Vector x = splat_some<SHARE>(from.at(r));
                for (int c = 0; c < COLUMNS; c++) sum[r][c] += w[c] * x;
            }
        }
    }
    store_sums<EVEN_ROWS, COLUMNS, SHARE>(sum, o.last, sums);
}

inline void multiply_even(int share, const Operands &o, const Tile &tile, int64_t pixel, float *sums) {
    switch (share) {
    case 1: return multiply_even<1>(o, tile, pixel, sums);
    case 2: return multiply_even<2>(o, tile, pixel, sums);
    case 4: return multiply_even<4>(o, tile, pixel, sums);
    default: return multiply_even<8>(o, tile, pixel, sums);
    }
}

enum { SETS = 512 };  // floats: so many pixels that far apart would fall into too few sets of the first cache

inline bool are_even(const int32_t *at) {
    int32_t step = at[1] - at[0], uneven = step % SETS == 0;
    for (int r = 1; r < EVEN_ROWS; r++) uneven |= at[r] - at[r - 1] - step;
    return !uneven;
}

// One vector of representatives leaves room for more pixels, which the multipliers need to stay busy.
const int NARROW_ROWS = 8;

template <int R, int C> inline void multiply_few(const Operands &o, const Tile &tile, int64_t pixel, float *sums) {
    switch (o.inputs) {
    case 1: return multiply<R, C, 1>(o, tile, pixel, sums);
    case 2: return multiply<R, C, 2>(o, tile, pixel, sums);
    case 3: return multiply<R, C, 3>(o, tile, pixel, sums);
    default: return multiply<R, C, FEW>(o, tile, pixel, sums);
    }
}

template <int C, int SHARE = 1>
inline void multiply_rows(int64_t rows, const Operands &o, const Tile &tile, int64_t pixel, float *sums) {
    const int MOST = C == 1 ? NARROW_ROWS : (int)ROWS;
    if (SHARE == 1 && rows == MOST && o.inputs <= FEW && o.fresh) return multiply_few<MOST, C>(o, tile, pixel, sums);
    switch (rows) {
    case 1: return multiply<1, C, 0, SHARE>(o, tile, pixel, sums);
    case 2: return multiply<2, C, 0, SHARE>(o, tile, pixel, sums);
    case 3: return multiply<3, C, 0, SHARE>(o, tile, pixel, sums);
    case 4: return multiply<4, C, 0, SHARE>(o, tile, pixel, sums);
    case 5: return multiply<5, C, 0, SHARE>(o, tile, pixel, sums);
    case 6: return multiply<6, C, 0, SHARE>(o, tile, pixel, sums);
    case 7: return multiply<7, C, 0, SHARE>(o, tile, pixel, sums);
    default: return multiply<MOST, C, 0, SHARE>(o, tile, pixel, sums);
    }
}

typedef void Rows(int64_t rows, const Operands &o, const Tile &tile, int64_t pixel, float *sums);

inline Rows *rows_for(int share, bool narrow) {
    if (share == 8) return multiply_rows<COLUMNS, LANES < 8 ? 1 : 8>;
    if (share == 4) return multiply_rows<COLUMNS, 4>;
    if (share == 2) return multiply_rows<COLUMNS, 2>;
    return narrow ? multiply_rows<1> : multiply_rows<COLUMNS>;
}

// Some pixels of a tile, one block of outputs, one group; spans go piece by piece, in the same order everywhere.
inline void multiply_group(const Program &p, const Tile &tile, Run pixels, int group, int64_t block, const float *packed,
                           float *sums) {
    int share = p.share(block);
    bool narrow = p.is_narrow(block) && share == 1;
    Rows *work = rows_for(share, narrow);
    const float *weights = packed + block * p.slot_count * p.task.inputs * WIDTH;
    const Span *span = p.spans + p.span_start[group], *end = p.spans + p.span_start[group + 1];
    int64_t before = p.late ? pixels.from : 0;  // pixels whose planes are not there anymore
    Operands o = {span, 0, p.task.inputs, nullptr, true, false};
    if (span == end)  // filters of one tap are even: nothing is odd
        memset(sums, 0, sizeof(float) * (pixels.to - pixels.from) * WIDTH);
    for (; span != end; span += o.count, o.fresh = false) {
        int64_t floats = span->floats;
        o.spans = span;
        for (o.count = 1; span + o.count != end && floats + span[o.count].floats <= CHUNK; o.count++)
            floats += span[o.count].floats;
        o.weights = weights + span->first * (WIDTH / share);
        o.last = span + o.count == end;
        bool all = o.fresh || o.count > 1 || (o.last && share > 1);
        Run run = all ? pixels : both(pixels, inside(p, tile, span->row));
        for (; ROOMY && !narrow && run.to - run.from >= EVEN_ROWS; run.from += EVEN_ROWS) {
            int64_t pixel = run.from - before;
            float *to = sums + (run.from - pixels.from) * WIDTH;
            if (are_even(tile.plane_at + pixel) && (p.close || are_even(tile.region_at + pixel)))
                multiply_even(share, o, tile, pixel, to);
            else
                for (int half = 0; half < EVEN_ROWS; half += ROWS) work(ROWS, o, tile, pixel + half, to + half * WIDTH);
        }
        each_group(run.to - run.from, narrow ? NARROW_ROWS : (int)ROWS, [&](int64_t at, int64_t rows) {
            work(rows, o, tile, run.from + at - before, sums + (run.from + at - pixels.from) * WIDTH);
        });
    }
}

}  // namespace
