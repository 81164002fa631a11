// From stored filters to the weights of slots, and from their gradients back.

#pragma once
#include "boxes.h"

namespace {

enum { TOGETHER = 8 };  // inputs whose filters are read in one go

// How the filters of a block lie in memory: outputs are rows, and members and taps of an input are columns.
//
// Gradients of the input read filters with inputs and outputs exchanged.
struct Filters {
    int members;                    // whose taps are columns
    int64_t taps, row, member, input, tap;  // distances in floats
    bool ordered;                   // the table of channels says nothing that the distances do not say

    // Members and taps of many inputs are one run of floats, or (channels last) members of many inputs are, tap by tap.
    bool one_run() const { return ordered && tap == 1 && input == members * taps && member == taps; }
    bool run_per_tap() const { return ordered && tap > 1 && input == members && member == 1; }
    int64_t inputs_at_once() const { return one_run() || run_per_tap() ? TOGETHER : 1; }
};

inline Filters filters_of(const Program &p) {
    const Task &t = p.task;
    int64_t members = p.deep && !p.alike ? p.members : 1;
    Filters f = {(int)members,   p.stored_taps, t.filter_stride, t.channel_stride, members * t.channel_stride,
                 t.tap_stride, !p.deep || p.in_laced};
    if (t.transposed) {
        f.row = members * t.channel_stride;
        f.input = t.filter_stride;
        f.ordered = !p.deep || p.out_laced || p.alike;
    }
    return f;
}

// Where the taps of output n, input k begin.
inline int64_t stored_at(const Program &p, const Filters &f, int member, int64_t n, int64_t k) {
    if (f.ordered) return n * f.row + member * f.member + k * f.input;
    const Task &t = p.task;
    if (t.transposed) return k * t.filter_stride + p.out_order[member * t.outputs + n] * t.channel_stride;
    return n * t.filter_stride + p.in_order[member * t.inputs + k] * t.channel_stride;
}

// Rows become columns of a room that is WIDTH wide, `step` columns apart; zeros where LANES are more. `row_at` says where a
// row begins.
template <class Row>
inline __attribute__((always_inline)) void turn(Row row_at, int64_t rows, int64_t columns, float *room, int64_t step) {
    int64_t i = 0;
    for (; i + LANES <= columns; i += LANES) {
        Vector square[LANES];
        for (int r = 0; r < LANES; r++) square[r] = r < rows ? load(row_at(r) + i) : Vector{};
        lace<LANES>(square);
        for (int r = 0; r < LANES; r++) store(room + (i + r) * step * WIDTH, square[r]);
    }
    for (; i < columns; i++)
        for (int r = 0; r < LANES; r++) room[i * step * WIDTH + r] = r < rows ? row_at(r)[i] : 0.0f;
}

inline void turn_rows(const float *from, int64_t rows, int64_t row, int64_t columns, float *room, int64_t step) {
    turn([=](int64_t r) { return from + r * row; }, rows, columns, room, step);
}

inline void turn_back(const float *room, int64_t row, int64_t columns, float *to) {
    int64_t i = 0;
    for (; i + LANES <= columns; i += LANES) {
        Vector square[LANES];
        for (int r = 0; r < LANES; r++) square[r] = load(room + (i + r) * WIDTH);
        lace<LANES>(square);
        for (int r = 0; r < LANES; r++) store(to + r * row + i, square[r]);
    }
    for (; i < columns; i++)
        for (int r = 0; r < LANES; r++) to[r * row + i] = room[i * WIDTH + r];
}

// As many filters as there are, up to LANES.
inline void read_ordered(const Filters &f, const float *from, int64_t rows, int64_t inputs, float *to) {
    if (f.one_run()) return turn_rows(from, rows, f.row, inputs * f.members * f.taps, to, 1);
    if (f.run_per_tap()) {
        for (int64_t tap = 0; tap < f.taps; tap++)
            turn_rows(from + tap * f.tap, rows, f.row, inputs * f.members, to + tap * WIDTH, f.taps);
        return;
    }
    int64_t pieces = f.tap == 1 ? 1 : f.taps;  // taps side by side are one run
    for (int g = 0; g < f.members; g++)
        for (int64_t tap = 0; tap < pieces; tap++)
            turn_rows(from + g * f.member + tap * f.tap, rows, f.row, f.taps / pieces, to + (g * f.taps + tap) * WIDTH, 1);
}

// The taps of one input's member, where the table says which channels these are.
inline void read_scattered(const Program &p, const Filters &f, const float *stored, int member, int64_t first, int64_t count,
                           int64_t k, float *to) {
    const float *rows[LANES];
    for (int64_t n = 0; n < count; n++) rows[n] = stored + stored_at(p, f, member, first + n, k);
    int64_t pieces = f.tap == 1 ? 1 : f.taps;
    for (int64_t tap = 0; tap < pieces; tap++)
        turn([&](int64_t r) { return rows[r] + tap * f.tap; }, count, f.taps / pieces, to + tap * WIDTH, 1);
}

// The filters of one block for some inputs: [input][member][tap][WIDTH], zeros behind the last output.
inline void read_filters(const Program &p, const Filters &f, const float *stored, int64_t block, int64_t k, int64_t inputs,
                         float *room) {
    for (int64_t lane = 0; lane < WIDTH; lane += LANES) {
        int64_t first = block * WIDTH + lane, count = least(most(p.task.outputs - first, 0), LANES);
        if (f.ordered) {
            read_ordered(f, stored + (count ? stored_at(p, f, 0, first, k) : 0), count, inputs, room + lane);
            continue;
        }
        for (int64_t i = 0; i < inputs; i++)
            for (int g = 0; g < f.members; g++)
                read_scattered(p, f, stored, g, first, count, k + i, room + (i * f.members + g) * f.taps * WIDTH + lane);
    }
}

inline void write_filters(const Program &p, const Filters &f, const float *room, int64_t first, int64_t k, int64_t inputs,
                          float *stored) {
    int64_t count = least(p.task.outputs - first, LANES);
    bool one_run = f.one_run();
    int pieces = one_run ? 1 : f.members;
    int64_t columns = one_run ? inputs * f.members * f.taps : f.taps;
    for (int g = 0; g < pieces; g++) {
        const float *from = room + g * f.taps * WIDTH;
        if (f.ordered && count == LANES) {
            turn_back(from, f.row, columns, stored + stored_at(p, f, g, first, k));
            continue;
        }
        for (int64_t n = 0; n < count; n++) {
            float *to = stored + stored_at(p, f, g, first + n, k);
            for (int64_t i = 0; i < columns; i++) to[i] = from[i * WIDTH + n];
        }
    }
}

template <int N> inline void mix_taps(const Recipe &r, const float *from, int64_t taps, Vector *v) {
    for (int j = 0; j < N; j++)
        v[j] = r.tap[j] < 0 ? Vector{} : load(from + (r.member[j] * taps + r.tap[j]) * WIDTH) * splat(1.0f / N);
    butterfly<N>(v);
}

template <int N> inline void pack_recipe(const Recipe &r, const float *from, int64_t taps, float *to, int64_t pitch) {
    for (int lane = 0; lane < WIDTH; lane += LANES) {
        Vector v[N];
        mix_taps<N>(r, from + lane, taps, v);
        for (int j = 0; j < N; j++) store(to + r.slot[j] * pitch + lane, v[j]);
    }
}

// Inputs that share vectors, `next` floats apart, laced together.
template <int N, int SHARE>
inline void pack_shared(const Recipe &r, const float *from, int64_t next, int64_t taps, float *to, int64_t pitch) {
    Vector mixed[SHARE][N];
    for (int k = 0; k < SHARE; k++) mix_taps<N>(r, from + k * next, taps, mixed[k]);
    for (int j = 0; j < N; j++) {
        Vector rows[SHARE];
        for (int k = 0; k < SHARE; k++) rows[k] = mixed[k][j];
        lace<SHARE>(rows);
        for (int c = 0; c < COLUMNS; c++) store(to + r.slot[j] * pitch + c * LANES, rows[c]);
    }
}

template <int N>
inline void pack_taps(const Recipe &r, int share, const float *from, int64_t next, int64_t taps, float *to, int64_t pitch) {
    if (share == 1) pack_recipe<N>(r, from, taps, to, pitch);
    if (share == 2) pack_shared<N, 2>(r, from, next, taps, to, pitch);
    if (share == 4) pack_shared<N, 4>(r, from, next, taps, to, pitch);
    if (share == 8) pack_shared<N, 8>(r, from, next, taps, to, pitch);
}

// One input, or those that share vectors.
inline void pack_inputs(const Program &p, int share, const float *from, int64_t next, float *to, int64_t pitch) {
    for (int64_t tap = 0; tap < p.taps; tap++) {
        const Recipe &r = p.recipes[tap];
        if (r.count == 1) pack_taps<1>(r, share, from, next, p.stored_taps, to, pitch);
        if (r.count == 2) pack_taps<2>(r, share, from, next, p.stored_taps, to, pitch);
        if (r.count == 4) pack_taps<4>(r, share, from, next, p.stored_taps, to, pitch);
        if (r.count == 8) pack_taps<8>(r, share, from, next, p.stored_taps, to, pitch);
    }
}

// Packed: [block][slot][input][WIDTH], or [slot][inputs that share][WIDTH]; one part of the inputs of a block.
inline void pack_share(const Program &p, const float *stored, int64_t block, int64_t part, int64_t parts, float *packed,
                       float *room) {
    Filters f = filters_of(p);
    int share = p.share(block);
    int64_t all = p.task.inputs, once = f.inputs_at_once(), step = most(once, share);
    int64_t size = f.members * f.taps * WIDTH, width = WIDTH / share;
    int64_t each = up(up(all, step), parts) * step, end = least((part + 1) * each, all);
    float *to = packed + block * p.slot_count * all * WIDTH;
    for (int64_t k = part * each; k < end; k += step) {
        int64_t inputs = least(step, all - k);
        for (int64_t i = 0; i < inputs; i += once)
            read_filters(p, f, stored, block, k + i, least(once, inputs - i), room + i * size);
        for (int64_t i = 0; i < inputs; i += share)
            pack_inputs(p, share, room + i * size, size, to + (k + i) * width, all * width);
    }
}

template <int N> inline void unpack_recipe(const Recipe &r, const float *from, int64_t pitch, int64_t taps, float *to) {
    Vector v[N];
    for (int j = 0; j < N; j++) v[j] = load(from + r.slot[j] * pitch) * splat(1.0f / N);
    butterfly<N>(v);
    for (int j = 0; j < N; j++) store(to + (r.member[j] * taps + r.tap[j]) * WIDTH, v[j]);
}

// The adjoint of packing: gradients [slot][input][padded outputs] to gradients of the stored filters, LANES of them.
inline void unpack(const Program &p, const float *gradients, int64_t padded, int64_t first, float *stored, float *room) {
    Filters f = filters_of(p);
    int64_t pitch = p.task.inputs * padded, step = f.inputs_at_once(), size = f.members * f.taps * WIDTH;
    for (int64_t k = 0; k < p.task.inputs; k += step) {
        int64_t inputs = least(step, p.task.inputs - k);
        for (int64_t i = 0; i < inputs; i++)
            for (int64_t tap = 0; tap < p.taps; tap++) {
                const Recipe &r = p.recipes[tap];
                const float *from = gradients + (k + i) * padded + first;
                float *to = room + i * size;
                if (r.count == 1) unpack_recipe<1>(r, from, pitch, p.stored_taps, to);
                if (r.count == 2) unpack_recipe<2>(r, from, pitch, p.stored_taps, to);
                if (r.count == 4) unpack_recipe<4>(r, from, pitch, p.stored_taps, to);
                if (r.count == 8) unpack_recipe<8>(r, from, pitch, p.stored_taps, to);
            }
        write_filters(p, f, room, first, k, inputs, stored);
    }
}

}  // namespace
