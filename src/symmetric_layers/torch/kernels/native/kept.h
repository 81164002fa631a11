// Filters as an earlier call packed them, kept for as long as the stored ones are the same.

#pragma once
#include "desk.h"

namespace {

enum { PRINTED = 16 * 1024, CHAINS = 4 };  // stored floats that one print stands for; chains: each waits for its own products

typedef uint32_t Bits __attribute__((vector_size(LANES * 4)));

// What floats are told apart by. Every step of a chain can be undone, so that a change at one place always shows; it moves
// high bits down before it multiplies, so that no second change undoes it but by chance.
struct Print {
    Bits chain[CHAINS] = {};

    void add(const float *from) {
        for (int j = 0; j < CHAINS; j++) {
            Bits now = chain[j] ^ (Bits)load(from + j * LANES);
            chain[j] = (now ^ (now >> 16)) * 0x9E3779B1u;
        }
    }
    Print(const float *from, int64_t floats) {
        const int64_t step = CHAINS * LANES, whole = floats / step * step;
        float rest[CHAINS * LANES] = {};
        memcpy(rest, from + whole, sizeof(float) * (floats - whole));
        for (int64_t i = 0; i < whole; i += step) add(from + i);
        add(rest);
    }
};

// A room that lives longer than a call: [whether it is filled][prints of the stored filters][the weights that tiles read].
struct Kept {
    float *room;  // or nothing
    int64_t floats;

    int64_t parts() const { return up(floats, PRINTED); }
    int64_t before() const { return rounded((1 + CHAINS * parts()) * LANES); }
    float *weights() const { return room + before(); }

    bool is_filled() const { return room && room[0] == 1.0f; }
    void fill(bool filled) { if (room) room[0] = filled ? 1.0f : 0.0f; }

    // Whether a part differs from what was there when this was asked last.
    bool differs(const float *stored, int64_t part) const {
        Print now(stored + part * PRINTED, least(floats - part * PRINTED, PRINTED));
        float *before = room + (1 + CHAINS * part) * LANES;
        bool same = memcmp(before, &now, sizeof now) == 0;
        memcpy(before, &now, sizeof now);
        return !same;
    }
};

}  // namespace
