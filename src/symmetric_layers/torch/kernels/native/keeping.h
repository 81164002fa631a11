// How answers are written: into memory, onto what it holds, or past the caches.
//
// A cache line that is written whole need not be read first, and what does not stay in the caches anyway need not push
// out what does. Memory that was never touched is another matter: the system clears it for whoever writes it first, and
// it is in the caches then.

#pragma once
#include "vectors.h"
#if defined(__x86_64__)
#include <immintrin.h>
#endif
#ifdef __linux__
#include <sys/mman.h>
#include <unistd.h>
#endif

namespace {

enum Keeping { WRITING, ADDING, PASSING };

enum { ASKED = 8 };  // pages of an answer that are looked at

inline void pass(float *to, Vector value) {
#if defined(__AVX512F__)
    _mm512_stream_ps(to, (__m512)value);
#elif defined(__AVX__)
    _mm256_stream_ps(to, (__m256)value);
#elif defined(__x86_64__)
    _mm_stream_ps(to, (__m128)value);
#else
    store(to, value);
#endif
}

inline void keep(float *to, Vector value, Keeping keeping) {
    if (keeping == PASSING && (uintptr_t)to % sizeof(Vector) == 0) return pass(to, value);
    store(to, keeping == ADDING ? load(to) + value : value);
}
inline void keep(float *to, float value, Keeping keeping) { *to = keeping == ADDING ? *to + value : value; }

// Only so many numbers, fewer than LANES. Not inlined: it must not keep others from leaving their vectors in registers.
__attribute__((noinline, unused)) static void keep_some(float *to, Vector value, int64_t count, Keeping keeping) {
    if (keeping == ADDING)
        for (int64_t i = 0; i < count; i++) value[i] += to[i];
    const char *from = (const char *)&value;
#pragma GCC unroll 4
    for (int64_t width = LANES / 2; width; width /= 2)
        if (count & width) {
            memcpy(to, from, sizeof(float) * width);
            to += width;
            from += sizeof(float) * width;
        }
}

// What was written past the caches is there for everybody afterwards.
inline void settle(Keeping keeping) {
#if defined(__x86_64__)
    if (keeping == PASSING) _mm_sfence();
#endif
}

// Whether memory that an answer is written to was written before; asked of a few pages.
inline bool is_touched(const float *from, int64_t floats) {
#ifdef __linux__
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE), first = (uintptr_t)from;
    for (int64_t i = 0; i < ASKED; i++) {
        unsigned char there = 0;
        uintptr_t at = first + (uintptr_t)(4 * floats / ASKED * i + 2 * floats / ASKED);
        if (mincore((void *)(at / page * page), 1, &there) || !(there & 1)) return false;
    }
    return true;
#else
    return false;
#endif
}

}  // namespace
