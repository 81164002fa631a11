// Answers that are written a few places apart: gradients of the input of strided layers.
//
// Pixels that the same taps reach are one phase, and mirrors of a phase are members of an orbit. A box may reach beyond the
// picture, where other phases of it have a pixel.

#pragma once
#include "pictures.h"

namespace {

// Where a row of answers goes, of one member: the place of the first, counted in floats, and which of them are in the picture.
struct Course {
    int64_t to, from, end;
    bool has(int64_t pixel) const { return from <= pixel && pixel < end; }
};

inline int64_t written_at(const Task &t, int member, int axis, int64_t answer) {
    return t.spacing[axis] * answer + t.phase[member][axis] - t.margin[axis];
}

inline Course course_of(const Task &t, int member, const int64_t *at, int64_t pixels) {
    Course course = {0, 0, pixels};
    for (int a = 0; a < 3; a++) {
        int64_t place = written_at(t, member, a, at[a]);
        course.to += place * t.out_position[a];
        if (a < 2 && (place < 0 || place >= t.written[a])) course.end = 0;
        if (a == 2) course.from = up(most(-place, 0), t.spacing[a]);
        if (a == 2) course.end = least(course.end, up(most(t.written[a] - place, 0), t.spacing[a]));
    }
    return course;
}

// Channels are exchanged with those whose numbers differ in these bits.
inline Vector exchange(Vector v, int bits) {
#define NEXT(i) ((i) ^ 1)
#define SECOND_NEXT(i) ((i) ^ 2)
#define FOURTH_NEXT(i) (((i) ^ 4) % LANES)
    if (bits & 1) v = __builtin_shufflevector(v, v, EACH(NEXT));
    if (bits & 2) v = __builtin_shufflevector(v, v, EACH(SECOND_NEXT));
    if (bits & 4) v = __builtin_shufflevector(v, v, EACH(FOURTH_NEXT));
    return v;
}

// Some channels of one member of a pixel, side by side.
inline void store_member(const Program &p, int member, Vector v, int64_t first, int64_t count, float *to) {
    int bits = p.exchanged[member];
    if (bits < 0) {
        const int32_t *order = p.out_order + member * p.task.outputs + first;
        for (int64_t i = 0; i < least(count, LANES); i++) keep(to + order[i], v[i], p.keeping);
        return;
    }
    v = exchange(v, bits);
    count < LANES ? keep_some(to + first, v, count, p.keeping) : keep(to + first, v, p.keeping);
}

template <int M>
inline void store_row_last(const Program &p, const Answer &a, int64_t pixel, int64_t pixels, const Course *courses) {
    int64_t step = p.task.spacing[2] * p.task.out_position[2];
    for (int64_t x = 0; x < pixels; x++)
        for (int64_t lane = 0; lane < a.count; lane += LANES) {
            Vector v[M];
            mirror_sums<M>(a, pixel + x, lane, v);
            if (p.out_laced && !p.apart) {
                if (courses->has(x)) store_laced<M>(p, v, a.to + courses->to + x * step + (a.first + lane) * M, a.count - lane);
                continue;
            }
            for (int g = 0; g < M; g++)
                if (courses[g].has(x)) store_member(p, g, v[g], a.first + lane, a.count - lane, a.to + courses[g].to + x * step);
        }
}

template <int M>
inline void store_row_scattered(const Program &p, const Answer &a, int64_t pixel, int64_t pixels, const Course *courses) {
    const Task &t = p.task;
    float together[M * LANES * MANY] __attribute__((aligned(64)));
    int64_t step = t.spacing[2] * t.out_position[2];
    for (int64_t lane = 0; lane < a.count; lane += LANES)
        for (int64_t first = 0; first < pixels; first += MANY) {
            int64_t some = least(pixels - first, MANY);
            put_together<M>(a, lane, pixel + first, some, together);
            for (int g = 0; g < M; g++)
                for (int64_t i = 0; i < least(a.count - lane, LANES); i++) {
                    int64_t channel = p.out_order[g * t.outputs + a.first + lane + i];
                    float *to = a.to + courses[g].to + channel * t.out_channel;
                    const float *from = together + (g * LANES + i) * MANY;
                    for (int64_t x = most(first, courses[g].from); x < least(first + some, courses[g].end); x++)
                        keep(to + x * step, from[x - first], p.keeping);
                }
        }
}

// Some pixels of a picture, the first of which has this number among all its answers; row by row.
template <int M> inline void store_spaced(const Program &p, const Answer &a, int64_t number) {
    const int64_t *sizes = p.task.answer;
    for (int64_t pixel = 0, pixels = 0; pixel < a.pixels; pixel += pixels, number += pixels) {
        int64_t at[3] = {number / sizes[2] / sizes[1], number / sizes[2] % sizes[1], number % sizes[2]};
        pixels = least(a.pixels - pixel, sizes[2] - at[2]);
        Course courses[M];
        for (int g = 0; g < M; g++) courses[g] = course_of(p.task, g, at, pixels);
        p.task.out_channel == 1 ? store_row_last<M>(p, a, pixel, pixels, courses)
                                : store_row_scattered<M>(p, a, pixel, pixels, courses);
    }
}

inline void store_spaced(const Program &p, const Answer &a, int64_t number) {
    if (p.out_members == 1) store_spaced<1>(p, a, number);
    if (p.out_members == 2) store_spaced<2>(p, a, number);
    if (p.out_members == 4) store_spaced<4>(p, a, number);
    if (p.out_members == 8) store_spaced<8>(p, a, number);
}

}  // namespace
