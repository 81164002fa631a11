// Gradients of the filters: tiles are multiplied with gradients, threads sum their own, and all is added up at the end.

#pragma once
#include "desk.h"
#include "outers.h"

namespace {

// The gradients of a tile's answers, as characters: [group][pixel][padded].
inline void bring_gradients(const Program &p, const float *g, int64_t padded, Desk &desk) {
    const Task &t = p.task;
    const Tile &tile = desk.tile;
    int64_t member_pitch = p.tile_pixels() * padded;
    int64_t pitch[3] = {tile.extent[1] * tile.extent[2] * padded, tile.extent[2] * padded, padded};
    Picture picture = {g, t.out_channel, {}, {}, p.out_order, p.out_members, p.out_laced, t.outputs, padded};
    for (int a = 0; a < 3; a++) picture.position[a] = t.out_position[a], picture.size[a] = t.answer[a];
    if (padded > t.outputs) memset(desk.gradients, 0, sizeof(float) * p.groups * member_pitch);
    for (int64_t n = 0; n < tile.pictures; n++) {
        picture.from = g + (tile.first_picture + n) * t.out_batch;
        float *to = desk.gradients + n * (tile.pixels / tile.pictures) * padded;
        bring_in(picture, tile.first, tile.extent, to, pitch, member_pitch);
    }
    butterfly_all(desk.gradients, p.groups, tile.pixels * padded, member_pitch);
}

inline void learn_tile(const Program &p, int64_t number, const float *x, const float *g, int64_t padded, float *sums,
                       Desk &desk) {
    place_box(p, number, desk.tile);
    place_pixels(p, desk.tile);
    fill_tile(p, x, desk.tile);
    bring_gradients(p, g, padded, desk);
    outer_products(p, desk.tile, desk.gradients, p.tile_pixels() * padded, padded, sums);
}

// The sums of all threads for product i of slots and inputs, in the same order always.
inline void add_threads(const float *sums, int threads, int64_t floats, int64_t padded, int64_t i, float *to) {
    for (int64_t lane = i * padded; lane < (i + 1) * padded; lane += LANES) {
        Vector sum = load(sums + lane);
        for (int thread = 1; thread < threads; thread++) sum += load(sums + thread * floats + lane);
        store(to + lane, sum);
    }
}

// stored = the gradient of the stored filters, from x and the gradients g of the answer. Every thread sums its own
// tiles, always the same ones, so that the result depends on the number of threads only.
inline int learn(Program &p, const float *x, const float *g, float *stored) {
    const Task *task = &p.task;
    Across across = {};
    int64_t padded = up(task->outputs, LANES) * LANES;
    bool few = suits_dots(p);
    let_share(p, few ? 1 : 2);
    int64_t together = p.share(p.blocks - 1);  // only the last block has room for pairs
    int failed = few && !prepare_across(p, across, true);
    int threads = threads_now(task->threads);
    int64_t products = failed ? 0 : p.slot_count * task->inputs, gathered = rounded(products * padded);
    int64_t floats = few ? products * task->outputs * LANES : gathered;
    float *sums = failed ? nullptr : shared.reserve(gathered + floats * threads);
    failed |= !sums;
    if (!failed) {
        float *all = sums, *own_sums = sums + gathered;
#pragma omp parallel num_threads(threads) if (threads > 1) reduction(| : failed)
        {
            Desk desk = {};
            AcrossDesk streams = {};
            float *filters = nullptr;
            bool ready = few ? set_streams(p, across, streams, filters) : set_desk(p, padded, desk);
            if (!few) filters = desk.filters;
            failed |= !ready;
#pragma omp for schedule(static)
            for (int thread = 0; thread < threads; thread++) {
                float *mine = own_sums + thread * floats;
                memset(mine, 0, sizeof(float) * floats);
                for (int64_t number = thread; ready && number < p.tiles; number += threads)
                    few ? learn_across(p, across, number, x, g, streams, mine)
                        : learn_tile(p, number, x, g, padded, mine, desk);
            }
#pragma omp for schedule(static)
            for (int64_t i = 0; i < products / together; i++) {
                for (int64_t one = i * together; one < (i + 1) * together; one++)
                    few ? add_lanes(p, own_sums, threads, floats, padded, one, all)
                        : add_threads(own_sums, threads, floats, padded, one, all);
                if (together == 2) part_pair(all + 2 * i * padded + (p.blocks - 1) * WIDTH, padded);
            }
#pragma omp for schedule(static)
            for (int64_t first = 0; first < task->outputs; first += LANES)
                if (ready) unpack(p, all, padded, first, stored, filters);
        }
    }
    dismiss(across);
    return failed;
}

// In how many pieces inputs are best learnt from: the fewer inputs, the more pixels a tile has; but not too few to fold.
inline int64_t pieces_of(const Program &p, int64_t gradients) {
    const Task &t = p.task;
    int64_t wanted = least(t.batch * t.answer[0] * t.answer[1] * t.answer[2], ENOUGH);
    for (int64_t pieces = 1, inputs = t.inputs; pieces == 1 || inputs >= LANES; pieces *= 2, inputs = up(t.inputs, pieces))
        if (t.budget / 4 / p.pixel_floats(inputs, gradients) >= wanted) return pieces;
    return 1;
}

// Some of the inputs of a task, `order` their channels, and how many of the first channels are left out altogether.
inline int64_t cut_inputs(const Program &p, int64_t first, int64_t inputs, Task &task, int32_t *order) {
    task = p.task;
    task.inputs = inputs;
    for (int g = 0; g < p.in_members; g++)
        for (int64_t i = 0; i < inputs; i++)
            order[g * inputs + i] = p.in_laced ? p.in_members * i + g : p.in_order[g * p.task.inputs + first + i];
    return p.in_laced ? first * p.in_members : 0;
}

inline int learn_in_pieces(const Program &whole, int64_t pieces, const float *x, const float *g, float *stored) {
    const Task &t = whole.task;
    int64_t padded = up(t.outputs, LANES) * LANES, each = up(up(t.inputs, pieces), LANES) * LANES;
    int32_t *order = (int32_t *)malloc(sizeof(int32_t) * whole.in_members * each);
    int failed = !order;
    for (int64_t first = 0; first < t.inputs && !failed; first += each) {
        Program p;
        Task some;
        int64_t skipped = cut_inputs(whole, first, least(each, t.inputs - first), some, order);
        failed = !prepare(p, some, order, whole.out_order, padded) ||
                 learn(p, x + skipped * t.in_channel, g, stored + skipped * t.channel_stride);
        dismiss(p);
    }
    free(order);
    return failed;
}

}  // namespace
