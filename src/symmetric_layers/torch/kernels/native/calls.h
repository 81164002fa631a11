// What a call needs before its first tile, and how filters are packed for it by all threads.

#pragma once
#include "kept.h"

namespace {

// What an answer needs before the first tile: a program, and places for weights and biases.
struct Call {
    Program p;
    Across across = {};
    bool few, failed;
    float *packed = nullptr, *weights = nullptr, *biases = nullptr;  // weights are what tiles read: what is packed, or gathered of it

    Call(const Task *task, const int32_t *in_order, const int32_t *out_order) {
        failed = !prepare(p, *task, in_order, out_order, 0);
        few = !failed && suits_across(p);
        let_share(p, few || is_brief(p) ? 1 : (int)least(LANES, MEMBERS));  // brief ones sum in the same order both ways
        if (few) failed = !prepare_across(p, across, false);
    }
    Call(const Call &) = delete;
    ~Call() {
        dismiss(across);
        dismiss(p);
    }
    // What tiles read.
    int64_t weight_floats() const {
        return few ? rounded(p.slot_count * p.task.inputs * p.task.outputs) : p.packed_floats();
    }
    bool reserve(const Kept &kept, const float *bias) {
        int64_t padded = p.blocks * WIDTH, before = rounded(padded) + (few ? p.packed_floats() : 0);
        float *own = shared.reserve(before + (kept.room ? 0 : weight_floats()));
        if (!own) return false;
        weights = kept.room ? kept.weights() : own + before;
        packed = few ? own + rounded(padded) : weights;
        if (!bias) return true;
        biases = own;
        for (int64_t n = 0; n < padded; n++) biases[n] = n < p.task.outputs ? bias[n] + 0.0f : 0.0f;
        return true;
    }
};

// The scratch of one thread.
struct CallDesk {
    Desk own = {};
    AcrossDesk streams = {};
    float *filters = nullptr;
    bool ready;
    explicit CallDesk(const Call &call) {
        ready = call.few ? set_streams(call.p, call.across, streams, filters) : set_desk(call.p, 0, own);
        if (!call.few) filters = own.filters;
    }
};

// The threads of a team together.
inline void pack_all(const Call &call, const float *stored, int threads, CallDesk &desk) {
    const Program &p = call.p;
    int64_t shares = up(threads, p.blocks);  // of a block
#pragma omp for schedule(static)
    for (int64_t i = 0; i < p.blocks * shares; i++)
        if (desk.ready) pack_share(p, stored, i / shares, i % shares, shares, call.packed, desk.filters);
#pragma omp for schedule(static)
    for (int64_t input = 0; input < (call.few ? p.task.inputs : 0); input++)
        call.across.ahead ? gather_ahead(p, call.across, call.packed, input, call.weights)
                            : gather_weights(p, call.across, call.packed, input, call.weights);
}

}  // namespace
