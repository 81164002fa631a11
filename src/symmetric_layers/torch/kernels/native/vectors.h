// Vectors of the instruction set that this file is compiled for, and how they are laced.
//
// GCC's and Clang's vector extensions; nothing of the C++ library is used anywhere here, so that no template compiled
// for a newer processor can be picked by the linker for an older one.

#pragma once
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#if defined(__AVX2__)
#include <immintrin.h>
#endif

namespace {

// LANES floats make a vector; ROWS pixels times COLUMNS vectors of representatives are summed in registers.
#if defined(__AVX512F__)
enum { LANES = 16, ROWS = 7 };
#define EACH(f) f(0), f(1), f(2), f(3), f(4), f(5), f(6), f(7), f(8), f(9), f(10), f(11), f(12), f(13), f(14), f(15)
#elif defined(__AVX2__)
enum { LANES = 8, ROWS = 6 };
#define EACH(f) f(0), f(1), f(2), f(3), f(4), f(5), f(6), f(7)
#else
enum { LANES = 4, ROWS = 6 };
#define EACH(f) f(0), f(1), f(2), f(3)
#endif
enum { COLUMNS = 2, WIDTH = COLUMNS * LANES, MEMBERS = 8 };

typedef float Vector __attribute__((vector_size(LANES * 4)));
typedef float Loose __attribute__((vector_size(LANES * 4), aligned(4), may_alias));

inline Vector load(const float *from) { return *(const Loose *)from; }
inline void store(float *to, Vector value) { *(Loose *)to = value; }
inline Vector splat(float value) {
#define SAME(i) value
    return Vector{EACH(SAME)};
#undef SAME
}

// N numbers side by side, again and again. GCC takes two instructions for what a processor does while it loads.
template <int N> inline Vector splat_some(const float *from) {
#if defined(__AVX512F__)
    if constexpr (N == 4) return (Vector)_mm512_broadcast_f32x4(_mm_loadu_ps(from));
    if constexpr (N == 8) return (Vector)_mm512_broadcast_f64x4(_mm256_loadu_pd((const double *)from));
#elif defined(__AVX2__)
    if constexpr (N == 4) return (Vector)_mm256_broadcast_ps((const __m128 *)from);
#endif
    if constexpr (N == 1) return splat(*from);
    if constexpr (N == LANES) return load(from);
    if constexpr (N == 2) {
        typedef int64_t Pairs __attribute__((vector_size(LANES * 4)));
        int64_t pair;
        memcpy(&pair, from, sizeof pair);
        return (Vector)(pair | Pairs{});
    }
    __builtin_unreachable();
}

// Two vectors laced together, lower and upper half; the even and the odd places of two vectors; the even and the odd
// places of one, twice each, and laced together.
#define LOW(i) ((i) / 2 + (i) % 2 * LANES)
#define HIGH(i) (LANES / 2 + (i) / 2 + (i) % 2 * LANES)
#define EVEN(i) (2 * (i))
#define ODD(i) (2 * (i) + 1)
#define EVEN_TWICE(i) ((i) / 2 * 2)
#define ODD_TWICE(i) ((i) / 2 * 2 + 1)
#define EVEN_OF_BOTH(i) ((i) / 2 * 2 + (i) % 2 * LANES)
#define ODD_OF_BOTH(i) ((i) / 2 * 2 + 1 + (i) % 2 * LANES)
inline Vector low(Vector a, Vector b) { return __builtin_shufflevector(a, b, EACH(LOW)); }
inline Vector high(Vector a, Vector b) { return __builtin_shufflevector(a, b, EACH(HIGH)); }
inline Vector even(Vector a, Vector b) { return __builtin_shufflevector(a, b, EACH(EVEN)); }
inline Vector odd(Vector a, Vector b) { return __builtin_shufflevector(a, b, EACH(ODD)); }
inline Vector even_twice(Vector a) { return __builtin_shufflevector(a, a, EACH(EVEN_TWICE)); }
inline Vector odd_twice(Vector a) { return __builtin_shufflevector(a, a, EACH(ODD_TWICE)); }
inline Vector even_of_both(Vector a, Vector b) { return __builtin_shufflevector(a, b, EACH(EVEN_OF_BOTH)); }
inline Vector odd_of_both(Vector a, Vector b) { return __builtin_shufflevector(a, b, EACH(ODD_OF_BOTH)); }

// N rows are read column by column afterwards; N = LANES transposes a square. `unlace` undoes it.
template <int N> inline void lace(Vector *rows) {
    for (int round = 1; round < N; round *= 2) {
        Vector next[N];
        for (int i = 0; i < N / 2; i++) {
            next[2 * i] = low(rows[i], rows[i + N / 2]);
            next[2 * i + 1] = high(rows[i], rows[i + N / 2]);
        }
        for (int i = 0; i < N; i++) rows[i] = next[i];
    }
}
template <int N> inline void unlace(Vector *rows) {
    for (int round = 1; round < N; round *= 2) {
        Vector next[N];
        for (int i = 0; i < N / 2; i++) {
            next[i] = even(rows[2 * i], rows[2 * i + 1]);
            next[i + N / 2] = odd(rows[2 * i], rows[2 * i + 1]);
        }
        for (int i = 0; i < N; i++) rows[i] = next[i];
    }
}

// The same for three rows. What one of them is to become stands at different places of the three, so that they are
// blended first.
#define TURN(p) ((COLUMN - (p) + 3 * LANES) * LANES % 3)
#define SECOND(p) ((p) + (TURN(p) == 1) * LANES)
#define THIRD(p) ((p) + (TURN(p) == 2) * LANES)
#define STEP(i) ((3 * (i) + COLUMN) % LANES)
template <int COLUMN> inline Vector column_of(const Vector *rows) {
    Vector two = __builtin_shufflevector(rows[0], rows[1], EACH(SECOND));
    Vector three = __builtin_shufflevector(two, rows[2], EACH(THIRD));
    return __builtin_shufflevector(three, three, EACH(STEP));
}
template <> inline void unlace<3>(Vector *rows) {
    Vector first = column_of<0>(rows), second = column_of<1>(rows), third = column_of<2>(rows);
    rows[0] = first, rows[1] = second, rows[2] = third;
}

// Sums and differences along every bit of the index. Mirroring swaps the two terms of sums and of differences, so the
// same bits come out, up to the sign: this is why answers mirror bitwise.
template <int N, class T> inline __attribute__((always_inline)) void butterfly(T *values) {
    for (int bit = 1; bit < N; bit *= 2)
        for (int i = 0; i < N; i++)
            if (!(i & bit)) {
                T a = values[i], b = values[i | bit];
                values[i] = a + b;
                values[i | bit] = a - b;
            }
}

template <class T> inline T get(const float *from, T *) {
    T value;
    memcpy(&value, from, sizeof value);
    return value;
}
template <class T> inline void put(float *to, T value) { memcpy(to, &value, sizeof value); }

// `work` is done on vectors, then on halves and quarters of one and on what is left, for count numbers.
template <class Work> inline __attribute__((always_inline)) void sweep(int64_t count, Work work) {
    typedef float Eight __attribute__((vector_size(32)));
    typedef float Four __attribute__((vector_size(16)));
    constexpr int lanes = LANES;
    int64_t i = 0;
    for (; i + LANES <= count; i += LANES) work.template run<Vector>(i);
    if constexpr (lanes > 8)
        if (i + 8 <= count) work.template run<Eight>(i), i += 8;
    if constexpr (lanes > 4)
        if (i + 4 <= count) work.template run<Four>(i), i += 4;
    for (; i < count; i++) work.template run<float>(i);
}

inline int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }
inline int64_t most(int64_t a, int64_t b) { return a > b ? a : b; }
inline int64_t up(int64_t a, int64_t b) { return (a + b - 1) / b; }

// Groups of at most `most_rows`, as even as can be: a small rest would keep the multipliers waiting.
template <class Work> inline void each_group(int64_t count, int64_t most_rows, Work work) {
    if (!count) return;
    if (count <= most_rows) return work(0, count);  // the most frequent case needs no division
    int64_t groups = up(count, most_rows), rows = count / groups, larger = count % groups;
    for (int64_t group = 0, at = 0; group < groups; group++) {
        int64_t here = rows + (group < larger);
        work(at, here);
        at += here;
    }
}

// What a thread keeps from call to call.
struct Scratch {
    float *floats = nullptr;
    int64_t room = 0;
    ~Scratch() { free(floats); }
    float *reserve(int64_t wanted) {  // null where there is no memory
        if (room < wanted) {
            free(floats);
            room = 0;
            floats = nullptr;
            void *fresh = nullptr;
            if (posix_memalign(&fresh, 64, sizeof(float) * wanted)) return nullptr;
            floats = (float *)fresh;
            room = wanted;
        }
        return floats;
    }
};

}  // namespace
