// Convolutions with mirrored filters, folded and fused; README.md one folder up has the algebra and the layout.
//
// This file is compiled once per instruction set; NAME says under which names it is found.

#include "calls.h"
#include "learning.h"
#include "spaced.h"
#include "stems.h"
#include "unpools.h"

namespace {

// The answers of some pixels of a tile, picture after picture.
inline void store_part(const Program &p, const Desk &desk, Run part, const float *sums, int64_t block, const float *bias, float *y) {
    const Task &t = p.task;
    const Tile &tile = desk.tile;
    int64_t box = tile.extent[0] * tile.extent[1] * tile.extent[2], pixels = 0;
    int64_t first = (tile.first[0] * t.answer[1] + tile.first[1]) * t.answer[2] + tile.first[2];
    for (int64_t at = part.from, picture = 0; at < part.to; at += pixels) {
        while (at >= (picture + 1) * box) picture++;
        pixels = least(part.to, (picture + 1) * box) - at;
        int64_t number = first + at - picture * box;
        float *to = y + (tile.first_picture + picture) * t.out_batch + (p.spaced ? 0 : number * t.out_position[2]);
        Answer a = {to, sums + (at - part.from) * WIDTH, bias ? bias + block * WIDTH : nullptr, p.group_pitch(),
                    pixels, block * WIDTH, least(t.outputs - block * WIDTH, WIDTH)};
        p.spaced ? store_spaced(p, a, number) : store_answer(p, a);
    }
}

inline void multiply_groups(const Program &p, const Tile &tile, Run part, int64_t block, const float *packed, float *sums) {
    for (int group = 0; group < p.groups; group++)
        multiply_group(p, tile, part, group, block, packed, sums + group * p.group_pitch());
}

// What is folded is multiplied by all blocks while it is in the first cache.
inline void answer_late(const Program &p, const Desk &desk, const float *packed, const float *bias, float *y) {
    int64_t block_pitch = p.groups * p.group_pitch(), pixels = desk.tile.pixels;
    for (int64_t pixel = 0; pixel < pixels; pixel += p.stretch) {
        Run part = {pixel, least(pixel + p.stretch, pixels)};
        each_group(part.to - part.from, p.folded_late, [&](int64_t at, int64_t count) {
            Run some = {pixel + at, pixel + at + count};
            fold_late(p, desk.tile, some);
            for (int64_t block = 0; block < p.blocks; block++)
                multiply_groups(p, desk.tile, some, block, packed, desk.sums + block * block_pitch + at * WIDTH);
        });
        for (int64_t block = 0; block < p.blocks; block++)
            store_part(p, desk, part, desk.sums + block * block_pitch, block, bias, y);
    }
}

inline void answer_tile(const Program &p, int64_t number, const float *x, const float *packed, const float *bias,
                        float *y, Desk &desk) {
    place_box(p, number, desk.tile);
    fill_tile(p, x, desk.tile);
    if (p.stem) return answer_stem_tile(p, desk.tile, packed, bias, y);
    place_pixels(p, desk.tile);
    int64_t pixels = desk.tile.pixels;
    if (p.late) return answer_late(p, desk, packed, bias, y);
    for (int64_t block = 0; block < p.blocks; block++)
        for (int64_t pixel = 0; pixel < pixels; pixel += p.stretch) {
            Run part = {pixel, least(pixel + p.stretch, pixels)};
            multiply_groups(p, desk.tile, part, block, packed, desk.sums);
            store_part(p, desk, part, desk.sums, block, bias, y);
        }
}

#define JOINED(name, suffix) name##suffix
#define NAMED(name, suffix) JOINED(name, suffix)
#define EXPORTED __attribute__((visibility("default"))) int64_t

}  // namespace

extern "C" {

// y = the convolution of x. `room`: what `symmetric_room` asks for, or nothing; filters stay packed in it. Returns 0, or 1
// where there is no memory.
EXPORTED NAMED(symmetric_answer_, NAME)(const Task *task, const float *x, const float *stored, const float *bias, float *y,
                                   float *room, const int32_t *in_order, const int32_t *out_order) {
    Call call(task, in_order, out_order);
    const Program &p = call.p;
    Kept kept = {room, task->outputs * task->filter_stride};
    int failed = call.failed || !call.reserve(kept, bias), changed = !kept.is_filled(), threads = threads_now(task->threads);
    int64_t together = failed ? 1 : most(p.tiles / (8 * threads), 1);  // tiles side by side read the same rows
    call.p.keeping = failed ? WRITING : keeping_for(p, y);
    kept.fill(false);
    if (!failed) {
#pragma omp parallel num_threads(threads) if (threads > 1) reduction(| : failed)
        {
            CallDesk desk(call);
            failed |= !desk.ready;
            if (room) {
#pragma omp for schedule(static) reduction(| : changed)
                for (int64_t part = 0; part < kept.parts(); part++) changed |= kept.differs(stored, part);
            }
            if (changed) pack_all(call, stored, threads, desk);
#pragma omp for schedule(dynamic, together)
            for (int64_t number = 0; number < p.tiles; number++)
                if (desk.ready) call.few ? answer_across(p, call.across, number, x, call.weights, call.biases, y, desk.streams)
                                           : answer_tile(p, number, x, call.weights, call.biases, y, desk.own);
            settle(p.keeping);
        }
    }
    kept.fill(!failed);
    return failed;
}

// How many floats `symmetric_answer` keeps from call to call; 0 where there is no memory to know it.
EXPORTED NAMED(symmetric_room_, NAME)(const Task *task, const int32_t *in_order, const int32_t *out_order) {
    Call call(task, in_order, out_order);
    Kept kept = {nullptr, task->outputs * task->filter_stride};
    return call.failed ? 0 : kept.before() + call.weight_floats();
}

// The same, from some of the inputs after the other where that is faster. Returns as above.
EXPORTED NAMED(symmetric_learn_, NAME)(const Task *task, const float *x, const float *g, float *stored,
                                  const int32_t *in_order, const int32_t *out_order) {
    Program whole;
    int64_t padded = up(task->outputs, LANES) * LANES;
    int failed = !prepare(whole, *task, in_order, out_order, padded);
    int64_t pieces = failed || suits_dots(whole) ? 1 : pieces_of(whole, padded);
    if (!failed) failed = pieces > 1 ? learn_in_pieces(whole, pieces, x, g, stored) : learn(whole, x, g, stored);
    dismiss(whole);
    return failed;
}

// y = the largest numbers of the windows of x; `kinds` says of which class every channel is. Returns as above.
EXPORTED NAMED(symmetric_pool_, NAME)(const Pool *pool, const float *x, float *y, const int32_t *kinds) {
    const Pool &p = *pool;
    bool side_by_side = p.in_channel == 1;
    int64_t rows = p.answer[0] * p.answer[1], jobs = p.batch * (side_by_side ? rows : p.channels);
    int failed = 0, threads = threads_now(p.threads);
#pragma omp parallel num_threads(threads) if (threads > 1) reduction(| : failed)
    {
        float *columns = own.reserve(row_floats(p));
        failed |= !columns;
#pragma omp for schedule(static)
        for (int64_t job = 0; job < jobs; job++) {
            if (side_by_side) {
                int64_t n = job / rows, z = job % rows / p.answer[1], row = job % p.answer[1];
                pool_pixels(p, kinds, z, row, x + n * p.in_batch,
                            y + n * p.out_batch + z * p.out_position[0] + row * p.out_position[1]);
            } else if (columns) {
                int64_t n = job / p.channels, c = job % p.channels;
                pool_channel(p, kinds[c], x + n * p.in_batch + c * p.in_channel, y + n * p.out_batch + c * p.out_channel, columns);
            }
        }
    }
    return failed;
}

// to = the gradient of x, from the gradient g of its pooled answer: it goes to the largest number of every window.
EXPORTED NAMED(symmetric_unpool_, NAME)(const Pool *pool, const float *x, const float *g, float *to, const int32_t *kinds) {
    const Pool &p = *pool;
    bool side_by_side = p.in_channel == 1;
    int64_t threads = threads_now(p.threads), blocks = up(p.channels, LANES);
    int64_t together = side_by_side ? up(blocks, up(2 * threads, p.batch)) * LANES : 1, parts = up(p.channels, together);
    Taps *across = (Taps *)malloc(sizeof(Taps) * p.classes * p.answer[2]);
    if (!across) return 1;
    all_taps(p, 2, across);
#pragma omp parallel for schedule(static) num_threads(threads) if (threads > 1)
    for (int64_t job = 0; job < p.batch * parts; job++) {
        int64_t c = job % parts * together, in = job / parts * p.in_batch + c * p.in_channel;
        const float *own = g + job / parts * p.out_batch + c * p.out_channel;
        side_by_side ? unpool_pixels(p, kinds + c, least(p.channels - c, together), x + in, own, to + in, across)
                     : unpool_channel(p, kinds[c], x + in, own, to + in, across);
    }
    free(across);
    return 0;
}

}
