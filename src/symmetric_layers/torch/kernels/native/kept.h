// Filters as an earlier call packed them, kept for as long as the stored ones are the same.

#pragma once
#include "desk.h"

namespace {

enum { PRINTED = 16 * 1024 };  // stored floats that one print stands for

typedef uint32_t Bits __attribute__((vector_size(LANES * 4)));

// Every step can be undone: what differs at one place of a lane differs in its print; at several, all but certainly.
inline Bits mixed(Bits print, Bits with) {
    print = (print ^ with) * 0x9E3779B1u;
    return print ^ (print >> 16);
}

// Four at a time, because each waits for its own product.
inline Bits print_of(const float *from, int64_t floats) {
    Bits prints[4] = {};
    float rest[4 * LANES] = {};
    int64_t whole = floats / (4 * LANES) * (4 * LANES);
    memcpy(rest, from + whole, sizeof(float) * (floats - whole));
    for (int64_t i = 0; i < whole; i += 4 * LANES)
        for (int j = 0; j < 4; j++) prints[j] = mixed(prints[j], (Bits)load(from + i + j * LANES));
    for (int j = 0; j < 4; j++) prints[j] = mixed(prints[j], (Bits)load(rest + j * LANES));
    for (int j = 1; j < 4; j++) prints[0] = mixed(prints[0], prints[j]);
    return prints[0];
}

// A room that lives longer than a call: [whether it is filled][prints of the stored filters][the weights that tiles read].
struct Kept {
    float *room;  // or nothing
    int64_t floats;

    int64_t parts() const { return up(floats, PRINTED); }
    int64_t before() const { return rounded((1 + parts()) * LANES); }
    float *weights() const { return room + before(); }

    bool is_filled() const { return room && room[0] == 1.0f; }
    void fill(bool filled) { if (room) room[0] = filled ? 1.0f : 0.0f; }

    // Whether a part differs from what was there when this was asked last.
    bool differs(const float *stored, int64_t part) const {
        Bits now = print_of(stored + part * PRINTED, least(floats - part * PRINTED, PRINTED));
        float *before = room + (1 + part) * LANES;
        bool same = memcmp(before, &now, sizeof now) == 0;
        memcpy(before, &now, sizeof now);
        return !same;
    }
};

}  // namespace
