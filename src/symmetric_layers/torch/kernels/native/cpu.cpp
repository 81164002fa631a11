// Convolutions with mirrored filters, folded and fused; README.md one folder up has the algebra and the layout.
//
// This file is compiled once per instruction set; NAME says under which names it is found.

#include "dots.h"
#include "pools.h"
#include "products.h"
#ifdef _OPENMP
#include <omp.h>
#include <unistd.h>
#endif

namespace {

thread_local Scratch own, shared;

// How many threads may be used: those of OpenMP do not live on in a forked process.
inline int threads_now(int64_t wanted) {
#ifdef _OPENMP
    static int64_t home = 0;
    int64_t here = getpid();
    if (!__sync_bool_compare_and_swap(&home, 0, here) && home != here) return 1;
    return (int)most(wanted, 1);
#else
    return 1;
#endif
}

inline int64_t rounded(int64_t floats) { return up(floats, 16) * 16; }

// The scratch of one thread, cut into what a tile needs.
struct Desk {
    Tile tile;
    float *sums, *gradients, *filters;
};

inline int64_t desk_floats(const Program &p, int64_t padded) {
    int64_t pixels = p.tile_pixels();
    return rounded(p.pictures * p.region_floats()) + rounded(p.pictures * p.planes * p.plane_floats) +
           2 * rounded(pixels) + rounded(p.groups * (pixels + ROWS) * WIDTH) + rounded(p.groups * pixels * padded) +
           rounded(TOGETHER * MEMBERS * p.taps * WIDTH);
}

inline bool set_desk(const Program &p, int64_t padded, Desk &desk) {
    float *at = own.reserve(desk_floats(p, padded));
    int64_t pixels = p.tile_pixels();
    if (!at) return false;
    auto take = [&](int64_t floats) {
        float *piece = at;
        at += rounded(floats);
        return piece;
    };
    desk.tile.regions = take(p.pictures * p.region_floats());
    desk.tile.planes = take(p.pictures * p.planes * p.plane_floats);
    desk.tile.region_at = (int32_t *)take(pixels);
    desk.tile.plane_at = (int32_t *)take(pixels);
    desk.sums = take(p.groups * (pixels + ROWS) * WIDTH);
    desk.gradients = take(p.groups * pixels * padded);
    desk.filters = take(TOGETHER * MEMBERS * p.taps * WIDTH);
    return true;
}

inline bool set_streams(const Program &p, const Across &across, AcrossDesk &desk, float *&filters) {
    int64_t room = rounded(AcrossDesk::floats(p, across));
    float *at = own.reserve(room + TOGETHER * MEMBERS * p.taps * WIDTH);
    if (!at) return false;
    desk.set(p, across, at);
    filters = at + room;
    return true;
}

inline void store_tile(const Program &p, const Desk &desk, int64_t block, const float *bias, float *y) {
    const Task &t = p.task;
    const Tile &tile = desk.tile;
    int64_t box = tile.pixels / tile.pictures, group_pitch = (p.tile_pixels() + ROWS) * WIDTH;
    int64_t first = (tile.first[0] * t.answer[1] + tile.first[1]) * t.answer[2] + tile.first[2];
    for (int64_t n = 0; n < tile.pictures; n++) {
        Answer a = {y + (tile.first_picture + n) * t.out_batch + first * t.out_position[2],
                    desk.sums + n * box * WIDTH, bias ? bias + block * WIDTH : nullptr, group_pitch, box,
                    block * WIDTH, least(t.outputs - block * WIDTH, WIDTH)};
        store_answer(p, a);
    }
}

inline void answer_tile(const Program &p, int64_t number, const float *x, const float *packed, const float *bias,
                        float *y, Desk &desk) {
    place_tile(p, number, desk.tile);
    fill_tile(p, x, desk.tile);
    for (int64_t block = 0; block < p.blocks; block++) {
        for (int group = 0; group < p.groups; group++)
            multiply_group(p, desk.tile, group, block, packed, desk.sums + group * (p.tile_pixels() + ROWS) * WIDTH);
        store_tile(p, desk, block, bias, y);
    }
}

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
    place_tile(p, number, desk.tile);
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
            for (int64_t i = 0; i < products; i++)
                few ? add_lanes(p, own_sums, threads, floats, padded, i, all)
                    : add_threads(own_sums, threads, floats, padded, i, all);
#pragma omp for schedule(static)
            for (int64_t first = 0; first < task->outputs; first += LANES)
                if (ready) unpack(p, all, padded, first, stored, filters);
        }
    }
    dismiss(across);
    return failed;
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

#define JOINED(name, suffix) name##suffix
#define NAMED(name, suffix) JOINED(name, suffix)
#define EXPORTED __attribute__((visibility("default"))) int

}  // namespace

extern "C" {

// y = the convolution of x. Returns 0, or 1 where there is no memory.
EXPORTED NAMED(symmetric_answer_, NAME)(const Task *task, const float *x, const float *stored, const float *bias, float *y,
                                   const int32_t *in_order, const int32_t *out_order) {
    Program p;
    Across across = {};
    bool few = false;
    int failed = !prepare(p, *task, in_order, out_order, 0);
    if (!failed && suits_across(p)) {
        few = true;
        failed = !prepare_across(p, across, false);
    }
    int64_t gathered = few ? rounded(p.slot_count * task->inputs * task->outputs) : 0;
    float *packed = failed ? nullptr : shared.reserve(p.packed_floats() + gathered + rounded(p.blocks * WIDTH));
    float *weights = packed + p.packed_floats(), *biases = bias && packed ? weights + gathered : nullptr;
    failed |= !packed;
    int threads = threads_now(task->threads);
    int64_t together = failed ? 1 : most(p.tiles / (8 * threads), 1);  // tiles side by side read the same rows
    int64_t shares = failed ? 1 : up(threads, p.blocks);                // of a block that is packed
    for (int64_t n = 0; biases && n < p.blocks * WIDTH; n++) biases[n] = n < task->outputs ? bias[n] + 0.0f : 0.0f;
    if (!failed) {
#pragma omp parallel num_threads(threads) if (threads > 1) reduction(| : failed)
        {
            Desk desk = {};
            AcrossDesk streams = {};
            float *filters = nullptr;
            bool ready = few ? set_streams(p, across, streams, filters) : set_desk(p, 0, desk);
            if (!few) filters = desk.filters;
            failed |= !ready;
#pragma omp for schedule(static)
            for (int64_t i = 0; i < p.blocks * shares; i++)
                if (ready) pack_share(p, stored, i / shares, i % shares, shares, packed, filters);
#pragma omp for schedule(static)
            for (int64_t input = 0; input < (few ? task->inputs : 0); input++)
                gather_weights(p, across, packed, input, weights);
#pragma omp for schedule(dynamic, together)
            for (int64_t number = 0; number < p.tiles; number++)
                if (ready) few ? answer_across(p, across, number, x, weights, biases, y, streams)
                               : answer_tile(p, number, x, packed, biases, y, desk);
        }
    }
    dismiss(across);
    dismiss(p);
    return failed;
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
